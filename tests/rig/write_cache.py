"""A disk's volatile write cache, and what of it a power cut leaves: what an SD card has, and a file on a host has not.

A write is acknowledged at once and held in memory; a FLUSH makes durable what was acknowledged before it, a write with
FUA itself. The kernel sends what it likes in any order between two flushes, and a card stores it in any order: after a
cut each unflushed write may be there or not (`keep`), and of one write some sectors and not others (`tear`).
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SECTOR_BYTES = 512
"""What is written whole or not at all."""
BLOCK_BYTES = 4096


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
        for number in range(offset // BLOCK_BYTES, -(-(offset + length) // BLOCK_BYTES)):
            block = self._blocks.get(number)
            if block is not None:
                at = number * BLOCK_BYTES
                start, end = max(offset, at), min(offset + length, at + BLOCK_BYTES)
                found[start - offset : end - offset] = block[start - at : end - at]
        return bytes(found)

    def write(self, offset: int, data: bytes, now_ns: int, *, fua: bool = False) -> None:
        """Take a write. fua: durable before it is acknowledged, and before those that came earlier."""
        if fua and self._rules.lie_s is None:
            self._store(offset, data)
            self._unflushed = [rest for write in self._unflushed for rest in _outside(write, offset, len(data))]
        else:
            self._unflushed.append(_Write(offset, data, now_ns))
        for number in range(offset // BLOCK_BYTES, -(-(offset + len(data)) // BLOCK_BYTES)):
            at = number * BLOCK_BYTES
            block = self._blocks.get(number)
            if block is None:
                block = self._blocks[number] = bytearray(self._durable(at, BLOCK_BYTES))
            start, end = max(offset, at), min(offset + len(data), at + BLOCK_BYTES)
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
                for number in range(write.offset // BLOCK_BYTES, -(-(write.offset + len(write.data)) // BLOCK_BYTES))
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
