"""The four questions that are asked of evidence, each with a verdict of its own and the reason for it.

They are kept apart because they rest on different things: unchanged says nothing of whose it is, whose it is nothing of
when, and none of these that all of it is there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from agent.verify.finding import Code, Finding, Severity
from agent.verify.interval import Interval, utc_text


class Aspect(StrEnum):
    """What is asked. question: in words."""

    question: str

    def __new__(cls, value: str, question: str) -> Aspect:
        member = str.__new__(cls, value)
        member._value_ = value
        member.question = question
        return member

    INTEGRITY = "integrity", "Is every byte what the key of the named certificate signed?"
    ORIGIN = "origin", "Does that certificate lead to the department's root certificate?"
    TIME = "time", "What is known of when it happened?"
    COMPLETENESS = "completeness", "Is everything there, and what does the camera itself say is missing?"


class Standing(StrEnum):
    """holds: yes. limited: yes, but read why. open: nothing here answers it. fails: no."""

    HOLDS = "holds"
    LIMITED = "limited"
    OPEN = "open"
    FAILS = "fails"


@dataclass(frozen=True, slots=True)
class AspectVerdict:
    """The answer to one question, and why in a sentence. because: the findings that it rests on, if any, the most
    telling first. lead: how a sentence begins that quotes one of them.
    """

    aspect: Aspect
    standing: Standing
    reason: str
    because: tuple[Finding, ...] = ()
    lead: str = ""

    def to_json(self) -> dict[str, str]:
        """For programs."""
        return {"verdict": self.standing.value, "reason": self.reason}


_COMPLETENESS = frozenset(
    {
        Code.JOURNAL_MISSING, Code.JOURNAL_FILE_MISSING, Code.JOURNAL_UNFINISHED, Code.JOURNAL_LEFTOVER, Code.TORN_TAIL,
        Code.RECORDS_LOST, Code.CONFIRMED_LOST, Code.CARD_CHANGED, Code.RECORD_TYPE_UNKNOWN, Code.RECORDING_MISSING,
        Code.RECORDING_UNCLOSED, Code.RECORDING_TOTALS, Code.RECORDING_EMPTY, Code.RECOVERED, Code.GAP,
        Code.FRAMES_MISSED, Code.RUN_NOT_ENDED, Code.PRE_EVENT_SHORT, Code.MEDIA_TIME,
        Code.SEGMENT_MISSING, Code.FRAGMENT_COUNT, Code.PACKAGE_INCOMPLETE, Code.PACKAGE_VERSION, Code.EXTRACT,
    }
)  # fmt: skip
# Notes that make less of a yes: as the camera says itself, something is not there.
_LIMITING_NOTES = frozenset({Code.GAP, Code.RECOVERED, Code.RECORDING_EMPTY})
# When these fail the log itself cannot be believed, and so nothing that is read out of it.
_LOG_PREFIXES = ("JOURNAL_", "SIGNATURE_", "RECORD_INVALID", "TORN_")
_AROUND = "The video and the log are what the camera signed; the package around them was changed: "
_AROUND_VAULT = "The video and the log are what the camera signed; other files beside them do not belong there: "
# What is said of the list of sums, and of files beside the evidence, tells least: a reason is one of the others.
_LAST_CODES = frozenset({Code.PACKAGE_SUM, Code.FILE_UNKNOWN, Code.PACKAGE_DEVICE, Code.FOLDER_NOT_PLAIN})
_FIRST_CODES = frozenset(
    {Code.CHECKPOINT_HASH, Code.SEGMENT_HASH, Code.INIT_HASH, Code.SEGMENT_MISSING, Code.CERT_UNKNOWN}
)
_LOG_WRONG = "The journal itself is not what the camera signed, and this rests on it."


def aspect_of(code: Code) -> Aspect:
    """Which question a finding of this kind bears on."""
    if code.startswith("TIME"):
        return Aspect.TIME
    if code.startswith(("CERT_", "ROOT_")):
        return Aspect.ORIGIN
    return Aspect.COMPLETENESS if code in _COMPLETENESS else Aspect.INTEGRITY


def _bears_on(finding: Finding, aspect: Aspect) -> bool:
    # Of a file that was cut short something is missing, whatever its bytes are.
    if finding.lost and aspect is Aspect.COMPLETENESS:
        return True
    # Without its certificate no signature can be checked, so nothing is unchanged either.
    if finding.code is Code.CERT_UNKNOWN and finding.severity is Severity.FAIL and aspect is Aspect.INTEGRITY:
        return True
    return aspect_of(finding.code) is aspect


def judge(
    findings: Sequence[Finding],
    *,
    root_given: bool,
    signed: bool,
    clock: str | None,
    holds_completely: str,
    time: Interval | None = None,
    pre_event_ms: int = 0,
    is_package: bool = True,
) -> tuple[AspectVerdict, ...]:
    """All four, from the findings that touch what is judged.

    signed: there is a valid signature at all. clock: what the camera says its wall time rested on, None when it says
    nothing. holds_completely: the reason when nothing is missing. time: what timestamps of an authority bound.
    pre_event_ms: how much of it was captured before its trigger. is_package: judged is a package, and not a vault.
    """
    log_wrong = is_log_wrong(findings)
    verdicts = []
    for aspect in Aspect:
        mine = [finding for finding in findings if _bears_on(finding, aspect)]
        failing = sorted(_of(mine, Severity.FAIL), key=_rank)
        if failing and aspect is Aspect.INTEGRITY and signed and all(finding.around for finding in failing):
            lead = _AROUND if is_package else _AROUND_VAULT
            verdicts.append(AspectVerdict(aspect, Standing.LIMITED, _because(failing, lead), tuple(failing), lead))
        elif failing:
            verdicts.append(AspectVerdict(aspect, Standing.FAILS, _because(failing), tuple(failing)))
        elif aspect is Aspect.INTEGRITY and not signed:
            verdicts.append(AspectVerdict(aspect, Standing.FAILS, "There is no valid signature in it."))
        elif aspect is not Aspect.INTEGRITY and log_wrong:
            verdicts.append(AspectVerdict(aspect, Standing.OPEN, _LOG_WRONG))
        elif aspect is Aspect.ORIGIN and not root_given:
            reason = "No root certificate of the department was given (--root ROOT.pem)."
            verdicts.append(AspectVerdict(aspect, Standing.OPEN, reason))
        elif aspect is Aspect.TIME and _none_counts(time):
            verdicts.append(AspectVerdict(aspect, Standing.OPEN, _NONE_COUNTS.format(clock or "unknown")))
        elif judged := _of(mine, Severity.WARN) or [f for f in mine if f.code in _LIMITING_NOTES]:
            # What is said of this recording tells more than what is said of the journal.
            judged.sort(key=lambda finding: finding.recording_id is None)
            verdicts.append(AspectVerdict(aspect, Standing.LIMITED, _because(judged), tuple(judged)))
        elif aspect is Aspect.TIME:
            verdicts.append(_time(time, clock, pre_event_ms))
        else:
            verdicts.append(AspectVerdict(aspect, Standing.HOLDS, _HOLDS.get(aspect, holds_completely)))
    return tuple(verdicts)


_NONE_COUNTS = (
    "No timestamp of an authority under the root that you gave (--tsa-root) bounds it: the times are the camera's "
    "claim (clock: {})."
)


def _none_counts(time: Interval | None) -> bool:
    return time is not None and time.checked and time.before is None and time.after is None


def _rank(finding: Finding) -> tuple[bool, int]:
    """What only follows from another comes behind it."""
    rank = 0 if finding.code in _FIRST_CODES else 2 if finding.code in _LAST_CODES else 1
    return finding.follows is not None, rank


def is_log_wrong(findings: Sequence[Finding]) -> bool:
    """Whether the journal itself is not what the camera signed, as far as these say."""
    return any(f.severity is Severity.FAIL and f.code.startswith(_LOG_PREFIXES) for f in findings)


def _time(time: Interval | None, clock: str | None, pre_event_ms: int) -> AspectVerdict:
    """What timestamps make of it; that some are wrong or absent is a finding, and was looked at before."""
    if time is None or (time.before is None and time.after is None):
        reason = f"The times are the camera's claim (clock: {clock or 'unknown'}); no timestamp bounds them."
        return AspectVerdict(Aspect.TIME, Standing.OPEN, reason)
    bounds = []
    if time.before is not None:
        bounds.append(f"were written not before {utc_text(time.not_before_ns)}")
    if time.after is not None:
        bounds.append(f"existed by {utc_text(time.existed_by_ns)}")
    said = f"its records {' and '.join(bounds)}"
    if pre_event_ms > 0:
        said += (
            f"; its first {pre_event_ms / 1000:.1f} s were captured before the button was pressed (pre-event), by the "
            "camera's own account"
        )
    if not time.checked:
        reason = f"No root of the timestamps' authority was given (--tsa-root TSA.pem). They say that {said}."
        return AspectVerdict(Aspect.TIME, Standing.OPEN, reason)
    standing = Standing.HOLDS if len(bounds) == 2 else Standing.LIMITED
    return AspectVerdict(Aspect.TIME, standing, f"Timestamps prove that {said}.")


_HOLDS = {
    Aspect.INTEGRITY: "Every record and every byte of video is what the key of the named certificate signed.",
    Aspect.ORIGIN: "The certificate that signed leads to the root certificate that you gave.",
}


def _of(findings: Sequence[Finding], severity: Severity) -> list[Finding]:
    return [finding for finding in findings if finding.severity is severity]


def _because(findings: Sequence[Finding], lead: str = "") -> str:
    more = len(findings) - 1
    return lead + findings[0].sentence + (f" ({more} more below)" if more else "")
