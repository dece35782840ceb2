"""A microphone on ALSA, through FFmpeg's `alsa` input device.

What libavdevice/alsa_dec.c does, and what follows from it here:
- Packet times are wall time (av_gettime, filtered): an NTP step moves them. They are not used; see `AudioClock`.
- The capture period is the shortest that the card has, often a millisecond or less: packets are gathered to 20 ms.
- An overrun is recovered silently and its samples are gone: only the lateness of what follows shows it.
- The sample rate is set to the nearest that the device has; the channel count is not bent. `default` and `plughw:`
convert.

PyAV's wheels carry their own libasound, which looks for its configuration and plugins under a folder in /tmp where the
wheel was built: without it no device opens, and whoever makes that folder first chooses what code is loaded. Both paths
are therefore set to the system's own before the first use. libasound also writes what it thinks of each failure
straight to standard error; it is told not to, because a microphone that is away is tried again all day.

Without a sound card the unit tests drive a stand-in, and the real library on the `null` device and on absent ones.
"""

from __future__ import annotations

import ctypes
import os
from collections import deque
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Protocol

import av
import numpy as np
import numpy.typing as npt

from agent.capture.audio_clock import AudioClock
from agent.capture.microphone import AudioChunk
from agent.clock import NS_PER_MS, Clock
from agent.errors import MicrophoneError
from agent.media.packets import AudioFormat
from agent.media.units import ns_to_samples, samples_to_ns

_CHUNK_S = 0.02
_OVERLAP_NS = 5 * NS_PER_MS
_CONFIG_DIR = Path("/usr/share/alsa")
_PLUGIN_DIRS = ("/usr/lib/{machine}-linux-gnu/alsa-lib", "/usr/lib/alsa-lib")

Pcm = npt.NDArray[np.float32]


class PcmSource(Protocol):
    """An opened capture device."""

    @property
    def format(self) -> AudioFormat:
        """What the device really gives."""

    def read(self) -> Pcm:
        """Block for some samples, shape (channels, n). Raises OSError when the device broke."""

    def close(self) -> None:
        """Free the device."""


class AvAlsa:
    """An ALSA device opened by PyAV. Raises OSError when there is none of that name."""

    def __init__(self, device: str, sample_rate_hz: int, channels: int) -> None:
        use_system_alsa()
        quieten_alsa()
        options = {"sample_rate": str(sample_rate_hz), "channels": str(channels)}
        self._container = av.open(device, format="alsa", options=options)
        stream = self._container.streams.audio[0]
        if stream.codec_context.name != "pcm_s16le":
            self._container.close()
            raise OSError(f"The device gives {stream.codec_context.name} and not 16-bit samples")
        self._format = AudioFormat(stream.codec_context.sample_rate, stream.codec_context.channels)
        self._chunk_bytes = int(self._format.sample_rate_hz * _CHUNK_S) * self._format.channels * 2
        self._packets: Iterator[av.Packet[av.AudioStream]] = self._container.demux(stream)

    @property
    def format(self) -> AudioFormat:
        return self._format

    def read(self) -> Pcm:
        data = bytearray()
        # As bytes, and converted once: a card may have a thousand periods a second.
        while len(data) < self._chunk_bytes:
            packet = next(self._packets, None)
            if packet is None or not packet.size:
                raise OSError("The device ended its stream")
            data += bytes(packet)
        interleaved = np.frombuffer(data, "<i2").reshape(-1, self._format.channels)
        return interleaved.T.astype(np.float32) / np.float32(32768)

    def close(self) -> None:
        self._container.close()


def use_system_alsa() -> None:
    """Point libasound to the system's configuration and plugins, unless the environment already says otherwise."""
    if (_CONFIG_DIR / "alsa.conf").exists():
        os.environ.setdefault("ALSA_CONFIG_DIR", str(_CONFIG_DIR))
    for pattern in _PLUGIN_DIRS:
        folder = pattern.format(machine=os.uname().machine)
        if Path(folder).is_dir():
            os.environ.setdefault("ALSA_PLUGIN_DIR", folder)
    os.environ.setdefault("ALSA_PLUGIN_DIR", "/usr/lib/alsa-lib")


