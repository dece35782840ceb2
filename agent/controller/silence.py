"""How long no frame has come, with what is no silence of the camera's left out. Pure; time is passed in.

Ticks come ten times a second. After a longer pause it was not the camera that was silent: the device was suspended,
through which the boot clock runs on, or code had to be read from a card that stalled.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from agent.clock import NS_PER_S

STOOD_STILL_NS = NS_PER_S
"""A pause between two ticks that counts as the process having stood still."""

HUNG_FACTOR = 4
"""A camera silent for this many times stall_ms, without its session having ended, hangs where no error can reach.

Errors that do reach it come sooner: OpenCV's wait for a picture ends after stall_ms rounded up to whole seconds. With
the next start it makes about ten seconds without pictures; much less, and a card that stalls while code has to be read
from it would pass for a hang.
"""


@dataclass(frozen=True, slots=True)
class Silence:
    """ticked_ns: when the last tick came. awake_ns: when this process last went on after it had stood still.

    excused_ns: the same, as far as the wearer is concerned: once only for each newest frame (excused_frame_ns), and not
    once they were told, or a processor that is always late would never say that nothing comes.
    """

    ticked_ns: int | None = None
    awake_ns: int = 0
    excused_ns: int = 0
    excused_frame_ns: int | None = None

    def told_ns(self, now_ns: int, newest_frame_ns: int) -> int:
        """How long nothing has come, to be shown."""
        return now_ns - max(newest_frame_ns, self.excused_ns)

    def hung_ns(self, now_ns: int, newest_frame_ns: int) -> int:
        """How long the camera had the chance to give a frame, and did not."""
        return now_ns - max(newest_frame_ns, self.awake_ns)


def tick(before: Silence, now_ns: int, newest_frame_ns: int | None, *, told: bool) -> Silence:
    """A tick came. told: the wearer knows already that no frame comes."""
    after = replace(before, ticked_ns=now_ns)
    if before.ticked_ns is None or now_ns - before.ticked_ns <= STOOD_STILL_NS:
        return after
    after = replace(after, awake_ns=now_ns)
    if told or newest_frame_ns == before.excused_frame_ns:
        return after
    return replace(after, excused_ns=now_ns, excused_frame_ns=newest_frame_ns)
