"""Camera and microphone with somebody looking at them: what each call may take is said before it is made.

A driver that hangs cannot be interrupted: PyAV's timeout has no effect on V4L2, and opening a camera waits for its
firmware. So the thread that calls says what it calls, and another one looks at the clock.
"""

from __future__ import annotations

from collections.abc import Callable

from agent.capture.camera import Camera, CameraFormat, CameraFrame
from agent.capture.microphone import AudioChunk, Microphone
from agent.clock import NS_PER_MS, NS_PER_S
from agent.controller.silence import HUNG_FACTOR
from agent.daemon.health import HealthBoard, Part
from agent.errors import BodycamError
from agent.media.packets import AudioFormat
from agent.settings.schema import Settings

OPEN_NS = 20 * NS_PER_S
"""Starting libcamera takes 2 to 8 s on a small board, and a USB camera that resets on the bus some more. Loading
picamera2's modules from a card has as long again."""
FIRST_FRAME_NS = 10 * NS_PER_S
"""Until there is one the controller cannot miss the next; cameras that are well give it within 3 s."""
CLOSE_NS = 5 * NS_PER_S
PAUSE_SLACK_NS = 30 * NS_PER_S
"""Beyond the pause itself, which nothing in the kernel can lengthen."""
ENDING_NS = 40 * NS_PER_S
"""How long an end in order takes at most: the controller notices a silent camera first, and seals before it exits."""
MICROPHONE_OPEN_NS = 10 * NS_PER_S
SOUND_NS = 1500 * NS_PER_MS
"""Sound comes every 20 ms. A card whose interrupts stay away gets an error from the kernel, but only after 10 s
(sound/core/pcm_lib.c); the wearer has to know within 2."""


def frames_allowed_ns(settings: Settings) -> int:
    """How long frames may stay away before the process counts as hung; what the controller does about it is first."""
    return HUNG_FACTOR * settings.camera.stall_ms * NS_PER_MS + ENDING_NS


class WatchedCamera:
    """A Camera. Between its calls the same thread encodes, which is looked at as well."""

    def __init__(
        self, camera: Camera, board: HealthBoard, settings: Settings, saw: Callable[[CameraFrame], None]
    ) -> None:
        """saw: is shown each frame before it is encoded; the frame is valid until it returns."""
        self._camera = camera
        self._board = board
        self._saw = saw
        self._frames_ns = frames_allowed_ns(settings)
        self._gave = False
        self._pause_ns = settings.camera.retry_max_s * NS_PER_S + PAUSE_SLACK_NS

    @property
    def name(self) -> str:
        return self._camera.name

    @property
    def time_base(self) -> object:
        """What a microphone of the same source is in step by (`open_microphone`); None for most cameras."""
        return getattr(self._camera, "time_base", None)

    def open(self) -> CameraFormat:
        load = getattr(self._camera, "load", None)
        if load is not None:
            self._board.says(Part.CAMERA, f"loading {self._camera.name}", OPEN_NS)
            load()
        self._board.says(Part.CAMERA, f"opening {self._camera.name}", OPEN_NS)
        camera_format = self._camera.open()
        self._board.rests(Part.CAMERA)
        self._board.says(Part.ENCODER, "opening the encoder", OPEN_NS)
        return camera_format

    def read(self) -> CameraFrame:
        self._board.rests(Part.ENCODER)
        if self._gave:
            self._board.says(Part.CAMERA, "waiting for a frame", self._frames_ns)
        else:
            self._board.says(Part.CAMERA, "waiting for the first frame", FIRST_FRAME_NS)
        frame = self._camera.read()
        self._gave = True
        self._board.rests(Part.CAMERA)
        self._board.says(Part.ENCODER, "encoding a frame", self._frames_ns)
        self._saw(frame)
        self._board.awaits(Part.RING, "frames go into the encoder and no group of pictures comes out", self._frames_ns)
        return frame

    def close(self) -> None:
        for part in (Part.ENCODER, Part.RING):
            self._board.rests(part)
        self._board.says(Part.CAMERA, "closing the camera", CLOSE_NS)
        self._camera.close()
        self._board.says(Part.CAMERA, "waiting to open the camera again", self._pause_ns)


class WatchedMicrophone:
    """A Microphone."""

    def __init__(self, microphone: Microphone, board: HealthBoard) -> None:
        self._microphone = microphone
        self._board = board

    @property
    def name(self) -> str:
        return self._microphone.name

    def open(self) -> AudioFormat:
        self._board.says(Part.SOUND, f"opening {self._microphone.name}", MICROPHONE_OPEN_NS)
        audio = self._microphone.open()
        self._board.rests(Part.SOUND)
        return audio

    def read(self) -> AudioChunk:
        self._board.says(Part.SOUND, f"waiting for sound from {self._microphone.name}", SOUND_NS)
        chunk = self._microphone.read()
        self._board.rests(Part.SOUND)
        return chunk

    def close(self) -> None:
        self._board.says(Part.SOUND, f"closing {self._microphone.name}", MICROPHONE_OPEN_NS)
        self._microphone.close()
        self._board.rests(Part.SOUND)


def watched_camera(
    open_camera: Callable[[], Camera],
    board: HealthBoard,
    settings: Settings,
    saw: Callable[[CameraFrame], None] = lambda _frame: None,
) -> WatchedCamera:
    """Make a camera. Raises as `open_camera` does."""
    board.says(Part.CAMERA, "loading the camera", OPEN_NS)
    try:
        return WatchedCamera(open_camera(), board, settings, saw)
    except BodycamError:
        pause_ns = settings.camera.retry_max_s * NS_PER_S + PAUSE_SLACK_NS
        board.says(Part.CAMERA, "waiting to open the camera again", pause_ns)
        raise


def watched_ring(on_progress: Callable[[], None], board: HealthBoard) -> Callable[[], None]:
    """What to call when groups of pictures reach the ring."""

    def moved() -> None:
        board.rests(Part.RING)  # the next frame that goes into the encoder expects something again
        on_progress()

    return moved


def watched_microphone(microphone: Microphone | None, board: HealthBoard) -> Microphone | None:
    """The same microphone, looked at."""
    return None if microphone is None else WatchedMicrophone(microphone, board)
