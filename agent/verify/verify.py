"""Checks a vault or an evidence package from its files alone: reads only, needs no daemon, believes nothing.

Memory does not grow with the media or the journal, only with the number of recordings and of their files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from heapq import merge
from pathlib import Path

from cryptography import x509

from agent.encryption.identity import Identities
from agent.vault.record import Record
from agent.verify.closing import check_closed
from agent.verify.coverage import check_coverage
from agent.verify.encryption import EncryptionCheck
from agent.verify.evidence import PACKAGE_NAME, PACKAGE_VERSION, Evidence, locate
from agent.verify.evidence_file import (
    JOURNAL_NAME,
    SEGMENT_NAME,
    names_in,
)
from agent.verify.fields import FieldError
from agent.verify.finding import Code, Finding, Findings
from agent.verify.folders import check_folder, check_refused, check_unrecorded
from agent.verify.journal import JournalLine, JournalReader
from agent.verify.media_job import MediaJob
from agent.verify.media_thread import MediaThread
from agent.verify.package import check_label, check_parts, check_sums
from agent.verify.recording import AbsentRecordError, RecordingCheck, UnsafeNameError
from agent.verify.remembered import check_remembered
from agent.verify.report import CertificateReport, Report
from agent.verify.runs import RunCheck
from agent.verify.signatures import SignatureCheck
from agent.verify.support import SupportMaker, check_support
from agent.verify.times import TimeCheck
from agent.verify.timestamps import TimestampCheck
from agent.verify.verdict import recording_report
from agent.verify.video import VideoCheck
from agent.verify.video_report import video_findings
from agent.verify.words import counted

Progress = Callable[[int, int], None]

KNOWN_TYPES = frozenset(
    {
        "journal-open", "boot", "config", "clock", "ready", "trigger", "trigger-pending", "recording-open",
        "checkpoint", "segment", "gap", "marker", "stop", "recording-close", "records-lost", "fault", "fault-cleared",
        "sound-missing", "trigger-dropped", "offload", "timestamp", "shutdown", "certificate-changed", "encryption",
        "self-test", "storage", "settled", "scrub",
    }
)  # fmt: skip


def verify_path(
    path: Path,
    *,
    roots: Sequence[x509.Certificate] | None = None,
    tsa_roots: Sequence[x509.Certificate] | None = None,
    identities: Identities | None = None,
    video: bool = False,
    support: SupportMaker | None = None,
    progress: Progress | None = None,
) -> Report:
    """Check everything under `path`, a vault or an evidence package.

    roots: certificates the examiner trusts; None takes the one that lies in the evidence, which proves no origin.
    tsa_roots: certificates of time authorities the examiner trusts; with None timestamps count unchecked, and say so.
    identities: open encrypted segments and sealed fields; None checks them as they are.
    video: read the signatures in the video of each recording, too.
    support: makes a package's support sheet anew; None leaves it unchecked.
    progress(done_bytes, all_bytes): called in other threads as media is hashed and read.
    Raises EvidenceNotFound when there is neither; whatever is wrong with what there is becomes findings.
    """
    return _Verification(locate(path), roots, tsa_roots, identities, progress, video=video, support=support).run()


@dataclass(slots=True)
class _Ends:
    """First and last record that was read."""

    first: Record | None = None
    last: Record | None = None
    count: int = 0


class _Verification:
    def __init__(
        self,
        evidence: Evidence,
        roots: Sequence[x509.Certificate] | None,
        tsa_roots: Sequence[x509.Certificate] | None,
        identities: Identities | None,
        progress: Progress | None,
        *,
        video: bool,
        support: SupportMaker | None,
    ) -> None:
        self._evidence = evidence
        self._support = support
        self._findings = Findings()
        # Before the journal is read: a recording that begins in between is then not taken for an unknown one.
        self._folders = [] if evidence.is_package else names_in(evidence.recordings)
        self._journal_before = self._journal_state()
        self._done_bytes = self._read_bytes = 0
        self._progress = progress
        self._all_bytes = self._media_bytes() * (1 + video) if progress else 0
        self._media = MediaThread(self._hashed, keep_sums=evidence.is_package, identities=identities)
        self._video = VideoCheck(identities, self._looked_at) if video else None
        self._signatures = SignatureCheck(evidence.device, roots, self._findings)
        self._times = TimeCheck(self._findings)
        self._timestamps = TimestampCheck(tsa_roots, self._findings)
        # Of an extract nothing is to be said: it ends where its recording does.
        self._runs = None if evidence.is_package else RunCheck(self._findings)
        self._encryption = EncryptionCheck(identities, self._findings)
        self._recordings: dict[str, RecordingCheck] = {}
        self._others: set[str] = set()
        self._closed: list[RecordingCheck] = []
        """Those whose end no signature covers yet."""
        self._unknown_types: dict[str, int] = {}
        self._ends = _Ends()
        self._packaged_device_id: str | None = None
        self._broken_at: int | None = None
        """The last line whose signature is wrong, or that does not follow on the one before it."""

    def run(self) -> Report:
        check_refused(self._evidence, self._findings)
        reader = JournalReader(self._evidence.journal, self._findings, extract=self._evidence.is_package)
        with self._media, self._video or nullcontext():
            for line in reader:
                self._take(line)
            for recording in self._recordings.values():
                recording.finish()
        if not reader.files:
            self._no_journal()
        self._signatures.finish(self._concerns)
        self._timestamps.finish(self._recordings)
        self._encryption.finish()
        self._finish_journal()
        writing = self._journal_state() != self._journal_before
        check_coverage(
            self._signatures, self._recordings.values(), self._findings, is_package=self._evidence.is_package
        )
        for recording in self._recordings.values():
            check_closed(self._evidence, recording, self._findings)
            check_folder(self._evidence, recording, self._findings, writing=writing)
        if self._evidence.is_package:
            self._check_package()
        else:
            unrecorded = [name for name in self._folders if name not in self._recordings]
            check_unrecorded(unrecorded, self._findings, writing=writing)
        return self._report(reader)

    def _concerns(self, first: int, last: int) -> bool:
        """Whether these lines of the journal are of what is judged: a package's recording, or all of a vault."""
        if not self._recordings or not self._evidence.is_package:
            return True
        return any(
            first <= (check.covered_ordinal or check.last_ordinal) and (check.first_ordinal or 0) <= last
            for check in self._recordings.values()
        )

    def _hashed(self, count: int) -> None:
        self._done_bytes += count
        self._show_progress()

    def _looked_at(self, count: int) -> None:
        self._read_bytes += count  # apart, because another thread counts what is hashed
        self._show_progress()

    def _show_progress(self) -> None:
        if self._progress is not None:
            self._progress(self._done_bytes + self._read_bytes, self._all_bytes)

    def _journal_state(self) -> list[tuple[str, int]]:
        """Names and sizes: when they differ afterwards, the camera was writing meanwhile."""
        names = [name for name in names_in(self._evidence.journal) if JOURNAL_NAME.fullmatch(name)]
        return [(name, (self._evidence.journal / name).lstat().st_size) for name in names[-1:]]

    def _media_bytes(self) -> int:
        folders = (
            [self._evidence.root]
            if self._evidence.is_package
            else [self._evidence.recordings / f for f in self._folders]
        )
        return sum(
            (folder / name).lstat().st_size
            for folder in folders
            for name in names_in(folder)
            if SEGMENT_NAME.fullmatch(name)
        )

    def _take(self, line: JournalLine) -> None:
        record = line.record
        self._ends.first = self._ends.first or record
        self._ends.last = record
        self._ends.count += 1
        trusted = self._signatures.take(line)
        if not (trusted and line.unbroken):
            self._broken_at = line.ordinal
        if self._runs is not None:
            self._runs.take(line)
        recording_id = record.fields.get("recording_id")
        try:
            self._times.take(line, trusted=trusted)
            self._timestamps.take(line)
            if record.type not in KNOWN_TYPES:
                self._unknown_types[record.type[:40]] = self._unknown_types.get(record.type[:40], 0) + 1
            elif record.type == "boot":
                check_remembered(record, line.ordinal, self._findings)
            elif record.type == "records-lost":
                self._findings.warn(
                    Code.RECORDS_LOST,
                    line.place,
                    f"The camera says that it could not keep {str(record.fields.get('records'))[:20]} of its records "
                    "before this one.",
                    at=line.ordinal,
                )
            if "recording_id" in record.fields:
                self._take_recording(record, recording_id, line.ordinal, trusted=trusted)
            self._cover(line.ordinal)
            looked_into = not self._evidence.is_package or recording_id == self._evidence.packaged_id
            self._encryption.take(record, line.ordinal, looked_into=looked_into)
        except FieldError as error:
            code = Code.FILE_NAME if isinstance(error, UnsafeNameError) else Code.RECORD_INVALID
            self._findings.fail(
                code,
                line.place,
                f"Record {record.seq} ({record.type[:40]}) at {line.place} cannot be right: {error}.",
                recording_id=recording_id if isinstance(recording_id, str) else None,
                at=line.ordinal,
                follows=self._cause_of(error, recording_id),
            )

    def _cover(self, ordinal: int) -> None:
        if self._signatures.uncovered_from is None:
            for recording in self._closed:
                recording.covered_ordinal = ordinal
            self._closed.clear()

    def _cause_of(self, error: FieldError, recording_id: object) -> int | None:
        """The line at which the journal is broken, when that took what a record needs."""
        recording = self._recordings.get(recording_id) if isinstance(recording_id, str) else None
        return recording.breaks.last if recording is not None and isinstance(error, AbsentRecordError) else None

    def _take_recording(self, record: Record, recording_id: object, ordinal: int, *, trusted: bool) -> None:
        if not isinstance(recording_id, str):
            raise FieldError("its recording_id is no text")
        if self._evidence.is_package and recording_id != self._evidence.packaged_id:
            self._others.add(recording_id)
            return
        if recording_id not in self._recordings:
            if record.type == "offload":
                return  # a receipt for what an extract does not hold
            self._packaged_device_id = self._signatures.device_id  # in the journal file where its first record stands
            self._recordings[recording_id] = RecordingCheck(recording_id, self._findings, self._media_job)
        recording = self._recordings[recording_id]
        was_closed = recording.closed
        recording.take(record, ordinal, broken_at=self._broken_at, trusted=trusted)
        if recording.closed and not was_closed:
            self._closed.append(recording)
        if recording.closed and self._video is not None:
            self._video.complete(recording_id)

    def _media_job(self, job: MediaJob) -> None:
        if self._evidence.has_recording(job.recording_id):  # a folder that is gone is one finding, not one a file
            folder = self._evidence.recording(job.recording_id)
            self._media.put(job, folder / job.name)
            if self._video is not None:
                self._video.take(job, folder, self._signatures.certificate, self._signatures.certificates)

    def _no_journal(self) -> None:
        if self._evidence.is_package or self._folders:
            self._findings.fail(
                Code.JOURNAL_MISSING, "journal", "There is no journal, so nothing vouches for any of these files."
            )
        else:
            self._findings.note(
                Code.JOURNAL_MISSING, "journal", "There is no journal and no recording: nothing ran yet."
            )

    def _finish_journal(self) -> None:
        if self._runs is not None:
            self._runs.finish()
        if self._unknown_types:
            kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self._unknown_types.items())[:20])
            self._findings.note(
                Code.RECORD_TYPE_UNKNOWN,
                "journal",
                f"There are records of types that this version does not know ({kinds}); their signatures and chain "
                "were checked, their content was not.",
            )
        if self._evidence.is_package and self._ends.first is not None and self._ends.last is not None:
            self._findings.note(
                Code.EXTRACT,
                "journal",
                f"The package holds records {self._ends.first.seq} to {self._ends.last.seq} of the camera's journal"
                + (f", which also name {counted(len(self._others), 'other recording')}" if self._others else "")
                + "; what the camera did before and after is not proved by it.",
            )

    def _check_package(self) -> None:
        packaged_id = self._evidence.packaged_id
        if self._evidence.package_version not in (None, PACKAGE_VERSION):
            self._findings.fail(
                Code.PACKAGE_VERSION,
                PACKAGE_NAME,
                f"The package is of version {self._evidence.package_version}; this software knows {PACKAGE_VERSION}.",
            )
        if packaged_id is None or packaged_id not in self._recordings:
            self._findings.fail(
                Code.PACKAGE_INCOMPLETE,
                PACKAGE_NAME,
                "The journal extract does not hold the records of the recording that this package says it is."
                if packaged_id
                else f"{PACKAGE_NAME} is not there or does not say in its three lines which recording this is.",
            )
        check_label(self._evidence, self._packaged_device_id, self._findings)
        check_parts(self._evidence, self._findings)
        named = {name for recording in self._recordings.values() for name in recording.files}
        check_sums(self._evidence, self._media.sums, named, self._findings)
        if self._support is not None and packaged_id in self._recordings:
            check_support(self._evidence, self._support, self._findings)

    def _report(self, reader: JournalReader) -> Report:
        media = self._media.exchanged.told(self._media.findings.all())
        video: list[Finding] = []
        if self._video is not None:
            broken = {check.recording_id for check in self._recordings.values() if check.breaks.last is not None}
            video = video_findings(self._video.seen, media, broken)
        findings = tuple(self._findings.all() + media + video)
        # By recording, because each against all would be a hundred million comparisons for ten thousand recordings.
        about: dict[str | None, list[tuple[int, Finding]]] = {}
        for number, finding in enumerate(findings):
            about.setdefault(finding.recording_id, []).append((number, finding))
        first, last = self._ends.first, self._ends.last
        return Report(
            path=self._evidence.root,
            kind="package" if self._evidence.is_package else "vault",
            device_id=self._signatures.device_id,
            certificates=tuple(
                CertificateReport.of(certificate, records)
                for certificate, records in zip(
                    self._signatures.certificates, self._signatures.certificate_records, strict=True
                )
            ),
            root_given=self._signatures.root_given,
            journal_files=reader.files,
            records=self._ends.count,
            first_seq=first.seq if first else None,
            last_seq=last.seq if last else None,
            head_sha256=last.sha256 if last else None,
            recordings=tuple(
                recording_report(
                    check,
                    [finding for _, finding in merge(about.get(None, ()), about.get(check.recording_id, ()))],
                    self._timestamps.interval(check.recording_id),
                    root_given=self._signatures.root_given,
                    signed=self._signatures.signed > 0,
                    is_package=self._evidence.is_package,
                )
                for check in self._recordings.values()
            ),
            findings=findings,
        )
