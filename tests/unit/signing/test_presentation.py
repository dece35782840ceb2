"""Files whose pictures are all as they were signed, and which show something else: each is told, and by what.

Also that copies as ordinary tools make them are shown as they were filmed.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from agent.errors import EvidenceDamagedError
from agent.media.mp4 import Mp4Error
from agent.media.tracks import EMPTY_EDIT, Edit, Movie, Track, read_movie
from agent.signing.file import OtherTracksError, read_file
from agent.signing.finding import StreamReport
from agent.signing.presentation import Presentation, PresentationReader
from agent.verify.video_file import check_video_file
from tests.unit.signing.streams import DEVICE, GOP_FRAMES, GOPS, sign, unsigned_stream
from tests.unit.signing.test_file import byte_stream, fragmented, plain, with_sound
from tests.unit.trust.identities import identity

PACKETS = sign(unsigned_stream())


@dataclass(frozen=True)
class Read:
    stream: StreamReport
    presentation: Presentation


def read(data: bytes) -> Read:
    found: list[Presentation] = []
    stream = read_file(BytesIO(data), on_presentation=found.append)
    assert len(found) == 1
    return Read(stream, found[0])


def remuxed(change: Callable[[list[Any]], None], source: bytes | None = None) -> bytes:
    """A plain MP4 without an edit list, its packets changed on the way."""
    made = BytesIO()
    options = {"use_editlist": "0"}
    with (
        av.open(BytesIO(source or fragmented(PACKETS)), "r") as container,
        av.open(made, "w", format="mp4", options=options) as target,
    ):
        stream = target.add_stream_from_template(container.streams.video[0])
        packets = [packet for packet in container.demux(container.streams.video[0]) if packet.size]
        change(packets)
        for packet in packets:
            packet.stream = stream
            target.mux(packet)
    return made.getvalue()


def boxed(type_: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(body), type_) + body


def in_head(data: bytes, path: tuple[bytes, ...], change: Callable[[bytes], bytes]) -> bytes:
    """The body of one box exchanged; sizes of the boxes around it follow. The samples lie in front of the head."""

    def within(body: bytes, rest: tuple[bytes, ...]) -> bytes:
        if not rest:
            return change(body)
        made, at = b"", 0
        while at < len(body):
            size, type_ = struct.unpack_from(">I4s", body, at)
            content = body[at + 8 : at + size]
            made += boxed(type_, within(content, rest[1:]) if type_ == rest[0] else content)
            at += size
        return made

    changed = within(data, path)
    assert changed != data
    return changed


def with_edits(data: bytes, *edits: tuple[int, int], rate: tuple[int, int] = (1, 0)) -> bytes:
    """Each edit: from when, for how long, both in ms; from -1: nothing is shown."""
    movie = read_movie(BytesIO(data))
    (track,) = movie.tracks
    entries = b"".join(
        struct.pack(
            ">IihH", ms * movie.timescale // 1000, at if at == EMPTY_EDIT else at * track.timescale // 1000, *rate
        )
        for at, ms in edits
    )
    listed = boxed(b"edts", boxed(b"elst", struct.pack(">II", 0, len(edits)) + entries))
    return in_head(data, (b"moov", b"trak"), lambda body: body + listed)


PLAIN = remuxed(lambda _: None)
LENGTH_MS = round(1000 * (PACKETS[-1].pts_ns - PACKETS[0].pts_ns) / 1e9)
GOP_MS = LENGTH_MS // GOPS


def test_ordinary_copies_are_shown_as_they_were_filmed() -> None:
    for data in (fragmented(PACKETS), with_sound(PACKETS), plain(with_sound(PACKETS)), PLAIN, byte_stream(PACKETS)):
        found = read(data)
        assert found.stream.is_valid
        assert found.presentation == Presentation()


@pytest.mark.parametrize(
    ("edits", "noted"),
    [
        (((0, LENGTH_MS),), False),
        (((EMPTY_EDIT, 400), (0, LENGTH_MS)), False),
        (((GOP_MS // 2, LENGTH_MS),), True),  # `ffmpeg -ss`, between two keyframes
    ],
)
def test_edit_lists_of_ordinary_tools_pass(edits: tuple[tuple[int, int], ...], noted: bool) -> None:
    found = read(with_edits(PLAIN, *edits))
    assert found.stream.is_valid
    assert not found.presentation.problems
    assert [note.split(" s ")[1][:6] for note in found.presentation.notes] == ["behind"] * noted


@pytest.mark.parametrize(
    ("edits", "rate", "said"),
    [
        (((0, GOP_MS), (3 * GOP_MS, 2 * GOP_MS)), (1, 0), "edit list of 2 entries"),
        (((2 * GOP_MS, GOP_MS), (0, GOP_MS)), (1, 0), "edit list of 2 entries"),
        (((0, GOP_MS), (EMPTY_EDIT, 500)), (1, 0), "edit list of 2 entries"),
        (((EMPTY_EDIT, 60_000), (0, LENGTH_MS)), (1, 0), "edit list of 2 entries"),
        (((EMPTY_EDIT, LENGTH_MS),), (1, 0), "edit list of 1 entries"),
        (((0, LENGTH_MS),), (0, 0), "another speed"),
        (((0, LENGTH_MS),), (2, 0), "another speed"),
        (((2 * GOP_MS, LENGTH_MS),), (1, 0), "hides what comes before"),
        (((0, LENGTH_MS - GOP_MS),), (1, 0), "hides what comes behind"),
        (((0, 0),), (1, 0), "hides what comes behind"),
    ],
)
def test_an_edit_list_that_hides_or_moves_parts_is_a_failure(
    edits: tuple[tuple[int, int], ...], rate: tuple[int, int], said: str
) -> None:
    found = read(with_edits(PLAIN, *edits, rate=rate))
    assert found.stream.is_valid
    assert said in " ".join(found.presentation.problems)


def test_an_edit_list_without_end_is_one_only_in_front_of_fragments() -> None:
    track = Track("vide", 90_000, (Edit(0, 0, True),), "")
    for is_fragmented, problems in ((True, 0), (False, 1)):
        reader = PresentationReader(Movie(1000, is_fragmented, (track,)))
        for number in range(30):
            reader.picture(Fraction(number, 10), Fraction(1, 10), None, is_keyframe=number % 10 == 0)
        assert len(reader.end().problems) == problems


def swap_gops(packets: list[Any]) -> None:
    """Two GOPs are shown in each other's time; decoding goes on as before."""
    first, second = (packets[n * GOP_FRAMES : (n + 1) * GOP_FRAMES] for n in (2, 3))
    times = [[packet.pts for packet in gop] for gop in (first, second)]
    for gop, other in ((first, times[1]), (second, times[0])):
        for packet, pts in zip(gop, other, strict=True):
            packet.pts = pts
    _behind_decoding(packets)


