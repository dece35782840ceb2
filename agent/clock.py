"""Time, as two separate things: the boot clock that media runs on, and wall time, which is only ever observed.

`boottime_ns` is CLOCK_BOOTTIME (clock_gettime(2)): monotonic, counts suspend, never stepped by NTP or by hand.
Every media time in the agent is on it. Wall time can jump; it is recorded beside boot time with its source and
uncertainty and changes nothing that was already timed.
"""

from __future__ import annotations

import ctypes
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000

_READINGS = 5
_STA_UNSYNC = 0x0040  # <sys/timex.h>: the kernel clock is not disciplined by anything


@dataclass(frozen=True, slots=True)
class WallObservation:
    """What the device believed about wall time at one instant of the boot clock.

    source: "ntp" when the kernel clock is disciplined (adjtimex(2) without STA_UNSYNC), else "unsynchronised".
    uncertainty_ms: the kernel's own bound (`maxerror`), or None when nothing is known.
    """

    utc_ns: int
    boottime_ns: int
    source: str
    uncertainty_ms: int | None


class Clock(Protocol):
    """Everything the agent may know about time."""

    @property
    def boot_id(self) -> str:
        """The kernel's random id of this boot: boot times of different boots cannot be compared."""

    def boottime_ns(self) -> int:
        """Nanoseconds on CLOCK_BOOTTIME."""

    def utc_ns(self) -> int:
        """Nanoseconds of wall time since 1970-01-01T00:00:00Z, as believed now."""

    def observe(self) -> WallObservation:
        """Both clocks at once, with the source and uncertainty of the wall time."""

    def sleep_until_ns(self, boottime_ns: int) -> None:
        """Return at or after this boot time."""


class _Timex(ctypes.Structure):
    # struct timex of <sys/timex.h>; only the head is read, the kernel fills all of it.
    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 256),
    )


class SystemClock:
    """The kernel's clocks."""

    def __init__(self) -> None:
        self._boot_id = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        self._adjtimex = ctypes.CDLL(None, use_errno=True).adjtimex

    @property
    def boot_id(self) -> str:
        return self._boot_id

    def boottime_ns(self) -> int:
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME)

    def utc_ns(self) -> int:
        return time.time_ns()

    def observe(self) -> WallObservation:
        timex = _Timex()
        synchronised = self._adjtimex(ctypes.byref(timex)) >= 0 and not timex.status & _STA_UNSYNC
        utc_ns, boottime_ns = self._both_ns()
        return WallObservation(
            utc_ns=utc_ns,
            boottime_ns=boottime_ns,
            source="ntp" if synchronised else "unsynchronised",
            uncertainty_ms=-(-timex.maxerror // 1000) if synchronised else None,  # a bound is rounded up
        )

    def _both_ns(self) -> tuple[int, int]:
        # A thread put aside between two readings would date wall time wrongly, and report a step that never was.
        closest: tuple[int, int, int] | None = None
        for _ in range(_READINGS):
            before_ns, utc_ns, after_ns = self.boottime_ns(), self.utc_ns(), self.boottime_ns()
            if closest is None or after_ns - before_ns < closest[0]:
                closest = (after_ns - before_ns, utc_ns, (before_ns + after_ns) // 2)
            if closest[0] <= NS_PER_MS:
                break
        assert closest is not None
        return closest[1], closest[2]

    def sleep_until_ns(self, boottime_ns: int) -> None:
        while (left_ns := boottime_ns - self.boottime_ns()) > 0:
            time.sleep(left_ns / NS_PER_S)


class SimulatedClock:
    """A clock that moves only when told; wall time and boot time can be set apart, as after an NTP step.

    Sleeping advances it, so code that paces itself runs at once and in full.
    """

    def __init__(
        self,
        boottime_ns: int = 100 * NS_PER_S,
        utc_ns: int = 1_790_000_000 * NS_PER_S,
        boot_id: str = "00000000-0000-4000-8000-000000000001",
    ) -> None:
        self._boottime_ns = boottime_ns
        self._wall_minus_boot_ns = utc_ns - boottime_ns
        self._boot_id = boot_id
        self.source = "ntp"
        self.uncertainty_ms: int | None = 10

    @property
    def boot_id(self) -> str:
        return self._boot_id

    def boottime_ns(self) -> int:
        return self._boottime_ns

    def utc_ns(self) -> int:
        return self._boottime_ns + self._wall_minus_boot_ns

    def observe(self) -> WallObservation:
        return WallObservation(self.utc_ns(), self._boottime_ns, self.source, self.uncertainty_ms)

    def sleep_until_ns(self, boottime_ns: int) -> None:
        self._boottime_ns = max(self._boottime_ns, boottime_ns)

    def advance_ns(self, delta_ns: int) -> None:
        """Move both clocks forward; raises ValueError for a negative step, which no boot clock makes."""
        if delta_ns < 0:
            raise ValueError("CLOCK_BOOTTIME never goes back; use step_wall_ns for a wall-clock jump.")
        self._boottime_ns += delta_ns

    def step_wall_ns(self, delta_ns: int) -> None:
        """Jump wall time alone, by any amount in either direction."""
        self._wall_minus_boot_ns += delta_ns
