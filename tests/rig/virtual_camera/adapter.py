"""Makes libcamera's software camera, its `virtual` pipeline handler, usable for picamera2 and for tests.

The handler (libcamera 0.7.1) lacks three things of a real one, which are added here around the unmodified libraries:

1. It has no configuration for raw pictures; picamera2 asks for one to learn the sensor's modes.
2. It writes NV12 as two planes and aborts when a buffer has one, which is what picamera2 makes.
3. It has no clock: a request is complete as soon as it is queued. Here a thread is the sensor's clock and passes one
   request on in each frame time. So it is also where the camera falls silent or slow, without a word, as real ones do.

What the camera does is read from ORDER before each frame: `run` (also without such a file), `silent`, `slow` with the
milliseconds of a frame, `gone` (silent, and no longer in libcamera's list), `hang` (silent, and its start blocks in the
kernel until the pipe HANG has a writer).
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import libcamera
from picamera2 import Picamera2
from picamera2.allocators import DmaAllocator

FOLDER = Path(__file__).parent
ORDER = FOLDER / "order"
HANG = FOLDER / "hang"
US_PER_S = 1_000_000
DEFAULT_FRAME_US = 33_333


def order() -> tuple[str, int | None]:
    """The first word of the order, and its number or None."""
    try:
        word, *number = ORDER.read_text().split()
    except (FileNotFoundError, ValueError):
        return "run", None
    return word, int(number[0]) if number else None


class FrameClock(threading.Thread):
    """Of one session: gives the handler one queued request in each frame time."""

    def __init__(self, complete: Callable[[Any], object], frame_us: int) -> None:
        """complete: what completes a request, called with it."""
        super().__init__(name="frame-clock", daemon=True)
        self._complete = complete
        self._frame_s = frame_us / US_PER_S
        self._requests: deque[Any] = deque()
        self._ended = threading.Event()

    def queue(self, request: Any) -> None:
        """From any thread."""
        self._requests.append(request)

    def end(self) -> None:
        """Returns when no further request is completed."""
        self._ended.set()
        self.join()

    def run(self) -> None:
        due_s = time.monotonic()
        while True:
            word, number_ms = order()
            frame_s = number_ms / 1000 if word == "slow" and number_ms else self._frame_s
            due_s += frame_s
            now_s = time.monotonic()
            if due_s < now_s:
                # A sensor does not make up for what nobody was there for.
                due_s += -(-(now_s - due_s) // frame_s) * frame_s
            if self._ended.wait(due_s - now_s):
                return
            if word in {"run", "slow"} and self._requests:
                self._complete(self._requests.popleft())


def adapt() -> None:
    """Put all of it in place; once."""
    give_raw_modes()
    give_two_planes()
    give_clock()
    let_it_vanish()


def give_raw_modes() -> None:
    """The sizes of its pictures stand for the sensor's modes."""
    of_sensor = Picamera2._get_raw_modes

    def modes(self: Any) -> Any:
        if self.camera.generate_configuration([libcamera.StreamRole.Raw]) is not None:
            return of_sensor(self)
        stream = self.camera.generate_configuration([libcamera.StreamRole.VideoRecording]).at(0)
        return [{"format": str(stream.pixel_format), "size": (stream.size.width, stream.size.height)}]

    Picamera2._get_raw_modes = modes


def give_two_planes() -> None:
    """The same memory, described as luma and chroma."""
    allocate = DmaAllocator.allocate

    def allocate_planes(self: Any, configuration: Any, use_case: Any) -> None:
        allocate(self, configuration, use_case)
        for stream in configuration:
            if str(stream.pixel_format) == "NV12":
                luma_bytes = stream.stride * stream.size.height
                buffers = self.frame_buffers[stream.stream]
                self.frame_buffers[stream.stream] = [split(self, buffer, luma_bytes) for buffer in buffers]

    DmaAllocator.allocate = allocate_planes


def split(allocator: Any, buffer: Any, luma_bytes: int) -> Any:
    """A buffer of two planes in place of one; picamera2 keeps its books by the first plane's descriptor."""
    descriptor = buffer.planes[0].fd
    planes = []
    for offset, length in ((0, luma_bytes), (luma_bytes, luma_bytes // 2)):
        plane = libcamera.FrameBuffer.Plane()
        plane.fd, plane.offset, plane.length = descriptor, offset, length
        planes.append(plane)
    made = libcamera.FrameBuffer(planes)
    allocator.mapped_buffers[made] = allocator.mapped_buffers.pop(buffer)
    allocator.libcamera_fds.remove(descriptor)
    del allocator.mapped_buffers_used[descriptor]
    allocator.libcamera_fds.append(made.planes[0].fd)
    allocator.mapped_buffers_used[made.planes[0].fd] = False
    return made


def give_clock() -> None:
    """A frame clock for each session, as slow as FrameDurationLimits says."""
    camera_class = libcamera.Camera
    start, stop, queue_request = camera_class.start, camera_class.stop, camera_class.queue_request
    clocks: dict[str, FrameClock] = {}

    def start_with_clock(self: Any, controls: Any = None) -> None:
        if order()[0] == "hang":
            HANG.open("rb").close()
        limits = (controls or {}).get(libcamera.controls.FrameDurationLimits, (DEFAULT_FRAME_US,))
        start(self, controls or {})
        clocks[self.id] = FrameClock(lambda request: queue_request(self, request), limits[0])
        clocks[self.id].start()

    def stop_with_clock(self: Any) -> None:
        if self.id in clocks:
            clocks.pop(self.id).end()
        stop(self)

    camera_class.start, camera_class.stop = start_with_clock, stop_with_clock
    camera_class.queue_request = lambda self, request: clocks[self.id].queue(request)


def let_it_vanish() -> None:
    """libcamera's list, as it is while the cable is out."""
    listed = libcamera.CameraManager.cameras
    libcamera.CameraManager.cameras = property(lambda self: [] if order()[0] == "gone" else listed.fget(self))
