"""Reads a file's signatures: MP4, plain or fragmented, or a bare H.264 byte stream, one sample at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.video.stream import VideoStream

from agent.errors import EvidenceDamagedError
from agent.media.mp4 import Mp4Error
from agent.media.tracks import Movie, read_movie
from agent.signing.finding import GopFinding, StreamReport
from agent.signing.nal import NalError, NalUnit, split_byte_stream, split_sample
from agent.signing.presentation import Presentation, PresentationReader, other_tracks
from agent.signing.reader import StreamReader

_AVC_CONFIGURATION_VERSION = 1
_MP4, _BYTE_STREAM = "mp4", "h264"


class OtherTracksError(EvidenceDamagedError):
    """The file has more in it to show than one video track, or cannot say what it shows; the message says what."""


def read_file(
    source: Path | BinaryIO,
    on_gop: Callable[[GopFinding], None] = lambda _: None,
    on_presentation: Callable[[Presentation], None] = lambda _: None,
) -> StreamReport:
    """Check the one video track. on_gop: called for each GOP, in order. on_presentation: at the end, with how the file
    shows its pictures, which no signature covers.

    Raises EvidenceDamagedError when the file cannot be opened, has no H.264, or cannot be read to its end, and
    OtherTracksError, which is one, when it has other tracks that a player may show.
    """
    reader = StreamReader()
    name = str(source) if isinstance(source, Path) else source
    try:
        movie = _movie(source)
        # Edit lists hide frames that were signed: `ffmpeg -ss -c copy` leaves them in the file.
        with av.open(name, "r", options={"ignore_editlist": "1"}, metadata_errors="replace") as container:
            videos = container.streams.video
            # PyAV has no codec context for a codec that it does not know, whatever its annotations say.
            if not videos or getattr(videos[0].codec_context, "name", None) != "h264":
                raise EvidenceDamagedError("There is no H.264 track in this file; choose the file of a recording.")
            shown = _presentation(container, movie)
            split = _splitter(videos[0])
            for packet in container.demux(videos[0]):
                if packet.size:
                    if shown is not None:
                        base = Fraction(packet.time_base)
                        at_s = None if packet.pts is None else packet.pts * base
                        duration_s = (packet.duration or 0) * base
                        shown.picture(at_s, duration_s, packet.pos, is_keyframe=packet.is_keyframe)
                    time_s = None if packet.dts is None else float(packet.dts * packet.time_base)
                    for finding in _picture(reader, bytes(packet), split, time_s):
                        on_gop(finding)
    except (FFmpegError, OSError) as error:
        raise EvidenceDamagedError(
            f"The video cannot be read to its end ({error.strerror or error}); compare its hash with its record."
        ) from error
    for finding in reader.end():
        on_gop(finding)
    on_presentation(Presentation() if shown is None else shown.end())
    return reader.report


def _movie(source: Path | BinaryIO) -> Movie | Mp4Error:
    """What the head of an MP4 says, or why there is none, as in a bare byte stream."""
    with source.open("rb") if isinstance(source, Path) else nullcontext(source) as stream:
        start = stream.tell()
        try:
            return read_movie(stream)
        except Mp4Error as error:
            return error
        finally:
            stream.seek(start)


def _presentation(container: InputContainer, movie: Movie | Mp4Error) -> PresentationReader | None:
    """None for a bare byte stream, whose pictures alone say in which order they are shown."""
    formats = container.format.name.split(",")
    if _BYTE_STREAM in formats:
        return None
    if _MP4 not in formats:
        raise OtherTracksError(
            f"This is neither MP4 nor a bare H.264 stream (FFmpeg calls it {formats[0]}), and what else it says of how "
            "it is shown is not known. A copy can be checked: ffmpeg -i FILE -c copy COPY.mp4."
        )
    if isinstance(movie, Mp4Error):
        raise OtherTracksError(f"What this file shows cannot be told from its head: {movie}")
    if (other := other_tracks(movie)) is not None:
        raise OtherTracksError(other)
    if len(container.streams) != len(movie.tracks):
        streams = ", ".join(f"{stream.index + 1}: {stream.type}" for stream in container.streams)
        raise OtherTracksError(
            f"This file has more in it to show than its {len(movie.tracks)} track(s), such as a cover picture "
            f"({streams}). A copy can be checked: ffmpeg -i FILE -map 0:v:0 -map 0:a? -c copy COPY.mp4."
        )
    return PresentationReader(movie)


def _picture(
    reader: StreamReader, data: bytes, split: Callable[[bytes], list[NalUnit]], time_s: float | None
) -> Iterator[GopFinding]:
    try:
        units = split(data)
    except NalError as error:
        return reader.unreadable(str(error), time_s)
    return reader.picture(data, units, time_s)


def _splitter(stream: VideoStream) -> Callable[[bytes], list[NalUnit]]:
    """AVCDecoderConfigurationRecord, ISO/IEC 14496-15, 5.3.3.1: its fifth byte says how long the length fields are."""
    configuration = stream.codec_context.extradata or b""
    if len(configuration) < 5 or configuration[0] != _AVC_CONFIGURATION_VERSION:
        return split_byte_stream
    length_bytes = (configuration[4] & 3) + 1
    return lambda data: split_sample(data, length_bytes)
