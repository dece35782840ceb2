"""The box walker, on boxes built by hand and on bytes from a stranger."""

from __future__ import annotations

import struct
import tracemalloc
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent.media.mp4 import (
    MAX_MOOF_BYTES,
    FragmentInfo,
    Mp4Error,
    TrackFragment,
    fragment_info,
    walk,
    whole_fragments,
    whole_fragments_bytes,
)


def box(type_: bytes, body: bytes = b"") -> bytes:
    return struct.pack(">I4s", 8 + len(body), type_) + body


def large_box(type_: bytes, body: bytes) -> bytes:
    return struct.pack(">I4sQ", 1, type_, 16 + len(body)) + body


def mfhd(number: int = 1) -> bytes:
    return box(b"mfhd", struct.pack(">II", 0, number))


def tfhd(track_id: int = 1, duration: int | None = None, size: int | None = None) -> bytes:
    flags = (8 if duration is not None else 0) | (16 if size is not None else 0) | 0x20000
    fields = [value for value in (duration, size) if value is not None]
    return box(b"tfhd", struct.pack(f">II{len(fields)}I", flags, track_id, *fields))


def tfdt(time: int) -> bytes:
    return box(b"tfdt", struct.pack(">IQ", 1 << 24, time) if time >> 32 else struct.pack(">II", 0, time))


def trun(samples: list[tuple[int, ...]], flags: int) -> bytes:
    table = b"".join(struct.pack(f">{len(sample)}I", *sample) for sample in samples)
    offset = struct.pack(">i", 0) if flags & 1 else b""
    first_flags = struct.pack(">I", 0) if flags & 4 else b""
    return box(b"trun", struct.pack(">II", flags, len(samples)) + offset + first_flags + table)


def traf(*boxes: bytes) -> bytes:
    return box(b"traf", b"".join(boxes))


def moof(*boxes: bytes) -> bytes:
    return box(b"moof", b"".join(boxes))


def fragment(number: int, media: bytes) -> bytes:
    """One sample of these bytes, and its mdat."""
    return moof(mfhd(number), traf(tfhd(1), tfdt(0), trun([(3000, len(media))], 0x300))) + box(b"mdat", media)


def test_boxes_in_a_row_with_all_three_kinds_of_size() -> None:
    data = box(b"ftyp", b"1234") + large_box(b"free", b"12345") + struct.pack(">I4s", 0, b"mdat") + b"rest"
    assert [(b.type, b.offset, b.size, b.header_bytes, b.end) for b in walk(data)] == [
        (b"ftyp", 0, 12, 8, 12),
        (b"free", 12, 21, 16, 33),
        (b"mdat", 33, 12, 8, 45),
    ]
    assert list(walk(BytesIO(data))) == list(walk(data))
    assert list(walk(b"")) == []


def test_a_file_is_walked_from_where_it_stands() -> None:
    stream = BytesIO(b"12345" + box(b"moof") + box(b"mdat"))
    stream.seek(5)
    assert [(b.type, b.offset) for b in walk(stream)] == [(b"moof", 0), (b"mdat", 8)]
    stream = BytesIO(b"12345" + fragment(1, b"a"))
    stream.seek(5)
    assert whole_fragments_bytes(stream) == len(fragment(1, b"a"))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x00", "too few for a box"),
        (b"\x00\x00\x00\x08moo", "too few for a box"),
        (b"\x00\x00\x00\x07moof", "smaller than its own header"),
        (b"\x00\x00\x00\x02moof", "smaller than its own header"),
        (struct.pack(">I4sQ", 1, b"mdat", 15), "smaller than its own header"),
        (struct.pack(">I4sQ", 1, b"mdat", 0), "smaller than its own header"),
        (struct.pack(">I4s", 1, b"mdat") + b"\x00" * 7, "cut off inside its 64-bit size"),
        (struct.pack(">I4s", 9, b"mdat"), "does not end inside"),
        (struct.pack(">I4sQ", 1, b"mdat", 2**64 - 1), "does not end inside"),
        (struct.pack(">I4s", 0xFFFFFFFF, b"mdat"), "does not end inside"),
    ],
)
def test_what_is_no_box_is_refused_after_those_before_it(data: bytes, message: str) -> None:
    boxes = walk(box(b"free") + data)
    assert next(boxes).type == b"free"
    with pytest.raises(Mp4Error, match=message):
        next(boxes)


