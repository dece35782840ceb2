"""The daemon under a service manager that listens: what it says of itself, as a real process."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.demo.process import agent_command
from tests.end_to_end.test_daemon import LIMIT_S, Desk, desk

__all__ = ["desk"]

WATCHDOG_USEC = 800_000


class Manager:
    """systemd's end of NOTIFY_SOCKET."""

    def __init__(self, folder: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.address = str(folder / "notify.sock")
        self._socket.bind(self.address)
        self._socket.settimeout(LIMIT_S)
        self.heard: list[str] = []

    def wait(self, line: str) -> None:
        """Until that is said; raises TimeoutError."""
        while line not in self.heard:
            self.heard += self._socket.recv(65_536).decode().split("\n")

    def silence(self, seconds: float) -> bool:
        """Whether nothing is said for so long, after what has been said already."""
        self._socket.setblocking(False)
        try:
            while True:
                self._socket.recv(65_536)
        except BlockingIOError:
            self._socket.settimeout(seconds)
        try:
            self._socket.recv(65_536)
        except TimeoutError:
            return True
        finally:
            self._socket.settimeout(LIMIT_S)
        return False

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(tmp_path)
    yield made
    made.close()


def run(desk: Desk, manager: Manager) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [
            "env",
            f"NOTIFY_SOCKET={manager.address}",
            f"WATCHDOG_USEC={WATCHDOG_USEC}",
            *agent_command("run", "--config", str(desk.config)),
        ],
        stderr=subprocess.DEVNULL,
    )


def test_it_says_when_it_is_ready_that_it_lives_and_when_it_ends(desk: Desk, manager: Manager) -> None:
    process = run(desk, manager)
    try:
        manager.wait("READY=1")
        ready = manager.heard.index("READY=1")
        assert all(re.match("STATUS=|EXTEND_TIMEOUT_USEC=", line) for line in manager.heard[:ready])
        manager.wait("STATUS=ready.")
        manager.heard.clear()
        for _ in range(5):
            manager.wait("WATCHDOG=1")
            manager.heard.clear()
        process.send_signal(signal.SIGSTOP)  # as a process does that nothing runs in any more
        assert manager.silence(2 * WATCHDOG_USEC / 1e6)
        process.send_signal(signal.SIGCONT)
        manager.wait("WATCHDOG=1")
        process.send_signal(signal.SIGTERM)
        manager.wait("STOPPING=1")
        assert process.wait(LIMIT_S) == 0
    finally:
        process.kill()
        process.wait()


def test_without_its_card_it_is_not_ready_and_asks_for_time(desk: Desk, manager: Manager) -> None:
    away = desk.vault.rename(desk.folder / "card")
    process = run(desk, manager)
    try:
        for _ in range(3):
            manager.wait("EXTEND_TIMEOUT_USEC=30000000")
            assert "READY=1" not in manager.heard
            manager.heard.remove("EXTEND_TIMEOUT_USEC=30000000")
        assert any("There is no vault" in line for line in manager.heard)
        away.rename(desk.vault)
        manager.wait("READY=1")
        process.send_signal(signal.SIGTERM)
        assert process.wait(LIMIT_S) == 0
    finally:
        process.kill()
        process.wait()
