"""A disk on which the power can go, and everything else that goes wrong with a card: an NBD export for QEMU.

The network block device protocol is that of the NBD project (doc/proto.md): fixed newstyle handshake and simple
replies. What a cut loses is in write_cache.py.
"""

from __future__ import annotations

import re
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.rig.write_cache import BLOCK_BYTES, SECTOR_BYTES, CutReport, CutRules, WriteCache

_NBDMAGIC, _IHAVEOPT, _REPLY_MAGIC = b"NBDMAGIC", b"IHAVEOPT", 0x3E889045565A9
_REQUEST_MAGIC, _SIMPLE_REPLY_MAGIC = 0x25609513, 0x67446698
_OPT_EXPORT_NAME, _OPT_ABORT, _OPT_INFO, _OPT_GO = 1, 2, 6, 7
_REP_ACK, _REP_INFO, _REP_UNSUPPORTED = 1, 3, 0x80000001
_INFO_EXPORT, _INFO_BLOCK_SIZE = 0, 3
_HAS_FLAGS, _SEND_FLUSH, _SEND_FUA = 1, 4, 8
_READ, _WRITE, _DISCONNECT, _FLUSH = 0, 1, 2, 3
_COMMAND_FUA = 1
_EIO, _EINVAL, _ENOSPC = 5, 22, 28

READ, WRITE, FLUSH = _READ, _WRITE, _FLUSH


@dataclass(frozen=True, slots=True)
class Request:
    """What the guest asks of the disk. kind: READ, WRITE or FLUSH. data: of a write."""

    kind: int
    offset: int
    length: int
    data: bytes

    def touches(self, offset: int) -> bool:
        """Whether it is about the byte there."""
        return self.offset <= offset < self.offset + self.length


_RECORD = re.compile(rb'\{"v":1,"seq":[0-9]+,"prev":"[0-9a-f]{64}","type":"([a-z-]+)"')
_EXT4_JOURNAL_MAGIC = b"\xc0\x3b\x39\x98"
"""Of a block of jbd2's, fs/jbd2: descriptor, commit, superblock."""


def content(data: bytes) -> str:
    """What of a vault a write has in it, by its bytes."""
    if b"moof" in data:
        return "fragment"
    if types := _RECORD.findall(data):
        return {b"checkpoint": "checkpoint", b"segment": "seal"}.get(types[-1], "another record")
    if data.startswith(_EXT4_JOURNAL_MAGIC):
        return "ext4's journal"
    return "init.mp4" if b"ftyp" in data[:64] else "names and sizes"


Fails = Callable[[Request], bool]
"""Whether the card answers with an I/O error."""


