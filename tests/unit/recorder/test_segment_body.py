"""An encrypted segment at each of its checkpoints: what is on flash opens to what the checkpoint says, whole boxes."""

from __future__ import annotations

import hashlib
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.encryption.recipients import Recipients
from agent.encryption.stream import CHUNK_BYTES
from agent.errors import StorageError
from agent.media.mp4 import walk
from agent.recorder.segment_body import ClearBody, EncryptedBody, Extent
from tests.support.evidence_key import EVIDENCE, opened

RECIPIENTS = Recipients([EVIDENCE.recipient])
SIZES = st.one_of(st.integers(16, 300), st.integers(CHUNK_BYTES - 30, CHUNK_BYTES + 30), st.integers(16, 400_000))


class File:
    """Remembers what was written; fails at the write that takes it beyond `room`."""

    def __init__(self, room: int = 1 << 40) -> None:
        self.data = b""
        self.room = room

    def write(self, data: bytes) -> None:
        self.data += data[: max(0, self.room - len(self.data))]
        if len(self.data) == self.room:
            raise StorageError("full")

    def datasync(self) -> None:
        """Not part of this."""

    def close(self) -> None:
        """Not part of this."""


def box(size_bytes: int, number: int) -> bytes:
    return struct.pack(">I4s", size_bytes, b"mdat") + bytes([number % 256]) * (size_bytes - 8)


def fragments(sizes: list[int]) -> list[bytes]:
    return [box(size, number) for number, size in enumerate(sizes, 1)]


def check(extent: Extent, data: bytes) -> list[bytes]:
    """Compare with the file's bytes; returns the media boxes that it opens to."""
    assert hashlib.sha256(data[: extent.bytes]).hexdigest() == extent.sha256
    plain = opened(data[: extent.bytes])
    assert (len(plain), hashlib.sha256(plain).hexdigest()) == (extent.plain_bytes, extent.plain_sha256)
    return [plain[found.offset : found.end] for found in walk(plain) if found.type != b"free"]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(SIZES, min_size=1, max_size=3), min_size=1, max_size=4), st.booleans())
def test_each_extent_is_all_of_its_fragments_and_nothing_is_held_back(batches: list[list[int]], last: bool) -> None:
    body, file = EncryptedBody(RECIPIENTS.new_stream()), File()
    written: list[bytes] = []
    extents: list[tuple[Extent, int]] = []
    for number, sizes in enumerate(batches, 1):
        made = fragments(sizes)
        found = body.write(file, made, last=last and number == len(batches))
        written += made
        extents += [(extent, len(written) - len(made) + n) for n, extent in enumerate(found, 1)]
        # Durable when synced: the newest extent is all that was written.
        assert found[-1].bytes == len(file.data) == body.given_bytes
    for extent, count in extents:
        assert check(extent, file.data) == written[:count]
    positions = [(extent.bytes, extent.plain_bytes) for extent, _ in extents]
    assert sorted(set(positions)) == positions
    if not last:
        end = body.finish(file)
        assert end is not None
        assert end.bytes == len(file.data)
        assert check(end, file.data) == written


def test_a_write_that_fails_leaves_what_was_confirmed_whole() -> None:
    body, file = EncryptedBody(RECIPIENTS.new_stream()), File()
    (first,) = body.write(file, fragments([100_000]), last=False)
    file.room = len(file.data) + 70_000
    with pytest.raises(StorageError):
        body.write(file, fragments([500_000]), last=False)
    assert body.given_bytes > len(file.data) > first.bytes
    assert len(check(first, file.data)) == 1


def test_the_space_it_costs_is_a_chunk_a_fragment_at_most() -> None:
    body, file = EncryptedBody(RECIPIENTS.new_stream()), File()
    sizes = [750_000 + 997 * n for n in range(40)]
    for size in sizes:
        body.write(file, fragments([size]), last=False)
    spent = len(file.data) - sum(sizes)
    assert spent / len(sizes) < 40_000
    assert spent < len(sizes) * (CHUNK_BYTES + 300) + 1000


def test_clear_fragments_are_what_they_are() -> None:
    body, file = ClearBody(), File()
    made = fragments([100, 200])
    assert [extent.bytes for extent in body.write(file, made, last=True)] == [100, 300]
    assert file.data == b"".join(made)
    assert body.finish(file) is None
    assert "plain_bytes" not in body.empty.fields()
