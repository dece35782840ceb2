"""A report on evidence as a person reads it: at any width, in colour on a terminal and plain elsewhere."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from datetime import datetime

from rich.console import Console
from rich.text import Text

from agent.cli.record_runs import RecordRuns
from agent.cli.report_lines import Lines, printable
from agent.media.units import VIDEO_TIMESCALE_90K
from agent.verify.aspect import Aspect, AspectVerdict, Standing
from agent.verify.conclusion import conclude
from agent.verify.finding import Code, Finding, Severity
from agent.verify.folding import causes
from agent.verify.interval import Interval, utc_text
from agent.verify.report import CertificateReport, RecordingReport, Report, Verdict
from agent.verify.words import counted, explained, listed, media_place

MAX_ALIKE = 10
"""Findings of one kind that are listed; `everything` lists all."""
MIN_TOLD_ONCE = 3
"""What is said alike of so many recordings is said once."""

_STYLES = {Severity.FAIL: "bold red", Severity.WARN: "yellow", Severity.NOTE: "dim"}
_VERDICTS = {
    Verdict.VERIFIED: ("VERIFIED", "bold green"),
    Verdict.SO_FAR: ("VERIFIED SO FAR", "bold yellow"),
    Verdict.FAILED: ("FAILED", "bold red"),
}
_NOT_VERIFIED = ("NOT VERIFIED", "bold yellow")
"""Of a folder that the journal does not know yet."""
_STANDINGS = {
    Standing.HOLDS: "green",
    Standing.LIMITED: "yellow",
    Standing.OPEN: "yellow",
    Standing.FAILS: "bold red",
}
_ROUTINE = frozenset({Code.VIDEO_SIGNED, Code.NOT_DECRYPTED})
"""Notes that differ from recording to recording in a number, and that nobody has to act on."""
_BASES = {"fitted": "between the two", "extrapolated": "from one timestamp on"}
_ASPECT_COLUMNS = 23
"""`COMPLETENESS  limited  `."""


def print_report(console: Console, report: Report, *, everything: bool = False) -> str:
    """Print one report; returns what was said, for print_words.

    everything: each finding, also those that follow from another, however many there are.
    """
    return _Printer(console, report, everything=everything).run()


def print_words(console: Console, said: str) -> None:
    """Explain those of the words that were said which not everybody knows."""
    words = explained(said)
    if not words:
        return
    lines = Lines(console)
    lines.line("Words")
    column = max(len(word) for word, _ in words) + 2
    for word, meaning in words:
        lines.wrapped(f"{word:<{column}}", meaning, indent=2)


class _Printer:
    def __init__(self, console: Console, report: Report, *, everything: bool) -> None:
        self._lines = Lines(console)
        self._report = report
        self._everything = everything
        roots = causes(report.findings)
        self._cause = {id(finding): root for finding, root in zip(report.findings, roots, strict=True)}
        self._followers_of: dict[int, list[Finding]] = {}
        for finding, root in zip(report.findings, roots, strict=True):
            if root is not None:
                self._followers_of.setdefault(id(report.findings[root]), []).append(finding)
        self._runs = RecordRuns(report.findings)
        self._told_once = set() if everything else _told_alike(report)
        self._findings_of: dict[str | None, list[Finding]] = {}
        for finding in report.findings:
            self._findings_of.setdefault(finding.recording_id, []).append(finding)

    def _line(self, text: str | Text = "") -> None:
        self._lines.line(text)

    def _wrapped(self, lead: str, text: str, *, indent: int, style: str = "", hang: int | None = None) -> None:
        self._lines.wrapped(lead, text, indent=indent, style=style, hang=hang)

    def _field(self, name: str, text: str) -> None:
        self._wrapped(f"{name:<13}", text, indent=2)

    # -- the report -------------------------------------------------------------------------------------------

    def run(self) -> str:
        """Print all of it; returns what was said."""
        report = self._report
        kind = "Evidence package" if report.kind == "package" else "Vault"
        device = f" of camera {report.device_id}" if report.device_id else ""
        title = Text(printable(f"{kind}{device}"))
        title.stylize("bold")
        self._line(title)
        self._line(f"  {'Folder':<13}{printable(str(report.path))}")  # whole, so that it can be copied
        for certificate in report.certificates:
            self._field("Signed by", f"certificate {certificate.subject}{_ranges(certificate)}")
            self._lines.hash(certificate.fingerprint)
        if report.records:
            self._field(
                "Journal",
                f"records {report.first_seq} to {report.last_seq}, in {counted(report.journal_files, 'file')}; the "
                "hash of the last:",
            )
            self._lines.hash(report.head_sha256 or "")
        self._findings(self._findings_of.get(None, []), ())
        self._alike()
        told_whole: dict[tuple[Standing, ...], int] = {}
        for recording in report.recordings:
            standings = tuple(verdict.standing for verdict in recording.aspects)
            sound = recording.verdict is Verdict.VERIFIED and not self._own_findings(recording)
            if sound and told_whole.get(standings, 0) >= MAX_ALIKE and not self._everything:
                self._briefly(recording)
                continue
            self._recording(recording)
            told_whole[standings] = told_whole.get(standings, 0) + sound
        told = {recording.recording_id for recording in report.recordings}
        for strange in sorted(self._findings_of.keys() - told - {None}, key=str):
            findings = self._findings_of[strange]
            failed = any(finding.severity is Severity.FAIL for finding in findings)
            self._headline(*(_VERDICTS[Verdict.FAILED] if failed else _NOT_VERIFIED), str(strange))
            self._findings(findings, ())
        self._conclusion()
        return " ".join(self._lines.said)

    def _headline(self, word: str, style: str, recording_id: str) -> None:
        self._line()
        line = Text(f"{word}  {printable(recording_id)}")
        line.stylize(style, 0, len(word))
        self._line(line)

    def _own_findings(self, recording: RecordingReport) -> bool:
        """Whether anything is said of it that is not said alike of others."""
        found = self._findings_of.get(recording.recording_id, [])
        return any(f.code not in _ROUTINE and _alike_key(f) not in self._told_once for f in found)

    def _briefly(self, recording: RecordingReport) -> None:
        """One of many that are as sound as those before it."""
        self._headline(*_VERDICTS[recording.verdict], recording.recording_id)
        length = media_place(recording.duration_ms * VIDEO_TIMESCALE_90K // 1000)
        begins = f", begins {_time(recording.start_utc)} as the camera says" if recording.start_utc else ""
        standings = ", ".join(f"{verdict.aspect.value} {verdict.standing.value}" for verdict in recording.aspects)
        text = f"{length} long{begins}; {standings}, for the reasons above (--all repeats them)."
        self._wrapped("", text, indent=2)

    def _recording(self, recording: RecordingReport) -> None:
        self._headline(*_VERDICTS[recording.verdict], recording.recording_id)
        length = media_place(recording.duration_ms * VIDEO_TIMESCALE_90K // 1000)
        self._field(
            "Length",
            f"{length} (minutes:seconds), {counted(recording.frames, 'frame')}, {_size(recording.bytes)}, by "
            + ("the journal" if recording.log_intact else "what is here of the journal, which is not as it was signed"),
        )
        if recording.start_utc is not None:
            clock = f"its clock: {recording.clock_source}"
            self._field("Begins", f"{_time(recording.start_utc)}, as the camera says ({clock})")
        if recording.actual_pre_event_ms is not None and recording.configured_pre_event_ms is not None:
            self._field(
                "Pre-event",
                f"{recording.actual_pre_event_ms / 1000:.1f} s before the trigger, of "
                f"{recording.configured_pre_event_ms / 1000:.1f} s configured",
            )
        if recording.marker_ms:
            places = [media_place(marker * VIDEO_TIMESCALE_90K // 1000) for marker in recording.marker_ms]
            shown = places if self._everything else places[:MAX_ALIKE]
            more = f" and {len(places) - len(shown)} more" if len(shown) < len(places) else ""
            self._field("Markers", f"the wearer marked {', '.join(shown)}{more}")
        if recording.stop_reason:
            self._field("Stopped by", recording.stop_reason)
        if recording.linked_from:
            self._field("Goes on from", recording.linked_from)
        for verdict in recording.aspects:
            self._aspect(verdict)
        if recording.time is not None and (recording.time.before or recording.time.after):
            told = any(v.aspect is Aspect.TIME and v.standing is not Standing.OPEN and not v.because
                       for v in recording.aspects)  # fmt: skip
            self._field("Timestamps", _trusted_time(recording.time, bounds=not told))
        self._findings(self._findings_of.get(recording.recording_id, []), recording.aspects)

    def _aspect(self, verdict: AspectVerdict) -> None:
        lead = f"{verdict.aspect.value.upper():<12}  {verdict.standing.value:<7}  "
        reason = verdict.reason
        if verdict.because:
            leading = self._leading(verdict)
            told = {id(finding) for finding in self._run(leading)}
            more = sum(not self._follows(finding) for finding in verdict.because if id(finding) not in told)
            reason = verdict.lead + self._sentence(leading)
            reason += f" (And {counted(more, 'other finding')}.)" if more else ""
        narrow = self._lines.width < 60
        self._wrapped(
            lead, reason, indent=2, hang=4 if narrow else 2 + _ASPECT_COLUMNS, style=_STANDINGS[verdict.standing]
        )

    def _leading(self, verdict: AspectVerdict) -> Finding:
        """The one that is quoted as the reason: the first that does not only follow from another."""
        return next((finding for finding in verdict.because if not self._follows(finding)), verdict.because[0])

    def _follows(self, finding: Finding) -> bool:
        return not self._everything and self._cause[id(finding)] is not None

    def _run(self, finding: Finding) -> Sequence[Finding]:
        return (finding,) if self._everything else self._runs.of(finding)

    def _sentence(self, finding: Finding) -> str:
        return finding.sentence if self._everything else self._runs.sentence(finding)

    # -- findings ---------------------------------------------------------------------------------------------

    def _findings(self, findings: Sequence[Finding], aspects: Sequence[AspectVerdict]) -> None:
        quoted = {id(self._leading(verdict)): verdict.aspect.value.upper() for verdict in aspects if verdict.because}
        shown = [f for f in findings if _alike_key(f) not in self._told_once and not self._follows(f)]
        for severity in Severity:
            by_code: dict[str, list[Finding]] = {}
            for finding in shown:
                if finding.severity is severity and self._run(finding)[0] is finding:
                    by_code.setdefault(finding.code, []).append(finding)
            for alike in by_code.values():
                listed_ones = alike if self._everything else alike[:MAX_ALIKE]
                for finding in listed_ones:
                    self._finding(finding, quoted.get(id(finding)))
                    run = self._run(finding)
                    self._followers(run, "it" if len(run) == 1 else "them")
                if more := alike[len(listed_ones) :]:
                    self._wrapped(
                        f"{severity.value} {alike[0].code.value}  ",
                        f"And {len(more)} more of this kind.",
                        indent=4,
                        hang=9,
                        style=_STYLES[severity],
                    )
                    self._followers(more, "them")

    def _finding(self, finding: Finding, quoted_at: str | None) -> None:
        text = self._sentence(finding)
        if quoted_at is not None:
            text = f"See {quoted_at} above."
        elif len(self._run(finding)) == 1 and finding.subject.startswith("journal/") and finding.subject not in text:
            text += f" ({finding.subject})"
        lead = f"{finding.severity.value} {finding.code.value}  "
        self._wrapped(lead, text, indent=4, hang=9, style=_STYLES[finding.severity])

    def _followers(self, findings: Sequence[Finding], them: str) -> None:
        """One sentence on what follows from these."""
        following = [follower for finding in findings for follower in self._followers_of.get(id(finding), ())]
        if not following or self._everything:
            return
        codes = listed(list(dict.fromkeys(finding.code.value for finding in following)))
        one = len(following) == 1
        self._wrapped(
            "",
            f"{counted(len(following), 'further finding')} {'follows' if one else 'follow'} from {them} ({codes}) and "
            f"{'is' if one else 'are'} not listed; --all lists {'it' if one else 'them'}.",
            indent=9,
            hang=9,
        )

    def _alike(self) -> None:
        """What is said alike of several recordings."""
        told: dict[tuple[str, str, str], list[Finding]] = {}
        for finding in self._report.findings:
            if (key := _alike_key(finding)) in self._told_once:
                told.setdefault(key, []).append(finding)
        for alike in told.values():
            finding = alike[0]
            count, every = len(alike), len(self._report.recordings)
            of = f"For {f'all {every}' if count == every else f'{count} of {every}'} recordings: "
            lead = f"{finding.severity.value} {finding.code.value}  "
            self._wrapped(lead, of + finding.sentence, indent=4, hang=9, style=_STYLES[finding.severity])

    # -- the end ----------------------------------------------------------------------------------------------

    def _conclusion(self) -> None:
        text = printable(conclude(self._report))
        self._lines.said.append(text)
        self._line()
        for line in textwrap.wrap(text, self._lines.width, break_long_words=False, break_on_hyphens=False):
            shown = Text(line)
            shown.stylize("bold green" if self._report.ok else "bold red")
            self._line(shown)
        self._line()


def _alike_key(finding: Finding) -> tuple[str, str, str]:
    return (finding.severity.value, finding.code.value, finding.sentence)


def _told_alike(report: Report) -> set[tuple[str, str, str]]:
    """Notes and warnings that many recordings share, word for word. A failure is told of each."""
    of: dict[tuple[str, str, str], set[str]] = {}
    for finding in report.findings:
        if finding.recording_id is not None and finding.severity is not Severity.FAIL:
            of.setdefault(_alike_key(finding), set()).add(finding.recording_id)
    return {key for key, recordings in of.items() if len(recordings) >= MIN_TOLD_ONCE}


def _trusted_time(time: Interval, *, bounds: bool) -> str:
    """bounds: say between which moments it was made; it was not said before."""
    anchors = [
        (time.before, f"it was written not before {utc_text(time.not_before_ns)}"),
        (time.after, f"it existed by {utc_text(time.existed_by_ns)}"),
    ]
    said = [(anchor.seq, what) for anchor, what in anchors if anchor is not None]
    if bounds:
        text = "; ".join(f"the one in record {seq} says that {what}" for seq, what in said)
    else:
        text = "in " + listed([f"record {seq}" for seq, _ in said])
    text += "." if time.checked else "; the time authority was NOT checked."
    if time.estimate is not None:
        text += (
            f" From them and the camera's boot clock it began at about {utc_text(time.estimate.start_utc_ns)}, give or "
            f"take {time.estimate.uncertainty_ms / 1000:.1f} s: an estimate {_BASES[time.estimate.basis]}, no proof."
        )
    if time.clock_uncertainty_ms is not None:
        text += f" The camera held its own clock for good to {time.clock_uncertainty_ms} ms."
    return text


def _ranges(certificate: CertificateReport) -> str:
    """Which records stand under it, behind its name."""
    ranges = [f"{first} to {last}" for first, last in certificate.records[:MAX_ALIKE]]
    more = len(certificate.records) - len(ranges)
    if more:
        ranges.append(f"{more} more ranges")
    return f", records {listed(ranges)}" if ranges else ""


def _size(count: int) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
