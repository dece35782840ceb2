"""Telling systemd how this service is: the datagrams of sd_notify(3), which that page calls a stable interface.

Not by a library: `sdnotify` is published as source only, which the locks do not take, and `systemd-python` needs a
compiler and libsystemd's headers. It is one socket and one sendto(2).
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from typing import Protocol

from agent.clock import NS_PER_S

NS_PER_US = 1000


class ServiceManager(Protocol):
    """Whom the watchdog tells."""

    @property
    def watchdog_ns(self) -> int | None:
        """How long the manager waits for a sign of life; None when it does not look."""

    def tell(self, *lines: str) -> None:
        """Assignments such as "READY=1", in one message. Never waits, never raises."""


class Systemd:
    """The manager that started this process, or nobody: then nothing is told."""

    def __init__(self, environment: Mapping[str, str] = os.environ, pid: int | None = None) -> None:
        """pid: this process; WATCHDOG_PID may name another one, whose business the watchdog then is."""
        address = environment.get("NOTIFY_SOCKET", "")
        # An "@" stands for the NUL byte of a name in the abstract namespace, unix(7).
        self._address = "\0" + address[1:] if address.startswith("@") else address
        usable = address[:1] in ("/", "@")
        self._socket = (
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
            if usable
            else None
        )
        mine = environment.get("WATCHDOG_PID", "") in ("", str(os.getpid() if pid is None else pid))
        wait_us = environment.get("WATCHDOG_USEC", "")
        counts = usable and mine and wait_us.isascii() and wait_us.isdigit() and int(wait_us) > 0
        self._watchdog_ns = int(wait_us) * NS_PER_US if counts else None

    @property
    def watchdog_ns(self) -> int | None:
        return self._watchdog_ns

    def tell(self, *lines: str) -> None:
        if self._socket is None:
            return
        # A manager that does not read, or is being executed anew, has its next message in a moment.
        with suppress(OSError):
            self._socket.sendto("\n".join(lines).encode(), self._address)

    def close(self) -> None:
        """Let go of the socket."""
        if self._socket is not None:
            self._socket.close()


def seconds_as_us(seconds: int) -> int:
    """As systemd's assignments take times."""
    return seconds * NS_PER_S // NS_PER_US
