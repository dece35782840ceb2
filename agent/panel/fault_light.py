"""The other side of `systemd/fault-light`: that program shows "fault" while no agent runs, and holds the pins for it.

Whoever holds the lock has the lights. The agent asks for it at the last moment before it claims the pins, so that the
wearer is not left in the dark while Python starts, and keeps it for as long as it lives, so that a fault light that is
started late ends again. Both run as the same user. The number of the process that holds the lock stands in its file.
"""

from __future__ import annotations

import fcntl
import os
import signal
from contextlib import suppress
from pathlib import Path

from agent.clock import NS_PER_MS, Clock

LOCK = Path("/run/bodycam-panel/lock")
PATIENCE_MS = 2000
_STEP_MS = 20


class PanelLock:
    """The right to show something. Where there is no such folder, as on a bench, there is nobody to ask."""

    def __init__(self, clock: Clock, path: Path = LOCK) -> None:
        """Waits up to `PATIENCE_MS` for a fault light to let go; never raises: claiming a taken pin says who has it."""
        self._descriptor: int | None = None
        with suppress(OSError):
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        self.held = self._descriptor is not None and self._wait(clock, self._descriptor)

    def _wait(self, clock: Clock, descriptor: int) -> bool:
        for _ in range(PATIENCE_MS // _STEP_MS):
            if _lock(descriptor):
                with suppress(OSError):
                    os.ftruncate(descriptor, 0)  # nobody is to signal us by that number
                return True
            _ask(descriptor)
            clock.sleep_until_ns(clock.boottime_ns() + _STEP_MS * NS_PER_MS)
        return False

    def close(self) -> None:
        """Let go; may be called twice."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _ask(descriptor: int) -> None:
    text = os.pread(descriptor, 20, 0).strip()
    # Its number may not be written yet; what is asked again in a moment need not be told why it failed now.
    if text.isdigit() and int(text) > 1:
        with suppress(OSError):
            os.kill(int(text), signal.SIGTERM)
