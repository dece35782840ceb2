"""When wall time is worth a record: at the start, every few minutes, and whenever it moved against the boot clock."""

from __future__ import annotations

from agent.clock import NS_PER_MS, NS_PER_S, Clock

CLOCK_RECORD_NS = 300 * NS_PER_S
CLOCK_STEP_NS = 500 * NS_PER_MS


class ClockWatch:
    """Compares the two clocks each time it is asked."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._recorded_ns = 0
        self._recorded_offset_ns = 0
        self._wall_minus_boot_ns: int | None = None

    def due(self) -> tuple[str, int | None] | None:
        """`reason` and `step_ms` of a `clock` record that is due now, or None."""
        observation = self._clock.observe()
        offset_ns = observation.utc_ns - observation.boottime_ns
        before_ns, self._wall_minus_boot_ns = self._wall_minus_boot_ns, offset_ns
        step_ms: int | None = (offset_ns - self._recorded_offset_ns) // NS_PER_MS
        if before_ns is None:
            reason, step_ms = "start", None
        elif abs(offset_ns - before_ns) > CLOCK_STEP_NS:
            reason = "step"
        elif observation.boottime_ns - self._recorded_ns >= CLOCK_RECORD_NS:
            reason = "periodic"
        else:
            return None
        self._recorded_ns, self._recorded_offset_ns = observation.boottime_ns, offset_ns
        return reason, step_ms
