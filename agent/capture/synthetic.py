"""A camera and a microphone that need no hardware: the scene of `agent.capture.scene`, paced by the clock.

With SimulatedClock they run at once and in full. Faults are caused from outside, as they would be on a bench: `unplug`,
`plug_in`, `freeze`, `thaw` may be called from another thread.
"""

from __future__ import annotations

import random
import threading
from enum import Enum

import numpy as np
from av.video.reformatter import Colorspace

from agent.capture.camera import CameraFormat, CameraFrame
from agent.capture.image import Bytes, wrap_yuv420
from agent.capture.microphone import AudioChunk
from agent.capture.pace import DEFAULT_BUFFERS, SlotPacer, TimeBase
from agent.capture.scene import DEFAULT_MARK_EVERY_S, Scene, Tone
from agent.clock import NS_PER_MS, NS_PER_S, Clock
from agent.errors import CameraError, CameraLostError, MicrophoneError
from agent.media.packets import AudioFormat
from agent.media.units import ns_to_samples, samples_to_ns

_CHUNK_S = 0.02
# What a sound card keeps for a reader that is late; after that samples are lost and the next chunk's time jumps.
_MICROPHONE_BUFFER_S = 1


class Spoil(Enum):
    """What can be wrong with pictures that come in time."""

    COVERED = "covered"
    """Black, with a sensor's noise."""
    WHITE = "white"
    SAME = "same"
    """The first one from then on, again and again."""


class SyntheticCamera:
    """The scene as a camera.

    The painted counter starts at 0 with every `open` and counts the frames delivered since, so a gap in decoded
    counters is a frame that was lost after the camera. Slots that the reader came too late for are not delivered, not
    counted there, and counted in `missed` (see `SlotPacer`). captured_ns is the slot's time plus its jitter.

    Parameters:
        time_base: shared with the microphone that belongs to this camera; an own one when None.
        jitter_ns: every frame is late by 0 to this many ns, drawn from `seed`; under half a frame time.
        unplug_after: `read` fails as if unplugged after this many frames of a session, once.
        stall_ms: how long `read` waits for a frozen camera until it calls it lost.
        buffers: how many slots a reader may be late without loss.
    """

    def __init__(
        self,
        clock: Clock,
        width: int,
        height: int,
        fps: float,
        *,
        time_base: TimeBase | None = None,
        mark_every_s: int = DEFAULT_MARK_EVERY_S,
        jitter_ns: int = 0,
        seed: int = 0,
        unplug_after: int | None = None,
        stall_ms: int = 2000,
        buffers: int = DEFAULT_BUFFERS,
    ) -> None:
        if not 0 <= jitter_ns * 2 < NS_PER_S / fps:
            raise ValueError(f"Give a jitter of 0 to half a frame time, not {jitter_ns} ns at {fps} frames a second.")
        self.time_base = time_base or TimeBase(clock)
        self._clock = clock
        self._format = CameraFormat(width, height, fps, "yuv420p")
        self._mark_every_s = mark_every_s
        self._jitter_ns = jitter_ns
        self._random = random.Random(seed)
        self._unplug_after = unplug_after
        self._stall_ms = stall_ms
        self._pacer = SlotPacer(self.time_base, fps, buffers)
        self._scene: Scene | None = None
        self._unplugged = threading.Event()
        self._frozen = threading.Event()
        self._spoil: Spoil | None = None
        self._repeated: Bytes | None = None
        self.delivered = 0

    @property
    def name(self) -> str:
        camera = self._format
        return f"synthetic {camera.width}x{camera.height} at {camera.fps:g}/s"

    @property
    def missed(self) -> int:
        """Frame slots that the reader came too late for, over the life of the object."""
        return self._pacer.missed

    def unplug(self) -> None:
        """From now on `read` and `open` fail as on an unplugged camera."""
        self._unplugged.set()

    def plug_in(self) -> None:
        """Undo `unplug`; the session that broke still needs closing and opening."""
        self._unplugged.clear()

    def freeze(self) -> None:
        """From now on no frames come: `read` waits `stall_ms` and calls the camera lost."""
        self._frozen.set()

    def thaw(self) -> None:
        """Undo `freeze`."""
        self._frozen.clear()

    def spoil(self, how: Spoil | None) -> None:
        """From now on frames come with that instead of the scene; None undoes it."""
        self._spoil, self._repeated = how, None

    def open(self) -> CameraFormat:
        if self._unplugged.is_set():
            raise CameraError("The synthetic camera is unplugged; call plug_in() before opening it again.")
        camera = self._format
        try:
            self._scene = Scene(camera.width, camera.height, camera.fps, self._mark_every_s)
        except ValueError as error:
            raise CameraError(
                f"The synthetic camera cannot draw {camera.width}x{camera.height}: {error} "
                "Change [camera] width and height."
            ) from error
        self._pacer.restart()
        self.delivered = 0
        return camera

    def read(self) -> CameraFrame:
        if self._scene is None:
            raise CameraLostError("The synthetic camera is not open; open it before reading.")
        if self._unplug_after is not None and self.delivered >= self._unplug_after:
            self._unplug_after = None
            self.unplug()
        if self._unplugged.is_set():
            raise CameraLostError("The synthetic camera was unplugged; plug it in and open it again.")
        if self._frozen.is_set():
            self._clock.sleep_until_ns(self._clock.boottime_ns() + self._stall_ms * NS_PER_MS)
            raise CameraLostError(
                f"The synthetic camera gave no picture for {self._stall_ms} ms; thaw it and open it again."
            )
        slot, slot_ns = self._pacer.next()
        jitter_ns = self._random.randint(0, self._jitter_ns) if self._jitter_ns else 0
        if jitter_ns:
            self._clock.sleep_until_ns(slot_ns + jitter_ns)
        image = self._spoiled(self._scene.draw(slot, self.delivered))
        self.delivered += 1
        frame = wrap_yuv420(image, "yuv420p", self._format.width, self._format.height, colorspace=Colorspace.ITU601)
        return CameraFrame(frame, slot_ns + jitter_ns)

    def _spoiled(self, image: Bytes) -> Bytes:
        if self._spoil is None:
            return image
        if self._spoil is Spoil.SAME:
            if self._repeated is None:
                self._repeated = image.copy()
            return self._repeated.copy()
        spoiled = np.full_like(image, 235 if self._spoil is Spoil.WHITE else 16)
        spoiled[self._format.height :] = 128  # no colour
        if self._spoil is Spoil.COVERED:
            luma = spoiled[: self._format.height]
            luma += np.frombuffer(self._random.randbytes(luma.size), np.uint8).reshape(luma.shape) & 7
        return spoiled

    def close(self) -> None:
        self._scene = None


