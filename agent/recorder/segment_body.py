"""How fragments become the bytes of a segment file: as they are, or as one age file."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from agent.encryption.stream import CHUNK_BYTES, AgeStream
from agent.media.padding import HEADER_BYTES, free_box, free_up_to
from agent.vault.filesystem import AppendFile

_SLICE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Extent:
    """A file up to a point: bytes and SHA-256 of what is in it and, when it is encrypted, of what that opens to."""

    bytes: int
    sha256: str
    plain_bytes: int | None = None
    plain_sha256: str | None = None

    def fields(self) -> dict[str, int | str]:
        """As records say it."""
        said: dict[str, int | str] = {"bytes": self.bytes, "sha256": self.sha256}
        if self.plain_bytes is not None and self.plain_sha256 is not None:
            said |= {"plain_bytes": self.plain_bytes, "plain_sha256": self.plain_sha256}
        return said


class SegmentBody(Protocol):
    """Writes, never syncs. After a StorageError it is used no more."""

    @property
    def given_bytes(self) -> int:
        """How much was handed to the file, whether it got there or not."""

    @property
    def empty(self) -> Extent:
        """The extent of a file with nothing in it."""

    def write(self, file: AppendFile, fragments: Sequence[bytes], *, last: bool) -> list[Extent]:
        """Append fragments; returns how far the file reaches with each. last: nothing will follow.

        Raises StorageError, and EncoderError when age fails.
        """

    def finish(self, file: AppendFile) -> Extent | None:
        """Append what ends the file, when nothing followed after all; None when nothing has to. Raises as `write`."""


class ClearBody:
    """Fragments as they are."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()
        self.given_bytes = 0

    @property
    def empty(self) -> Extent:
        return Extent(0, hashlib.sha256().hexdigest())

    def write(self, file: AppendFile, fragments: Sequence[bytes], *, last: bool) -> list[Extent]:
        del last
        extents = []
        for data in fragments:
            self._sha256.update(data)
            self.given_bytes += len(data)
            extents.append(Extent(self.given_bytes, self._sha256.hexdigest()))
        for data in fragments:  # not joined: a batch is megabytes that the device does not have to spare
            file.write(data)
        return extents

    def finish(self, file: AppendFile) -> Extent | None:
        del file
        return None


class EncryptedBody:
    """One age file. Every fragment but the last is followed by `free` boxes that make age give all of it out.

    age holds back up to 64 KiB, and a fragment of which the end is still in memory is not durable. So the space behind
    a fragment is filled up to the end of its chunk, and a second, empty box begins the next chunk: with that, age
    writes the one before. What is on flash then opens to whole boxes, also when the file ends there because a write
    failed or power went. It costs 32 KiB a GOP on average, 4 % of 6 Mbit/s.
    """

    def __init__(self, stream: AgeStream) -> None:
        self._stream = stream
        self._plain = hashlib.sha256()
        self._cipher = hashlib.sha256()
        self.given_bytes = 0

    @property
    def empty(self) -> Extent:
        nothing = hashlib.sha256().hexdigest()
        return Extent(0, nothing, 0, nothing)

    def write(self, file: AppendFile, fragments: Sequence[bytes], *, last: bool) -> list[Extent]:
        extents = []
        for number, data in enumerate(fragments, 1):
            self._add(file, data)
            if last and number == len(fragments):
                self._give(file, self._stream.finish())
                extents.append(self._extent(self._stream.plain_bytes, self._plain.hexdigest()))
                continue
            self._add(file, free_up_to(self._stream.plain_bytes, CHUNK_BYTES))
            plain_bytes, plain_sha256 = self._stream.plain_bytes, self._plain.hexdigest()
            self._add(file, free_box(HEADER_BYTES))
            extents.append(self._extent(plain_bytes, plain_sha256))
        return extents

    def finish(self, file: AppendFile) -> Extent | None:
        self._give(file, self._stream.finish())
        return self._extent(self._stream.plain_bytes, self._plain.hexdigest())

    def _extent(self, plain_bytes: int, plain_sha256: str) -> Extent:
        return Extent(self.given_bytes, self._cipher.hexdigest(), plain_bytes, plain_sha256)

    def _add(self, file: AppendFile, data: bytes) -> None:
        view = memoryview(data)
        while view:  # in slices, so that memory does not grow with the length of a GOP
            piece, view = view[:_SLICE_BYTES], view[_SLICE_BYTES:]
            self._plain.update(piece)
            self._give(file, self._stream.add(piece))

    def _give(self, file: AppendFile, cipher: bytes) -> None:
        if cipher:
            self._cipher.update(cipher)
            self.given_bytes += len(cipher)
            file.write(cipher)
