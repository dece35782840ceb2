"""The synthetic scene: a moving picture with a painted counter, and a tone, both marked at the same instants.

At every whole `mark_every_s` of media time (zero included) the flash area goes white for exactly one frame and the tone
bursts, starting at that very sample. Whoever decodes a recording can so measure picture against sound: `read_flash`
finds the flash in decoded luma, `find_bursts` the onsets in decoded PCM to within about 2 ms, also through AAC.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from agent.capture import counter
from agent.capture.image import Bytes
from agent.clock import NS_PER_S

DEFAULT_MARK_EVERY_S = 2
BURST_S = 0.06
BURST_HZ = 2000
BURST_AMPLITUDE = 0.6
TONE_HZ = 440
TONE_AMPLITUDE = 0.05

_FLASH_BLACK, _FLASH_WHITE = 16, 235


@dataclass(frozen=True, slots=True)
class Area:
    """A rectangle of luma samples."""

    left: int
    top: int
    width: int
    height: int

    def of(self, luma: Bytes) -> Bytes:
        """The view of this rectangle in a luma plane of shape (height, width)."""
        return luma[self.top : self.top + self.height, self.left : self.left + self.width]


def flash_area(width: int, height: int) -> Area:
    """Where the flash is: bottom left, whole macroblocks, a quarter of each side or one macroblock."""
    wide, high = max(16, width // 4 // 16 * 16), max(16, height // 4 // 16 * 16)
    top = (height - high) // 16 * 16
    return Area(0, top, wide, min(high, height - top))


def read_flash(luma: Bytes) -> bool:
    """Whether a decoded luma plane, shape (height, width), shows the flash."""
    area = flash_area(luma.shape[1], luma.shape[0]).of(luma)
    rows, columns = area.shape
    inner = area[rows // 4 : rows - rows // 4, columns // 4 : columns - columns // 4]
    return bool(inner.mean() > (_FLASH_BLACK + _FLASH_WHITE) / 2)


def mark_times_ns(start_ns: int, end_ns: int, mark_every_s: int = DEFAULT_MARK_EVERY_S) -> list[int]:
    """Media times of the marks in [start_ns, end_ns), in ns since the scene's origin."""
    every_ns = mark_every_s * NS_PER_S
    first = -(-start_ns // every_ns)
    return [mark * every_ns for mark in range(max(0, first), -(-end_ns // every_ns))]


class Scene:
    """Draws frames into one reused I420 buffer (`buffer`, shape (height * 3 / 2, width)).

    Only what changed is drawn again, so that a frame costs about 0.05 ms of CPU at 1080p (x86 at about 3 GHz).
    Raises ValueError for odd sizes and for sizes under 96x64.
    """

    def __init__(self, width: int, height: int, fps: float, mark_every_s: int = DEFAULT_MARK_EVERY_S) -> None:
        if width % 2 or height % 2:
            raise ValueError(f"A 4:2:0 picture needs an even width and height, not {width}x{height}.")
        self._counter_size = counter.painted_size(width, height)
        self.width, self.height = width, height
        self._fps = Fraction(fps).limit_denominator(100_000)
        self._mark_every_s = mark_every_s
        self.buffer: Bytes = np.empty((height * 3 // 2, width), np.uint8)
        self._luma = self.buffer[:height]
        self._chroma = self.buffer[height:].reshape(2, height // 2, width // 2)
        self._flash = flash_area(width, height)
        self._paint_background()
        self._prepare_mover()

    def _paint_background(self) -> None:
        x = np.linspace(40, 180, self.width)
        y = np.linspace(0, 40, self.height)
        texture = 12 * (((np.arange(self.width) // 8)[None, :] + (np.arange(self.height) // 8)[:, None]) % 2)
        self._luma[:] = (x[None, :] + y[:, None] + texture).astype(np.uint8)
        self._chroma[0] = np.linspace(90, 166, self.width // 2).astype(np.uint8)[None, :]
        self._chroma[1] = np.linspace(166, 90, self.height // 2).astype(np.uint8)[:, None]
        self._flash.of(self._luma)[:] = _FLASH_BLACK
        self._background = self.buffer.copy()
        self._background_luma = self._background[: self.height]
        self._background_chroma = self._background[self.height :].reshape(2, self.height // 2, self.width // 2)

    def _prepare_mover(self) -> None:
        # A textured square that runs in the free band right of the flash and under the counter.
        size = max(8, min(self.width, self.height) // 8 // 2 * 2)
        noise = np.random.default_rng(1).integers(60, 200, (size // 2, size // 2), dtype=np.uint8)
        self._mover = np.repeat(np.repeat(noise, 2, axis=0), 2, axis=1)
        left, top = self._flash.width, self._counter_size[1]
        self._run = Area(left, top, self.width - left - size, max(1, self.height - top - size))
        self._mover_at: tuple[int, int] | None = None

    def is_mark(self, slot: int) -> bool:
        """Whether this slot is the first at or after a mark."""
        every = self._mark_every_s * self._fps
        return -(-(slot // every) * every // 1) == slot

    def draw(self, slot: int, count: int) -> Bytes:
        """Draw the picture of frame slot `slot` with the number `count` painted in; returns `buffer`."""
        self._move_to(self._position(slot))
        self._flash.of(self._luma)[:] = _FLASH_WHITE if self.is_mark(slot) else _FLASH_BLACK
        counter.paint(self._luma, count % counter.COUNTER_MODULO)
        return self.buffer

    def _position(self, slot: int) -> tuple[int, int]:
        def bounce(step: int, length: int) -> int:
            length = max(1, length - 1)
            there_and_back = slot * step % (2 * length)
            return min(there_and_back, 2 * length - there_and_back)

        across = bounce(max(2, self.width // 160), self._run.width)
        down = bounce(max(2, self.height // 240), self._run.height)
        # Even, so that luma and chroma squares coincide.
        return (self._run.left + across) // 2 * 2, (self._run.top + down) // 2 * 2

    def _move_to(self, position: tuple[int, int]) -> None:
        size = self._mover.shape[0]
        if self._mover_at is not None:
            x, y = self._mover_at
            self._luma[y : y + size, x : x + size] = self._background_luma[y : y + size, x : x + size]
            chroma = np.s_[:, y // 2 : (y + size) // 2, x // 2 : (x + size) // 2]
            self._chroma[chroma] = self._background_chroma[chroma]
        x, y = self._mover_at = position
        self._luma[y : y + size, x : x + size] = self._mover
        self._chroma[0, y // 2 : (y + size) // 2, x // 2 : (x + size) // 2] = 80
        self._chroma[1, y // 2 : (y + size) // 2, x // 2 : (x + size) // 2] = 190


class Tone:
    """The scene's sound: a quiet 440 Hz tone and a loud 2 kHz burst of 60 ms from every mark on."""

    def __init__(self, sample_rate_hz: int, channels: int, mark_every_s: int = DEFAULT_MARK_EVERY_S) -> None:
        self._rate = sample_rate_hz
        self._channels = channels
        # Everything repeats with the marks: a whole number of seconds holds whole periods of both tones.
        time_s = np.arange(mark_every_s * sample_rate_hz) / sample_rate_hz
        wave = TONE_AMPLITUDE * np.sin(2 * np.pi * TONE_HZ * time_s)
        burst = time_s < BURST_S
        wave[burst] += BURST_AMPLITUDE * np.sin(2 * np.pi * BURST_HZ * time_s[burst])
        self._wave = wave.astype(np.float32)

    def samples(self, first: int, count: int) -> npt.NDArray[np.float32]:
        """Samples `first` to `first + count` since the scene's origin, shape (channels, count)."""
        wave = self._wave.take(np.arange(first, first + count) % self._wave.size)
        return np.repeat(wave[None, :], self._channels, axis=0)


def find_bursts(samples: npt.NDArray[np.float32], sample_rate_hz: int) -> list[float]:
    """Onsets of the bursts in mono PCM, shape (samples,), in seconds from its first sample.

    The onset is where the 2 kHz envelope first passes half its height. What a codec smears in front of it (pre-echo) is
    far below that, so the error stays under 1 ms (measured through AAC at 24 kbit/s). A burst that the ends of the PCM
    cut is left out.
    """
    window = max(1, sample_rate_hz // 500)  # 2 ms: four periods of the burst
    loud = _envelope(samples, sample_rate_hz, window) > BURST_AMPLITUDE / 2
    edges = np.flatnonzero(np.diff(loud.astype(np.int8))) + 1
    if loud.size and loud[0]:
        edges = edges[1:]  # it began before the first sample
    runs: list[list[int]] = []
    for rise, fall in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=False):
        if runs and rise - runs[-1][1] < sample_rate_hz // 100:
            runs[-1][1] = fall  # a starved codec makes the burst flutter: a dip under 10 ms does not end it
        else:
            runs.append([rise, fall])
    # The envelope at i looks at [i, i + window): half height means that half of it is burst.
    shortest = 0.8 * BURST_S * sample_rate_hz
    return [(rise + window / 2) / sample_rate_hz for rise, fall in runs if fall - rise > shortest]


def _envelope(samples: npt.NDArray[np.float32], sample_rate_hz: int, window: int) -> npt.NDArray[np.float32]:
    """Amplitude of the 2 kHz component in every window, shape (samples - window + 1,)."""
    block = 10 * sample_rate_hz  # bounds memory: ten minutes at once would take half a gigabyte
    turn = np.exp(-2j * np.pi * BURST_HZ / sample_rate_hz * np.arange(block + window))
    pieces = [np.empty(0, np.float32)]
    for start in range(0, samples.size - window + 1, block):
        piece = samples[start : start + block + window - 1]
        sums = np.cumsum(np.concatenate(([0], piece * turn[: piece.size])))
        pieces.append((2 / window * np.abs(sums[window:] - sums[:-window])).astype(np.float32))
    return np.concatenate(pieces)
