"""Who signed: every record's signature, what it covers, and where the certificate leads."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.utils import CryptographyDeprecationWarning

from agent.errors import CmsError, DeviceKeyError
from agent.trust.certificates import check_chain, fingerprint_hex, fingerprint_text, parse_chain, pem
from agent.trust.cms import verify_detached
from agent.vault.layout import CHAIN_NAME, ROOT_NAME, kept_chain_name
from agent.verify.certificate_path import common_name, path_from, public_key
from agent.verify.certificate_spans import CertificateSpans
from agent.verify.evidence_file import KEPT_CHAIN_NAME, is_refused_folder, names_in, read_plain
from agent.verify.fields import FieldError, Fields
from agent.verify.finding import TO_THE_END, Code, Findings, RecordSaid, Severity
from agent.verify.journal import RUN_START_REASONS, JournalLine
from agent.verify.words import counted, without_signature

MAX_PEM_BYTES = 1 << 20
MAX_CERTIFICATES = 64
MAX_KEPT_CHAINS = 63
MAX_LATE = 1000
MAX_MEDIA_90K = 1 << 50


@dataclass(slots=True)
class _Key:
    """One certificate that journal files name, and the claimed times of what was signed under it."""

    certificate: x509.Certificate
    spans: CertificateSpans = field(default_factory=CertificateSpans)
    first: datetime | None = None
    last: datetime | None = None


class SignatureCheck:
    """Takes journal lines in order. Afterwards `finish`, then the properties."""

    def __init__(self, device: Path, roots: Sequence[x509.Certificate] | None, findings: Findings) -> None:
        """device: the folder with chains and root.pem. roots: what the examiner trusts, None when they gave none."""
        self._findings = findings
        self._device = device
        self._looked_at: set[str] = set()
        self._bundle = self._read(device / CHAIN_NAME, required=True)
        self.root_given = roots is not None
        self._roots = tuple(roots) if roots is not None else self._read(device / ROOT_NAME, required=False)
        self._keys: dict[str, _Key] = {}
        self._key: _Key | None = None
        self._unknown: dict[str, tuple[str, CertificateSpans]] = {}
        """By hash: the place of the first file that names it, and what stands under it."""
        self._unknown_now: CertificateSpans | None = None
        self._unknown_since: int | None = None
        self._misnamed: tuple[int, str, str] | None = None
        self._introduced: str | None = None
        self.device_id: str | None = None
        self._pending_from: int | None = None
        self._pending = 0
        self._unsigned = 0
        self._pending_total = 0
        self.signed = 0
        self.late: list[tuple[int, int]] = []
        """Ordinals, first and last, of lines that no signature covered when the camera was started again."""

    @property
    def certificate_records(self) -> list[tuple[tuple[int, int], ...]]:
        """Which records stand under each of `certificates`."""
        return [key.spans.records for key in self._keys.values()]

    @property
    def certificates(self) -> list[x509.Certificate]:
        """The device certificates whose signatures were found, in order of first use."""
        return [key.certificate for key in self._keys.values()]

    @property
    def certificate(self) -> x509.Certificate | None:
        """The one under which the line taken last stands, None when device/ does not have it."""
        return self._key.certificate if self._key is not None else None

    @property
    def uncovered_from(self) -> int | None:
        """Ordinal of the first line at the end that no signature covers, or None."""
        return self._pending_from

    @property
    def uncovered(self) -> int:
        """How many lines at the end no signature covers."""
        return self._pending

    @property
    def uncovered_for(self) -> int | None:
        """The line from which on no signature at the end can be checked because its certificate is not there."""
        since, start = self._unknown_since, self._pending_from
        return since if since is not None and start is not None and start >= since else None

    def take(self, line: JournalLine) -> bool:
        """Check one line's signature, and remember what no signature covers yet; False when it has a wrong one."""
        if not line.unbroken and self._pending_from is not None:
            # A signature covers what is before it through the chain only, and the chain ends here.
            self._findings.fail(
                Code.SIGNATURE_UNCOVERED,
                line.place,
                f"{without_signature(self._pending, 'before ' + line.place)}, and the chain of hashes that would cover "
                f"{'it' if self._pending == 1 else 'them'} is broken here.",
                at=self._pending_from,
                until=line.ordinal - 1,
            )
            self._pending_from, self._pending, self._unsigned = None, 0, 0
        if line.record.type == "journal-open":
            self._opened(line)
        spans = self._key.spans if self._key is not None else self._unknown_now
        if spans is not None:
            spans.take(line.ordinal, line.record.seq)
        if line.record.signature is not None and self._is_good(line, line.record.signature):
            self.signed += 1
            if line.record.type == "certificate-changed":
                self._take_introduction(line)
            self._pending_total += self._unsigned
            self._unsigned = 0
            self._pending_from, self._pending = None, 0
            return True
        if self._pending_from is None:
            self._pending_from = line.ordinal
        self._pending += 1
        # One whose signature cannot be checked, for want of its certificate, was not written without.
        self._unsigned += line.record.signature is None
        return line.record.signature is None

    def finish(self, concerns: Callable[[int, int], bool] = lambda _first, _last: True) -> None:
        """Judge certificates, once all of the journal has been taken.

        concerns(first, last): whether what is judged has records among these lines, or is covered by one of them; of
        another certificate, which an extract holds for what was before or behind, it is only noted what is wrong.
        """
        self._end_misnamed(TO_THE_END)
        if self._pending_total:
            self._findings.note(
                Code.SIGNATURE_PENDING,
                "journal",
                f"{counted(self._pending_total, 'record was', 'records were')} written without a signature, because "
                "the signer was busy; the next signed record covers them through their hashes.",
            )
        if self._keys and not self.root_given:
            if self._roots:
                self._findings.note(
                    Code.ROOT_FROM_EVIDENCE,
                    f"device/{ROOT_NAME}",
                    "The root certificate was taken from the evidence itself, where anyone could have put it. Get it "
                    "from the department and give it with --root ROOT.pem.",
                )
            else:
                self._findings.warn(
                    Code.ROOT_ABSENT,
                    f"device/{ROOT_NAME}",
                    "There is no root certificate, so nothing says whose camera this is; give it with --root ROOT.pem.",
                )
        for file, sha256, spans in ((file, sha256, spans) for sha256, (file, spans) in self._unknown.items()):
            for first, last in spans.lines:
                self._findings.add(
                    Code.CERT_UNKNOWN,
                    Severity.FAIL if concerns(first, last) else Severity.NOTE,
                    f"journal/{file} line 1",
                    f"{file} names the certificate {sha256}, which has no chain in device/; its signatures cannot be "
                    "checked.",
                    at=first,
                    until=last,
                )
        for key in self._keys.values():
            self._judge(key, concerns)
        self._look_at_the_rest()

    def _look_at_the_rest(self) -> None:
        """Chains that no journal file names rest on nothing, and have to be chains all the same."""
        names = [name for name in names_in(self._device) if KEPT_CHAIN_NAME.fullmatch(name)]
        if len(names) > MAX_KEPT_CHAINS:
            self._findings.fail(
                Code.CERT_UNKNOWN,
                "device",
                f"device/ holds {len(names)} chains, far more than any camera has; not all were looked at.",
            )
        for name in names[:MAX_KEPT_CHAINS]:
            if name not in self._looked_at:
                self._read(self._device / name, required=False)

    def _read(self, path: Path, *, required: bool) -> tuple[x509.Certificate, ...]:
        subject = f"device/{path.name}"
        self._looked_at.add(path.name)
        if is_refused_folder(self._device):
            return ()  # is a finding of its own, and not one for each file
        try:
            data = read_plain(path, MAX_PEM_BYTES)
            with warnings.catch_warnings():
                # What the library accepts with a warning today, such as a negative serial number, no sound CA makes.
                warnings.simplefilter("error", CryptographyDeprecationWarning)
                certificates = parse_chain(data, subject)
            if len(certificates) > MAX_CERTIFICATES:
                raise DeviceKeyError(f"{subject} holds {len(certificates)} certificates, far more than any chain.")
            if pem(certificates) != data:
                # Cameras write nothing else, and openssl asks for a passphrase where other things stand in between.
                raise DeviceKeyError(f"{subject} does not hold certificates in PEM, or something besides.")
        except FileNotFoundError:
            if required:
                self._findings.fail(Code.CERT_UNKNOWN, subject, f"{subject} is gone, so no signature can be checked.")
            return ()
        except OSError as error:
            self._findings.fail(Code.CERT_UNKNOWN, subject, f"{subject} cannot be read: {error.strerror}.")
            return ()
        except (DeviceKeyError, CryptographyDeprecationWarning) as error:
            self._findings.fail(Code.CERT_UNKNOWN, subject, str(error))
            return ()
        return certificates

    def _opened(self, line: JournalLine) -> None:
        try:
            fields = Fields(line.record.fields)
            sha256, device_id = fields.sha256("certificate_sha256"), fields.text("device_id")
            if fields.text("reason") in RUN_START_REASONS and self._pending_from is not None:
                self._came_late(self._pending_from, line)
        except FieldError as error:
            self._key = self._unknown_now = None
            self._findings.fail(Code.RECORD_INVALID, line.place, f"{line.place}: {error}.", at=line.ordinal)
            return
        before, self._key = self._key, self._find(sha256, line)
        if self.device_id is not None and self.device_id != device_id:
            self._findings.warn(
                Code.CERT_CHANGED,
                line.place,
                f"From record {line.record.seq} on the camera calls itself {device_id[:80]!r}; before it was "
                f"{self.device_id[:80]!r}. Ask the department whether it was given another name.",
                at=line.ordinal,
                until=TO_THE_END,
            )
        if before is not None and self._key is not None and before is not self._key:
            self._changed(before, self._key, line)
        self._introduced = None
        self.device_id = device_id
        self._end_misnamed(line.ordinal - 1)
        if self._key is not None and (name := common_name(self._key.certificate)) != device_id:
            sentence = (
                f"The journal names the camera {device_id[:80]!r}, its certificate is for {name!r}. Ask the department "
                "which camera this is."
            )
            self._misnamed = (line.ordinal, line.place, sentence)

    def _end_misnamed(self, until: int) -> None:
        if self._misnamed is not None:
            at, place, sentence = self._misnamed
            self._findings.warn(Code.CERT_NAME, place, sentence, at=at, until=until)
            self._misnamed = None

    def _came_late(self, start: int, line: JournalLine) -> None:
        """A start goes on from what it finds, so its signatures cover what anybody with the card could have put there.

        While one process runs it is otherwise: it holds the hash of what it wrote itself.
        """
        self._findings.note(
            Code.SIGNATURE_LATE,
            line.place,
            f"{without_signature(self._pending, 'before ' + line.place)} of their own, where the camera was started "
            "again. Its signer failed up to the end of the run before, or somebody who had the card wrote them "
            "meanwhile: the signatures behind them cannot tell.",
            at=start,
        )
        if len(self.late) < MAX_LATE:
            self.late.append((start, line.ordinal - 1))
        else:
            self.late[-1] = (self.late[-1][0], line.ordinal - 1)

    def _take_introduction(self, line: JournalLine) -> None:
        try:
            self._introduced = Fields(line.record.fields).sha256("certificate_sha256")
        except FieldError as error:
            self._findings.fail(Code.RECORD_INVALID, line.place, f"{line.place}: {error}.", at=line.ordinal)

    def _changed(self, before: _Key, after: _Key, line: JournalLine) -> None:
        said = (
            f"From record {line.record.seq} on another certificate signs, SHA-256 "
            f"{fingerprint_text(after.certificate)[:23]}…"
        )
        if self._introduced == fingerprint_hex(after.certificate):
            self._findings.note(
                Code.CERT_CHANGED, line.place, f"{said}; the key before introduced it.", at=line.ordinal
            )
        elif public_key(before.certificate) == public_key(after.certificate) is not None:
            self._findings.note(Code.CERT_CHANGED, line.place, f"{said}; it is for the same key.", at=line.ordinal)
        else:
            self._findings.warn(
                Code.CERT_NOT_INTRODUCED,
                line.place,
                f"{said}, for another key, and the camera did not introduce it with the key before: only the issuer of "
                "the certificate says that this is the same camera. Ask the department whether this camera was "
                "given another key (re-keyed), when and why; if it was not, what follows is not from it.",
                at=line.ordinal,
                until=TO_THE_END,
            )

    def _find(self, sha256: str, line: JournalLine) -> _Key | None:
        self._unknown_now = None
        if sha256 not in self._keys and (found := self._look_up(sha256)):
            self._keys[sha256] = _Key(found)
        if sha256 in self._keys:
            self._unknown_since = None
            return self._keys[sha256]
        if self._unknown_since is None:
            self._unknown_since = line.ordinal
        # Of more than a journal ever names, the last one stands for all.
        known = sha256 in self._unknown or len(self._unknown) < MAX_CERTIFICATES
        name = sha256 if known else next(reversed(self._unknown))
        self._unknown_now = self._unknown.setdefault(name, (line.file, CertificateSpans()))[1]
        return None

    def _look_up(self, sha256: str) -> x509.Certificate | None:
        """In chain.pem, and else in the chain that was kept under this hash."""
        for certificate in self._bundle:
            if fingerprint_hex(certificate) == sha256:
                return certificate
        if len(self._keys) >= MAX_CERTIFICATES:
            return None
        kept = self._read(self._device / kept_chain_name(sha256), required=False)
        self._bundle = (*self._bundle, *kept)
        return next((certificate for certificate in kept if fingerprint_hex(certificate) == sha256), None)

    def _is_good(self, line: JournalLine, signature: bytes) -> bool:
        if self._key is None:
            return False  # reported with the file's first record
        try:
            verify_detached(signature, line.record.json_bytes, (self._key.certificate,))
        except CmsError as error:
            self._findings.fail(
                Code.SIGNATURE_BAD,
                line.place,
                f"Record {line.record.seq} at {line.place} is not what the camera signed, or its signature was "
                f"changed. {error}",
                recording_id=_recording_id(line),
                at=line.ordinal,
                record=RecordSaid(line.record.seq, line.record.type[:40], _media_90k(line)),
            )
            return False
        try:
            claimed = Fields(line.record.fields).utc()
        except FieldError as error:
            self._findings.fail(Code.RECORD_INVALID, line.place, f"{line.place}: {error}.", at=line.ordinal)
            return True
        self._key.first = min(self._key.first or claimed, claimed)
        self._key.last = max(self._key.last or claimed, claimed)
        return True

    def _judge(self, key: _Key, concerns: Callable[[int, int], bool]) -> None:
        (first, _), (_, last) = key.spans.lines[0], key.spans.lines[-1]
        severity = Severity.FAIL if any(concerns(*lines) for lines in key.spans.lines) else Severity.NOTE
        path = path_from(key.certificate, self._bundle)
        roots = self._roots or (() if self.root_given else (path[-1],))
        # The shape of the chain is judged at a moment when all of it was valid; claimed times are judged apart, because
        # a camera whose clock was not set signs with a sound key all the same.
        moment = max(certificate.not_valid_before_utc for certificate in path)
        moment = max([moment, *(root.not_valid_before_utc for root in roots if root not in path)])
        subject = f"device/{CHAIN_NAME}"
        for problem in check_chain(path, roots, moment.astimezone(UTC)):
            self._findings.add(Code.CERT_CHAIN, severity, subject, problem, at=first, until=last)
        begin, end = key.certificate.not_valid_before_utc, key.certificate.not_valid_after_utc
        if key.first is not None and key.first < begin:
            self._findings.warn(
                Code.TIME_OUTSIDE_CERTIFICATE,
                subject,
                f"Records claim times from {key.first:%Y-%m-%d %H:%M:%S} UTC on, before their certificate became valid "
                f"({begin:%Y-%m-%d %H:%M:%S}): the camera's clock was wrong then, or the certificate's maker's.",
                at=first,
                until=last,
            )
        if key.last is not None and key.last > end:
            self._findings.add(
                Code.TIME_OUTSIDE_CERTIFICATE,
                severity,
                subject,
                f"Records claim times up to {key.last:%Y-%m-%d %H:%M:%S} UTC, after their certificate expired "
                f"({end:%Y-%m-%d %H:%M:%S}): it was used for too long, or the camera's clock was ahead then.",
                at=first,
                until=last,
            )


def _recording_id(line: JournalLine) -> str | None:
    value = line.record.fields.get("recording_id")
    return value if isinstance(value, str) else None


def _media_90k(line: JournalLine) -> tuple[int, int] | None:
    """The media time that a checkpoint names, for sentences; None when it names none that there can be."""
    begin, end = (line.record.fields.get(name) for name in ("first_media_90k", "end_media_90k"))
    if line.record.type != "checkpoint" or not isinstance(begin, int) or not isinstance(end, int):
        return None
    return (begin, end) if 0 <= begin < end < MAX_MEDIA_90K else None
