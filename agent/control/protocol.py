"""The control socket's messages: one JSON object a line, request then reply. Strict about size and shape."""

from __future__ import annotations

import json
from typing import Any

from agent.errors import ControlError

MAX_MESSAGE_BYTES = 1 << 20


def encode(message: dict[str, Any]) -> bytes:
    """A message as it goes over the socket."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def decode(line: bytes) -> dict[str, Any]:
    """A message from a line. Raises ControlError naming what is wrong with it."""
    if len(line) > MAX_MESSAGE_BYTES:
        raise ControlError(f"A control message is larger than {MAX_MESSAGE_BYTES} bytes.")
    try:
        message = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ControlError(f"A control message is not valid JSON: {error}.") from error
    if not isinstance(message, dict):
        raise ControlError("A control message is not a JSON object.")
    return message


def read_line(receive: Any) -> bytes:
    """One line from `receive(max_bytes) -> bytes`, without its newline. Raises ControlError; b"" at the end."""
    data = b""
    while not data.endswith(b"\n"):
        chunk = receive(65536)
        if not chunk:
            if data:
                raise ControlError("The other side hung up in the middle of a control message.")
            return b""
        data += chunk
        if len(data) > MAX_MESSAGE_BYTES:
            raise ControlError(f"A control message is larger than {MAX_MESSAGE_BYTES} bytes.")
    return bytes(data[:-1])