@cache
def quieten_alsa() -> bool:
    """Keep libasound from writing `ALSA lib …` to standard error, the log, at each try. False when it cannot be kept.

    Which library FFmpeg uses is asked of the process itself: another copy's handler would change nothing.
    """
    mapped = {line.split(maxsplit=5)[-1].strip() for line in Path("/proc/self/maps").read_text().splitlines()}
    libraries = [path for path in mapped if Path(path).name.startswith("libasound")]
    # What is called has to take any arguments and to outlive Python, as a thread that blocks in the driver may: so it
    # is no Python function, but one of libc that takes no arguments and changes nothing.
    nothing = ctypes.cast(ctypes.CDLL(None).getpid, ctypes.c_void_p)
    results = [ctypes.CDLL(path).snd_lib_error_set_handler(nothing) for path in libraries]
    return bool(results) and not any(results)


class AlsaMicrophone:
    """An ALSA capture device as microphone, in chunks of 20 ms (up to 0.2 s at once right after opening).

    The first times come out after 0.2 s, when the clock has seen enough arrivals. `overruns` counts jumps of the
    clock: holes in capture. Should the clock find that its times were too late, the samples that would overlap in time
    are dropped, so that chunks never go back in time.
    """

    def __init__(
        self,
        clock: Clock,
        device: str,
        sample_rate_hz: int,
        channels: int,
        *,
        open_device: Callable[[str, int, int], PcmSource] = AvAlsa,
    ) -> None:
        self._clock = clock
        self._device = device or "default"
        self._wanted = AudioFormat(sample_rate_hz, channels)
        self._open_device = open_device
        self._source: PcmSource | None = None
        self._format = self._wanted
        self._audio_clock = AudioClock(sample_rate_hz)
        self._waiting: deque[Pcm] = deque()
        self._ready: deque[AudioChunk] = deque()
        self._end_ns: int | None = None

    @property
    def name(self) -> str:
        return f"alsa {self._device}"

    @property
    def overruns(self) -> int:
        """Holes in capture since `open`."""
        return self._audio_clock.jumps

    def open(self) -> AudioFormat:
        try:
            self._source = self._open_device(self._device, self._wanted.sample_rate_hz, self._wanted.channels)
        except (av.FFmpegError, OSError) as error:
            raise MicrophoneError(
                f"The ALSA device {self._device} does not open with {self._wanted.channels} channel(s) at "
                f"{self._wanted.sample_rate_hz} Hz ({error}); `arecord -L` lists the names for [audio] device "
                '(prefer plughw: to hw:), or set audio.source = "none" and buffer.audio = false to record without it.'
            ) from error
        self._format = self._source.format
        self._audio_clock = AudioClock(self._format.sample_rate_hz)
        self._waiting.clear()
        self._ready.clear()
        self._end_ns = None
        return self._format

    def read(self) -> AudioChunk:
        while not self._ready:
            self._gather()
        return self._ready.popleft()

    def _gather(self) -> None:
        """Read one block, and put what now has a time into `_ready`."""
        if self._source is None:
            raise MicrophoneError(f"The ALSA device {self._device} is not open; open it before reading.")
        pieces: list[Pcm] = []
        wanted = int(self._format.sample_rate_hz * _CHUNK_S)
        while wanted > 0:
            try:
                pieces.append(self._source.read())
            except (av.FFmpegError, OSError) as error:
                raise MicrophoneError(
                    f"The ALSA device {self._device} stopped ({error}); plug the microphone in again."
                ) from error
            wanted -= pieces[-1].shape[1]
        block = np.concatenate(pieces, axis=1)
        self._waiting.append(block)
        for captured_ns in self._audio_clock.place(block.shape[1], self._clock.boottime_ns()):
            self._emit(self._waiting.popleft(), captured_ns)

    def _emit(self, block: Pcm, captured_ns: int) -> None:
        rate = self._format.sample_rate_hz
        if self._end_ns is not None and captured_ns < self._end_ns - _OVERLAP_NS:
            excess = min(ns_to_samples(self._end_ns - captured_ns, rate), block.shape[1])
            block, captured_ns = block[:, excess:], captured_ns + samples_to_ns(excess, rate)
        if block.shape[1]:
            self._end_ns = captured_ns + samples_to_ns(block.shape[1], rate)
            self._ready.append(AudioChunk(block, captured_ns))

    def close(self) -> None:
        if self._source is not None:
            self._source.close()
            self._source = None
