"""The other end of the control socket."""

from __future__ import annotations

import socket
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

from agent.control.protocol import LineReader, decode, encode
from agent.errors import ControlError


class ControlClient:
    """One request a connection. Raises ControlError when the daemon does not run, or refuses."""

    def __init__(self, path: Path, *, timeout_s: float = 35.0) -> None:
        self._path = path
        self._timeout_s = timeout_s

    def request(self, message: dict[str, Any]) -> dict[str, Any]:
        """Send one request and return the reply without its `ok`."""
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                # A socket with a timeout does not wait for a place in a full backlog, unix(7); the kernel's own does.
                timeout = struct.pack("ll", int(self._timeout_s), int(self._timeout_s % 1 * 1e6))
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeout)
                connection.connect(str(self._path))
                connection.settimeout(self._timeout_s)
                with suppress(BrokenPipeError):  # refused at the door: why is said in an answer all the same
                    connection.sendall(encode(message))
                line = LineReader(connection.recv).read()
        except OSError as error:
            raise ControlError(
                f"The daemon does not answer at {self._path} ({error.strerror or error}); "
                "start it with `bodycam run`, or give its configuration with --config."
            ) from error
        if line is None:
            raise ControlError("The daemon hung up without an answer.")
        reply = decode(line)
        if reply.pop("ok", False) is not True:
            raise ControlError(str(reply.get("error", "The daemon refused without saying why.")))
        return reply