def swap_pictures(packets: list[Any]) -> None:
    packets[3].pts, packets[4].pts = packets[4].pts, packets[3].pts
    _behind_decoding(packets)


def hide_a_picture(packets: list[Any]) -> None:
    packets[3].pts = packets[4].pts
    _behind_decoding(packets)


def hide_a_gop(packets: list[Any]) -> None:
    """All of its pictures within a few units of the timescale."""
    for number, packet in enumerate(packets[GOP_FRAMES : 2 * GOP_FRAMES]):
        packet.pts = packet.dts = packets[GOP_FRAMES].pts + 2 * number
    assert packets[2 * GOP_FRAMES].pts > packets[2 * GOP_FRAMES - 1].pts


def _behind_decoding(packets: list[Any]) -> None:
    for packet in packets:
        packet.pts += 60 * 90_000  # an MP4 never shows a picture before it is decoded


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (swap_gops, "before the one that was filmed before it"),
        (swap_pictures, "before the one that was filmed before it"),
        (hide_a_picture, "shown for 0 s"),
        (hide_a_gop, f"{GOP_FRAMES - 1} of a GOP's {GOP_FRAMES} pictures are shown too short"),
    ],
)
def test_times_that_move_or_hide_pictures_are_a_failure(change: Callable[[list[Any]], None], said: str) -> None:
    found = read(remuxed(change))
    assert found.stream.is_valid
    assert said in found.presentation.problems[0]


def test_a_single_picture_that_flashes_by_is_named() -> None:
    def flash(packets: list[Any]) -> None:
        packets[3].pts = packets[3].dts = packets[4].pts - 100

    found = read(remuxed(flash))
    assert not found.presentation.problems
    assert found.presentation.notes == ("1 picture(s) are shown for less than 4 ms.",)


