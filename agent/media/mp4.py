"""Reads the outside of an MP4: which boxes there are, which fragments are whole, and what a `moof` says of its samples.

Strict and small, for segments that a power cut may have torn and for evidence that a stranger may have edited.
Nothing is believed before it is bounded: any input ends in an answer or in Mp4Error, in memory that does not grow with
the file.
Boxes: ISO/IEC 14496-12, 4.2 (`Box`, `FullBox`); fragments: 8.8.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

# A GOP of 2 s at 120 frames/s with stereo AAC needs 6 kB of moof; what is far beyond is not ours and not worth reading.
MAX_MOOF_BYTES = 1 << 20
MAX_SAMPLES = MAX_MOOF_BYTES // 4
"""As many sizes of samples fit into a moof; where one default stands for all of them, no more are believed either."""

_TFHD_BASE_DATA_OFFSET = 0x000001
_TFHD_SAMPLE_DESCRIPTION_INDEX = 0x000002
_TFHD_DEFAULT_DURATION = 0x000008
_TFHD_DEFAULT_SIZE = 0x000010
_TFHD_DEFAULT_BASE_IS_MOOF = 0x020000
_TRUN_DATA_OFFSET = 0x000001
_TRUN_FIRST_SAMPLE_FLAGS = 0x000004
_TRUN_DURATION = 0x000100
_TRUN_SIZE = 0x000200
_TRUN_FLAGS = 0x000400
_TRUN_COMPOSITION_OFFSET = 0x000800


class Mp4Error(ValueError):
    """The bytes are no MP4 that this reader accepts; the message says where and why."""


@dataclass(frozen=True, slots=True)
class Box:
    """One box: `size` is all of it, header included; `offset` counts from where the walk began. In bytes."""

    type: bytes
    offset: int
    size: int
    header_bytes: int

    @property
    def end(self) -> int:
        """Offset of the first byte behind it."""
        return self.offset + self.size


class TrackFragment(NamedTuple):
    """One track's part of a fragment. Times and durations in units of that track's timescale."""

    base_media_decode_time: int
    sample_count: int
    duration: int


class FragmentInfo(NamedTuple):
    """What a `moof` says: its sequence number and, by track id, the samples in it."""

    sequence_number: int
    tracks: dict[int, TrackFragment]


@dataclass(frozen=True, slots=True)
class FragmentSpan:
    """One whole fragment in a file: bytes `offset` to `end` are its `moof` and `mdat`."""

    offset: int
    end: int
    info: FragmentInfo


def walk(source: bytes | bytearray | memoryview | BinaryIO) -> Iterator[Box]:
    """The top-level boxes from the start of the data, or from where a seekable binary file stands.

    Raises Mp4Error at the first box that is malformed or does not end inside the data, after the boxes before it.
    Reads headers only.
    """
    stream = io.BytesIO(source) if isinstance(source, (bytes, bytearray, memoryview)) else source
    start = stream.tell()
    length = stream.seek(0, io.SEEK_END) - start
    offset = 0
    while offset < length:
        stream.seek(start + offset)
        box = _parse_header(stream.read(16), offset, length)
        yield box
        offset = box.end


def _parse_header(head: bytes, offset: int, length: int) -> Box:
    """`head`: the 16 bytes at `offset`, as far as there are any; `length`: of what the box lies in."""
    if len(head) < 8:
        raise Mp4Error(f"At byte {offset} there are {len(head)} bytes left, too few for a box.")
    size, type_ = struct.unpack_from(">I4s", head)
    header_bytes = 8
    if size == 1:
        if len(head) < 16:
            raise Mp4Error(f"At byte {offset} a box is cut off inside its 64-bit size.")
        (size,) = struct.unpack_from(">Q", head, 8)
        header_bytes = 16
    elif size == 0:
        size = length - offset
    if size < header_bytes:
        raise Mp4Error(f"At byte {offset} a box of {size} bytes is smaller than its own header.")
    if size > length - offset:
        raise Mp4Error(f"At byte {offset} a box of {size} bytes does not end inside the {length} bytes there are.")
    return Box(type_, offset, size, header_bytes)


def whole_fragments(stream: BinaryIO) -> Iterator[FragmentSpan]:
    """The whole fragments from where the file stands, up to the first thing that is not one, which is no error.

    A fragment is whole when a `moof` that parses is followed at once by an `mdat` of exactly the bytes its samples
    need. What the `mdat` holds is not looked at. `free` boxes between fragments are passed over: encrypted segments are
    filled with them.
    """
    moof: Box | None = None
    info = FragmentInfo(0, {})
    media_bytes = 0
    start = stream.tell()
    try:
        for box in walk(stream):
            if moof is None:
                if box.type == b"free":
                    continue
                if box.type != b"moof" or box.size > MAX_MOOF_BYTES:
                    return
                stream.seek(start + box.offset)
                info, media_bytes = _parse_moof(stream.read(box.size))
                moof = box
            else:
                if box.type != b"mdat" or box.size - box.header_bytes != media_bytes:
                    return
                yield FragmentSpan(moof.offset, box.end, info)
                moof = None
    except Mp4Error:
        return  # where the file is torn; everything in front of it was yielded


def whole_fragments_bytes(stream: BinaryIO) -> int:
    """How many bytes from where the file stands are whole fragments, one behind the other; 0 when there is none."""
    end = 0
    for span in whole_fragments(stream):
        end = span.end
    return end


def fragment_info(moof: bytes) -> FragmentInfo:
    """What one `moof` box (header included) says of its samples.

    Raises Mp4Error when it is malformed, or leaves a sample's duration to defaults in the `moov` (our own never does).
    """
    return _parse_moof(moof)[0]


def track_samples(moof: bytes, track_id: int) -> list[tuple[int, int]]:
    """Where one track's samples lie: (offset from the `moof`'s first byte, bytes) of each, in order of decoding.

    They may lie anywhere: the caller has to see that it is inside the `mdat`. Raises Mp4Error when the box is malformed
    or says it in another way than CMAF does (default-base-is-moof, a data offset in each run).
    """
    _parse_moof(moof)
    samples: list[tuple[int, int]] = []
    for box, body in _children(moof[next(walk(moof)).header_bytes :]):
        if box.type != b"traf":
            continue
        defaults = _Defaults(0)
        for part, content in _children(body):
            if part.type == b"tfhd":
                defaults = _parse_tfhd(content)
                if not defaults.base_is_moof and defaults.track_id == track_id:
                    raise Mp4Error("A traf counts its data's offset from elsewhere than its moof.")
            elif part.type == b"trun" and defaults.track_id == track_id:
                at, sizes = _parse_run(content, defaults)
                if len(samples) + len(sizes) > MAX_SAMPLES:
                    raise Mp4Error(f"A moof has more than {MAX_SAMPLES} samples.")
                for size_bytes in sizes:
                    samples.append((at, size_bytes))
                    at += size_bytes
    return samples


def _parse_moof(data: bytes) -> tuple[FragmentInfo, int]:
    if len(data) > MAX_MOOF_BYTES:
        raise Mp4Error(f"A moof of {len(data)} bytes is beyond any real one.")
    boxes = list(walk(data))
    if len(boxes) != 1 or boxes[0].type != b"moof":
        raise Mp4Error("These bytes are not exactly one moof box.")
    sequence_number: int | None = None
    tracks: dict[int, TrackFragment] = {}
    media_bytes = 0
    for box, body in _children(data[boxes[0].header_bytes :]):
        if box.type == b"mfhd":
            if sequence_number is not None:
                raise Mp4Error("A moof has two mfhd boxes.")
            (sequence_number,) = _Fields(body).take(">4xI")
        elif box.type == b"traf":
            track_id, track, track_bytes = _parse_traf(body)
            if track_id in tracks:
                raise Mp4Error(f"A moof has two traf boxes for track {track_id}.")
            tracks[track_id] = track
            media_bytes += track_bytes
    if sequence_number is None:
        raise Mp4Error("A moof has no mfhd box.")
    return FragmentInfo(sequence_number, tracks), media_bytes


def _children(data: bytes) -> Iterator[tuple[Box, bytes]]:
    for box in walk(data):
        yield box, data[box.offset + box.header_bytes : box.end]


class _Fields:
    """Takes fields off a box body one after the other, never past its end."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._at = 0

    def take(self, layout: str) -> tuple[int, ...]:
        """The next fields, as struct(3) names them."""
        if struct.calcsize(layout) > len(self._body) - self._at:
            raise Mp4Error("A box inside a moof ends before its fields do.")
        values = struct.unpack_from(layout, self._body, self._at)
        self._at += struct.calcsize(layout)
        return values

    def take_bytes(self, count: int) -> bytes:
        """The next `count` bytes, which are not read before they are known to be there."""
        if count > len(self._body) - self._at:
            raise Mp4Error("A box inside a moof ends before its samples do.")
        self._at += count
        return self._body[self._at - count : self._at]


