"""What the signatures in the video of recordings come to, beside what was found of the files that it lies in.

Every byte of media is hashed in the journal, so a change is found there, to the fragment. What the signatures in the
video say of the same change is told as its consequence: it lies at the GOP before or behind it as often as not, and a
changed signature looks like another camera's.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from cryptography import x509

from agent.media.units import VIDEO_TIMESCALE_90K
from agent.signing.finding import BAD_STATES, GopFinding, GopState
from agent.trust.certificates import fingerprint_text
from agent.verify.finding import Code, Finding, Findings, Severity
from agent.verify.video_summary import VideoSummary, where
from agent.verify.words import counted, media_place

MAX_BAD_GOPS = 1000
"""Of a recording; what is bad behind them stands for itself."""


@dataclass(frozen=True, slots=True)
class _BadGop:
    """begin_90k, end_90k: the media in which lie the GOP, the one before it, and the signatures that speak of it."""

    finding: GopFinding
    begin_90k: int
    end_90k: int


@dataclass(slots=True)
class SeenVideo:
    """What was read of one recording. strangers: certificates of keys that are not the journal's of that time."""

    recording_id: str
    summary: VideoSummary = field(default_factory=VideoSummary)
    seis: int = 0
    strangers: list[x509.Certificate] = field(default_factory=list)
    _bad: list[_BadGop] = field(default_factory=list)
    _unreadable: tuple[str, int, str] | None = None

    def take(self, finding: GopFinding, begin_90k: int, end_90k: int) -> None:
        """The next GOP; see _BadGop for the times."""
        self.summary.take(finding)
        bad = finding.state in BAD_STATES and finding.state is not GopState.UNCOVERED
        if bad and len(self._bad) < MAX_BAD_GOPS:
            self._bad.append(_BadGop(finding, begin_90k, end_90k))

    def unreadable(self, name: str, behind_90k: int, why: str) -> None:
        """The video in a file cannot be read behind a moment; the first such file counts."""
        self._unreadable = self._unreadable or (name, behind_90k, why)

    def report(self, hurt: Sequence[Finding], findings: Findings, *, broken: bool) -> None:
        """Say what its signatures come to. hurt: what was found of media whose bytes are not what was signed.

        broken: its part of the journal is not whole, so that it does not say how the recording ended.
        """
        subject, recording_id, summary = f"{self.recording_id}/video", self.recording_id, self.summary
        if self._unreadable is not None:
            name, behind_90k, why = self._unreadable
            file = f"{recording_id}/{name}"
            findings.fail(
                Code.VIDEO_GOP,
                subject,
                f"For the signatures in it, the video in {name} cannot be read behind {media_place(behind_90k)} of the "
                f"recording: {why}",
                recording_id=recording_id,
                follows=file if any(finding.subject == file for finding in hurt) else None,
            )
        if not summary.gops:
            return
        if not self.seis:
            findings.note(
                Code.VIDEO_UNSIGNED,
                subject,
                f"Its video ({counted(summary.gops, 'GOP')}) has no signatures in itself: the camera filmed without "
                "them, or for less than two GOPs. The journal vouches for it all the same; a copy of the video alone "
                "cannot be checked.",
                recording_id=recording_id,
            )
            return
        for stranger in self.strangers:
            findings.fail(
                Code.VIDEO_KEY,
                subject,
                "The signatures in its video are of another key than the one that signed the journal then: certificate "
                f"SHA-256 {fingerprint_text(stranger)}.",
                recording_id=recording_id,
            )
        self._report_bad(hurt, findings)
        self._report_unsigned(findings)
        if summary.bad_gops or self.strangers or self._unreadable or not summary.counts[GopState.VALID]:
            return
        pending = summary.counts[GopState.PENDING]
        sentence = f"The signatures in its video fit {summary.counts[GopState.VALID]} of {counted(summary.gops, 'GOP')}"
        if pending and (broken or hurt):
            sentence += f"; for {pending} of them no signature is in the video that is here"
        elif pending:
            sentence += f"; {pending} had none yet when it ended, and the journal alone vouches for them"
        findings.note(Code.VIDEO_SIGNED, subject, f"{sentence}.", recording_id=recording_id)

    def _report_bad(self, hurt: Sequence[Finding], findings: Findings) -> None:
        explained: dict[str, list[GopFinding]] = {}
        alone: list[GopFinding] = []
        for bad in self._bad:
            cause = next((finding for finding in hurt if _overlaps(finding, bad)), None)
            if cause is None:
                alone.append(bad.finding)
            else:
                explained.setdefault(cause.subject, []).append(bad.finding)
        subject, recording_id = f"{self.recording_id}/video", self.recording_id
        if alone:
            others = self.summary.bad_gops - sum(len(gops) for gops in explained.values()) - 1
            more = f" {counted(others, 'more GOP is', 'more GOPs are')} bad." if others else ""
            findings.fail(
                Code.VIDEO_GOP,
                subject,
                f"{where(alone[0])} fails by the signatures in the video: {alone[0].reason}{more}",
                recording_id=recording_id,
            )
        for file, gops in explained.items():
            name = file.rpartition("/")[2]
            start_s = gops[0].start_s
            begin = "" if start_s is None else f", the first at {media_place(round(start_s * VIDEO_TIMESCALE_90K))}"
            findings.fail(
                Code.VIDEO_GOP,
                subject,
                f"{counted(len(gops), 'GOP does', 'GOPs do')} not fit the signatures in the video either{begin} of the "
                f"recording. That follows from what is wrong with {name} and says no more: where a signature itself "
                "was hit, the GOP before it does not fit, or the signature looks like another key's.",
                recording_id=recording_id,
                follows=file,
            )

    def _report_unsigned(self, findings: Findings) -> None:
        summary = self.summary
        first = summary.first_uncovered
        if first is not None:
            sentence = (
                f"{summary.counts[GopState.UNCOVERED]} of {counted(summary.gops, 'GOP')}, the first of them "
                f"{where(first)} say that they could not be signed in the video: the camera's signer failed. The "
                "journal alone vouches for them."
            )
        elif not summary.counts[GopState.VALID] and summary.first_bad is None:
            sentence = (
                f"Its video ({counted(summary.gops, 'GOP')}) ended before a signature in it came: the camera's signer "
                "failed, or was slow. The journal alone vouches for it."
            )
        else:
            return
        subject = f"{self.recording_id}/video"
        findings.warn(Code.VIDEO_UNSIGNED, subject, sentence, recording_id=self.recording_id)


def video_findings(seen: Sequence[SeenVideo], media: Sequence[Finding], broken: Collection[str]) -> list[Finding]:
    """What to say of the video of all recordings.

    media: what was found of the files. broken: recordings whose part of the journal is not whole.
    """
    hurt: dict[str | None, list[Finding]] = {}
    for finding in media:
        if finding.media_90k is not None and finding.severity is Severity.FAIL:
            hurt.setdefault(finding.recording_id, []).append(finding)
    findings = Findings()
    for video in seen:
        video.report(hurt.get(video.recording_id, ()), findings, broken=video.recording_id in broken)
    return findings.all()


def _overlaps(finding: Finding, bad: _BadGop) -> bool:
    if finding.media_90k is None:
        return False
    begin, end = finding.media_90k
    return begin < bad.end_90k and bad.begin_90k < end
