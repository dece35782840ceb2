"""Which findings of `verify` a shift explains. Nothing explains a failing one: whatever happened, what the camera
signed is there. What is not in this table, or has no cause in the shift, is a missed bar.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from agent.verify.finding import Code, Finding, Severity
from tests.soak.story import Story

EXPLAINED: dict[tuple[Code, Severity], tuple[tuple[str, ...], str]] = {
    (Code.FRAMES_MISSED, Severity.WARN): (
        ("fault: machine", "fault: card"),
        "while the machine stood still no frame came",
    ),
    (Code.GAP, Severity.NOTE): (("fault: card",), "a card was away for longer than memory lasts"),
    (Code.PRE_EVENT_SHORT, Severity.NOTE): (
        ("fault: camera", "fault: card", "end:"),
        "camera or process had just started, or memory was full of a backlog",
    ),
    (Code.RECOVERED, Severity.NOTE): (("end:",), "killed while it recorded, or stopped while its card was away"),
    (Code.RECORDING_EMPTY, Severity.NOTE): (("fault: camera", "fault: card"), "stopped before a picture was stored"),
    (Code.RUN_NOT_ENDED, Severity.NOTE): (("end:",), "killed"),
    (Code.UNSIGNED_MEDIA, Severity.WARN): (("end:",), "killed between a fragment and its checkpoint"),
    (Code.UNSIGNED_BYTES, Severity.NOTE): (("end:", "fault: card"), "killed, or failed, in the middle of a write"),
    (Code.TORN_TAIL, Severity.NOTE): (("end:", "fault: card"), "killed, or failed, in the middle of a journal line"),
    (Code.TORN_TAIL_RECORDS, Severity.WARN): (
        ("fault: card",),
        "a sync failed behind whole lines; they stand again in the next file",
    ),
    (Code.JOURNAL_LEFTOVER, Severity.NOTE): (("end:", "fault: card"), "killed, or failed, at a new journal file"),
    (Code.FILE_UNKNOWN, Severity.NOTE): (("end:", "fault: card"), "killed, or failed, at a NAME.partN"),
    (Code.SIGNATURE_PENDING, Severity.NOTE): (("fault: signer",), "the signer was gone or busy"),
    (Code.SIGNATURE_LATE, Severity.WARN): (("fault: signer",), "killed while the signer was gone"),
    (Code.SIGNATURE_LATE, Severity.NOTE): (("fault: signer",), "killed while the signer was gone"),
    (Code.VIDEO_SIGNED, Severity.NOTE): ((), "as it should be"),
    (Code.VIDEO_UNSIGNED, Severity.NOTE): ((), "shorter than two GOPs"),
    (Code.VIDEO_UNSIGNED, Severity.WARN): (("fault: signer",), "the signer was gone or busy"),
    (Code.TIME_STEP, Severity.NOTE): (("clock:",), "the time of day was set"),
    (Code.TIME_UNSYNCHRONISED, Severity.NOTE): (("clock: lost",), "no time server was there"),
    (Code.TIME_OUTSIDE_CERTIFICATE, Severity.WARN): (("clock: lost", "clock: -1", "clock: +1"), "a wrong year"),
    (Code.TIMESTAMP_ABSENT, Severity.NOTE): ((), "no time authority takes part in a shift"),
}


def unexplained(findings: Sequence[Finding], story: Story) -> list[str]:
    """One sentence for each finding that the shift does not explain."""
    return [
        f"{finding.severity.value} {finding.code.value} {finding.subject}: {finding.sentence}"
        for finding in findings
        if not _explained(finding, story)
    ]


def _explained(finding: Finding, story: Story) -> bool:
    causes, _ = EXPLAINED.get((finding.code, finding.severity), (("nothing",), ""))
    return not causes or story.counted(*causes) > 0


def by_code(findings: Sequence[Finding]) -> dict[str, int]:
    """How many of each kind: "warn GAP" and the like."""
    return dict(sorted(Counter(f"{one.severity.value} {one.code.value}" for one in findings).items()))
