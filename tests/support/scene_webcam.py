"""A stand-in for cv2.VideoCapture on V4L2 that behaves as its source says: silent refusals, False when the stream
breaks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

from agent.capture.webcam import PROP_CONVERT_RGB, PROP_FOURCC, PROP_FPS, PROP_HEIGHT, PROP_POS_MSEC, PROP_WIDTH
from agent.clock import NS_PER_MS, SimulatedClock


class FakeV4l2:
    """A camera with a few formats and sizes. `on_read` may break it: it is called with the number of the frame before
    each read.

    finds_another: the format that OpenCV takes on its own where the one that is asked for is not to be had.
    suspended_ns: how much the boot clock is ahead of the monotonic one.
    """

    def __init__(
        self,
        clock: SimulatedClock,
        *,
        fourccs: tuple[str, ...] = ("MJPG", "YUYV"),
        sizes: tuple[tuple[int, int], ...] = ((96, 64), (160, 90)),
        fps: float = 25.0,
        opens: bool = True,
        on_read: Callable[[FakeV4l2, int], None] | None = None,
    ) -> None:
        self.clock = clock
        self.suspended_ns = 0
        self.fourccs, self.sizes, self.fps, self.opens, self.on_read = fourccs, sizes, fps, opens, on_read
        self.fourcc, self.size = fourccs[-1], sizes[0]
        self.finds_another: str | None = None
        self.asked: list[tuple[int, float]] = []
        self.width_asked = 0
        self.converts = True
        self.msec = 0.0
        self.frames = 0
        self.broken = self.repeats = self.corrupt = self.released = False
        self.corrupt_bytes = 300
        self.stamp: Callable[[], float] = lambda: (self.monotonic_ns() - 5 * NS_PER_MS) / NS_PER_MS
        self.colour = (30, 60, 200)

    def monotonic_ns(self) -> int:
        return self.clock.boottime_ns() - self.suspended_ns

    def isOpened(self) -> bool:  # noqa: N802
        return self.opens

    def set(self, prop: int, value: float, /) -> bool:
        self.asked.append((prop, value))
        if prop == PROP_FOURCC:
            name = int(value).to_bytes(4, "little").decode()
            if name not in self.fourccs:
                if self.finds_another is None:
                    return False
                self.fourcc = self.finds_another  # autosetup_capture_mode_v4l2
                return True
            self.fourcc, self.size = name, self.sizes[0]  # v4l2_reset
            self.converts = True
        elif prop == PROP_CONVERT_RGB:
            self.converts = bool(value)
        elif prop == PROP_WIDTH:
            self.width_asked = int(value)
        elif prop == PROP_HEIGHT:
            wanted = (self.width_asked, int(value))
            self.size = wanted if wanted in self.sizes else self.sizes[-1]
        return True

    def get(self, prop: int, /) -> float:
        return {
            PROP_FOURCC: float(int.from_bytes(self.fourcc.encode(), "little")),
            PROP_WIDTH: float(self.size[0]),
            PROP_HEIGHT: float(self.size[1]),
            PROP_FPS: self.fps,
            PROP_POS_MSEC: self.msec,
        }[prop]

    def read(self) -> tuple[bool, Any]:
        if self.on_read:
            self.on_read(self, self.frames)
        if self.broken:
            return False, None
        self.frames += 1
        self.clock.advance_ns(40 * NS_PER_MS)
        if not self.repeats:
            self.msec = self.stamp()
        picture = np.empty((self.size[1], self.size[0], 3), np.uint8)
        picture[:] = self.colour
        if self.converts:
            # Also when it is corrupt: whoever has OpenCV decode cannot tell.
            return True, picture
        jpeg = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 100])[1].reshape(1, -1)
        return True, jpeg[:, : self.corrupt_bytes] if self.corrupt else jpeg

    def release(self) -> None:
        self.released = True
