"""What follows from a report, in one or two sentences for a person who reads nothing else."""

from __future__ import annotations

from collections.abc import Sequence

from agent.verify.aspect import Aspect, AspectVerdict, Standing
from agent.verify.finding import Code, Finding, Severity
from agent.verify.folding import causes
from agent.verify.report import RecordingReport, Report, Verdict
from agent.verify.words import counted, listed

_PACKAGE_ONLY = frozenset({Code.PACKAGE_SUM, Code.FILE_UNKNOWN, Code.FOLDER_NOT_PLAIN})
"""Failures of a package that need not touch what the camera signed."""
_AROUND = ("lies beside files that do not belong there", "lies in a package that was changed")
"""In a vault, and in a package."""
_PACKAGE_PARTS = frozenset({Code.PACKAGE_INCOMPLETE, Code.PACKAGE_VERSION})


def conclude(report: Report) -> str:
    """Full sentences; ok or not, and what that rests on."""
    if not report.ok:
        return _refuted(report)
    if not report.recordings:
        if not report.records:
            return "There is nothing to verify here yet."
        return (
            f"There is no recording in it. Its journal ({counted(report.records, 'record')}) is unchanged and signed"
            f"{_but(report)}. {_origin(report)}"
        )
    closed = any(finding.code in (Code.NOT_DECRYPTED, Code.IDENTITY) for finding in report.findings)
    inside = " What is inside the encrypted video was not looked at, or not at all of it." if closed else ""
    if any(finding.code is Code.NOT_DECRYPTED for finding in report.findings):
        inside = " What is inside the encrypted video was not looked at."
    return f"{_sound(report)}{inside} {_origin(report)} {_time(report)}"


def _aspect(recording: RecordingReport, aspect: Aspect) -> AspectVerdict | None:
    return next((verdict for verdict in recording.aspects if verdict.aspect is aspect), None)


def _standings(report: Report, aspect: Aspect) -> set[Standing]:
    verdicts = (_aspect(recording, aspect) for recording in report.recordings)
    return {verdict.standing for verdict in verdicts if verdict is not None}


def _number(report: Report, aspect: Aspect, standing: Standing) -> int:
    verdicts = (_aspect(recording, aspect) for recording in report.recordings)
    return sum(verdict is not None and verdict.standing is standing for verdict in verdicts)


def _refuted(report: Report) -> str:
    failed = [recording for recording in report.recordings if recording.verdict is Verdict.FAILED]
    failing = [finding for finding in report.findings if finding.severity is Severity.FAIL]
    if not failed:
        start = f"{_named(len(report.recordings))} in itself, but this" if report.recordings else "This"
        return f"{start} evidence does not verify as a whole: {_first(report, failing)}"
    whats = [_what(report, recording) for recording in failed]
    count, others = len(report.recordings), len(report.recordings) - len(failed)
    if count == 1:
        return f"This recording does not verify: it {whats[0]}."
    rest = f" The other{'s do' if others > 1 else ' does'}, as far as said above." if others else ""
    if len(failed) == 1:
        return f"1 of {count} recordings does not verify: {failed[0].recording_id} {whats[0]}.{rest}"
    start = (
        f"{len(failed)} of {count} recordings do not verify" if others else f"None of the {count} recordings verifies"
    )
    if len(set(whats)) == 1:
        return f"{start}: each {whats[0]}.{rest}"
    return f"{start}: {'; '.join(f'one or more {what}' for what in dict.fromkeys(whats))}.{rest}"


def _what(report: Report, recording: RecordingReport) -> str:
    """What is wrong with a recording, behind "it" or an id."""
    parts = []
    for verdict in recording.aspects:
        if verdict.standing is not Standing.FAILS:
            if any(finding.around and finding.severity is Severity.FAIL for finding in verdict.because):
                parts.append(_AROUND[report.kind == "package"])
            continue
        codes = {finding.code for finding in verdict.because}
        if verdict.aspect is Aspect.INTEGRITY:
            changed = not codes or codes - _PACKAGE_ONLY
            parts.append("is not what the camera signed" if changed else _AROUND[report.kind == "package"])
        elif verdict.aspect is Aspect.ORIGIN:
            root = "the root certificate that you gave" if report.root_given else "one and the same root certificate"
            parts.append(f"was signed under a certificate that is not shown to lead to {root}")
        elif verdict.aspect is Aspect.TIME:
            parts.append("claims times that cannot be right")
        elif not codes or codes - _PACKAGE_PARTS:
            parts.append("is not complete")
        else:
            parts.append("lies in a package that is not whole")
    return listed(parts) or "is not as it was signed"


def _named(count: int) -> str:
    return "The recording verifies" if count == 1 else f"Each of the {count} recordings verifies"


def _first(report: Report, failing: Sequence[Finding]) -> str:
    """The first failure that stands for itself."""
    roots = causes(report.findings)
    leading = next(
        (f for f, cause in zip(report.findings, roots, strict=True) if f.severity is Severity.FAIL and cause is None),
        failing[0],
    )
    return leading.sentence[0].lower() + leading.sentence[1:] if leading.sentence[1:2].islower() else leading.sentence


def _but(report: Report) -> str:
    warned = any(finding.severity is Severity.WARN for finding in report.findings)
    return ", but for what the warnings say" if warned else ""


def _sound(report: Report) -> str:
    count = len(report.recordings)
    running = sum(not recording.closed for recording in report.recordings)
    limited = _number(report, Aspect.COMPLETENESS, Standing.LIMITED)
    if not limited:
        return f"Complete, unchanged and signed{_but(report)}."
    if count == 1:
        what = "has no end yet" if running else "is not complete, as the camera says itself"
        return f"Unchanged and signed{_but(report)}. The recording {what} (see COMPLETENESS)."
    parts = []
    if running:
        parts.append(f"{running} {'has' if running == 1 else 'have'} no end yet")
    if incomplete := limited - running:
        parts.append(f"{incomplete} {'is' if incomplete == 1 else 'are'} not complete, as the camera says itself")
    return f"Unchanged and signed{_but(report)}. Of {count} recordings {listed(parts)} (see COMPLETENESS)."


def _origin(report: Report) -> str:
    if not report.root_given:
        return "Whose camera this is stays open until you give the department's root certificate with --root ROOT.pem."
    if Standing.LIMITED in _standings(report, Aspect.ORIGIN):
        return "The signatures lead to the root certificate you gave, but a person must judge the origin: see ORIGIN."
    return "The signatures lead to the root certificate you gave."


def _time(report: Report) -> str:
    standings = _standings(report, Aspect.TIME)
    if standings == {Standing.HOLDS}:
        return "When its records were written is bounded by the time authority that you trust."
    if Standing.HOLDS in standings:
        return (
            "When the records were written is bounded by the time authority that you trust for some recordings only: "
            "see TIME."
        )
    if any(recording.time is not None and recording.time.checked and (recording.time.before or recording.time.after)
           for recording in report.recordings):  # fmt: skip
        return "When its records were written is bounded on one side, or not without doubt: see TIME."
    return "When it happened is the camera's own claim: see TIME."
