"""A video file by itself, without journal or package: what the signatures in it prove, and what they do not.

What a newspaper or a court is sent: joined segments, a copy that a tool remuxed, a piece that was cut at keyframes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509

from agent.clock import NS_PER_S
from agent.errors import EvidenceDamagedError
from agent.signing.file import read_file
from agent.signing.finding import GopState, StreamReport
from agent.signing.sei import VendorInfo
from agent.trust.certificates import check_chain
from agent.vault.layout import is_encrypted
from agent.verify.report import CertificateReport
from agent.verify.video_summary import VideoSummary, gop_json, where
from agent.verify.words import counted

NOT_PROVED = (
    "The sound: it may be changed, exchanged, or gone.",
    "How fast it plays: the times of the pictures stand in the container, which any tool writes anew.",
    "How the pictures are decoded: size, cropping and colours stand outside of what is signed.",
    "That it is all of the recording: pictures may be gone before its first and behind its last.",
    "When it was filmed: the camera's clock says that, and nobody else.",
)
"""What signatures in a video do not prove, whatever comes out."""
MAX_OFF_S, MAX_OFF_SHARE = 1.0, 0.02
"""By so much the time that a film plays may differ from the signed one, whichever is more: clocks run off."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class VideoFileReport:
    """Everything that was found. chain_problems: why the certificate is not to be trusted, in sentences; of its origin
    they say something only if root_given.
    """

    path: Path
    summary: VideoSummary
    stream: StreamReport
    root_given: bool
    chain_problems: tuple[str, ...]

    @property
    def is_signed(self) -> bool:
        """Whether there is any signature in it, good or bad."""
        return self.stream.seis > 0

    @property
    def ok(self) -> bool:
        """True when something of it is signed and nothing refutes any of it."""
        return self.stream.is_valid and not self.chain_problems

    @property
    def certificate(self) -> CertificateReport | None:
        """Whose key signed; None when no signature fits."""
        return CertificateReport.of(self.stream.chain[0]) if self.stream.chain else None

    @property
    def vendor(self) -> VendorInfo | None:
        """What the camera says of itself, signed: its id is the serial number."""
        return self.stream.vendor

    @property
    def claimed(self) -> tuple[str, str] | None:
        """When the valid part began and ended as the camera's clock had it, RFC 3339."""
        first, last = self.stream.first_utc_ns, self.stream.last_utc_ns
        if first is None or last is None:
            return None
        return _utc(first), _utc(last)

    @property
    def lasted_s(self) -> tuple[float, float] | None:
        """How long the valid part plays, and how long it lasted as the camera's clock had it; None when not known."""
        first, last, plays_s = self.stream.first_utc_ns, self.stream.last_utc_ns, self.summary.valid_s
        return None if first is None or last is None or plays_s is None else (plays_s, (last - first) / NS_PER_S)

    @property
    def speed_differs(self) -> bool:
        """Whether these two differ by more than MAX_OFF_S and more than MAX_OFF_SHARE of the signed time."""
        if self.lasted_s is None:
            return False
        plays_s, lasted_s = self.lasted_s
        return abs(plays_s - lasted_s) > max(MAX_OFF_S, MAX_OFF_SHARE * abs(lasted_s))

    @property
    def conclusion(self) -> str:
        """One sentence."""
        counts = self.summary.counts
        if not self.summary.gops:
            return "There is no picture in this file."
        if not self.is_signed:
            return (
                "There is no signature in this video: the camera filmed without them, a copy was encoded anew, or they "
                "were taken out. Nothing in this file says whose it is or whether it was changed."
            )
        if self.summary.first_bad is not None:
            return f"This video is not what was signed: {where(self.summary.first_bad)} is the first bad one."
        if self.summary.first_uncovered is not None:
            return (
                f"Not all of this video is signed: from {where(self.summary.first_uncovered)} on "
                f"{counted(counts[GopState.UNCOVERED], 'GOP has', 'GOPs have')} no signature, as when the camera's "
                "signer fails. Only the "
                "camera's journal can vouch for them."
            )
        if not counts[GopState.VALID]:
            return "This video ends before the first signature in it came: nothing vouches for any of it."
        if self.chain_problems:
            return "The pictures are what was signed, but the certificate they are signed under is not to be trusted."
        if counts[GopState.PENDING]:
            return "Up to where the signatures reach, the pictures are what was signed, all of them and in their order."
        return "The pictures are what was signed, all of them and in their order."

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        certificate, vendor, claimed = self.certificate, self.vendor, self.claimed
        return {
            "path": str(self.path),
            "kind": "video",
            "ok": self.ok,
            "signed": self.is_signed,
            "conclusion": self.conclusion,
            **self.summary.to_json(),
            "bad": [gop_json(gop) for gop in self.summary.bad],
            "certificate": None
            if certificate is None
            else {"subject": certificate.subject, "sha256_fingerprint": certificate.fingerprint},
            "device_id": vendor.serial_number if vendor is not None else None,
            "software": vendor.firmware_version if vendor is not None else None,
            "root_given": self.root_given,
            "certificate_problems": list(self.chain_problems),
            "start_utc_claimed": claimed[0] if claimed is not None else None,
            "end_utc_claimed": claimed[1] if claimed is not None else None,
            "plays_s": self.lasted_s[0] if self.lasted_s is not None else None,
            "lasted_s_claimed": self.lasted_s[1] if self.lasted_s is not None else None,
            "speed_differs": self.speed_differs,
            "not_proved": list(NOT_PROVED),
        }


def check_video_file(path: Path, roots: Sequence[x509.Certificate] | None) -> VideoFileReport:
    """Read a file's video track to its end. roots: what the examiner trusts; None leaves the origin open.

    Raises EvidenceDamagedError when it has no H.264 that can be read.
    """
    if is_encrypted(path.name):
        raise EvidenceDamagedError(
            f"{path} is encrypted; open it first: age -d -i KEY.txt {path.name}. A segment also wants its init.mp4 in "
            "front: cat init.mp4 000001.m4s."
        )
    summary = VideoSummary()
    try:
        stream = read_file(path, summary.take)
    except EvidenceDamagedError as error:
        raise EvidenceDamagedError(
            f"{path}: {error} A segment (.m4s) alone is no video: join it behind its init.mp4 "
            "(cat init.mp4 0*.m4s > video.mp4). A vault or package is named by its folder."
        ) from error
    return VideoFileReport(path, summary, stream, roots is not None, tuple(_chain_problems(stream, roots)))


def _chain_problems(stream: StreamReport, roots: Sequence[x509.Certificate] | None) -> list[str]:
    chain = stream.chain
    if not chain:
        return []
    # Judged at a moment when all of it was valid, and the claimed times apart: see agent.verify.signatures.
    trusted = tuple(roots) if roots is not None else chain[-1:]
    moment = max(certificate.not_valid_before_utc for certificate in (*chain, *trusted))
    problems = check_chain(chain, trusted, moment)
    expires = chain[0].not_valid_after_utc
    if stream.last_utc_ns is not None and stream.last_utc_ns > expires.timestamp() * NS_PER_S:
        problems.append(
            f"It claims times up to {_utc(stream.last_utc_ns)}, after its certificate expired "
            f"({expires:%Y-%m-%d %H:%M:%S} UTC)."
        )
    return problems


def _utc(ns: int) -> str:
    try:
        moment = _EPOCH + timedelta(microseconds=ns // 1000)
    except OverflowError:
        return f"{ns // NS_PER_S} s after 1970"
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
