"""Raw I420 frames in a file as camera: what a benchmark reads, so that it measures no decoding."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from agent.capture.camera import CameraFormat, CameraFrame
from agent.capture.image import Bytes, wrap_yuv420
from agent.capture.pace import SlotPacer, TimeBase
from agent.clock import Clock
from agent.errors import CameraError, CameraLostError

RAW_SUFFIX = ".yuv"


class RawFileCamera:
    """I420 frames of a known size, one after the other in a .yuv file, mapped into memory and looped.

    Nothing is decoded or copied (heights that are no multiple of four are copied), so that a benchmark measures what
    comes after the camera.
    """

    def __init__(
        self, clock: Clock, path: Path, width: int, height: int, fps: float, *, time_base: TimeBase | None = None
    ) -> None:
        self.time_base = time_base or TimeBase(clock)
        self._path = path
        self._format = CameraFormat(width, height, fps, "yuv420p")
        self._pacer = SlotPacer(self.time_base, fps)
        self._frames: Bytes | None = None

    @property
    def name(self) -> str:
        return f"raw file {self._path}"

    @property
    def missed(self) -> int:
        """Frame slots that the reader came too late for."""
        return self._pacer.missed

    def open(self) -> CameraFormat:
        width, height = self._format.width, self._format.height
        if width % 2 or height % 2:
            raise CameraError(
                f"I420 needs an even width and height, not {width}x{height}; change [camera] width, height."
            )
        try:
            size = self._path.stat().st_size
            frame_bytes = width * height * 3 // 2
            if size == 0 or size % frame_bytes:
                raise CameraError(
                    f"{self._path} has {size} bytes, which is no whole number of {width}x{height} I420 frames "
                    f"({frame_bytes} bytes each); correct [camera] width and height."
                )
            self._frames = np.memmap(self._path, np.uint8, "r", shape=(size // frame_bytes, height * 3 // 2, width))
        except OSError as error:
            raise CameraError(
                f"The raw file {self._path} cannot be read ({error}); correct [camera] device."
            ) from error
        self._pacer.restart()
        return self._format

    def read(self) -> CameraFrame:
        if self._frames is None:
            raise CameraLostError(f"The raw file {self._path} is not open; open it before reading.")
        slot, due_ns = self._pacer.next()
        image = self._frames[slot % len(self._frames)]
        return CameraFrame(wrap_yuv420(image, "yuv420p", self._format.width, self._format.height), due_ns)

    def close(self) -> None:
        self._frames = None
