"""What a camera is to the agent: something that blocks until the next frame and stamps it on the boot clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import av


@dataclass(frozen=True, slots=True)
class CameraFormat:
    """What the camera really gives, read back from it and not what was asked for.

    pixel_format: FFmpeg's name ("yuv420p", "nv12", "yuvj420p", "yuyv422", …).
    """

    width: int
    height: int
    fps: float
    pixel_format: str


@dataclass(frozen=True, slots=True)
class CameraFrame:
    """One picture. captured_ns: CLOCK_BOOTTIME of its capture; strictly increasing within a session.

    `image` may borrow the camera's buffer: it is valid until the next `read`, and to be let go of before `close`, which
    otherwise cannot free the buffer.
    """

    image: av.VideoFrame
    captured_ns: int


class Camera(Protocol):
    """One session: `open` once, `read` until done or broken, `close`. Used from one thread."""

    @property
    def name(self) -> str:
        """For people and records, for example "webcam /dev/video0 MJPG"."""

    def open(self) -> CameraFormat:
        """Start capture. Raises CameraError with what to do when the camera is absent or cannot give this format."""

    def read(self) -> CameraFrame:
        """Block for the next frame. Raises CameraLostError when the camera was unplugged or its stream broke."""

    def close(self) -> None:
        """Stop and free the device; may be called twice, and after an error."""
