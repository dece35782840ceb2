"""Fragments out of the bytes of a segment that come in pieces: each whole, one at a time, in memory that is bounded."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from agent.media.mp4 import MAX_MOOF_BYTES, Mp4Error, fragment_info, track_samples
from agent.verify.segments import VIDEO_TRACK_ID

MAX_MDAT_BYTES = 1 << 26
"""A GOP of 4 s at 100 Mbit/s is 50 MB; what is larger is none of ours and is not kept."""
_HEADER_BYTES = 8


@dataclass(frozen=True, slots=True)
class VideoFragment:
    """One fragment's video. number: as its `moof` says; begin_90k, end_90k: its media times.

    samples: access units, each NAL unit behind its length field, in the order of decoding; views of one buffer.
    """

    number: int
    begin_90k: int
    end_90k: int
    samples: tuple[memoryview, ...]


class FragmentReader:
    """For one segment's bytes from its first on. `free` boxes, which fill encrypted segments, are passed over."""

    def __init__(self) -> None:
        self._box = bytearray()
        """The box that is being taken, header and content, but for an mdat."""
        self._skip_bytes = 0
        self._moof = b""
        # One buffer for all: a new one for each fragment costs as much in page faults as hashing does in time.
        self._mdat = bytearray()
        self._mdat_bytes = self._filled_bytes = 0

    @property
    def in_fragment(self) -> bool:
        """Whether what came last is not whole."""
        return bool(self._box or self._skip_bytes or self._moof)

    def take(self, data: bytes | memoryview) -> Iterator[VideoFragment]:
        """The next bytes; yields what is whole with them. A fragment's samples are gone when the next one is asked for.

        Raises Mp4Error where there is no fragment.
        """
        view = memoryview(data)
        while view:
            if self._skip_bytes:
                taken = min(self._skip_bytes, len(view))
                self._skip_bytes -= taken
            elif self._mdat_bytes:
                taken = min(self._mdat_bytes - self._filled_bytes, len(view))
                self._mdat[self._filled_bytes : self._filled_bytes + taken] = view[:taken]
                self._filled_bytes += taken
            else:
                wanted = _HEADER_BYTES if len(self._box) < _HEADER_BYTES else struct.unpack_from(">I", self._box)[0]
                taken = min(wanted - len(self._box), len(view))
                self._box += view[:taken]
                self._look()
            view = view[taken:]
            if self._mdat_bytes and self._filled_bytes == self._mdat_bytes:
                fragment = _fragment(self._moof, memoryview(self._mdat)[: self._mdat_bytes])
                self._moof, self._mdat_bytes = b"", 0
                yield fragment

    def _look(self) -> None:
        """Act on what is in the box: a header, and of a moof all of it."""
        if len(self._box) < _HEADER_BYTES:
            return
        size, type_ = struct.unpack_from(">I4s", self._box)
        if size < _HEADER_BYTES:
            raise Mp4Error(f"There is a box {bytes(type_)!r} of {size} bytes.")
        if type_ == b"free" and not self._moof:
            self._skip_bytes = size - _HEADER_BYTES
        elif type_ == b"mdat" and self._moof and size <= MAX_MDAT_BYTES:
            if len(self._mdat) < size:
                self._mdat = bytearray(size)
            self._mdat_bytes, self._filled_bytes = size, _HEADER_BYTES
        elif type_ == b"moof" and not self._moof and size <= MAX_MOOF_BYTES:
            if len(self._box) < size:
                return
            self._moof = bytes(self._box)
        else:
            raise Mp4Error(f"There is a box {bytes(type_)!r} of {size} bytes where none such is expected.")
        self._box.clear()


def _fragment(moof: bytes, mdat: memoryview) -> VideoFragment:
    info = fragment_info(moof)
    video = info.tracks.get(VIDEO_TRACK_ID)
    if video is None:
        raise Mp4Error(f"Fragment {info.sequence_number} has no video.")
    spans = track_samples(moof, VIDEO_TRACK_ID)
    # Without the sum, pictures that all lie over the same bytes would make a large thing of a small one.
    if sum(size_bytes for _, size_bytes in spans) > len(mdat) or not all(
        len(moof) + _HEADER_BYTES <= offset <= len(moof) + len(mdat) - size_bytes for offset, size_bytes in spans
    ):
        raise Mp4Error(f"Fragment {info.sequence_number} has pictures outside of its mdat.")
    samples = tuple(mdat[offset - len(moof) :][:size_bytes] for offset, size_bytes in spans)
    begin = video.base_media_decode_time
    return VideoFragment(info.sequence_number, begin, begin + video.duration, samples)
