"""The camera and the microphone that the settings name. Nothing is opened here."""

from __future__ import annotations

import logging
from pathlib import Path

from agent.capture.alsa import AlsaMicrophone
from agent.capture.camera import Camera
from agent.capture.file import FileCamera, FileMicrophone
from agent.capture.images import ImageFolderCamera
from agent.capture.loop import probe
from agent.capture.microphone import Microphone
from agent.capture.pace import TimeBase
from agent.capture.picamera import PicameraCamera
from agent.capture.raw import RAW_SUFFIX, RawFileCamera
from agent.capture.synthetic import SyntheticCamera, SyntheticMicrophone
from agent.capture.webcam import WebcamCamera
from agent.clock import Clock
from agent.errors import CameraError, ConfigError
from agent.settings.schema import CameraSettings, Settings

_log = logging.getLogger(__name__)


def open_camera(settings: CameraSettings, clock: Clock) -> Camera:
    """The camera of [camera], ready for its `open`. Raises ConfigError when the settings do not fit together."""
    size = (settings.width, settings.height, settings.fps)
    if settings.backend == "picamera2":
        return PicameraCamera(clock, settings.device, *size, stall_ms=settings.stall_ms)
    if settings.backend == "webcam":
        return WebcamCamera(clock, settings.device, *size, stall_ms=settings.stall_ms)
    if settings.backend == "synthetic":
        return SyntheticCamera(clock, *size, stall_ms=settings.stall_ms)
    if settings.backend == "file":
        if not settings.device:
            raise ConfigError(
                'The file camera needs a path: set [camera] device to a video, a folder of images or a ".yuv" file.'
            )
        return _open_source(clock, Path(settings.device), *size, TimeBase(clock))
    raise ConfigError(
        f'There is no camera backend "{settings.backend}"; '
        "set [camera] backend to picamera2, webcam, file or synthetic."
    )


def open_microphone(settings: Settings, clock: Clock, camera: Camera) -> Microphone | None:
    """The microphone of [audio] that belongs to `camera`, ready for its `open`; None when there is to be no sound.

    With source "camera" it is in step with the camera by their common time base: the sound of a video file, and the
    tone of `agent.capture.scene` beside a synthetic or a raw file camera (whose files hold no sound). A video file
    without sound gives None. Raises ConfigError when the camera carries no sound by its nature.
    """
    audio = settings.audio
    if audio.source == "none":
        return None
    if audio.source == "alsa":
        return AlsaMicrophone(clock, audio.device, audio.sample_rate_hz, audio.channels)
    time_base = getattr(camera, "time_base", None)
    path = Path(settings.camera.device)
    if not isinstance(time_base, TimeBase) or (settings.camera.backend == "file" and path.is_dir()):
        raise ConfigError(
            f'{camera.name} carries no sound; set [audio] source to "alsa" for a microphone or to "none" for silence.'
        )
    if settings.camera.backend == "synthetic" or path.suffix == RAW_SUFFIX:
        return SyntheticMicrophone(time_base, audio.sample_rate_hz, audio.channels)
    try:
        if not probe(path).has_sound:
            _log.warning("%s has no sound, so the recordings will have none.", path)
            return None
    except CameraError as error:
        # A file that cannot be read now is the camera's fault to report; it may be there when it is opened again.
        _log.warning("The sound of %s cannot be looked for yet: %s", path, error)
    return FileMicrophone(time_base, path, audio.sample_rate_hz, audio.channels)


def _open_source(clock: Clock, path: Path, width: int, height: int, fps: float, time_base: TimeBase) -> Camera:
    """The camera for a path: a folder of images, a raw .yuv file, or anything FFmpeg reads. Not opened yet."""
    if path.is_dir():
        return ImageFolderCamera(clock, path, width, height, fps, time_base=time_base)
    if path.suffix == RAW_SUFFIX:
        return RawFileCamera(clock, path, width, height, fps, time_base=time_base)
    return FileCamera(clock, path, width, height, time_base=time_base)