def test_a_picture_that_stands_still_is_named() -> None:
    def hold(packets: list[Any]) -> None:
        for packet in packets[8:]:
            packet.pts += 30 * 90_000
            packet.dts += 30 * 90_000

    found = read(remuxed(hold))
    assert found.stream.is_valid
    assert not found.presentation.problems
    assert len(found.presentation.notes) == 1
    assert "stands still for 30." in found.presentation.notes[0]


def test_samples_that_lie_in_another_order_than_they_are_played() -> None:
    """What is played is all that was signed, in its order; its bytes stand in the file backwards."""
    sizes = [len(data) for data in _samples(PLAIN)]

    def backwards(_: bytes) -> bytes:
        at, offsets = _mdat(PLAIN) + sum(sizes), []
        for size in sizes:
            at -= size
            offsets.append(at)
        return struct.pack(">II", 0, len(sizes)) + struct.pack(f">{len(sizes)}I", *offsets)

    table = (b"moov", b"trak", b"mdia", b"minf", b"stbl")
    one_each = in_head(PLAIN, (*table, b"stsc"), lambda _: struct.pack(">IIIII", 0, 1, 1, 1, 1))
    data = bytearray(in_head(one_each, (*table, b"stco"), backwards))
    start = _mdat(PLAIN)
    data[start : start + sum(sizes)] = b"".join(reversed(_samples(PLAIN)))
    found = read(bytes(data))
    assert found.stream.is_valid
    assert "in another order than it stores them" in found.presentation.problems[0]


def _mdat(data: bytes) -> int:
    return data.index(b"mdat") + 4


def _samples(data: bytes) -> list[bytes]:
    with av.open(BytesIO(data), "r", options={"ignore_editlist": "1"}) as container:
        return [bytes(packet) for packet in container.demux(container.streams.video[0]) if packet.size]


# -- other tracks -----------------------------------------------------------------------------------------------


def with_another_video() -> bytes:
    """Larger than the signed one, which is why players choose it."""
    made = BytesIO()
    with av.open(BytesIO(PLAIN), "r") as source, av.open(made, "w", format="mp4") as target:
        signed = target.add_stream_from_template(source.streams.video[0])
        forged = target.add_stream("libx264", rate=10)
        forged.width, forged.height, forged.pix_fmt = 320, 240, "yuv420p"
        for packet in source.demux(source.streams.video[0]):
            if packet.size:
                packet.stream = signed
                target.mux(packet)
        picture = av.VideoFrame.from_ndarray(np.zeros((240, 320, 3), np.uint8), format="rgb24")
        target.mux(forged.encode(picture))
        target.mux(forged.encode(None))
    return made.getvalue()


def handled_as(handler: bytes) -> bytes:
    """The sound's track, said to be of another kind."""
    data = plain(with_sound(PACKETS))
    assert data.count(b"soun") == 1
    return data.replace(b"soun", handler)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (with_another_video(), "1: video, 2: video"),
        (handled_as(b"vide"), "1: video, 2: video"),
        (handled_as(b"text"), "1: video, 2: text"),
        (handled_as(b"sbtl"), "1: video, 2: subtitles"),
        (handled_as(b"x\xff:["), r"1: video, 2: unknown \(x\?:\[\)"),
    ],
    ids=["a second video", "called video", "text", "subtitles", "unknown"],
)
def test_a_file_with_more_to_show_is_refused(data: bytes, said: str, tmp_path: Path) -> None:
    with pytest.raises(OtherTracksError, match=said):
        read(data)
    path = tmp_path / "two.mp4"
    path.write_bytes(data)
    with pytest.raises(EvidenceDamagedError, match=said) as refused:
        check_video_file(path, None)
    assert str(path) in str(refused.value)
    assert "init.mp4" not in str(refused.value)


def test_a_cover_picture_is_refused() -> None:
    """Players show it instead of the film, or before it."""
    jpeg = BytesIO()
    with av.open(jpeg, "w", format="mjpeg") as target:
        stream = target.add_stream("mjpeg", rate=1)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuvj420p"
        target.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")))
        target.mux(stream.encode(None))
    image = boxed(b"covr", boxed(b"data", struct.pack(">II", 13, 0) + jpeg.getvalue()))
    handler = boxed(b"hdlr", struct.pack(">II4s", 0, 0, b"mdir") + bytes(13))
    meta = boxed(b"udta", boxed(b"meta", bytes(4) + handler + boxed(b"ilst", image)))
    with pytest.raises(OtherTracksError, match="cover picture"):
        read(in_head(PLAIN, (b"moov",), lambda body: body + meta))


