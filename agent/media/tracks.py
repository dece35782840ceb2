"""What the head of an MP4 says of its tracks: what kind each is, and which parts of it are to be shown when.

Players show what these boxes say, whatever the samples are. Boxes: ISO/IEC 14496-12, 8.2 (`moov`), 8.4.3 (`hdlr`),
8.6.6 (`elst`), 8.7.2 (`dref`).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from agent.media.mp4 import Box, Mp4Error, walk

MAX_MOOV_BYTES = 1 << 26
"""A day at 30 frames/s in a plain MP4 needs 40 MB of tables; ours, which are fragmented, have 1 kB."""
EMPTY_EDIT = -1
_PLAIN_RATE = (1, 0)
_SELF_CONTAINED = 1
# An edit list is looked for wherever FFmpeg would take one from, not only in `edts`.
_CONTAINERS = frozenset({b"edts", b"mdia", b"minf", b"dinf", b"stbl"})
# FFmpeg takes a `moov` out of these, too.
_DISGUISES = frozenset({b"free", b"skip", b"hoov"})
_FIRST_IN_MOOV = frozenset({b"mvhd", b"cmov"})


@dataclass(frozen=True, slots=True)
class Edit:
    """One entry of an edit list. duration: in units of the movie's timescale; media_time: where it begins, in units of
    the track's, EMPTY_EDIT for nothing. plain_rate: whether it plays as fast as it was filmed.
    """

    duration: int
    media_time: int
    plain_rate: bool


@dataclass(frozen=True, slots=True)
class Track:
    """handler: its kind, "vide" or "soun" or any other four letters. timescale: units in a second.

    problem: why its samples are not all in this file and in this one track, as a clause; empty when they are.
    """

    handler: str
    timescale: int
    edits: tuple[Edit, ...]
    problem: str


@dataclass(frozen=True, slots=True)
class Movie:
    """timescale: units in a second. is_fragmented: whether samples follow in fragments."""

    timescale: int
    is_fragmented: bool
    tracks: tuple[Track, ...]


def read_movie(stream: BinaryIO) -> Movie:
    """From where a seekable binary file stands, at its beginning.

    Raises Mp4Error when there is no `moov`, more than one, or one that is malformed, hidden, or beyond any real one.
    """
    start = stream.tell()
    moov: bytes | None = None
    fragments = False
    boxes = walk(stream)
    while True:
        try:
            box = next(boxes, None)
        except Mp4Error:
            if moov is None:
                raise
            break  # where the file was cut off; its samples are for who reads them
        if box is None:
            break
        fragments = fragments or box.type == b"moof"
        stream.seek(start + box.offset + box.header_bytes)
        if box.type in _DISGUISES and stream.read(8)[4:] in _FIRST_IN_MOOV:
            raise Mp4Error(f"A box that is called {_name(box)} is a head of the file, too.")
        if box.type != b"moov":
            continue
        if moov is not None:
            raise Mp4Error("It has two heads (moov).")
        if box.size > MAX_MOOV_BYTES:
            raise Mp4Error(f"Its head (moov) of {box.size} bytes is beyond any real one.")
        moov = stream.read(box.size - box.header_bytes)
    if moov is None:
        raise Mp4Error("It has no head (moov).")
    return _movie(moov, fragments)


def _movie(moov: bytes, fragments: bool) -> Movie:
    timescale: int | None = None
    extends = False
    tracks = []
    for box, body in _children(moov):
        if box.type == b"mvhd":
            if timescale is not None:
                raise Mp4Error("Its head (moov) has two mvhd boxes.")
            timescale = _timescale(body)
        elif box.type == b"trak":
            tracks.append(_track(body))
        elif box.type == b"mvex":
            extends = True
        elif box.type in _CONTAINERS or box.type in (b"cmov", b"moov", b"elst"):
            raise Mp4Error(f"Its head (moov) has a box {_name(box)}, which belongs elsewhere.")
    if timescale is None:
        raise Mp4Error("Its head (moov) has no mvhd box.")
    return Movie(timescale, extends and fragments, tuple(tracks))


def _track(body: bytes) -> Track:
    found: dict[bytes, bytes] = {}
    _collect(body, found)
    problem = ""
    for type_ in (b"mdhd", b"hdlr", b"stsd", b"dref"):
        if type_ not in found:
            raise Mp4Error(f"A track has no {type_.decode('ascii')} box.")
    (descriptions,) = _unpack(found[b"stsd"], ">4xI")
    references, _, kind, flags = _unpack(found[b"dref"], ">4xII4sI")
    if references != 1 or not flags & _SELF_CONTAINED:
        problem = f"it takes what it shows from another file ({_text(kind)})"
    elif descriptions != 1:
        problem = f"it is coded in {descriptions} ways"
    (handler,) = _unpack(found[b"hdlr"], ">8x4s")
    edits = tuple(_edits(found[b"elst"])) if b"elst" in found else ()
    return Track(_text(handler), _timescale(found[b"mdhd"]), edits, problem)


def _collect(body: bytes, found: dict[bytes, bytes]) -> None:
    for box, content in _children(body):
        if box.type in (b"moov", b"trak"):
            raise Mp4Error(f"A track has a box {_name(box)}, which belongs elsewhere.")
        if box.type == b"hdlr" and b"hdlr" in found and b"minf" in found:
            continue  # QuickTime's second one says how the data is stored
        if box.type in found and box.type not in (b"free", b"skip", b"udta", b"sbgp", b"sgpd", b"uuid"):
            raise Mp4Error(f"A track has two {_name(box)} boxes, of which one player takes this and another that.")
        found[box.type] = content
        if box.type in _CONTAINERS:
            _collect(content, found)


def _edits(body: bytes) -> Iterator[Edit]:
    version, count = _unpack(body, ">B3xI")
    layout = ">QqhH" if version == 1 else ">IihH"
    size = struct.calcsize(layout)
    if count * size > len(body) - 8:
        raise Mp4Error("An edit list ends before its entries do.")
    for number in range(count):
        duration, media_time, *rate = struct.unpack_from(layout, body, 8 + number * size)
        yield Edit(duration, media_time, tuple(rate) == _PLAIN_RATE)


def _timescale(body: bytes) -> int:
    """`mvhd` and `mdhd` begin alike."""
    (version,) = _unpack(body, ">B")
    (timescale,) = _unpack(body, ">20xI" if version == 1 else ">12xI")
    if not timescale:
        raise Mp4Error("A box says that a second has 0 units.")
    return int(timescale)


def _children(data: bytes) -> Iterator[tuple[Box, bytes]]:
    for box in walk(data):
        yield box, data[box.offset + box.header_bytes : box.end]


def _unpack(body: bytes, layout: str) -> tuple[Any, ...]:
    if struct.calcsize(layout) > len(body):
        raise Mp4Error("A box in its head (moov) ends before its fields do.")
    return struct.unpack_from(layout, body)


def _text(letters: bytes) -> str:
    return "".join(chr(byte) if 0x20 < byte < 0x7F else "?" for byte in letters)


def _name(box: Box) -> str:
    return _text(box.type)
