"""The control socket: the only way into `run`. Who asks is known from the kernel (SO_PEERCRED, unix(7))."""

from __future__ import annotations

import logging
import os
import socket
import stat
import struct
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from agent.control.protocol import LineReader, decode, encode
from agent.errors import BodycamError, ControlError

LOG = logging.getLogger("bodycam")

Handler = Callable[[dict[str, Any]], dict[str, Any]]

REQUEST_TIMEOUT_S = 30.0
MAX_CONNECTIONS = 8
ACCEPT_RETRY_S = 0.1


class ControlServer:
    """Answers requests `{"command": NAME, …}` with `{"ok": true, …}` or `{"ok": false, "error": SENTENCE}`.

    Each connection has a thread of its own, so that a client that hangs holds up nobody else.
    """

    def __init__(
        self,
        path: Path,
        handlers: Mapping[str, Handler],
        *,
        allowed_uids: tuple[int, ...],
        owner_commands: frozenset[str] = frozenset(),
    ) -> None:
        """allowed_uids: who may ask besides root and the daemon's own user; but not for owner_commands.

        Raises ControlError when the socket's place cannot be used, or another daemon answers there.
        """
        self._path = path
        self._handlers = handlers
        self._owners = {0, os.geteuid()}
        self._allowed = {*self._owners, *allowed_uids}
        self._owner_commands = owner_commands
        self._slots = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            if path.is_socket():
                if _answers(path):
                    raise ControlError(
                        f"Another daemon answers at {path}; stop it first, or give this one its own vault.socket_path."
                    )
                path.unlink()  # left by a run that was killed
            self._socket.bind(str(path))
            # Anybody may knock; who may enter is decided by the kernel's word on who they are.
            path.chmod(stat.S_IRUSR | stat.S_IWUSR | (0o066 if allowed_uids else 0))
            self._socket.listen(MAX_CONNECTIONS)
        except ControlError:
            self._socket.close()
            raise
        except OSError as error:
            self._socket.close()
            raise ControlError(
                f"The control socket {path} cannot be opened ({error.strerror or error}); "
                "set vault.socket_path to a place that this user may write to, shorter than 108 characters."
            ) from error
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._accept, name="control", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def close(self) -> None:
        """Stop answering and take the socket's name away; may be called twice."""
        if self._closing.is_set():
            return
        self._closing.set()
        try:
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes accept(2)
        finally:
            self._path.unlink(missing_ok=True)
            if self._thread.is_alive():
                self._thread.join(2.0)
            self._socket.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError as error:
                if self._closing.wait(ACCEPT_RETRY_S):
                    return
                # Out of descriptors, or a client that was gone again: nothing that may end the only way in.
                LOG.warning("control-accept", extra={"fields": {"error": str(error)}})
                continue
            if not self._slots.acquire(blocking=False):
                with connection:
                    self._reply(connection, {"ok": False, "error": "Too many connections; try again in a moment."})
                continue
            threading.Thread(target=self._serve, args=(connection,), name="control-client", daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                connection.settimeout(REQUEST_TIMEOUT_S)
                credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
                _, uid, _ = struct.unpack("3i", credentials)
                if uid not in self._allowed:
                    text = f"User {uid} may not control this camera; add it to vault.socket_uids."
                    self._reply(connection, {"ok": False, "error": text})
                    return
                lines = LineReader(connection.recv)
                while (line := lines.read()) is not None:
                    self._reply(connection, self._answer(line, uid))
            except (ControlError, OSError) as error:
                self._reply(connection, {"ok": False, "error": str(error)})
            finally:
                self._slots.release()

    def _answer(self, line: bytes, uid: int) -> dict[str, Any]:
        try:
            message = decode(line)
            command = message.get("command")
            handler = self._handlers.get(command) if isinstance(command, str) else None
            if handler is None:
                known = ", ".join(sorted(self._handlers))
                raise ControlError(f"There is no command {str(command)[:100]!r}; there are {known}.")
            if command in self._owner_commands and uid not in self._owners:
                raise ControlError(
                    f"User {uid} may not ask for {command}; run it as root, or as the daemon's own user."
                )
            reply = {"ok": True, **handler(message)}
            encode(reply)  # what cannot be said is a defect of the handler, too
            return reply
        except BodycamError as error:
            return {"ok": False, "error": str(error)}
        except Exception as error:
            # A defect in answering must not end what is being recorded; whoever asked is told, and so is the log.
            LOG.exception("control-failed")
            return {"ok": False, "error": f"The daemon could not answer ({error!r}); its log says more."}

    @staticmethod
    def _reply(connection: socket.socket, message: dict[str, Any]) -> None:
        data = encode(message)
        try:
            connection.sendall(data)
        except OSError:
            return  # whoever asked is gone; there is nobody left to tell


def _answers(path: Path) -> bool:
    """Whether a living process listens there."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # a full backlog is an answer, too
        try:
            probe.connect(str(path))
        except BlockingIOError:
            return True
        except OSError:
            return False
        return True
