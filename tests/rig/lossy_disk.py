"""A disk with a volatile write cache, and a power cut: what an SD card is, and a file on a host is not.

It is an NBD export (the network block device protocol of the NBD project, doc/proto.md: fixed newstyle handshake and
simple replies) for QEMU. A write is acknowledged at once and held in memory; a FLUSH makes durable what was
acknowledged before it, a write with FUA itself. Killing QEMU alone loses nothing that was sent, for the host keeps it.

The kernel sends what it likes in any order between two flushes, and a card stores it in any order: after a cut each
unflushed write may be there or not (`keep`), and of one write some sectors and not others (`tear`).
"""

from __future__ import annotations

import os
import random
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SECTOR_BYTES = 512
"""What is written whole or not at all."""
_BLOCK_BYTES = 4096

_NBDMAGIC, _IHAVEOPT, _REPLY_MAGIC = b"NBDMAGIC", b"IHAVEOPT", 0x3E889045565A9
_REQUEST_MAGIC, _SIMPLE_REPLY_MAGIC = 0x25609513, 0x67446698
_OPT_EXPORT_NAME, _OPT_ABORT, _OPT_INFO, _OPT_GO = 1, 2, 6, 7
_REP_ACK, _REP_INFO, _REP_UNSUPPORTED = 1, 3, 0x80000001
_INFO_EXPORT, _INFO_BLOCK_SIZE = 0, 3
_HAS_FLAGS, _SEND_FLUSH, _SEND_FUA = 1, 4, 8
_READ, _WRITE, _DISCONNECT, _FLUSH = 0, 1, 2, 3
_COMMAND_FUA = 1
_EINVAL, _ENOSPC = 22, 28


@dataclass(frozen=True, slots=True)
class CutRules:
    """What a power cut does to what was not flushed.

    keep: probability that a write (with `tear`, each sector of it) survives. seed: of the choice.
    lie_s: None for an honest card; else it answers flushes without obeying, and what it was told is durable only this
    long after.
    """

    keep: float = 0.0
    tear: bool = False
    seed: int = 0
    lie_s: float | None = None


@dataclass(frozen=True, slots=True)
class CutReport:
    """What happened in a power cut. at_monotonic_ns: from then on nothing was acknowledged any more."""

    at_monotonic_ns: int
    unflushed_writes: int
    unflushed_bytes: int
    lost_bytes: int


@dataclass(frozen=True, slots=True)
class _Write:
    offset: int
    data: bytes
    at_monotonic_ns: int