def test_a_moof_tells_number_times_and_samples() -> None:
    data = moof(
        mfhd(77),
        traf(tfhd(1), tfdt(1 << 40), trun([(3000, 10), (2990, 20)], 0x305)),
        traf(tfhd(2, duration=1024, size=100), tfdt(512), trun([()] * 3, 0), trun([(1, 2, 7, 8)], 0xF01)),
        traf(tfhd(3, duration=5), tfdt(0)),
    )
    assert fragment_info(data) == FragmentInfo(
        77, {1: TrackFragment(1 << 40, 2, 5990), 2: TrackFragment(512, 4, 3073), 3: TrackFragment(0, 0, 0)}
    )


def test_a_sample_count_is_not_believed_beyond_the_box() -> None:
    liar = box(b"trun", struct.pack(">III", 0x100, 0xFFFFFFFF, 1))
    with pytest.raises(Mp4Error, match="ends before its samples do"):
        fragment_info(moof(mfhd(), traf(tfhd(), tfdt(0), liar)))
    by_default = box(b"trun", struct.pack(">II", 0, 0xFFFFFFFF))
    info = fragment_info(moof(mfhd(), traf(tfhd(1, duration=1, size=1), tfdt(0), by_default)))
    assert info.tracks[1] == (0, 0xFFFFFFFF, 0xFFFFFFFF)


GOOD_TRUN = trun([(1, 1)], 0x300)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (box(b"mdat"), "not exactly one moof"),
        (moof(mfhd()) + box(b"free"), "not exactly one moof"),
        (moof(), "no mfhd"),
        (moof(mfhd(), mfhd()), "two mfhd"),
        (moof(box(b"mfhd", b"\x00" * 7)), "ends before its fields"),
        (moof(mfhd(), traf(tfhd(), tfhd(), tfdt(0))), "two tfhd"),
        (moof(mfhd(), traf(tfhd(), tfdt(0), tfdt(0))), "two tfdt"),
        (moof(mfhd(), traf(tfdt(0), GOOD_TRUN)), "in front of its tfhd"),
        (moof(mfhd(), traf(tfhd(), GOOD_TRUN)), "lacks its tfhd or tfdt"),
        (moof(mfhd(), traf()), "lacks its tfhd or tfdt"),
        (moof(mfhd(), traf(tfhd(5), tfdt(0)), traf(tfhd(5), tfdt(0))), "two traf boxes for track 5"),
        (moof(mfhd(), traf(tfhd(), tfdt(0), trun([(1,)], 0x100))), "sizes to defaults"),
        (moof(mfhd(), traf(tfhd(), tfdt(0), trun([(1,)], 0x200))), "durations to defaults"),
        (moof(mfhd(), traf(tfhd(), tfdt(0), box(b"trun", b"\x00\x00\x00\x01\x00\x00\x00\x00"))), "before its fields"),
        (moof(mfhd(), traf(box(b"tfhd", struct.pack(">III", 1, 1, 1)))), "before its fields"),
        (moof(mfhd(), traf(tfhd(), b"\x00\x00\x00\x20trun")), "does not end inside"),
        (moof(mfhd(), box(b"free", bytes(MAX_MOOF_BYTES))), "beyond any real one"),
    ],
)
def test_a_moof_that_says_nothing_certain_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(Mp4Error, match=message):
        fragment_info(data)


WHOLE = fragment(1, b"first") + fragment(2, b"second one")


