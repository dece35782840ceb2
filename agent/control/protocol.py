"""The control socket's messages: one JSON object a line, request then reply. Strict about size and shape."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from agent.errors import ControlError

MAX_MESSAGE_BYTES = 1 << 20
MAX_BRACKETS = 10_000
"""Of a message in all. The longest receipt has half as many; a message of nothing else would take 30 times its size."""


def encode(message: dict[str, Any]) -> bytes:
    """A message as it goes over the socket."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def decode(line: bytes) -> dict[str, Any]:
    """A message from a line. Raises ControlError naming what is wrong with it."""
    if len(line) > MAX_MESSAGE_BYTES:
        raise ControlError(f"A control message is larger than {MAX_MESSAGE_BYTES} bytes.")
    if line.count(b"[") + line.count(b"{") > MAX_BRACKETS:
        raise ControlError("A control message is nested or listed beyond any real one.")
    try:
        message = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ControlError(f"A control message is not valid JSON: {error}.") from error
    if not isinstance(message, dict):
        raise ControlError("A control message is not a JSON object.")
    return message


class LineReader:
    """Lines from `receive(max_bytes) -> bytes`, however the stream cuts them up."""

    def __init__(self, receive: Callable[[int], bytes]) -> None:
        self._receive = receive
        self._rest = bytearray()

    def read(self) -> bytes | None:
        """The next line without its newline, or None at the end. Raises ControlError, and what `receive` raises."""
        searched = 0
        while (newline := self._rest.find(b"\n", searched)) < 0:
            searched = len(self._rest)
            if searched > MAX_MESSAGE_BYTES:
                raise ControlError(f"A control message is larger than {MAX_MESSAGE_BYTES} bytes.")
            chunk = self._receive(65536)
            if not chunk:
                if self._rest:
                    raise ControlError("The other side hung up in the middle of a control message.")
                return None
            self._rest += chunk
        line = bytes(self._rest[:newline])
        del self._rest[: newline + 1]
        return line
