"""A video file, a folder of images or a raw I420 file as the camera, at its own pace and for ever.

Pictures come at their own times on the boot clock; at the end the source starts again without a jump, timestamps grow
on. A picture of another size than asked for is scaled by swscale (bicubic, and stretched: proportions are not kept),
anything but yuv420p in limited range is converted. Formats that already fit are handed through untouched.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorRange, VideoReformatter

from agent.capture.camera import Camera, CameraFormat, CameraFrame
from agent.capture.image import Bytes, wrap_yuv420
from agent.capture.loop import MediaLoop, Pcm, frames_of_turn, open_video, probe, sound_of_turn
from agent.capture.microphone import AudioChunk
from agent.capture.pace import DEFAULT_BUFFERS, SlotPacer, TimeBase
from agent.clock import NS_PER_S, Clock
from agent.errors import CameraError, CameraLostError, MicrophoneError
from agent.media.packets import AudioFormat
from agent.media.units import ns_to_samples, samples_to_ns

_log = logging.getLogger(__name__)
_IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".ppm"}
RAW_SUFFIX = ".yuv"
_CHUNK_S = 0.02


class _Fitter:
    """Turns any decoded picture into yuv420p, limited range, of one size."""

    def __init__(self, width: int, height: int) -> None:
        self._width, self._height = width, height
        self._reformatter = VideoReformatter()  # keeps the swscale context; VideoFrame.reformat makes one a frame

    def fit(self, frame: av.VideoFrame) -> av.VideoFrame:
        full = frame.color_range == ColorRange.JPEG or frame.format.name.startswith("yuvj")
        rgb = not frame.format.name.startswith(("yuv", "nv", "gray"))
        if (frame.width, frame.height, frame.format.name, full) != (self._width, self._height, "yuv420p", False):
            frame = self._reformatter.reformat(
                frame,
                self._width,
                self._height,
                "yuv420p",
                src_color_range=ColorRange.JPEG if full or rgb else ColorRange.MPEG,
                dst_color_range=ColorRange.MPEG,
            )
        frame.color_range = ColorRange.MPEG
        frame.pts = None  # the file's own time must not reach the encoder in place of captured_ns
        return frame


class FileCamera:
    """A video file as camera. width, height: None keeps the file's own size.

    `missed` counts pictures left out because the reader was more than `DEFAULT_BUFFERS` pictures late.
    """

    def __init__(
        self,
        clock: Clock,
        path: Path,
        width: int | None = None,
        height: int | None = None,
        *,
        time_base: TimeBase | None = None,
    ) -> None:
        self.time_base = time_base or TimeBase(clock)
        self._clock = clock
        self._path = path
        self._wanted = (width, height)
        self._frames: Iterator[tuple[int, av.VideoFrame]] | None = None
        self._late_ns = 0
        self.missed = 0

    @property
    def name(self) -> str:
        return f"file {self._path}"

    def open(self) -> CameraFormat:
        loop = probe(self._path)
        width, height = self._wanted[0] or loop.width // 2 * 2, self._wanted[1] or loop.height // 2 * 2
        if (width, height) != (loop.width, loop.height):
            _log.info(
                "%s is %dx%d and is scaled to %dx%d; its proportions are not kept.",
                self._path, loop.width, loop.height, width, height,
            )  # fmt: skip
        self._fitter = _Fitter(width, height)
        self._late_ns = int(DEFAULT_BUFFERS * NS_PER_S / loop.fps)
        self._frames = self._endless(loop, self.time_base.origin_ns(), self._clock.boottime_ns())
        return CameraFormat(width, height, loop.fps, "yuv420p")

    def _endless(self, loop: MediaLoop, origin_ns: int, opened_ns: int) -> Iterator[tuple[int, av.VideoFrame]]:
        """Pictures with their boot times, from `opened_ns` on: a reopened camera joins the running turn."""
        turn = (opened_ns - origin_ns) // loop.length_ns
        while True:
            begun_ns = origin_ns + turn * loop.length_ns
            shown = 0
            for since_ns, frame in frames_of_turn(loop):
                shown += 1
                if begun_ns + since_ns >= opened_ns:
                    yield begun_ns + since_ns, frame
            if not shown:
                raise CameraError(f"No picture of {self._path} could be decoded; put another file in [camera] device.")
            turn += 1

    def read(self) -> CameraFrame:
        if self._frames is None:
            raise CameraLostError(f"The file camera {self._path} is not open; open it before reading.")
        try:
            due_ns, frame = next(self._frames)
            while self._clock.boottime_ns() - due_ns > self._late_ns:
                self.missed += 1
                due_ns, frame = next(self._frames)
        except (CameraError, av.FFmpegError, OSError) as error:
            self._frames = None  # an iterator that raised is at its end
            raise CameraLostError(f"The file camera stopped: {error}") from error
        image = self._fitter.fit(frame)
        self._clock.sleep_until_ns(due_ns)
        return CameraFrame(image, due_ns)

    def close(self) -> None:
        self._frames = None


class FileMicrophone:
    """The sound of a video file, in step with the `FileCamera` that shares its time base.

    Chunks of 20 ms, each given when its last sample is due.
    """

    def __init__(self, time_base: TimeBase, path: Path, sample_rate_hz: int, channels: int) -> None:
        self._time_base = time_base
        self._clock = time_base.clock
        self._path = path
        self._format = AudioFormat(sample_rate_hz, channels)
        self._sound: Iterator[Pcm] | None = None
        self._held: Pcm = np.zeros((channels, 0), np.float32)
        self._next = 0

    @property
    def name(self) -> str:
        return f"sound of file {self._path}"

    def open(self) -> AudioFormat:
        try:
            loop = probe(self._path)
        except CameraError as error:
            raise MicrophoneError(str(error)) from error
        if not loop.has_sound:
            raise MicrophoneError(f'{self._path} has no sound; set [audio] source = "none" or take another file.')
        rate = self._format.sample_rate_hz
        since_ns = self._clock.boottime_ns() - self._time_base.origin_ns()
        turn = since_ns // loop.length_ns
        self._sound = self._endless(loop, turn)
        self._held = self._held[:, :0]
        self._next = ns_to_samples(turn * loop.length_ns, rate)
        self._drop(ns_to_samples(since_ns, rate) - self._next)
        return self._format

    def _endless(self, loop: MediaLoop, turn: int) -> Iterator[Pcm]:
        rate = self._format.sample_rate_hz
        while True:
            # Rounded at each turn's ends and not its length, so that the rounding never adds up to a drift.
            begin, end = ns_to_samples(turn * loop.length_ns, rate), ns_to_samples((turn + 1) * loop.length_ns, rate)
            yield from sound_of_turn(loop, self._format, end - begin)
            turn += 1

    def _take(self, count: int) -> Pcm:
        if self._sound is None:
            raise MicrophoneError(f"The sound of {self._path} is not open; open it before reading.")
        pieces, held = [self._held], self._held.shape[1]
        try:
            while held < count:
                pieces.append(next(self._sound))
                held += pieces[-1].shape[1]
        except (CameraError, av.FFmpegError, OSError) as error:
            self._sound = None  # an iterator that raised is at its end
            raise MicrophoneError(f"The sound of {self._path} stopped: {error}") from error
        joined = np.concatenate(pieces, axis=1)
        self._held = joined[:, count:]
        self._next += count
        return np.ascontiguousarray(joined[:, :count])

    def _drop(self, count: int) -> None:
        rate = self._format.sample_rate_hz
        for _ in range(count // rate):
            self._take(rate)
        self._take(count % rate)

    def read(self) -> AudioChunk:
        rate = self._format.sample_rate_hz
        first = self._next
        samples = self._take(int(rate * _CHUNK_S))
        origin_ns = self._time_base.origin_ns()
        self._clock.sleep_until_ns(origin_ns + samples_to_ns(self._next, rate))
        return AudioChunk(samples, origin_ns + samples_to_ns(first, rate))

    def close(self) -> None:
        self._sound = None


class ImageFolderCamera:
    """A folder of images as camera, in order of name, one each frame time. All are scaled to width x height."""

    def __init__(
        self, clock: Clock, path: Path, width: int, height: int, fps: float, *, time_base: TimeBase | None = None
    ) -> None:
        self.time_base = time_base or TimeBase(clock)
        self._path = path
        self._format = CameraFormat(width, height, fps, "yuv420p")
        self._fitter = _Fitter(width, height)
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


def open_source(clock: Clock, path: Path, width: int, height: int, fps: float, time_base: TimeBase) -> Camera:
    """The camera for a path: a folder of images, a raw .yuv file, or anything FFmpeg reads. Not opened yet."""
    if path.is_dir():
        return ImageFolderCamera(clock, path, width, height, fps, time_base=time_base)
    if path.suffix == RAW_SUFFIX:
        return RawFileCamera(clock, path, width, height, fps, time_base=time_base)
    return FileCamera(clock, path, width, height, time_base=time_base)
