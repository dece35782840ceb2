"""Readers of what comes over the control socket: frames, messages, every command, receipts."""

from __future__ import annotations

import json
import logging
import socket
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import lru_cache
from pathlib import Path
from typing import Any

from agent.control.protocol import LineReader, decode, encode
from agent.control.server import ControlServer
from agent.daemon.timestamps import TimestampDesk
from agent.errors import BodycamError, ControlError, StoreError
from agent.recorder.receipts import check_receipt, is_written_down
from agent.recorder.recorder import Recorder
from agent.vault.filesystem import PosixFilesystem
from tests.fuzz.artefacts import Artefacts
from tests.fuzz.media import named
from tests.fuzz.target import DefectError, Target
from tests.support.vault_builder import VaultBuilder

_FILESYSTEM = PosixFilesystem()
_MAX_MESSAGES = 20
_DEFECT = "The daemon could not answer"


def _frames(_: Artefacts, data: bytes) -> None:
    at = 0

    def receive(_count: int) -> bytes:
        nonlocal at
        at += 7
        return data[at - 7 : at]

    reader = LineReader(receive)
    lines = []
    while (line := reader.read()) is not None:
        lines.append(line)
        encode(decode(line))
    if b"".join(line + b"\n" for line in lines) != data:
        raise DefectError("The lines are not what was sent.")


def _receipt(artefacts: Artefacts, data: bytes) -> None:
    fields = check_receipt(_FILESYSTEM, artefacts.layout, decode(data))
    if is_written_down(_FILESYSTEM, artefacts.layout, fields):
        raise DefectError("A receipt that nobody handed in is in the journal.")


class _Direct:
    """The storage thread's part, done while the caller waits."""

    def __init__(self, vault: VaultBuilder) -> None:
        self._vault = vault

    def ask(self, command: Callable[[Recorder], object]) -> Future[object]:
        """See StorageThread.ask."""
        future: Future[object] = Future()
        try:
            future.set_result(command(self._vault.recorder))
        except BodycamError as error:
            future.set_exception(error)
        self._vault.work()
        return future


@lru_cache(maxsize=1)
def _server(artefacts: Artefacts) -> Path:
    """A server with `run`'s own handlers, as far as they need no camera; it lives as long as the process."""
    vault = VaultBuilder(artefacts.work / "control")
    desk = TimestampDesk(_Direct(vault), vault.clock)

    def receipt(message: dict[str, Any]) -> dict[str, Any]:
        return check_receipt(_FILESYSTEM, artefacts.layout, message.get("receipt"))

    def status(message: dict[str, Any]) -> dict[str, Any]:
        del message
        return {"device": "CAM-TEST"}

    # A socket's path has at most 107 characters (unix(7)).
    path = Path(tempfile.mkdtemp(prefix="bodycam-", dir=artefacts.work)) / "s"
    handlers = {"status": status, "receipt": receipt, "timestamp-request": desk.request, "timestamp-token": desk.token}
    ControlServer(path, handlers, allowed_uids=()).start()
    return path


def _commands(artefacts: Artefacts, data: bytes) -> None:
    log = logging.getLogger("bodycam")
    log.disabled = True  # whoever asked is told of a defect, and that is looked at here
    try:
        _ask(_server(artefacts), data)
    finally:
        log.disabled = False


def _ask(path: Path, data: bytes) -> None:
    # The server is right to wait for a line's end; a client that sends none is tried once, with frames.
    asked = b"".join(line + b"\n" for line in data.split(b"\n")[:_MAX_MESSAGES])
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(30.0)
        connection.connect(str(path))
        connection.sendall(asked)
        connection.shutdown(socket.SHUT_WR)
        said = b""
        while chunk := connection.recv(1 << 16):
            said += chunk
    replies = [json.loads(line) for line in said.splitlines()]
    if len(replies) != asked.count(b"\n") or not all(isinstance(reply.get("ok"), bool) for reply in replies):
        raise DefectError(f"{len(asked.splitlines())} messages had the answers {replies}.")
    for reply in replies:
        if not reply["ok"] and (reply["error"].startswith(_DEFECT) or not reply["error"]):
            raise DefectError(f"A command's handler fell over: {reply}.")


def _messages(artefacts: Artefacts) -> Sequence[bytes]:
    data = artefacts.one("messages.jsonl")
    return [data, *(line + b"\n" for line in data.splitlines())]


TARGETS = (
    Target("control-frames", _frames, named("messages.jsonl"), (ControlError,), tries=300, is_json=True),
    Target("control-commands", _commands, _messages, tries=150, is_json=True),
    Target("receipt", _receipt, named("receipt.json"), (ControlError, StoreError), tries=200, is_json=True),
)
