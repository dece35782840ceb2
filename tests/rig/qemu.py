"""QEMU's monitor, and the guest's end of the line: two sockets of a running QEMU."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


class RigError(Exception):
    """The rig does not do what a test asks; the message holds what the guest said last."""


class GuestError(RigError):
    """A command in the guest failed."""


def connected(path: Path, deadline_s: float, alive: Callable[[], bool]) -> socket.socket:
    """A connection to a socket that QEMU is about to make. Raises RigError when QEMU ends or takes too long."""
    while True:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(str(path))
            return connection
        except (FileNotFoundError, ConnectionRefusedError):
            connection.close()
        if not alive():
            raise RigError("QEMU ended before its sockets were there.")
        if time.monotonic() > deadline_s:
            raise RigError("QEMU made no sockets.")
        time.sleep(0.02)


class Monitor:
    """QMP, one command at a time (QEMU's docs/interop/qmp-spec.rst)."""

    def __init__(self, connection: socket.socket, timeout_s: float = 30) -> None:
        connection.settimeout(timeout_s)
        self._connection = connection
        self._lines = connection.makefile("rw", encoding="utf-8")
        self._lines.readline()
        self.execute("qmp_capabilities")

    def execute(self, command: str, **arguments: Any) -> Any:
        """What the command returns. Raises RigError when QEMU refuses."""
        try:
            self._lines.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
            self._lines.flush()
            while line := self._lines.readline():
                reply = json.loads(line)
                if "error" in reply:
                    raise RigError(f"QEMU refuses {command}: {reply['error'].get('desc')}")
                if "return" in reply:
                    return reply["return"]
        except OSError as error:
            raise RigError(f"QEMU's monitor does not answer {command}: {error}") from error
        raise RigError(f"QEMU ended during {command}.")

    def close(self) -> None:
        """Hang up."""
        self._lines.close()
        self._connection.close()


class Hand:
    """The rig-agent in the guest, from this side. What it tells unasked is in `events`, in order."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._changed = threading.Condition()
        self._replies: dict[int, dict[str, Any]] = {}
        self._next = 0
        self._gone = False
        self.events: list[dict[str, Any]] = []
        threading.Thread(target=self._read, name="rig-hand", daemon=True).start()

    def ask(self, do: str, timeout_s: float = 60, **arguments: Any) -> dict[str, Any]:
        """Have something done, and its answer. Raises GuestError when it failed, RigError when no answer comes."""
        with self._changed:
            self._next += 1
            number = self._next
        try:
            self._connection.sendall((json.dumps({"id": number, "do": do, **arguments}) + "\n").encode())
        except OSError as error:
            raise RigError(f"The guest cannot be asked to {do}: {error}") from error
        reply = self.wait(lambda: self._replies.pop(number, None), f"the guest answered {do} {arguments}", timeout_s)
        if "error" in reply:
            raise GuestError(f"The guest could not {do}:\n{reply['error']}")
        return reply

    def wait(self, condition: Callable[[], T | None], what: str, timeout_s: float) -> T:
        """The first result of `condition` that is not None, looked at after each message. Raises RigError."""
        with self._changed:
            deadline_s = time.monotonic() + timeout_s
            while (found := condition()) is None:
                left_s = deadline_s - time.monotonic()
                if self._gone or left_s <= 0:
                    why = "the guest is gone" if self._gone else f"{timeout_s:g} s passed"
                    raise RigError(f"In vain for {what}: {why}. It told last: {self.events[-5:]}")
                self._changed.wait(left_s)
            return found

    def close(self) -> None:
        """Hang up."""
        with suppress(OSError):  # the other side was first
            self._connection.shutdown(socket.SHUT_RDWR)
        self._connection.close()

    def _read(self) -> None:
        try:
            with self._connection.makefile("rb") as lines:
                for line in lines:
                    # What was half sent when a state was saved arrives without its beginning.
                    if not line.startswith(b"{"):
                        continue
                    message = json.loads(line)
                    with self._changed:
                        if "id" in message:
                            self._replies[message.pop("id")] = message
                        else:
                            self.events.append({**message, "arrived_ns": time.monotonic_ns()})
                        self._changed.notify_all()
        except (OSError, ValueError) as error:
            self.events.append({"event": "line-broken", "why": str(error)})
        finally:
            with self._changed:
                self._gone = True
                self._changed.notify_all()
