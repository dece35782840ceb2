"""A video file as camera and microphone, at its own pace and for ever.

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

from agent.capture.camera import CameraFormat, CameraFrame
from agent.capture.fit import Fitter
from agent.capture.loop import MediaLoop, Pcm, frames_of_turn, probe, sound_of_turn
from agent.capture.microphone import AudioChunk
from agent.capture.pace import DEFAULT_BUFFERS, TimeBase
from agent.clock import NS_PER_S, Clock
from agent.errors import CameraError, CameraLostError, MicrophoneError
from agent.media.packets import AudioFormat
from agent.media.units import ns_to_samples, samples_to_ns

_log = logging.getLogger(__name__)
_CHUNK_S = 0.02


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
        self._fitter = Fitter(width, height)
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
            raise MicrophoneError(
                f'{self._path} has no sound; set audio.source = "none" and buffer.audio = false, or take another file.'
            )
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
