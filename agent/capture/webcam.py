"""A V4L2 camera (USB webcam) through OpenCV.

What OpenCV's V4L2 backend does, as its source (modules/videoio/src/cap_v4l.cpp, 4.x) has it and this file relies on:
- CAP_PROP_POS_MSEC is the buffer's own timestamp, which uvcvideo and vivid take from CLOCK_MONOTONIC. It is moved to
  CLOCK_BOOTTIME by the difference of the two clocks, which changes only in suspend. A driver whose times are not on
  that clock (uvcvideo's `clock=realtime`, some capture cards) is found out at the first frame; then the time of arrival
  is used.
- A camera that stops sending makes the read return False after OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT seconds, a whole
  number that is read once a process (CAP_PROP_READ_TIMEOUT_MSEC is for other backends). An unplugged one (ENODEV) does
  so at once.
- MJPEG and YUYV are converted to BGR in full range. Here it becomes yuv420p in limited range BT.601, which is what
  COLOR_BGR2YUV_I420 makes, and the frame says so. An encoder never sees yuvj420p.
- For a JPEG that does not decode it hands out the picture before once more, with a new time (seen with 5.0.0). So it is
  asked for the JPEGs themselves (CAP_PROP_CONVERT_RGB off); one that is no whole picture is left out and logged.

The unit tests run this against a stand-in for the capture object and the real OpenCV only on devices that are none;
with the kernel's uvcvideo and vivid the virtual device runs it (tests/rig).
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import av
import numpy as np
import numpy.typing as npt
from av.video.reformatter import Colorspace

from agent.capture.camera import CameraFormat, CameraFrame
from agent.capture.image import Bytes, wrap_yuv420
from agent.clock import NS_PER_MS, NS_PER_S, Clock
from agent.errors import CameraError, CameraLostError

_log = logging.getLogger(__name__)

DEFAULT_FOURCCS = ("MJPG", "YUYV")
FALLBACK_DEVICE = "/dev/video0"
_SYSFS = Path("/sys/class/video4linux")
_SELECT_TIMEOUT = "OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT"
# Older than this, or in the future, a buffer time is not on CLOCK_MONOTONIC.
_PLAUSIBLE_AGE_NS = 2 * NS_PER_S
_MAX_BROKEN_PICTURES = 10

# cv2's property numbers (videoio.hpp), so that the seam needs no cv2.
PROP_POS_MSEC, PROP_WIDTH, PROP_HEIGHT, PROP_FPS, PROP_FOURCC, PROP_CONVERT_RGB = 0, 3, 4, 5, 6, 16


class Capture(Protocol):
    """The part of cv2.VideoCapture that is used."""

    def isOpened(self) -> bool:  # noqa: N802
        """Whether the device could be opened."""

    def set(self, prop: int, value: float, /) -> bool:
        """Ask for a property."""

    def get(self, prop: int, /) -> float:
        """Read a property back."""

    def read(self) -> tuple[bool, Any]:
        """Block for a picture: (True, BGR array (height, width, 3), or what the camera sent) or (False, None)."""

    def release(self) -> None:
        """Close the device."""


def open_v4l2(device: str) -> Capture:
    """A cv2.VideoCapture on a V4L2 device. Raises CameraError when OpenCV is not installed."""
    try:
        import cv2
    except ImportError as error:
        raise CameraError(
            f"The webcam backend needs OpenCV ({error}); install the `webcam` extra or Debian's python3-opencv."
        ) from error
    return cv2.VideoCapture(device, cv2.CAP_V4L2)


def first_usb_camera(sysfs: Path = _SYSFS) -> str | None:
    """The V4L2 device of the USB camera with the lowest number; None when there is none.

    A camera that comes back while its old device is still open somewhere gets the next free number, so a number says
    little. Each camera of uvcvideo has a second node for metadata, and a Pi has more than ten that are its codec and
    image processor: what counts is node 0 (`index`) of a device on the USB (sysfs of the kernel's v4l2-dev.c).
    """
    found = []
    for node in sysfs.glob("video*"):
        number = node.name.removeprefix("video")
        try:
            index = (node / "index").read_text().strip()
        except OSError:  # unplugged while it is looked at
            continue
        if number.isdecimal() and index == "0" and (node / "device" / "subsystem").resolve().name == "usb":
            found.append(int(number))
    return f"/dev/video{min(found)}" if found else None


def bgr_to_i420(bgr: Bytes, i420: Bytes) -> None:
    """BGR of shape (height, width, 3) into I420 of shape (height * 3 / 2, width), limited range BT.601, in place."""
    import cv2

    cv2.cvtColor(bgr, cv2.COLOR_BGR2YUV_I420, dst=i420)


def decode_jpeg(jpeg: Bytes) -> Bytes | None:
    """The picture as BGR of shape (height, width, 3); None when it is not whole."""
    import cv2

    if jpeg.size == 0:
        return None
    return cv2.imdecode(jpeg, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)  # type: ignore[return-value]


class WebcamCamera:
    """A V4L2 device as camera. What the device gives instead of what was asked for is used, and logged.

    Parameters:
        device: empty for the first USB camera, looked for anew at each `open`; where there is none, /dev/video0.
        fourccs: formats to try, in this order (V4L2 names of four letters).
        stall_ms: `read` calls a silent camera lost after this, rounded up to whole seconds (see above).
        open_capture: makes the capture object.
        find_device: `first_usb_camera`.
        monotonic_ns: CLOCK_MONOTONIC, the clock of V4L2's timestamps.
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
        fourccs: tuple[str, ...] = DEFAULT_FOURCCS,
        open_capture: Callable[[str], Capture] = open_v4l2,
        find_device: Callable[[], str | None] = first_usb_camera,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._clock = clock
        self._named = device
        self._find_device = find_device
        self._device = device or FALLBACK_DEVICE
        self._wanted = CameraFormat(width, height, fps, "yuv420p")
        self._stall_s = math.ceil(stall_ms / 1000)
        self._fourccs = fourccs
        self._open_capture = open_capture
        self._monotonic_ns = monotonic_ns
        self._capture: Capture | None = None
        self._given = self._wanted
        self._fourcc = ""
        self._jpegs = False
        self._image: Bytes = np.empty((0, 0), np.uint8)
        self._boot_minus_monotonic_ns = 0
        self._device_times: bool | None = None
        self._last_msec: float | None = None
        self._last_ns = 0

    @property
    def name(self) -> str:
        return f"webcam {self._device} {self._fourcc}".rstrip()

    def open(self) -> CameraFormat:
        # Only the first use of V4L2 in a process reads it: a later change of stall_ms needs a restart.
        os.environ[_SELECT_TIMEOUT] = str(self._stall_s)
        self._device = self._named or self._find_device() or FALLBACK_DEVICE
        if self._device.startswith("/dev/") and not Path(self._device).exists():
            raise CameraError(
                f"There is no camera at {self._device}; plug it in, or name another one in [camera] device "
                "(`v4l2-ctl --list-devices` lists them)."
            )
        capture = self._open_capture(self._device)
        if not capture.isOpened():
            capture.release()
            raise CameraError(
                f"{self._device} cannot be opened as a camera; check that it is one, that no other program "
                "uses it, and that this user is in the group `video`."
            )
        try:
            return self._configure(capture)
        except CameraError:
            capture.release()
            raise

    def _configure(self, capture: Capture) -> CameraFormat:
        # The format first: setting it resets the size. OpenCV takes the size when both halves are known.
        for fourcc in self._fourccs:
            # "True" also when OpenCV found another format that works, which is the first of a list of its own.
            if capture.set(PROP_FOURCC, _fourcc_number(fourcc)) and _fourcc_of(capture) == fourcc:
                break
        capture.set(PROP_WIDTH, self._wanted.width)
        capture.set(PROP_HEIGHT, self._wanted.height)
        capture.set(PROP_FPS, self._wanted.fps)
        self._fourcc = _fourcc_of(capture)
        width, height = int(capture.get(PROP_WIDTH)), int(capture.get(PROP_HEIGHT))
        fps = capture.get(PROP_FPS)
        if not math.isfinite(fps) or fps <= 0:
            fps = self._wanted.fps
        if width <= 0 or height <= 0 or width % 2 or height % 2:
            raise CameraError(
                f"{self._device} offers {width}x{height}, which cannot be encoded as 4:2:0; set another "
                "[camera] width and height (`v4l2-ctl --list-formats-ext` lists what it has)."
            )
        # Last: whatever resets the device switches it on again.
        self._jpegs = self._fourcc == "MJPG" and capture.set(PROP_CONVERT_RGB, 0)
        self._given = CameraFormat(width, height, fps, "yuv420p")
        _log.info("%s gives %s %dx%d at %g/s.", self._device, self._fourcc, width, height, fps)
        if (width, height) != (self._wanted.width, self._wanted.height) or abs(fps - self._wanted.fps) > 0.5:
            _log.warning(
                "%s does not have %dx%d at %g/s and gives %dx%d at %g/s; that is recorded.",
                self._device, self._wanted.width, self._wanted.height, self._wanted.fps, width, height, fps,
            )  # fmt: skip
        self._image = np.empty((height * 3 // 2, width), np.uint8)
        self._capture = capture
        self._device_times, self._last_msec = None, None
        self._boot_minus_monotonic_ns = self._clock.boottime_ns() - self._monotonic_ns()
        return self._given

    def read(self) -> CameraFrame:
        if self._capture is None:
            raise CameraLostError(f"The webcam {self._device} is not open; open it before reading.")
        for _ in range(_MAX_BROKEN_PICTURES):
            taken, picture = self._capture.read()
            if not taken:
                raise CameraLostError(self._why_silent())
            captured_ns = self._captured_ns(self._capture.get(PROP_POS_MSEC))
            bgr = decode_jpeg(picture) if self._jpegs and picture is not None else picture
            if bgr is not None and bgr.shape == (self._given.height, self._given.width, 3):
                return CameraFrame(self._convert(bgr), captured_ns)
            _log.warning("%s sent a picture that does not decode; it is left out.", self._device)
        raise CameraLostError(
            f"{self._device} sent {_MAX_BROKEN_PICTURES} pictures in a row that do not decode; "
            "use a shorter cable or a smaller size."
        )

    def _convert(self, bgr: npt.NDArray[np.uint8]) -> av.VideoFrame:
        bgr_to_i420(bgr, self._image)
        return wrap_yuv420(self._image, "yuv420p", self._given.width, self._given.height, colorspace=Colorspace.ITU601)

    def _why_silent(self) -> str:
        if self._device.startswith("/dev/") and not Path(self._device).exists():
            return f"The camera at {self._device} was unplugged; plug it in again."
        return (
            f"{self._device} gave no picture for {self._stall_s} s or its stream broke; unplug it and plug it in again."
        )

    def _captured_ns(self, msec: float) -> int:
        """The time of the frame just read, strictly increasing."""
        now_ns = self._clock.boottime_ns()
        offset_ns = now_ns - self._monotonic_ns()
        if abs(offset_ns - self._boot_minus_monotonic_ns) > 10 * NS_PER_MS:
            # Only suspend moves the clocks apart; small differences are this thread being interrupted.
            self._boot_minus_monotonic_ns = offset_ns
        device_ns = round(msec * NS_PER_MS) + self._boot_minus_monotonic_ns
        if self._device_times is None:
            self._device_times = msec > 0 and -NS_PER_MS < now_ns - device_ns < _PLAUSIBLE_AGE_NS
            if not self._device_times:
                _log.warning("%s gives no capture times on CLOCK_MONOTONIC; times of arrival are used.", self._device)
        if self._device_times and msec == self._last_msec:
            # A new buffer has a new time. The same one again is a picture repeated by a camera that is gone.
            raise CameraLostError(f"{self._device} repeats its last picture; unplug it and plug it in again.")
        self._last_msec = msec
        plausible = self._device_times and self._last_ns < device_ns <= now_ns + NS_PER_MS
        # uvcvideo's clock recovery sometimes steps back; such a frame takes its time of arrival.
        self._last_ns = max(device_ns if plausible else now_ns, self._last_ns + 1)
        return self._last_ns

    def close(self) -> None:
        if self._capture is not None:
            self._capture.release()
            self._capture = None


def _fourcc_number(name: str) -> int:
    return int.from_bytes(name.encode("ascii"), "little")


def _fourcc_of(capture: Capture) -> str:
    number = int(capture.get(PROP_FOURCC))
    return (number & 0xFFFFFFFF).to_bytes(4, "little").decode("ascii", "replace").strip("\0 ")