@dataclass(slots=True)
class _Defaults:
    track_id: int
    duration: int | None = None
    size_bytes: int | None = None
    base_is_moof: bool = False


def _parse_traf(body: bytes) -> tuple[int, TrackFragment, int]:
    defaults: _Defaults | None = None
    decode_time: int | None = None
    samples = duration = size_bytes = 0
    for box, content in _children(body):
        if box.type == b"tfhd":
            if defaults is not None:
                raise Mp4Error("A traf has two tfhd boxes.")
            defaults = _parse_tfhd(content)
        elif box.type == b"tfdt":
            if decode_time is not None:
                raise Mp4Error("A traf has two tfdt boxes.")
            fields = _Fields(content)
            (version_and_flags,) = fields.take(">I")
            (decode_time,) = fields.take(">Q" if version_and_flags >> 24 == 1 else ">I")
        elif box.type == b"trun":
            if defaults is None:
                raise Mp4Error("A traf has a trun box in front of its tfhd.")
            run_samples, run_duration, run_bytes = _parse_trun(content, defaults)
            samples += run_samples
            duration += run_duration
            size_bytes += run_bytes
    if defaults is None or decode_time is None:
        raise Mp4Error("A traf lacks its tfhd or tfdt box.")
    return defaults.track_id, TrackFragment(decode_time, samples, duration), size_bytes


