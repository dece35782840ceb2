"""Reads a file's signatures: MP4, plain or fragmented, or a bare H.264 byte stream, one sample at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import av
from av.error import FFmpegError
from av.video.stream import VideoStream

from agent.errors import EvidenceDamagedError
from agent.signing.finding import GopFinding, StreamReport
from agent.signing.nal import NalError, NalUnit, split_byte_stream, split_sample
from agent.signing.reader import StreamReader

_AVC_CONFIGURATION_VERSION = 1


def read_file(source: Path | BinaryIO, on_gop: Callable[[GopFinding], None] = lambda _: None) -> StreamReport:
    """Check the first video track. on_gop: called for each GOP, in order.

    Raises EvidenceDamagedError when the file cannot be opened, has no H.264, or cannot be read to its end.
    """
    reader = StreamReader()
    name = str(source) if isinstance(source, Path) else source
    try:
        # Edit lists hide frames that were signed: `ffmpeg -ss -c copy` leaves them in the file.
        with av.open(name, "r", options={"ignore_editlist": "1"}, metadata_errors="replace") as container:
            videos = container.streams.video
            # PyAV has no codec context for a codec that it does not know, whatever its annotations say.
            if not videos or getattr(videos[0].codec_context, "name", None) != "h264":
                raise EvidenceDamagedError("There is no H.264 track in this file; choose the file of a recording.")
            split = _splitter(videos[0])
            for packet in container.demux(videos[0]):
                if packet.size:
                    time_s = None if packet.dts is None else float(packet.dts * packet.time_base)
                    for finding in _picture(reader, bytes(packet), split, time_s):
                        on_gop(finding)
    except (FFmpegError, OSError) as error:
        raise EvidenceDamagedError(
            f"The video cannot be read to its end ({error.strerror or error}); compare its hash with its record."
        ) from error
    for finding in reader.end():
        on_gop(finding)
    return reader.report


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
