"""When the next bytes may be read: not faster than asked, and not while the camera records."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from agent.clock import NS_PER_S, Clock
from agent.errors import ControlError

ASK_NS = 1 * NS_PER_S
PAUSE_NS = 5 * NS_PER_S
_BUSY = frozenset({"accepted", "recording", "recording-unsafe", "finishing", "stopping"})
"""What the daemon shows while it has something to write."""

Ask = Callable[[dict[str, Any]], dict[str, Any]]
"""One request to the daemon. Raises ControlError when it does not run or refuses."""


class Pace:
    """Called behind each read; returns when the next one may be made."""

    def __init__(self, clock: Clock, bytes_per_s: int, ask: Ask | None) -> None:
        """ask: None when no daemon runs; then nothing records that could be in the way."""
        self._clock = clock
        self._bytes_per_s = bytes_per_s
        self._ask = ask
        self._free_ns = self._asked_ns = 0
        self.pauses = 0
        """How often it had to wait for the camera."""

    def after_read(self, count: int) -> None:
        """`count` bytes were read just now. What was not read during a pause is not made up for afterwards."""
        now_ns = self._clock.boottime_ns()
        self._free_ns = max(self._free_ns, now_ns) + count * NS_PER_S // self._bytes_per_s
        self._clock.sleep_until_ns(self._free_ns)
        self.wait_until_idle()

    def wait_until_idle(self) -> None:
        """Return when the camera has nothing to write; asks it at most once a second."""
        if self._ask is None or (self._asked_ns and self._clock.boottime_ns() < self._asked_ns + ASK_NS):
            return
        paused = False
        while self._is_busy():
            if not paused:
                paused = True
                self.pauses += 1
            self._clock.sleep_until_ns(self._clock.boottime_ns() + PAUSE_NS)

    def _is_busy(self) -> bool:
        assert self._ask is not None
        try:
            status = self._ask({"command": "status"})
        except ControlError:
            busy = False  # it ended, or hangs: whichever it is, it writes nothing
        else:
            busy = status.get("shows") in _BUSY or bool(status.get("recording")) or bool(status.get("finishing"))
        self._asked_ns = self._clock.boottime_ns()
        return busy