def _parse_tfhd(content: bytes) -> _Defaults:
    """ISO/IEC 14496-12, 8.8.7."""
    fields = _Fields(content)
    flags, track_id = fields.take(">II")
    defaults = _Defaults(track_id)
    defaults.base_is_moof = bool(flags & _TFHD_DEFAULT_BASE_IS_MOOF) and not flags & _TFHD_BASE_DATA_OFFSET
    if flags & _TFHD_BASE_DATA_OFFSET:
        fields.take(">Q")
    if flags & _TFHD_SAMPLE_DESCRIPTION_INDEX:
        fields.take(">I")
    if flags & _TFHD_DEFAULT_DURATION:
        (defaults.duration,) = fields.take(">I")
    if flags & _TFHD_DEFAULT_SIZE:
        (defaults.size_bytes,) = fields.take(">I")
    return defaults


def _parse_trun(content: bytes, defaults: _Defaults) -> tuple[int, int, int]:
    """Samples, their duration and their bytes: ISO/IEC 14496-12, 8.8.8."""
    run = _run(content)

    def total(flag: int, default: int | None, what: str) -> int:
        if (column := run.column(flag)) is not None:
            return sum(column)
        if default is None and run.samples:
            raise Mp4Error(f"A trun leaves its samples' {what} to defaults of the moov.")
        return (default or 0) * run.samples

    return (
        run.samples,
        total(_TRUN_DURATION, defaults.duration, "durations"),
        total(_TRUN_SIZE, defaults.size_bytes, "sizes"),
    )


def _parse_run(content: bytes, defaults: _Defaults) -> tuple[int, tuple[int, ...]]:
    """Data offset and the bytes of each sample."""
    run = _run(content)
    if run.data_offset is None:
        raise Mp4Error("A trun does not say where its data begins.")
    sizes = run.column(_TRUN_SIZE)
    if sizes is None:
        # No table bears the count out: a few bytes could ask for 2^32 samples.
        if run.samples > MAX_SAMPLES or defaults.size_bytes is None:
            raise Mp4Error(f"A trun has no sizes for its {run.samples} samples.")
        sizes = (defaults.size_bytes,) * run.samples
    return run.data_offset, sizes


class _Run(NamedTuple):
    samples: int
    data_offset: int | None
    columns: list[int]
    values: tuple[int, ...]

    def column(self, flag: int) -> tuple[int, ...] | None:
        """One field of each sample, None where defaults stand for it."""
        if flag not in self.columns:
            return None
        return self.values[self.columns.index(flag) :: len(self.columns)]


def _run(content: bytes) -> _Run:
    fields = _Fields(content)
    flags, count = fields.take(">II")
    data_offset: int | None = None
    if flags & _TRUN_DATA_OFFSET:
        (data_offset,) = fields.take(">i")
    if flags & _TRUN_FIRST_SAMPLE_FLAGS:
        fields.take(">I")
    columns = [flag for flag in (_TRUN_DURATION, _TRUN_SIZE, _TRUN_FLAGS, _TRUN_COMPOSITION_OFFSET) if flags & flag]
    # The table is bounded by the box, `count` is not: it is believed only as far as the box has bytes for it.
    table = fields.take_bytes(4 * len(columns) * count)
    return _Run(count, data_offset, columns, struct.unpack(f">{len(table) // 4}I", table))
