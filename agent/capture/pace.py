"""Pacing of cameras and microphones that have no hardware of their own: one shared origin, frames in numbered slots."""

from __future__ import annotations

import threading
from fractions import Fraction

from agent.clock import NS_PER_S, Clock

# A driver keeps about this many filled buffers for a reader that is late, and only then loses frames.
DEFAULT_BUFFERS = 4


class TimeBase:
    """The instant that a picture source and its sound both call zero.

    Whoever asks first fixes it, and it stays for the life of the object, so a camera that is closed and opened again
    is still in step with a microphone that went on.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._lock = threading.Lock()
        self._origin_ns: int | None = None

    def origin_ns(self) -> int:
        """Boot time of media time zero."""
        with self._lock:
            if self._origin_ns is None:
                self._origin_ns = self.clock.boottime_ns()
            return self._origin_ns


class SlotPacer:
    """Deals out frame slots 0, 1, 2, … at `origin + slot / fps`, and counts those it had to leave out.

    A reader late by up to `buffers` slots still gets every one, each with its own time, as from a driver's queue; a
    later one loses what a full queue would have lost, the oldest, and `missed` says how many.
    """

    def __init__(self, time_base: TimeBase, fps: float, buffers: int = DEFAULT_BUFFERS) -> None:
        self._time_base = time_base
        self._period_ns = Fraction(NS_PER_S) / Fraction(fps).limit_denominator(100_000)
        self._buffers = buffers
        self._slot = 0
        self.missed = 0

    def restart(self) -> None:
        """Capture begins: the first slot is the next one to come. Fixes the time base if nothing has yet."""
        self._slot = -int(-self._since_origin_ns() // self._period_ns)

    def _since_origin_ns(self) -> int:
        # The origin first: asking for it may fix it, to a later time than one read before.
        origin_ns = self._time_base.origin_ns()
        return self._time_base.clock.boottime_ns() - origin_ns

    def slot_ns(self, slot: int) -> int:
        """Boot time of a slot, rounded down."""
        return self._time_base.origin_ns() + int(slot * self._period_ns)

    def next(self) -> tuple[int, int]:
        """Wait for the next slot; returns its number and its boot time in ns."""
        newest = int(self._since_origin_ns() // self._period_ns)
        if newest - self._slot > self._buffers:
            oldest = newest - self._buffers
            self.missed += oldest - self._slot
            self._slot = oldest
        slot, self._slot = self._slot, self._slot + 1
        due_ns = self.slot_ns(slot)
        self._time_base.clock.sleep_until_ns(due_ns)
        return slot, due_ns
