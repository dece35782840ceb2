"""Whether every part still works: a judgement over what the parts said last, as a pure function.

A part says what it is about to do and how long that may take, and says the next thing when it is back. Waiting for a
card that stalls, or for the next try at a camera that is unplugged, is something it says like anything else: a declared
state, with a limit of its own. What is not back by its limit hangs where no error can reach, in the kernel or in a
deadlock, and a new process is the cure: the service manager's watchdog is then no longer fed.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum

from agent.clock import NS_PER_S, Clock


class Part(Enum):
    """Who reports. Lights, buzzer and vibration do not: they are switched by the controller's own thread, under the
    lock that the pattern thread takes, so that a pin that hangs stops the controller's turn."""

    CONTROLLER = "controller"
    CAMERA = "camera"
    ENCODER = "encoder"
    RING = "ring"
    STORAGE = "storage"
    SOUND = "sound"


RESTART_CURES = frozenset(Part) - {Part.SOUND}
"""Sound that hangs is declared instead: video never waits for it, and a restart would cost what is in the buffer."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a part does since `since_ns` (boot time), and for how many ns it may before it counts as hung."""

    doing: str
    since_ns: int
    allowed_ns: int


@dataclass(frozen=True, slots=True)
class Hang:
    """A part that is not back in time."""

    part: Part
    doing: str
    silent_ns: int

    @property
    def sentence(self) -> str:
        return f"The {self.part.value} hangs: {self.doing}, for {self.silent_ns // NS_PER_S} s."


def judge(reports: Mapping[Part, Report], now_ns: int) -> tuple[Hang, ...]:
    """The parts that hang at boot time `now_ns`; one that has never reported has not begun, and does not."""
    return tuple(
        Hang(part, report.doing, now_ns - report.since_ns)
        for part, report in reports.items()
        if now_ns - report.since_ns > report.allowed_ns
    )


def needs_restart(hangs: tuple[Hang, ...]) -> bool:
    """Whether only a new process helps."""
    return any(hang.part in RESTART_CURES for hang in hangs)


class HealthBoard:
    """Where the parts' threads write what they do. Never waits for anything but another line being written."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._reports: dict[Part, Report] = {}

    def says(self, part: Part, doing: str, allowed_ns: int) -> None:
        """The part begins something, which also says that what it did before is over."""
        report = Report(doing, self._clock.boottime_ns(), allowed_ns)
        with self._lock:
            self._reports[part] = report

    def awaits(self, part: Part, doing: str, allowed_ns: int) -> None:
        """Something is expected of the part from now on, unless it already was."""
        report = Report(doing, self._clock.boottime_ns(), allowed_ns)
        with self._lock:
            self._reports.setdefault(part, report)

    def rests(self, part: Part) -> None:
        """Nothing is expected of the part."""
        with self._lock:
            self._reports.pop(part, None)

    def excuse(self, from_ns: int, to_ns: int) -> None:
        """Nothing ran between these boot times, so nobody is late for it."""
        with self._lock:
            for part, report in self._reports.items():
                since_ns = min(report.since_ns + to_ns - from_ns, to_ns)
                self._reports[part] = replace(report, since_ns=max(since_ns, report.since_ns))

    def reports(self) -> dict[Part, Report]:
        """What each part said last."""
        with self._lock:
            return dict(self._reports)