def test_samples_from_another_file_or_coded_in_two_ways_are_refused() -> None:
    dinf = (b"moov", b"trak", b"mdia", b"minf", b"dinf")
    elsewhere = in_head(PLAIN, (*dinf, b"dref"), lambda body: body[:-1] + b"\0")
    with pytest.raises(OtherTracksError, match=r"from another file \(url"):
        read(elsewhere)
    stbl = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd")
    twice = in_head(PLAIN, stbl, lambda body: struct.pack(">II", 0, 2) + 2 * body[8:])
    with pytest.raises(OtherTracksError, match="coded in 2 ways"):
        read(twice)


def test_what_is_neither_mp4_nor_a_byte_stream_is_refused() -> None:
    made = BytesIO()
    with av.open(BytesIO(PLAIN), "r") as source, av.open(made, "w", format="matroska") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.size:
                packet.stream = stream
                target.mux(packet)
    with pytest.raises(OtherTracksError, match="FFmpeg calls it matroska"):
        read(made.getvalue())


# -- the head ---------------------------------------------------------------------------------------------------


def _moov(data: bytes) -> bytes:
    at = data.index(b"moov") - 4
    return data[at : at + struct.unpack_from(">I", data, at)[0]]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda data: data + _moov(data), "two heads"),
        (lambda data: boxed(b"free", _moov(data)[8:]) + data, "called free"),
        (lambda data: boxed(b"hoov", _moov(data)[8:]) + data, "called hoov"),
        (lambda data: data.replace(b"moov", b"voom"), "no head"),
        (lambda data: data.replace(b"mvhd", b"dhvm"), "no mvhd"),
        (lambda data: data.replace(b"hdlr", b"rldh"), "no hdlr"),
        (lambda data: in_head(data, (b"moov", b"trak", b"mdia"), lambda body: 2 * body), "two mdhd"),
        (lambda data: in_head(data, (b"moov", b"trak"), lambda body: body + boxed(b"elst", bytes(6))), "ends before"),
        (
            lambda data: in_head(
                data, (b"moov", b"trak"), lambda body: body + boxed(b"elst", struct.pack(">II", 0, 1 << 31))
            ),
            "edit list ends before",
        ),
        (lambda data: in_head(data, (b"moov", b"mvhd"), lambda body: body[:12] + bytes(4) + body[16:]), "0 units"),
        (lambda data: in_head(data, (b"moov", b"trak"), lambda body: body + boxed(b"trak", b"")), "belongs elsewhere"),
        (lambda data: in_head(data, (b"moov",), lambda body: body + boxed(b"cmov", b"")), "belongs elsewhere"),
        (lambda _: b"", "no head"),
    ],
)
def test_a_head_that_could_be_read_in_two_ways_is_none(change: Callable[[bytes], bytes], said: str) -> None:
    with pytest.raises(Mp4Error, match=said):
        read_movie(BytesIO(change(PLAIN)))


def test_what_a_head_says() -> None:
    movie = read_movie(BytesIO(with_edits(PLAIN, (EMPTY_EDIT, 400), (0, 2000))))
    (track,) = movie.tracks
    assert (track.handler, track.problem, movie.is_fragmented) == ("vide", "", False)
    assert track.edits == (
        Edit(400 * movie.timescale // 1000, EMPTY_EDIT, True),
        Edit(2 * movie.timescale, 0, True),
    )
    joined = read_movie(BytesIO(with_sound(PACKETS)))
    assert joined.is_fragmented
    assert sorted(track.handler for track in joined.tracks) == ["soun", "vide"]
    # Cut off while it was copied: what was there of the head counts.
    assert read_movie(BytesIO(with_sound(PACKETS)[:-100])) == joined


def test_what_verifying_says_of_it(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    path.write_bytes(with_edits(PLAIN, (2 * GOP_MS, GOP_MS), (0, GOP_MS)))
    roots = [identity(DEVICE).root]
    report = check_video_file(path, roots)
    assert report.stream.is_valid
    assert not report.chain_problems
    assert not report.ok
    assert report.conclusion.startswith("This video is not shown as it was filmed: An edit list")
    assert report.to_json()["presentation_problems"] == list(report.presentation.problems)
    assert any("fast it plays" in sentence for sentence in report.to_json()["not_proved"])
    path.write_bytes(PLAIN)
    assert check_video_file(path, roots).ok
