"""Takes fragments of our own writing apart and puts them together again, as a forger does who knows MP4.

ISO/IEC 14496-12, 8.8. Only what the recorder writes is understood: default-base-is-moof, one run a track, a size for
each sample, the tracks' samples one behind the other.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass, replace
from pathlib import Path

from agent.media.mp4 import walk, whole_fragments
from agent.signing.nal import SEI, split_sample

_HEADER_BYTES = 8
_TRUN_HAS_FIRST_FLAGS = 0x4
_TRUN_HAS_SIZES = 0x200
_NAL_LENGTH_BYTES = 4
SIGNATURE_UUID = bytes.fromhex("005bc93f2d715e95ada4796f90877a6f")
"""Of the SEI of ONVIF Media Signing."""


@dataclass(frozen=True)
class Fragment:
    """A `moof` and, by track id, the samples of its `mdat`."""

    moof: bytes
    samples: dict[int, list[bytes]]

    @property
    def data(self) -> bytes:
        """Both boxes, with sizes and offsets that fit the samples. A track keeps its number of samples."""
        moof = bytearray(self.moof)
        offset = len(moof) + _HEADER_BYTES
        for track_id, trun in _runs(self.moof):
            samples = self.samples[track_id]
            struct.pack_into(">i", moof, trun + 16, offset)
            sizes = _sizes_at(self.moof, trun)
            assert struct.unpack_from(">I", moof, trun + 12)[0] == len(samples)
            struct.pack_into(f">{len(samples)}I", moof, sizes, *map(len, samples))
            offset += sum(map(len, samples))
        body = b"".join(sample for track_id, _ in _runs(self.moof) for sample in self.samples[track_id])
        return bytes(moof) + struct.pack(">I4s", len(body) + _HEADER_BYTES, b"mdat") + body


def fragments(path: Path) -> list[Fragment]:
    """All of a segment."""
    data = path.read_bytes()
    return [_parsed(data[span.offset : span.end]) for span in whole_fragments(io.BytesIO(data))]


def joined(found: list[Fragment]) -> bytes:
    """The segment's bytes again."""
    return b"".join(fragment.data for fragment in found)


def _parsed(data: bytes) -> Fragment:
    (size,) = struct.unpack_from(">I", data)
    moof = data[:size]
    samples: dict[int, list[bytes]] = {}
    for track_id, trun in _runs(moof):
        count, at = struct.unpack_from(">Ii", moof, trun + 12)
        sizes = struct.unpack_from(f">{count}I", moof, _sizes_at(moof, trun))
        samples[track_id] = []
        for bytes_ in sizes:
            samples[track_id].append(data[at : at + bytes_])
            at += bytes_
    return Fragment(moof, samples)


def _sizes_at(moof: bytes, trun: int) -> int:
    (flags,) = struct.unpack_from(">I", moof, trun + 8)
    assert flags & _TRUN_HAS_SIZES
    return trun + 20 + (4 if flags & _TRUN_HAS_FIRST_FLAGS else 0)


def _runs(moof: bytes) -> list[tuple[int, int]]:
    """(track id, offset of its `trun`) of each track."""
    found = []
    for box in walk(moof[_HEADER_BYTES:]):
        if box.type == b"traf":
            start = box.offset + 2 * _HEADER_BYTES
            inner = {part.type: start + part.offset for part in walk(moof[start : box.end + _HEADER_BYTES])}
            found.append((struct.unpack_from(">I", moof, inner[b"tfhd"] + 12)[0], inner[b"trun"]))
    return found


def begin(fragment: Fragment) -> int:
    """When its video begins, in ticks."""
    return int.from_bytes(fragment.moof[(at := fragment.moof.index(b"tfdt") + 8) : at + 8], "big")


def later(fragment: Fragment, ticks: int) -> Fragment:
    """Another `tfdt` (baseMediaDecodeTime, version 1) of the video."""
    at = fragment.moof.index(b"tfdt") + 8
    time = (begin(fragment) + ticks).to_bytes(8, "big")
    return replace(fragment, moof=fragment.moof[:at] + time + fragment.moof[at + 8 :])


def slower(fragment: Fragment, ticks: int) -> Fragment:
    """Another default duration of the video's samples: `tfhd` holds it behind the track's and description's number."""
    at = fragment.moof.index(b"tfhd") + 16
    (duration,) = struct.unpack_from(">I", fragment.moof, at)
    return replace(fragment, moof=fragment.moof[:at] + struct.pack(">I", duration + ticks) + fragment.moof[at + 4 :])


def numbered(fragment: Fragment, number: int) -> Fragment:
    """Another sequence number in `mfhd`."""
    at = fragment.moof.index(b"mfhd") + 8
    return replace(fragment, moof=fragment.moof[:at] + struct.pack(">I", number) + fragment.moof[at + 4 :])


def with_samples(fragment: Fragment, track_id: int, samples: list[bytes]) -> Fragment:
    """One track's samples replaced."""
    return replace(fragment, samples=fragment.samples | {track_id: samples})


def without_signatures(fragment: Fragment) -> Fragment:
    """The SEIs that hold signatures taken out of the video."""
    return with_samples(fragment, 1, [_without_signature(sample) for sample in fragment.samples[1]])


def _without_signature(sample: bytes) -> bytes:
    units = split_sample(sample, _NAL_LENGTH_BYTES)
    kept = [
        sample[unit.prefix : unit.end]
        for unit in units
        if not (unit.type == SEI and SIGNATURE_UUID in sample[unit.start : unit.start + 40])
    ]
    return b"".join(kept)
