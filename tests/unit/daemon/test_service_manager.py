"""sd_notify(3) over real sockets."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.clock import NS_PER_S
from agent.daemon.service_manager import Systemd, seconds_as_us


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(5)
        yield listening


def test_one_message_holds_all_lines(manager: socket.socket) -> None:
    systemd = Systemd({"NOTIFY_SOCKET": manager.getsockname()})
    systemd.tell("READY=1", "STATUS=ready.")
    assert manager.recv(4096) == b"READY=1\nSTATUS=ready."
    systemd.close()


def test_an_abstract_socket() -> None:
    name = f"bodycam-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(f"\0{name}")
        listening.settimeout(5)
        systemd = Systemd({"NOTIFY_SOCKET": f"@{name}"})
        systemd.tell("WATCHDOG=1")
        assert listening.recv(4096) == b"WATCHDOG=1"
        systemd.close()


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1"}])
def test_without_a_manager_nothing_happens(environment: dict[str, str]) -> None:
    systemd = Systemd({"WATCHDOG_USEC": "30000000", **environment})
    assert systemd.watchdog_ns is None
    systemd.tell("READY=1")
    systemd.close()


def test_a_manager_that_is_gone_or_does_not_read_holds_nobody_up(manager: socket.socket, tmp_path: Path) -> None:
    systemd = Systemd({"NOTIFY_SOCKET": manager.getsockname()})
    for _ in range(5000):  # far more than its queue takes
        systemd.tell("WATCHDOG=1")
    (tmp_path / "notify").unlink()
    systemd.tell("WATCHDOG=1")
    systemd.close()


@pytest.mark.parametrize(
    ("environment", "watchdog_ns"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 30 * NS_PER_S),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "17"}, 30 * NS_PER_S),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "18"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "often"}, None),
        ({}, None),
    ],
)
def test_how_long_the_watchdog_waits(environment: dict[str, str], watchdog_ns: int | None) -> None:
    systemd = Systemd({"NOTIFY_SOCKET": "/nowhere", **environment}, pid=17)
    assert systemd.watchdog_ns == watchdog_ns
    systemd.close()


def test_times_are_in_microseconds() -> None:
    assert seconds_as_us(30) == 30_000_000