@pytest.mark.parametrize(
    "tail",
    [
        b"",
        bytes(4096),
        b"\xff" * 100,
        box(b"free", b"1234"),
        box(b"mdat", b"media without a moof"),
        fragment(3, b"third")[:-1],
        fragment(3, b"third")[:20],
        fragment(3, b"third")[: -len(box(b"mdat", b"third"))],
        fragment(3, b"third")[: -len(box(b"mdat", b"third"))] + bytes(13),
        fragment(3, b"third")[: -len(box(b"mdat", b"third"))] + box(b"mdat", b"longer than it says"),
        fragment(3, b"third")[: -len(box(b"mdat", b"third"))] * 2 + box(b"mdat", b"third"),
        moof(traf()) + box(b"mdat"),
        struct.pack(">I4s", 0, b"moof"),
    ],
)
def test_only_whole_fragments_count(tail: bytes) -> None:
    assert whole_fragments_bytes(BytesIO(WHOLE + tail)) == len(WHOLE)
    assert [span.info.sequence_number for span in whole_fragments(BytesIO(WHOLE + tail))] == [1, 2]


@given(st.integers(0, len(WHOLE)))
def test_a_cut_anywhere_leaves_what_was_whole(cut: int) -> None:
    first = len(fragment(1, b"first"))
    expected = len(WHOLE) if cut == len(WHOLE) else first if cut >= first else 0
    assert whole_fragments_bytes(BytesIO(WHOLE[:cut])) == expected


def test_large_files_are_sought_through_and_not_read(tmp_path: Path) -> None:
    """Two fragments of 300 MB each, sparse on disk."""
    media_bytes = 300_000_000
    head = moof(mfhd(1), traf(tfhd(1), tfdt(0), trun([(1, media_bytes)], 0x300)))
    path = tmp_path / "000001.m4s"
    with path.open("wb") as file:
        for _ in range(2):
            file.write(head + struct.pack(">I4s", 8 + media_bytes, b"mdat"))
            file.seek(media_bytes, 1)
        file.truncate()
    tracemalloc.start()
    with path.open("rb") as file:
        assert whole_fragments_bytes(file) == 2 * (len(head) + 8 + media_bytes)
    assert tracemalloc.get_traced_memory()[1] < 500_000
    tracemalloc.stop()


def test_a_moof_that_claims_to_be_huge_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "000001.m4s"
    with path.open("wb") as file:
        file.write(struct.pack(">I4s", 200_000_000, b"moof"))
        file.truncate(200_000_000)
    tracemalloc.start()
    with path.open("rb") as file:
        assert whole_fragments_bytes(file) == 0
    assert tracemalloc.get_traced_memory()[1] < 500_000
    tracemalloc.stop()


boxes_like = st.recursive(
    st.binary(max_size=24),
    lambda inner: st.builds(
        lambda size, type_, bodies: (
            struct.pack(">I4s", size, type_) + b"".join(bodies) if size is not None else box(type_, b"".join(bodies))
        ),
        st.one_of(st.none(), st.integers(0, 40), st.integers(0, 2**32 - 1)),
        st.sampled_from([b"moof", b"mdat", b"traf", b"mfhd", b"tfhd", b"tfdt", b"trun", b"free"]),
        st.lists(inner, max_size=4),
    ),
    max_leaves=12,
)


@st.composite
def damaged_fragments(draw: st.DrawFn) -> bytes:
    """Real ones, with bytes overwritten: deeper inside than random bytes ever get."""
    data = bytearray(WHOLE)
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(data) - 1))
        data[at] = draw(st.integers(0, 255))
    return bytes(data)


@given(st.one_of(st.binary(max_size=300), boxes_like, damaged_fragments()))
@example(b"\x00" * 64)
@example(box(b"moof", box(b"mfhd", b"\x00" * 8) + b"\x00" * 8))
def test_no_bytes_raise_anything_but_mp4_error(data: bytes) -> None:
    end = 0
    try:
        for found in walk(data):
            assert found.offset == end
            assert found.size >= found.header_bytes >= 8
            end = found.end
        assert end == len(data)
    except Mp4Error:
        assert end <= len(data)
    whole = whole_fragments_bytes(BytesIO(data))
    assert 0 <= whole <= end
    spans = list(whole_fragments(BytesIO(data)))
    assert whole == (spans[-1].end if spans else 0)
    for span in spans:
        assert span.info == fragment_info(data[span.offset : next(walk(data[span.offset :])).end + span.offset])
    try:
        info = fragment_info(data)
    except Mp4Error:
        return
    assert all(track.sample_count >= 0 and track.duration >= 0 for track in info.tracks.values())
