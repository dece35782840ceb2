"""The Raspberry Pi's camera, through picamera2 from the system's packages.

Relied on, as picamera2's source (0.3.36) and trials of the real library have it:
- `pre_callback` is called in picamera2's own thread with every completed request. Requests are taken there into a short
  queue: `capture_request` keeps only the newest one, so an encoder that is late once would lose frames, and waits for
  ever when the camera stops. Each request held is a buffer that the camera lacks; with all of them held it stops.
- The main stream's format is not always the one asked for: libcamera's software camera silently makes NV12 of it.
  Format, size and stride are read back from `camera_configuration()`; a stride may exceed the width.
- SensorTimestamp is CLOCK_BOOTTIME in ns, start of exposure of the first row (libcamera's control documentation).
- Unlisted sizes become the largest one and camera numbers sort in reverse: so what is given is logged, a camera is
  better named by its model or id, and nothing is opened when none is listed.
- A session leaves three descriptors in circles of objects, and one that does not come about half of a pipe.

The unit tests run this against a stand-in of the API below, the virtual device against the real library (0.3.38) on
libcamera's software camera (0.7.1). It has not run on a Pi.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import logging
import os
import queue
from collections.abc import Callable
from typing import Any

import numpy as np
from av.video.reformatter import Colorspace

from agent.capture.camera import CameraFormat, CameraFrame
from agent.capture.image import wrap_yuv420
from agent.clock import NS_PER_MS, Clock
from agent.errors import CameraError, CameraLostError

_log = logging.getLogger(__name__)

FIRST_FRAME_MS = 3000
"""What a sensor may take from start to its first picture; after that `stall_ms` counts."""
BUFFERS = 8
# One is with the reader; two are left for the camera to fill, without which it starves.
_QUEUE = BUFFERS - 3
_PIXEL_FORMATS = {"YUV420": "yuv420p", "NV12": "nv12"}


def import_picamera2() -> Any:
    """The picamera2 module. Raises CameraError with what to install when it is not there."""
    try:
        return importlib.import_module("picamera2")
    except ImportError as error:
        raise CameraError(
            f"The Pi's camera needs picamera2 ({error}); install it with `apt install python3-picamera2` and make the "
            "virtual environment with --system-site-packages, or choose another [camera] backend."
        ) from error


class PicameraCamera:
    """A camera that libcamera knows.

    Parameters:
        device: "" for the first one, a number, or (better) the model or id that `rpicam-hello --list-cameras` shows.
        stall_ms: `read` calls a silent camera lost after this.
        load: gives the picamera2 module.

    `missed` counts frames that came while the queue of five was full.
    """

    def __init__(
        self,
        clock: Clock,
        device: str,
        width: int,
        height: int,
        fps: float,
        *,
        stall_ms: int = 2000,
        load: Callable[[], Any] = import_picamera2,
    ) -> None:
        self._clock = clock
        self._device = device
        self._wanted = CameraFormat(width, height, fps, "yuv420p")
        self._stall_ms = stall_ms
        self._load = load
        self._module: Any = None
        self._camera: Any = None
        self._model = ""
        self._given = self._wanted
        self._stride = 0
        self._full_range = False
        self._colorspace: Colorspace | None = None
        self._requests: queue.Queue[Any] = queue.Queue(_QUEUE)
        self._held: contextlib.ExitStack | None = None
        self._last_ns = 0
        self.missed = 0

    @property
    def name(self) -> str:
        return f"picamera2 {self._model or self._device or 'camera'}"

    def load(self) -> None:
        """Import picamera2, which takes seconds from a slow card; `open` does it, too. Raises CameraError."""
        self._module = self._load()

    def open(self) -> CameraFormat:
        # What the session before left in circles would otherwise wait for the collector's own time, descriptors open.
        gc.collect()
        self.load()
        number = self._choose(self._module.Picamera2.global_camera_info())
        try:
            # picamera2 and libcamera raise RuntimeError for nearly all that can go wrong, a busy camera included.
            self._camera = self._construct(number)
            return self._start()
        except (RuntimeError, IndexError, OSError, ValueError) as error:
            self.close()
            raise CameraError(
                f"The camera {self._model} cannot be started ({_first_cause(error)}); "
                "check that no other program uses it, then its cable."
            ) from error
        except CameraError:
            self.close()
            raise

    def _choose(self, cameras: list[dict[str, Any]]) -> int:
        """The number to open, out of picamera2's list."""
        names = [f"{index}: {camera.get('Model')} ({camera.get('Id')})" for index, camera in enumerate(cameras)]
        if not cameras:
            raise CameraError(
                "libcamera finds no camera; check the ribbon cable at both ends, then `rpicam-hello --list-cameras`."
            )
        if not self._device:
            number = 0
        elif self._device.isdecimal() and int(self._device) < len(cameras):
            number = int(self._device)
        else:
            matching = [
                i for i, camera in enumerate(cameras) if self._device in (camera.get("Model"), camera.get("Id"))
            ]
            if not matching:
                raise CameraError(
                    f"There is no camera {self._device}; put one of these in [camera] device: {', '.join(names)}."
                )
            number = matching[0]
        self._model = str(cameras[number].get("Model"))
        _log.info("Of the cameras %s, %s is used.", ", ".join(names), names[number])
        return number

    def _construct(self, number: int) -> Any:
        """Picamera2(number), whose pipe outlives a constructor that fails."""
        picamera2 = self._module.Picamera2
        camera = picamera2.__new__(picamera2)
        try:
            camera.__init__(number)
        except BaseException:
            if hasattr(camera, "notifyme_w"):
                os.close(camera.notifyme_w)
            raise
        return camera

    def _start(self) -> CameraFormat:
        wanted, camera = self._wanted, self._camera
        frame_us = round(1_000_000 / wanted.fps)
        camera.configure(
            camera.create_video_configuration(
                main={"size": (wanted.width, wanted.height), "format": "YUV420"},
                controls={"FrameDurationLimits": (frame_us, frame_us)},
                buffer_count=BUFFERS,
                queue=False,
                display=None,
                encode=None,
            )
        )
        configuration = camera.camera_configuration()
        main = configuration["main"]
        (width, height), pixel_format = main["size"], _PIXEL_FORMATS.get(main["format"])
        if pixel_format is None:
            raise CameraError(
                f"The camera {self._model} gives {main['format']}, which is neither YUV420 nor NV12; "
                "set another [camera] width and height."
            )
        self._stride = main["stride"]
        self._full_range, self._colorspace = _colours(configuration.get("colour_space"))
        shortest_us, longest_us = camera.camera_controls.get("FrameDurationLimits", (frame_us, frame_us))[:2]
        given_us = min(max(frame_us, shortest_us), longest_us) or frame_us
        fps = wanted.fps if given_us == frame_us else 1_000_000 / given_us
        self._given = CameraFormat(width, height, fps, pixel_format)
        _log.info("%s gives %s %dx%d at %.3g/s.", self._model, main["format"], width, height, fps)
        if (width, height) != (wanted.width, wanted.height) or fps != wanted.fps:
            _log.warning(
                "%s does not have %dx%d at %g/s and gives %dx%d at %.3g/s; that is recorded.",
                self._model, wanted.width, wanted.height, wanted.fps, width, height, fps,
            )  # fmt: skip
        self._requests = queue.Queue(_QUEUE)
        camera.pre_callback = self._take
        camera.start()
        return self._given

    def _take(self, request: Any) -> None:
        """In picamera2's thread: keep this request for the reader, if there is room."""
        request.acquire()
        try:
            self._requests.put_nowait(request)
        except queue.Full:
            self.missed += 1
            request.release()

    def read(self) -> CameraFrame:
        if self._camera is None:
            raise CameraLostError("The Pi's camera is not open; open it before reading.")
        self._give_back()
        wait_ms = self._stall_ms if self._last_ns else max(self._stall_ms, FIRST_FRAME_MS)
        try:
            request = self._requests.get(timeout=wait_ms / 1000)
        except queue.Empty:
            raise CameraLostError(
                f"The camera {self._model} gave no picture for {wait_ms} ms; check its cable, then the system's log."
            ) from None
        held = self._held = contextlib.ExitStack()
        held.callback(request.release)
        captured_ns = int(request.get_metadata()["SensorTimestamp"])
        if captured_ns <= self._last_ns:
            raise CameraLostError(f"The camera {self._model} repeats the time {captured_ns} ns; restart the camera.")
        if captured_ns > self._clock.boottime_ns() + 100 * NS_PER_MS:
            raise CameraLostError(
                f"The camera {self._model} gives times that are not on CLOCK_BOOTTIME; update libcamera."
            )
        self._last_ns = captured_ns
        mapped = held.enter_context(self._module.MappedArray(request, "main", reshape=False, write=False))
        height = self._given.height
        # The buffer may end in padding to a whole page.
        rows = mapped.array.reshape(-1)[: self._stride * height * 3 // 2].reshape(height * 3 // 2, self._stride)
        image = wrap_yuv420(
            np.asarray(rows),
            self._given.pixel_format,
            self._given.width,
            height,
            full_range=self._full_range,
            colorspace=self._colorspace,
        )
        return CameraFrame(image, captured_ns)

    def _give_back(self) -> None:
        """Return the last frame's buffer to the camera: it is the reader's only until the next read."""
        if self._held is not None:
            held, self._held = self._held, None
            held.close()

    def close(self) -> None:
        if self._camera is None:
            return
        camera, self._camera = self._camera, None
        camera.pre_callback = None
        try:
            if camera.started:
                camera.stop_preview()  # joins picamera2's thread: no further request can come into the queue
            # Buffers before close(): after it picamera2 has another allocator and cannot take them back.
            self._give_back()
            while not self._requests.empty():
                self._requests.get_nowait().release()
            camera.close()
        except (RuntimeError, OSError) as error:
            _log.warning("The camera %s did not close cleanly (%s).", self._model, error)


def _first_cause(error: BaseException) -> BaseException:
    """picamera2 wraps what libcamera says in sentences that say nothing."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _colours(colour_space: Any) -> tuple[bool, Colorspace | None]:
    """Full range or not, and the matrix, of a libcamera ColorSpace (None from some USB cameras)."""
    if colour_space is None:
        return False, None
    matrix = {"Rec709": Colorspace.ITU709, "Rec601": Colorspace.ITU601}.get(_last_word(colour_space.ycbcrEncoding))
    return _last_word(colour_space.range) == "Full", matrix


def _last_word(value: Any) -> str:
    # libcamera's enumerations print as "Range.Limited" or "Limited", by version of its bindings.
    return str(value).rsplit(".", 1)[-1]
