"""A folder of images as camera."""

from __future__ import annotations

from pathlib import Path

import av

from agent.capture.camera import CameraFormat, CameraFrame
from agent.capture.fit import Fitter
from agent.capture.loop import open_video
from agent.capture.pace import SlotPacer, TimeBase
from agent.clock import Clock
from agent.errors import CameraError, CameraLostError

_IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".ppm"}


class ImageFolderCamera:
    """A folder of images as camera, in order of name, one each frame time. All are scaled to width x height."""

    def __init__(
        self, clock: Clock, path: Path, width: int, height: int, fps: float, *, time_base: TimeBase | None = None
    ) -> None:
        self.time_base = time_base or TimeBase(clock)
        self._path = path
        self._format = CameraFormat(width, height, fps, "yuv420p")
        self._fitter = Fitter(width, height)
        self._pacer = SlotPacer(self.time_base, fps)
        self._images: list[Path] = []

    @property
    def name(self) -> str:
        return f"images in {self._path}"

    @property
    def missed(self) -> int:
        """Frame slots that the reader came too late for."""
        return self._pacer.missed

    def open(self) -> CameraFormat:
        self._images = sorted(p for p in self._path.iterdir() if p.suffix.lower() in _IMAGE_SUFFIXES)
        if not self._images:
            raise CameraError(f"The folder {self._path} holds no image; put some in or correct [camera] device.")
        self._decode(self._images[0])
        self._pacer.restart()
        return self._format

    def _decode(self, path: Path) -> av.VideoFrame:
        container, stream = open_video(path)
        with container:
            try:
                return next(container.decode(stream))
            except (av.FFmpegError, StopIteration) as error:
                raise CameraError(f"The image {path} cannot be decoded; remove it from the folder.") from error

    def read(self) -> CameraFrame:
        if not self._images:
            raise CameraLostError(f"The image folder {self._path} is not open; open it before reading.")
        slot, due_ns = self._pacer.next()
        try:
            frame = self._decode(self._images[slot % len(self._images)])
        except CameraError as error:
            raise CameraLostError(f"The image folder camera stopped: {error}") from error
        return CameraFrame(self._fitter.fit(frame), due_ns)

    def close(self) -> None:
        self._images = []
