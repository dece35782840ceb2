"""A camera and a microphone that give a picture or a piece of sound only when a test lets them."""

from __future__ import annotations

import mmap
import threading

import numpy as np

from agent.capture.camera import CameraFormat, CameraFrame
from agent.capture.image import wrap_yuv420
from agent.capture.microphone import AudioChunk
from agent.capture.pace import TimeBase
from agent.capture.synthetic import SyntheticCamera, SyntheticMicrophone
from agent.clock import SimulatedClock
from agent.media.packets import AudioFormat

WAIT_S = 10.0
FPS = 10
RATE = 16_000


class GatedCamera(SyntheticCamera):
    """The synthetic camera behind a gate; `read` blocks as a device does until `give` lets it through."""

    def __init__(self, clock: SimulatedClock) -> None:
        super().__init__(clock, 96, 64, FPS)
        self._gate = threading.Semaphore(0)
        self.reading = threading.Semaphore(0)
        self.opened = 0
        self.closed = 0

    def give(self, count: int = 1) -> None:
        """Let that many reads through."""
        self._gate.release(count)

    def taken(self, count: int) -> None:
        """Wait until that many further reads have begun: the frames before them are in the ring."""
        for _ in range(count):
            assert self.reading.acquire(timeout=WAIT_S)

    def open(self) -> CameraFormat:
        camera_format = super().open()
        self.opened += 1
        return camera_format

    def read(self) -> CameraFrame:
        self.reading.release()
        assert self._gate.acquire(timeout=WAIT_S)
        return super().read()

    def close(self) -> None:
        super().close()
        self.closed += 1


class LendingCamera(GatedCamera):
    """Its pictures lie in memory of the camera, as picamera2's do, which can be freed only when nobody looks at it."""

    def __init__(self, clock: SimulatedClock) -> None:
        super().__init__(clock)
        self._memory = mmap.mmap(-1, 96 * 64 * 3 // 2)
        self.freed = False

    def read(self) -> CameraFrame:
        frame = super().read()
        self._memory[:] = frame.image.to_ndarray().tobytes()
        rows = np.frombuffer(self._memory, np.uint8).reshape(96, 96)
        return CameraFrame(wrap_yuv420(rows, "yuv420p", 96, 64), frame.captured_ns)

    def close(self) -> None:
        self._memory.close()  # raises BufferError, and what is not closed is never given back
        self.freed = True
        super().close()


class GatedMicrophone(SyntheticMicrophone):
    """The synthetic microphone behind a gate."""

    def __init__(self, clock: SimulatedClock, *, rate: int = RATE, channels: int = 1) -> None:
        super().__init__(TimeBase(clock), rate, channels)
        self._gate = threading.Semaphore(0)
        self._free = threading.Event()
        self.opened = 0
        self.closed = 0
        self.error: Exception | None = None

    def give(self, count: int = 1) -> None:
        """Let that many reads through."""
        self._gate.release(count)

    def free(self) -> None:
        """Let all reads through from here on."""
        self._free.set()
        self._gate.release()

    def open(self) -> AudioFormat:
        self.opened += 1
        return super().open()

    def read(self) -> AudioChunk:
        assert self._free.is_set() or self._gate.acquire(timeout=WAIT_S)
        if self.error is not None:
            raise self.error
        return super().read()

    def close(self) -> None:
        super().close()
        self.closed += 1