class WriteCache:
    """The disk without its wires: what is durable (a file) and what was only acknowledged (memory).

    Not thread-safe; one owner.
    """

    def __init__(self, image: Path, rules: CutRules) -> None:
        """Raises OSError when the image cannot be opened."""
        self._file = os.open(image, os.O_RDWR | os.O_CLOEXEC)
        self.size_bytes = os.fstat(self._file).st_size
        self._rules = rules
        self._random = random.Random(rules.seed)
        self._unflushed: list[_Write] = []
        # What a reader sees: the blocks touched by unflushed writes, whole.
        self._blocks: dict[int, bytearray] = {}

    def read(self, offset: int, length: int) -> bytes:
        """What was written last, durable or not."""
        found = bytearray(self._durable(offset, length))
        for number in range(offset // _BLOCK_BYTES, -(-(offset + length) // _BLOCK_BYTES)):
            block = self._blocks.get(number)
            if block is not None:
                at = number * _BLOCK_BYTES
                start, end = max(offset, at), min(offset + length, at + _BLOCK_BYTES)
                found[start - offset : end - offset] = block[start - at : end - at]
        return bytes(found)

    def write(self, offset: int, data: bytes, now_ns: int, *, fua: bool = False) -> None:
        """Take a write. fua: durable before it is acknowledged, and before those that came earlier."""
        if fua and self._rules.lie_s is None:
            self._store(offset, data)
            self._unflushed = [rest for write in self._unflushed for rest in _outside(write, offset, len(data))]
        else:
            self._unflushed.append(_Write(offset, data, now_ns))
        for number in range(offset // _BLOCK_BYTES, -(-(offset + len(data)) // _BLOCK_BYTES)):
            at = number * _BLOCK_BYTES
            block = self._blocks.get(number)
            if block is None:
                block = self._blocks[number] = bytearray(self._durable(at, _BLOCK_BYTES))
            start, end = max(offset, at), min(offset + len(data), at + _BLOCK_BYTES)
            block[start - at : end - at] = data[start - offset : end - offset]
        self.settle(now_ns)

    def flush(self) -> None:
        """Make durable all that was acknowledged; a card that lies only says so."""
        if self._rules.lie_s is None:
            self._commit(len(self._unflushed))

    def settle(self, now_ns: int) -> None:
        """A card that lies writes its cache back in its own time."""
        if self._rules.lie_s is None:
            return
        old_ns = now_ns - round(self._rules.lie_s * 1e9)
        count = next((n for n, write in enumerate(self._unflushed) if write.at_monotonic_ns > old_ns), None)
        self._commit(len(self._unflushed) if count is None else count)

    def cut(self, now_ns: int) -> CutReport:
        """Power goes: what was not flushed is decided upon by the rules. Ends this object's use."""
        lost_bytes = 0
        unflushed, self._unflushed, self._blocks = self._unflushed, [], {}
        for write in unflushed:
            step = SECTOR_BYTES if self._rules.tear else len(write.data)
            for start in range(0, len(write.data), step):
                part = write.data[start : start + step]
                if self._random.random() < self._rules.keep:
                    self._store(write.offset + start, part)
                else:
                    lost_bytes += len(part)
        self.close()
        return CutReport(now_ns, len(unflushed), sum(len(write.data) for write in unflushed), lost_bytes)

    def close(self) -> None:
        """Let go of the file. What is unflushed is gone."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _commit(self, count: int) -> None:
        if not count:
            return
        for write in self._unflushed[:count]:
            self._store(write.offset, write.data)
        del self._unflushed[:count]
        if self._unflushed:
            touched = {
                number
                for write in self._unflushed
                for number in range(write.offset // _BLOCK_BYTES, -(-(write.offset + len(write.data)) // _BLOCK_BYTES))
            }
            self._blocks = {number: block for number, block in self._blocks.items() if number in touched}
        else:
            self._blocks.clear()

    def _durable(self, offset: int, length: int) -> bytes:
        return os.pread(self._file, length, offset).ljust(length, b"\0")

    def _store(self, offset: int, data: bytes) -> None:
        view = memoryview(data)
        while view:
            written = os.pwrite(self._file, view, offset)
            view, offset = view[written:], offset + written


def _outside(write: _Write, offset: int, length: int) -> Iterator[_Write]:
    """The parts of a write that lie outside a range."""
    end, write_end = offset + length, write.offset + len(write.data)
    if write_end <= offset or end <= write.offset:
        yield write
        return
    if write.offset < offset:
        yield _Write(write.offset, write.data[: offset - write.offset], write.at_monotonic_ns)
    if end < write_end:
        yield _Write(end, write.data[end - write.offset :], write.at_monotonic_ns)


class LossyDisk:
    """Serves a WriteCache to QEMU on a Unix socket, in threads of its own."""

    def __init__(self, image: Path, socket_path: Path, rules: CutRules = CutRules()) -> None:
        """Listen. Raises OSError when the image or the socket's path cannot be used."""
        self._cache = WriteCache(image, rules)
        self._lock = threading.Lock()
        self._ended = False
        self.flushes = 0
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
        """The power goes now. To be called before QEMU is killed: nothing is acknowledged any more from here on."""
        with self._lock:
            self._ended = True
            report = self._cache.cut(time.monotonic_ns())
        self._hang_up()
        return report

    def close(self) -> None:
        """An orderly end: all is made durable. After `cut` it does nothing."""
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
                reply(_REP_INFO, struct.pack(">HIII", _INFO_BLOCK_SIZE, SECTOR_BYTES, _BLOCK_BYTES, 32 << 20))
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
        with self._lock:
            if self._ended:
                return False
            if kind in (_READ, _WRITE) and offset + length > self._cache.size_bytes:
                error = _ENOSPC if kind == _WRITE else _EINVAL
            elif kind == _READ:
                found = self._cache.read(offset, length)
            elif kind == _WRITE:
                self._cache.write(offset, data, time.monotonic_ns(), fua=bool(flags & _COMMAND_FUA))
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
