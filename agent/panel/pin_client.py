"""The far side of the bench pin socket: a wearer's finger, and eyes on the lights."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from agent.errors import PanelError


@dataclass(frozen=True, slots=True)
class PinChange:
    """An output pin as `watch` tells of it; name is its setting without "_pin"."""

    boottime_ns: int
    pin: int
    name: str
    level: int


class PinSocketClient:
    """One finger on the pins of a running bench camera; see `agent.panel.pin_socket` for what goes over the socket."""

    def __init__(self, path: Path, *, timeout_s: float = 10.0, sleep: Callable[[float], object] = time.sleep) -> None:
        """Connect, waiting up to timeout_s for the socket to appear. Raises PanelError if it does not."""
        self._path = path
        self._timeout_s = timeout_s
        self._sleep = sleep
        self._connection = self._connect()
        self._lines = self._connection.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._lines.close()
        self._connection.close()

    def press(self, pin: int | str = "record") -> None:
        """Close the contact. Raises PanelError if the socket refuses."""
        self._ask(f"press {pin}")

    def release(self, pin: int | str = "record") -> None:
        """Open the contact. Raises PanelError if the socket refuses."""
        self._ask(f"release {pin}")

    def single_press(self, pin: int | str = "record", down_s: float = 0.12) -> None:
        """Press, wait, release."""
        self.hold(down_s, pin)

    def double_press(self, pin: int | str = "record", down_s: float = 0.12, gap_s: float = 0.15) -> None:
        """Two presses, gap_s from release to press."""
        self.hold(down_s, pin)
        self._sleep(gap_s)
        self.hold(down_s, pin)

    def hold(self, seconds: float, pin: int | str = "record") -> None:
        """Keep the contact closed that long."""
        self.press(pin)
        self._sleep(seconds)
        self.release(pin)

    def pins(self) -> dict[int, int]:
        """Levels of all pins in use, by BCM number."""
        return {int(pin): level for pin, level in json.loads(self._ask("pins")).items()}

    def watch(self) -> Iterator[PinChange]:
        """Levels of all outputs now, then each change as it happens, until the socket closes; on its own connection."""
        connection = self._connect()
        lines = connection.makefile("rb")
        try:
            connection.sendall(b"watch\n")
            _accepted(lines.readline())
            connection.settimeout(None)
            for line in lines:
                yield PinChange(**json.loads(line))
        finally:
            lines.close()
            connection.close()

    def _ask(self, command: str) -> bytes:
        self._connection.sendall(command.encode() + b"\n")
        return _accepted(self._lines.readline())

    def _connect(self) -> socket.socket:
        until_s = time.monotonic() + self._timeout_s
        while True:
            connection = socket.socket(socket.AF_UNIX)
            connection.settimeout(self._timeout_s)
            try:
                connection.connect(os.fspath(self._path))
            except (FileNotFoundError, ConnectionRefusedError) as problem:
                connection.close()
                if time.monotonic() >= until_s:
                    raise PanelError(
                        f"Nobody answers at the pin socket {self._path} ({problem.strerror}). Start `bodycam run` "
                        "with the bench profile and [gpio] bench_pin_socket_path set to it."
                    ) from problem
                self._sleep(0.05)
            except OSError:
                connection.close()
                raise
            else:
                return connection


def _accepted(line: bytes) -> bytes:
    if line.startswith(b"error: ") or not line:
        raise PanelError(f"The pin socket refused: {line.decode().removeprefix('error: ').strip() or 'it hung up'}.")
    return line
