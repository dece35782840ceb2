"""The encoder: does it open, and does it keep up with the camera?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import av
import numpy as np

from agent.capture.camera import CameraFormat, CameraFrame
from agent.clock import NS_PER_S, Clock
from agent.doctor.check import Check, fail, failed_with, ok, warn, within
from agent.errors import EncoderError
from agent.media.packets import VideoPacket
from agent.settings.schema import VideoSettings

# Below this share of the camera's rate frames are lost; below the second nothing is left for heat and busy scenes.
TOO_SLOW = 1.0
NO_RESERVE = 1.2
TIMEOUT_S = 60
_PICTURES = 8
_SLOWER = "Lower camera.width and height or camera.fps, choose a faster video.preset, or see that the board is cooled."


class Encoder(Protocol):
    """What is tried of agent.encode.video.VideoEncoder."""

    @property
    def name(self) -> str:
        """FFmpeg's name of the encoder that opened."""

    def encode(self, frame: CameraFrame, /) -> list[VideoPacket]:
        """Packets that are ready. Raises EncoderError."""

    def flush(self) -> list[VideoPacket]:
        """Packets that are left. Raises EncoderError."""


EncoderOpener = Callable[[VideoSettings, CameraFormat], Encoder]


@dataclass(frozen=True, slots=True)
class EncoderFacts:
    """About a second of pictures, through the encoder as fast as it goes."""

    name: str
    frames: int
    packets: int
    duration_ns: int


class _VideoEncoder:
    """The daemon's encoder, with the name as the Protocol has it."""

    def __init__(self, settings: VideoSettings, camera: CameraFormat) -> None:
        from agent.encode.video import VideoEncoder

        self._encoder = VideoEncoder(settings, camera)

    @property
    def name(self) -> str:
        return self._encoder.name

    def encode(self, frame: CameraFrame, /) -> list[VideoPacket]:
        return self._encoder.encode(frame)

    def flush(self) -> list[VideoPacket]:
        return self._encoder.flush()


def moving_pictures(camera: CameraFormat, count: int) -> Iterator[av.VideoFrame]:
    """Coarse random blocks with fine noise that move on with each picture: harder than an office, easier than rain.

    A flat picture would flatter libx264 several times over.
    """
    random = np.random.default_rng(1)
    coarse = random.integers(32, 224, (camera.height // 16 + 1, camera.width // 16 + 1), dtype=np.int16)
    scene = np.kron(coarse, np.ones((16, 16), np.int16))[: camera.height, : camera.width]
    scene = np.clip(scene + random.integers(-4, 5, scene.shape, dtype=np.int16), 0, 255).astype(np.uint8)
    for number in range(count):
        grey = np.roll(scene, (number * 2, number * 5), (0, 1))
        frame = av.VideoFrame.from_ndarray(np.stack([grey, grey, np.flipud(grey)], axis=-1), format="rgb24")
        yield frame.reformat(format=camera.pixel_format)


def probe_encoder(
    settings: VideoSettings, camera: CameraFormat, clock: Clock, opener: EncoderOpener = _VideoEncoder
) -> EncoderFacts:
    """Encode a second of test pictures (10 at least). Raises EncoderError, and TimeoutError when it hangs."""
    frames = max(10, round(camera.fps))
    period_ns = round(NS_PER_S / camera.fps)

    def session() -> EncoderFacts:
        pictures = list(moving_pictures(camera, min(_PICTURES, frames)))
        encoder = opener(settings, camera)
        started_ns = clock.boottime_ns()
        packets = 0
        for number in range(frames):
            picture = pictures[number % len(pictures)]
            packets += len(encoder.encode(CameraFrame(picture, started_ns + number * period_ns)))
        packets += len(encoder.flush())
        return EncoderFacts(encoder.name, frames, packets, clock.boottime_ns() - started_ns)

    return within(TIMEOUT_S, session)


def judge_encoder(facts: EncoderFacts, camera: CameraFormat) -> Check:
    """Against the rate of the camera."""
    if facts.packets < facts.frames:
        return fail(
            "encoder",
            f"{facts.name} made {facts.packets} packets of {facts.frames} frames.",
            'Set video.encoder = "libx264": this encoder loses frames.',
        )
    fps = facts.frames * NS_PER_S / max(facts.duration_ns, 1)
    said = (
        f"{facts.name} encodes {camera.width}x{camera.height} at {fps:.0f} frames/s; the camera gives {camera.fps:g}."
    )
    if fps < camera.fps * TOO_SLOW:
        return fail("encoder", said, _SLOWER)
    if fps < camera.fps * NO_RESERVE:
        return warn("encoder", said, _SLOWER)
    return ok("encoder", said)


def check_encoder(
    settings: VideoSettings, camera: CameraFormat, clock: Clock, opener: EncoderOpener = _VideoEncoder
) -> Check:
    """The encoder's check for what the camera gives, or would."""
    try:
        return judge_encoder(probe_encoder(settings, camera, clock, opener), camera)
    except EncoderError as error:
        return failed_with("encoder", error, 'Set video.encoder = "auto".')
    except TimeoutError as error:
        return fail("encoder", f"The encoder hangs: {error}.", 'Set video.encoder = "libx264", or reboot.')
