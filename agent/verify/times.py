"""What the records' clocks say against each other. Times are claims; here they must at least agree with themselves."""

from __future__ import annotations

from agent.clock import NS_PER_MS
from agent.verify.fields import Fields
from agent.verify.finding import Code, Findings
from agent.verify.journal import JournalLine

STEP_NOTED_NS = 2000 * NS_PER_MS


class TimeCheck:
    """Takes journal lines in order."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._boot_id: str | None = None
        self._boottime_ns = 0
        self._wall_minus_boot_ns = 0

    def take(self, line: JournalLine, *, trusted: bool = True) -> None:
        """Compare with the line before. A `journal-open` stands in front of records that waited, so it may be later.

        trusted: False when its signature is wrong: then it is somebody's word, and nothing follows from it.
        Raises FieldError when the times cannot be read.
        """
        fields = Fields(line.record.fields)
        boot_id, boottime_ns = fields.text("boot_id"), fields.integer("boottime_ns")
        utc_ns = fields.utc_ns()
        if line.record.type == "journal-open" or not trusted:
            return
        wall_minus_boot_ns = utc_ns - boottime_ns
        if boot_id == self._boot_id:
            if boottime_ns < self._boottime_ns:
                self._findings.warn(
                    Code.TIME_BACKWARDS,
                    line.place,
                    f"The camera's boot clock goes back by {(self._boottime_ns - boottime_ns) / 1e9:.3f} s at "
                    f"{line.place}; no working camera writes that.",
                    at=line.ordinal,
                )
            step_ns = wall_minus_boot_ns - self._wall_minus_boot_ns
            if abs(step_ns) >= STEP_NOTED_NS:
                self._findings.note(
                    Code.TIME_STEP,
                    line.place,
                    f"The camera's time of day was set by {step_ns / 1e9:+.1f} s at {line.place} (to "
                    f"{fields.utc():%Y-%m-%d %H:%M:%S} UTC). Lengths and places in a recording are on another clock "
                    "and not touched.",
                    at=line.ordinal,
                )
        self._boot_id, self._boottime_ns, self._wall_minus_boot_ns = boot_id, boottime_ns, wall_minus_boot_ns
