"""Small recordings out of real encoders, and what stock readers make of them."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np

from agent.capture.microphone import AudioChunk
from agent.encode.audio import AudioEncoder
from agent.media.packets import AudioFormat, AudioPacket, VideoFormat, VideoPacket
from agent.media.units import samples_to_ns
from agent.recorder.fragment import Fragment, Fragmenter, MediaTracks
from agent.settings.schema import AudioSettings
from tests.unit.encode.pictures import FPS, FRAME_NS, HEIGHT, START_NS, WIDTH, luma_of, read_number

RATE = 48_000
AUDIO = AudioFormat(RATE, 1)
VIDEO = VideoFormat(WIDTH, HEIGHT, FPS)


def tone(seconds: float, start_ns: int, beep_at: float | None = None) -> tuple[list[AudioPacket], bytes]:
    """Quiet sound captured from `start_ns` on, with 10 ms of a loud tone `beep_at` seconds into it."""
    samples = (np.random.default_rng(1).standard_normal((1, round(seconds * RATE))) * 1e-3).astype(np.float32)
    if beep_at is not None:
        at = round(beep_at * RATE)
        samples[0, at : at + 480] = 0.8 * np.sin(np.arange(480) * 2 * np.pi / 48)
    encoder = AudioEncoder(AudioSettings(), AUDIO)
    packets = []
    for at in range(0, samples.shape[1], 960):
        packets += encoder.encode(AudioChunk(samples[:, at : at + 960], start_ns + samples_to_ns(at, RATE)))
    return packets + encoder.flush(), encoder.config


@cache
def audio_config() -> bytes:
    """AudioSpecificConfig of `AUDIO`."""
    return AudioEncoder(AudioSettings(), AUDIO).config


def gops(packets: list[VideoPacket]) -> list[list[VideoPacket]]:
    """Cut at keyframes."""
    starts = [number for number, packet in enumerate(packets) if packet.is_keyframe] + [len(packets)]
    return [packets[start:end] for start, end in pairwise(starts)]


def fragments_of(
    video: list[VideoPacket],
    audio: list[AudioPacket] | None = None,
    origin_ns: int = START_NS,
    tracks: MediaTracks | None = None,
) -> list[Fragment]:
    """Fragments as the recorder makes them: each GOP with the sound that begins before it ends."""
    if tracks is None:
        tracks = MediaTracks(VIDEO, None, b"") if audio is None else MediaTracks(VIDEO, AUDIO, audio_config())
    fragmenter = Fragmenter(tracks, origin_ns)
    waiting = [packet for packet in audio or [] if packet.pts_ns >= origin_ns]
    cut = gops(video)
    ends_ns = [gop[0].pts_ns for gop in cut[1:]] + [video[-1].pts_ns + FRAME_NS]
    fragments = []
    for number, (gop, end_ns) in enumerate(zip(cut, ends_ns, strict=True), 1):
        taken = [packet for packet in waiting if packet.pts_ns < end_ns]
        waiting = waiting[len(taken) :]
        fragments.append(fragmenter.fragment(number, gop, taken, end_ns))
    return fragments


def file_of(fragments: list[Fragment]) -> bytes:
    """`cat init.mp4 *.m4s`."""
    return fragments[0].init + b"".join(fragment.data for fragment in fragments)


@dataclass(frozen=True)
class Decoded:
    """What PyAV reads: picture numbers and times in 90 kHz, and sound by the sample since media time 0."""

    numbers: list[int]
    times_90k: list[int]
    sound: dict[int, np.ndarray[Any, Any]]

    def beep_sample(self) -> int:
        """First loud sample's place on the timeline."""
        for pts, samples in self.sound.items():
            loud = np.flatnonzero(np.abs(samples) > 0.3)
            if loud.size:
                return pts + int(loud[0])
        raise AssertionError("no beep was decoded")


def decode_file(data: bytes) -> Decoded:
    """Every frame of both tracks, as they come."""
    numbers: list[int] = []
    times: list[int] = []
    sound: dict[int, np.ndarray[Any, Any]] = {}
    with av.open(BytesIO(data), "r") as container:
        assert container.streams.video[0].time_base == Fraction(1, 90_000)
        frames: Iterator[object] = iter(container.decode())
        for frame in frames:
            if isinstance(frame, av.VideoFrame):
                assert frame.pts is not None
                numbers.append(read_number(luma_of(frame)))
                times.append(frame.pts)
            elif isinstance(frame, av.AudioFrame):
                assert frame.pts is not None
                sound[frame.pts] = frame.to_ndarray()[0]
    return Decoded(numbers, times, sound)


def packets_of(data: bytes) -> list[tuple[int | None, int | None]]:
    """pts and duration of each video packet, as the file has them."""
    with av.open(BytesIO(data), "r") as container:
        return [(packet.pts, packet.duration) for packet in container.demux(video=0) if packet.size]


def ffprobe(path: Path, *entries: str) -> dict[str, Any]:
    """What stock ffprobe says, with nothing on its error channel."""
    program = shutil.which("ffprobe")
    assert program is not None, "install ffmpeg: these tests are about what stock tools read"
    command = [program, "-v", "warning", "-of", "json", *entries, str(path)]
    result = subprocess.run(command, capture_output=True, check=True, text=True)
    assert result.stderr == ""
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer
