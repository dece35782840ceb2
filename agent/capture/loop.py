"""A media file as an endless loop: how long one turn is, and where in it each frame and sample belongs.

The picture decides the length of a turn; sound is cut or padded to it. So two readers, one for each, stay in step for
ever although each opens the file for itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from av.container import InputContainer
from av.stream import Disposition

from agent.clock import NS_PER_S
from agent.errors import CameraError
from agent.media.packets import AudioFormat

# Sound whose timestamps leave this much of a hole gets silence there instead of being pushed together.
_HOLE_S = Fraction(1, 20)

Pcm = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class MediaLoop:
    """One turn of a file.

    start_s: time of the first picture on the file's own timeline. length_ns: first picture to the end of the last.
    has_sound: whether the file has an audio stream.
    """

    path: Path
    width: int
    height: int
    fps: float
    start_s: Fraction
    length_ns: int
    has_sound: bool


def open_video(path: Path) -> tuple[InputContainer, av.VideoStream]:
    """Open a video file. Raises CameraError with what to do when it is absent or holds no video."""
    if not path.exists():
        raise CameraError(f"The video file {path} does not exist; correct [camera] device.")
    try:
        container = av.open(str(path))
    except (av.FFmpegError, OSError) as error:
        raise CameraError(
            f"{path} is not a video that FFmpeg can open ({error}); "
            "put a video file or an image folder in [camera] device."
        ) from error
    # A cover picture in a sound file counts as a video stream for FFmpeg, and any text file as ANSI art.
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if container.format.name == "tty" or not streams:
        container.close()
        raise CameraError(f"{path} has no video in it; put a video file or an image folder in [camera] device.")
    return container, streams[0]


def probe(path: Path) -> MediaLoop:
    """Measure one turn by reading (not decoding) every video packet, because headers are often wrong about the end.

    Raises CameraError as `open_video` does, and when there is no picture in the file.
    """
    container, stream = open_video(path)
    with container:
        base = stream.time_base or Fraction(1, 1000)
        rate = stream.average_rate or stream.guessed_rate or Fraction(25)
        first: int | None = None
        last_end = Fraction(0)
        for packet in container.demux(stream):
            if packet.pts is None or packet.is_discard:
                continue
            first = packet.pts if first is None else min(first, packet.pts)
            duration = packet.duration * base if packet.duration else 1 / rate
            last_end = max(last_end, packet.pts * base + duration)
        if first is None or not stream.codec_context.width:
            raise CameraError(f"{path} holds no picture; put another video file in [camera] device.")
        start = first * base
        return MediaLoop(
            path=path,
            width=stream.codec_context.width,
            height=stream.codec_context.height,
            fps=float(rate),
            start_s=start,
            length_ns=max(1, int((last_end - start) * NS_PER_S)),
            has_sound=bool(container.streams.audio),
        )


def frames_of_turn(loop: MediaLoop) -> Iterator[tuple[int, av.VideoFrame]]:
    """The pictures of one turn as (ns since its start, frame), times strictly increasing and below the turn's length.

    A packet that does not decode is left out. Raises CameraError when the file has gone.
    """
    container, stream = open_video(loop.path)
    with container:
        stream.thread_type = "AUTO"
        latest_ns = -1
        for packet in container.demux(stream):
            try:
                frames = packet.decode()
            except av.error.InvalidDataError:
                continue
            for frame in frames:
                if frame.pts is None or frame.time_base is None:
                    continue
                since_ns = int((frame.pts * frame.time_base - loop.start_s) * NS_PER_S)
                if latest_ns < since_ns < loop.length_ns:
                    latest_ns = since_ns
                    yield since_ns, frame


def sound_of_turn(loop: MediaLoop, audio: AudioFormat, length_samples: int) -> Iterator[Pcm]:
    """The sound of one turn, resampled and mixed to `audio`, as arrays (channels, n) that add up to exactly
    `length_samples`.

    Sound before the first picture and after the last is cut, holes and a short end are silence. Raises CameraError when
    the file has gone.
    """
    written = 0
    for start, samples in _placed_sound(loop, audio):
        if start > written:
            silence = min(start, length_samples) - written
            if silence > 0:
                yield np.zeros((audio.channels, silence), np.float32)
                written += silence
        piece = samples[:, max(0, written - start) :][:, : length_samples - written]
        if piece.shape[1]:
            yield piece
            written += piece.shape[1]
        if written >= length_samples:
            return
    if written < length_samples:
        yield np.zeros((audio.channels, length_samples - written), np.float32)


def _placed_sound(loop: MediaLoop, audio: AudioFormat) -> Iterator[tuple[int, Pcm]]:
    """Resampled sound as (sample index since the turn's start, samples); may begin before 0 and have holes."""
    container, _ = open_video(loop.path)
    with container:
        resampler: av.AudioResampler | None = None
        expected: Fraction | None = None
        position = 0
        for packet in container.demux(container.streams.audio[0]):
            try:
                frames = packet.decode()
            except av.error.InvalidDataError:
                continue
            for frame in frames:
                if frame.pts is not None and frame.time_base is not None:
                    time = frame.pts * frame.time_base - loop.start_s
                else:
                    time = expected if expected is not None else Fraction(0)
                if resampler is None or expected is None or abs(time - expected) > _HOLE_S:
                    if resampler is not None:
                        yield from _pieces(resampler.resample(None), position)
                    resampler = av.AudioResampler("fltp", _layout(audio.channels), audio.sample_rate_hz)
                    position = round(time * audio.sample_rate_hz)
                expected = time + Fraction(frame.samples, frame.sample_rate)
                for start, samples in _pieces(resampler.resample(frame), position):
                    position = start + samples.shape[1]
                    yield start, samples
        if resampler is not None:
            yield from _pieces(resampler.resample(None), position)


def _pieces(frames: list[av.AudioFrame], position: int) -> Iterator[tuple[int, Pcm]]:
    for frame in frames:
        samples = frame.to_ndarray().astype(np.float32, copy=False)
        yield position, samples
        position += samples.shape[1]


def _layout(channels: int) -> str:
    return "mono" if channels == 1 else "stereo"
