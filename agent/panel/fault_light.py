"""The other side of `systemd/fault-light`: that program shows "fault" while no agent runs, and holds the lights for it.

The agent asks it to let go at the last moment before it claims the pins itself, so that the wearer is not left in the
dark while Python starts. Both run as the same user. Who holds the lock file is alive, and its number stands in there.
"""

from __future__ import annotations

import fcntl
import os
import signal
from contextlib import suppress
from pathlib import Path

from agent.clock import NS_PER_MS, Clock

LOCK = Path("/run/bodycam-fault/lock")
PATIENCE_MS = 2000
_STEP_MS = 20


def release_fault_light(clock: Clock, lock: Path = LOCK) -> bool:
    """Have the fault light let go of its pins. True when nobody holds them for it any more; never raises for it.

    False after `PATIENCE_MS`: then claiming the pins says who holds them.
    """
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return True  # it never ran, or is none of ours
    try:
        for _ in range(PATIENCE_MS // _STEP_MS):
            if _lock(descriptor):
                return True
            _ask(descriptor)
            clock.sleep_until_ns(clock.boottime_ns() + _STEP_MS * NS_PER_MS)
        return _lock(descriptor)
    finally:
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