class SyntheticMicrophone:
    """The scene's tone as a microphone, in chunks of 20 ms, each given when its last sample has been captured.

    `missed_samples` counts what a reader more than a second late has lost; the next chunk's captured_ns then jumps.
    """

    def __init__(
        self,
        time_base: TimeBase,
        sample_rate_hz: int,
        channels: int,
        *,
        mark_every_s: int = DEFAULT_MARK_EVERY_S,
    ) -> None:
        self._time_base = time_base
        self._clock = time_base.clock
        self._format = AudioFormat(sample_rate_hz, channels)
        self._tone = Tone(sample_rate_hz, channels, mark_every_s)
        self._next: int | None = None
        self._unplugged = threading.Event()
        self.missed_samples = 0

    @property
    def name(self) -> str:
        return f"synthetic tone {self._format.sample_rate_hz} Hz"

    def unplug(self) -> None:
        """From now on `read` and `open` fail as on an unplugged microphone."""
        self._unplugged.set()

    def plug_in(self) -> None:
        """Undo `unplug`; the session that broke still needs closing and opening."""
        self._unplugged.clear()

    def _sample_now(self) -> int:
        return ns_to_samples(self._clock.boottime_ns() - self._time_base.origin_ns(), self._format.sample_rate_hz)

    def open(self) -> AudioFormat:
        if self._unplugged.is_set():
            raise MicrophoneError("The synthetic microphone is unplugged; call plug_in() before opening it again.")
        self._next = self._sample_now()
        return self._format

    def read(self) -> AudioChunk:
        if self._next is None:
            raise MicrophoneError("The synthetic microphone is not open; open it before reading.")
        if self._unplugged.is_set():
            raise MicrophoneError("The synthetic microphone was unplugged; plug it in and open it again.")
        rate = self._format.sample_rate_hz
        lost = self._sample_now() - self._next - _MICROPHONE_BUFFER_S * rate
        if lost > 0:
            self.missed_samples += lost
            self._next += lost
        first, count = self._next, int(rate * _CHUNK_S)
        self._next += count
        origin_ns = self._time_base.origin_ns()
        self._clock.sleep_until_ns(origin_ns + samples_to_ns(self._next, rate))
        return AudioChunk(self._tone.samples(first, count), origin_ns + samples_to_ns(first, rate))

    def close(self) -> None:
        self._next = None
