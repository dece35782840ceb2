"""A stand-in for the picamera2 module: the calls that `agent.capture.picamera` makes, with the real library's habits.

Reference counts are kept and checked as picamera2's CompletedRequest does, so a buffer given back twice or never shows.
Frames are completed by the test with `Camera.complete`, which calls the callback as picamera2's thread would.
"""

from __future__ import annotations

import os
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

Buffer = npt.NDArray[np.uint8]


class ColorSpace:
    def __init__(self, encoding: str, range_: str) -> None:
        self.ycbcrEncoding, self.range = f"YcbcrEncoding.{encoding}", f"Range.{range_}"


class Request:
    def __init__(self, camera: Camera, buffer: Buffer, timestamp_ns: int) -> None:
        self.camera, self.buffer, self.timestamp_ns = camera, buffer, timestamp_ns
        self.references = 1

    def acquire(self) -> None:
        if self.references == 0:
            raise RuntimeError("CompletedRequest: acquiring lock with ref_count 0")
        self.references += 1

    def release(self) -> None:
        if self.camera.closed:
            raise RuntimeError("released after close: the allocator is gone")
        self.references -= 1
        if self.references < 0:
            raise RuntimeError("CompletedRequest: lock now has negative ref_count")
        if self.references == 0:
            self.buffer[:] = 0  # the camera writes into it again
            self.camera.out -= 1

    def get_metadata(self) -> dict[str, Any]:
        return {"SensorTimestamp": self.timestamp_ns, "ExposureTime": 10_000}


class MappedArray:
    def __init__(self, request: Request, stream: str, reshape: bool = True, write: bool = True) -> None:
        assert stream == "main"
        assert not reshape
        assert not write
        self.request = request
        self.array: Buffer | None = None

    def __enter__(self) -> MappedArray:
        self.array = self.request.buffer
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.array = None


class Camera:
    """Picamera2(number). What it gives in place of what was asked for comes from the module's attributes."""

    def __init__(self, module: Module, number: int) -> None:
        self.module, self.number = module, number
        if module.busy:
            # The real one's pipe, whose other end is a file object and closes by itself.
            descriptor, self.notifyme_w = os.pipe2(os.O_NONBLOCK)
            os.close(descriptor)
            try:
                raise RuntimeError(module.busy)
            except RuntimeError as error:
                raise RuntimeError("Camera __init__ sequence did not complete.") from error
        self.pre_callback: Any = None
        self.asked: dict[str, Any] = {}
        self.started = self.closed = False
        self.preview_running = False
        self.out = 0
        self.requests: list[Request] = []
        self.camera_controls: dict[str, tuple[int, int, int]] = {}
        self.itself: Camera | None = None

    def create_video_configuration(self, **asked: Any) -> dict[str, Any]:
        return asked

    def configure(self, asked: dict[str, Any]) -> None:
        if self.module.fails:
            raise RuntimeError(self.module.fails)
        self.asked = asked
        self.camera_controls = {"FrameDurationLimits": self.module.frame_duration_limits}

    def camera_configuration(self) -> dict[str, Any]:
        width, height = self.module.size or self.asked["main"]["size"]
        pixel_format = self.module.pixel_format or self.asked["main"]["format"]
        stride = width + self.module.padding
        main = {
            "format": pixel_format,
            "size": (width, height),
            "stride": stride,
            "framesize": stride * height * 3 // 2,
        }
        return {"main": main, "colour_space": self.module.colour_space}

    def start(self) -> None:
        self.started = self.preview_running = True

    def stop_preview(self) -> None:
        if not self.preview_running:
            raise RuntimeError("No preview specified.")
        self.preview_running = False

    def complete(self, image: Buffer, timestamp_ns: int) -> None:
        """The camera finishes a frame: `image`, flat, with its padding."""
        request = Request(self, image.copy(), timestamp_ns)
        self.requests.append(request)
        self.out += 1
        if self.pre_callback:
            self.pre_callback(request)
        request.release()

    def close(self) -> None:
        assert not self.preview_running
        self.closed = True


class Module:
    """What `import picamera2` gives."""

    def __init__(self, cameras: list[dict[str, Any]] | None = None) -> None:
        self.cameras = [{"Model": "imx708", "Id": "/base/i2c/imx708@1a", "Num": 0}] if cameras is None else cameras
        self.opened: list[Camera] = []
        self.size: tuple[int, int] | None = None
        self.pixel_format = ""
        self.padding = 0
        self.colour_space: ColorSpace | None = ColorSpace("Rec709", "Limited")
        self.frame_duration_limits = (8_000, 1_000_000, 33_333)
        self.fails = ""
        self.busy = ""
        self.MappedArray = MappedArray
        module = self

        class Picamera2(Camera):
            def __init__(self, number: int) -> None:
                module.opened.append(self)
                super().__init__(module, number)

            @staticmethod
            def global_camera_info() -> list[dict[str, Any]]:
                return module.cameras

        self.Picamera2 = Picamera2