class LossyDisk:
    """Serves a WriteCache to QEMU on a Unix socket, in threads of its own. To be told things from any thread."""

    def __init__(self, image: Path, socket_path: Path, rules: CutRules | None = None) -> None:
        """Listen. Raises OSError when the image or the socket's path cannot be used."""
        self._cache = WriteCache(image, rules or CutRules())
        self._lock = threading.Lock()
        self._working = threading.Event()
        self._working.set()
        self._fails: Fails | None = None
        self._requests_to_cut: int | None = None
        self._report: CutReport | None = None
        self._cut_done = threading.Event()
        self._ended = False
        self._written = b""
        self.interrupted: str | None = None
        """Instead of what the power went, when it went at a request: what was to be written, or flushed last of all."""
        self.flushes = 0
        self.failed = 0
        self._connections: list[socket.socket] = []
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(socket_path))
        self._listening.listen(4)
        self.socket_path = socket_path
        threading.Thread(target=self._accept, name="lossy-disk", daemon=True).start()

    @property
    def drive(self) -> str:
        """What QEMU's -drive calls it."""
        return f"driver=raw,file.driver=nbd,file.server.type=unix,file.server.path={self.socket_path},cache=writeback"

    def cut(self) -> CutReport:
        """The power goes now, unless it has: from here on nothing is acknowledged. Call it before QEMU is killed."""
        with self._lock:
            report = self._cut_now()
        self._working.set()
        self._hang_up()
        return report

    def _cut_now(self) -> CutReport:
        if self._report is None:
            self._ended = True
            self._report = self._cache.cut(time.monotonic_ns())
            self._cut_done.set()
        return self._report

    def cut_at_request(self, count: int) -> None:
        """Let the power go instead of carrying out the `count`th write or flush from now on, counted from 1."""
        with self._lock:
            self._requests_to_cut = count

    def wait_cut(self, timeout_s: float) -> bool:
        """Whether the power has gone by then."""
        return self._cut_done.wait(timeout_s)

    def stall(self) -> None:
        """From now on no request is answered, as by a card that is busy with itself; until `go_on`."""
        self._working.clear()

    def go_on(self) -> None:
        """Answer what has come meanwhile, and all that comes."""
        self._working.set()

    def rot(self, offset: int) -> None:
        """Let the byte there turn into another one, as flash that forgets does."""
        with self._lock:
            (byte,) = self._cache.read(offset, 1)
            self._cache.write(offset, bytes([byte ^ 0xFF]), time.monotonic_ns(), fua=True)

    def fail(self, fails: Fails | None) -> None:
        """From now on answer the requests for which `fails` says so with EIO. None: no more. How many: `failed`."""
        with self._lock:
            self._fails = fails

    def close(self) -> None:
        """An orderly end: all is made durable. After `cut` it does nothing."""
        self._working.set()
        with self._lock:
            if not self._ended:
                self._ended = True
                self._cache.flush()
                self._cache.settle(1 << 62)
                self._cache.close()
        self._hang_up()

    def _hang_up(self) -> None:
        # shutdown and not close: a thread may be waiting in it.
        for connection in (self._listening, *self._connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
        self.socket_path.unlink(missing_ok=True)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                self._listening.close()
                return
            self._connections.append(connection)
            threading.Thread(target=self._serve, args=(connection,), name="lossy-disk-client", daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                if self._shake_hands(connection):
                    while self._answer(connection):
                        pass
            except (ConnectionError, EOFError):
                return

    def _shake_hands(self, connection: socket.socket) -> bool:
        """True when transmission is to begin."""
        connection.sendall(_NBDMAGIC + _IHAVEOPT + struct.pack(">H", 3))
        _receive(connection, 4)
        flags = _HAS_FLAGS | _SEND_FLUSH | _SEND_FUA
        while True:
            _, option, length = struct.unpack(">QII", _receive(connection, 16))
            _receive(connection, length)

            def reply(kind: int, data: bytes = b"", option: int = option) -> None:
                connection.sendall(struct.pack(">QIII", _REPLY_MAGIC, option, kind, len(data)) + data)

            if option in (_OPT_INFO, _OPT_GO):
                reply(_REP_INFO, struct.pack(">HQH", _INFO_EXPORT, self._cache.size_bytes, flags))
                reply(_REP_INFO, struct.pack(">HIII", _INFO_BLOCK_SIZE, SECTOR_BYTES, BLOCK_BYTES, 32 << 20))
                reply(_REP_ACK)
                if option == _OPT_GO:
                    return True
            elif option == _OPT_EXPORT_NAME:
                connection.sendall(struct.pack(">QH", self._cache.size_bytes, flags) + bytes(124))
                return True
            elif option == _OPT_ABORT:
                reply(_REP_ACK)
                return False
            else:
                reply(_REP_UNSUPPORTED)

    def _answer(self, connection: socket.socket) -> bool:
        """One request; False at the end."""
        magic, flags, kind, handle, offset, length = struct.unpack(">IHHQQI", _receive(connection, 28))
        if magic != _REQUEST_MAGIC:
            raise ConnectionError("not an NBD request")
        data = _receive(connection, length) if kind == _WRITE else b""
        if kind == _DISCONNECT:
            return False
        found, error = b"", 0
        self._working.wait()
        with self._lock:
            if self._requests_to_cut is not None and kind in (_WRITE, _FLUSH):
                self._requests_to_cut -= 1
                if self._requests_to_cut <= 0 and not self._ended:
                    flush = "flush behind " if kind == _FLUSH else ""
                    self.interrupted = flush + content(data if kind == _WRITE else self._written)
                    self._cut_now()
            if self._ended:
                return False
            if self._fails is not None and self._fails(Request(kind, offset, length, data)):
                error = _EIO
                self.failed += 1
            elif kind in (_READ, _WRITE) and offset + length > self._cache.size_bytes:
                error = _ENOSPC if kind == _WRITE else _EINVAL
            elif kind == _READ:
                found = self._cache.read(offset, length)
            elif kind == _WRITE:
                self._cache.write(offset, data, time.monotonic_ns(), fua=bool(flags & _COMMAND_FUA))
                self._written = data
            elif kind == _FLUSH:
                self._cache.flush()
                self.flushes += 1
            else:
                error = _EINVAL
        connection.sendall(struct.pack(">IIQ", _SIMPLE_REPLY_MAGIC, error, handle) + found)
        return True


def _receive(connection: socket.socket, length: int) -> bytes:
    """Exactly so many bytes. Raises EOFError when the other side hung up."""
    received = bytearray()
    while len(received) < length:
        chunk = connection.recv(length - len(received))
        if not chunk:
            raise EOFError
        received += chunk
    return bytes(received)
