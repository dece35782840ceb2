"""The outcome of a check: a verdict for each recording, and every finding."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.x509.oid import NameOID

from agent.trust.certificates import fingerprint_text
from agent.verify.aspect import AspectVerdict
from agent.verify.finding import Finding, Severity
from agent.verify.folding import causes
from agent.verify.interval import Interval


class Verdict(StrEnum):
    """VERIFIED: closed, complete, unchanged, signed. SO_FAR: not closed; what is checkpointed is. FAILED: neither."""

    VERIFIED = "verified"
    SO_FAR = "verified-so-far"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class RecordingReport:
    """One recording. start_utc_ns: claimed wall time of its first frame, None when it was never opened.

    marker_ms: media times of the wearer's markers. bytes: of media that signatures cover.
    time: what timestamps say of it, None when it has no records. aspects: the verdict on each question, in the order of
    Aspect. log_intact: its part of the journal is what the camera signed, so that what the journal says of it counts.
    """

    recording_id: str
    verdict: Verdict
    closed: bool
    recovered: bool
    stop_reason: str | None
    frames: int
    duration_ms: int
    bytes: int
    start_utc_ns: int | None
    clock_source: str | None
    configured_pre_event_ms: int | None
    actual_pre_event_ms: int | None
    marker_ms: tuple[int, ...]
    gaps: int
    linked_from: str | None
    time: Interval | None = None
    aspects: tuple[AspectVerdict, ...] = ()
    log_intact: bool = True

    @property
    def start_utc(self) -> datetime | None:
        """Claimed wall time of the first frame; None also for one that no calendar has."""
        if self.start_utc_ns is None:
            return None
        try:
            return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=self.start_utc_ns // 1000)
        except OverflowError:  # a claim is any number, and the calendar ends with the year 9999
            return None

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        start = self.start_utc
        return {
            "recording_id": self.recording_id,
            "verdict": self.verdict.value,
            "verdicts": {verdict.aspect.value: verdict.to_json() for verdict in self.aspects},
            "log_intact": self.log_intact,
            "closed": self.closed,
            "recovered": self.recovered,
            "stop_reason": self.stop_reason,
            "frames": self.frames,
            "duration_ms": self.duration_ms,
            "bytes": self.bytes,
            "start_utc_claimed": start.isoformat().replace("+00:00", "Z") if start else None,
            "clock_source": self.clock_source,
            "configured_pre_event_ms": self.configured_pre_event_ms,
            "actual_pre_event_ms": self.actual_pre_event_ms,
            "marker_ms": list(self.marker_ms),
            "gaps": self.gaps,
            "linked_from": self.linked_from,
            "time": self.time.to_json() if self.time else None,
        }


@dataclass(frozen=True, slots=True)
class CertificateReport:
    """A certificate that signed. fingerprint: SHA-256 of its DER as openssl prints it.

    records: numbers, first and last, of the records that stand under it, in order; empty for a video without a journal.
    """

    subject: str
    fingerprint: str
    records: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(cls, certificate: x509.Certificate, records: tuple[tuple[int, int], ...] = ()) -> CertificateReport:
        """Of a certificate whose names may be unreadable."""
        try:
            subject = certificate.subject.rfc4514_string({NameOID.SERIAL_NUMBER: "serialNumber"})
        except ValueError:
            subject = "unreadable"
        return cls(subject, fingerprint_text(certificate), records)


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that was found about one vault or package. kind: "vault" or "package".

    root_given: whether the origin was judged against a root that the examiner brought.
    """

    path: Path
    kind: str
    device_id: str | None
    certificates: tuple[CertificateReport, ...]
    root_given: bool
    journal_files: int
    records: int
    first_seq: int | None
    last_seq: int | None
    head_sha256: str | None
    recordings: tuple[RecordingReport, ...]
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """True when nothing refutes the evidence."""
        return not any(finding.severity is Severity.FAIL for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """For programs. `follows_from` of a finding: which one of the list (from 0) it follows from, or null."""
        return {
            "path": str(self.path),
            "kind": self.kind,
            "ok": self.ok,
            "device_id": self.device_id,
            "certificates": [
                {"subject": c.subject, "sha256_fingerprint": c.fingerprint, "records": [list(r) for r in c.records]}
                for c in self.certificates
            ],
            "root_given": self.root_given,
            "journal": {
                "files": self.journal_files,
                "records": self.records,
                "first_seq": self.first_seq,
                "last_seq": self.last_seq,
                "head_sha256": self.head_sha256,
            },
            "recordings": [recording.to_json() for recording in self.recordings],
            "findings": [
                finding.to_json() | {"follows_from": cause}
                for finding, cause in zip(self.findings, causes(self.findings), strict=True)
            ],
        }
