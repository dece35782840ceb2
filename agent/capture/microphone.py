"""What a microphone is to the agent: blocks of PCM stamped on the same boot clock as the camera's frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from agent.media.packets import AudioFormat


@dataclass(frozen=True, slots=True)
class AudioChunk:
    """Samples as float32 in [-1, 1], shape (channels, samples). captured_ns: boot time of the first sample.

    Chunks follow on one another without holes; a hole in capture shows as a jump of captured_ns.
    """

    samples: npt.NDArray[np.float32]
    captured_ns: int


class Microphone(Protocol):
    """One session: `open` once, `read` until done or broken, `close`. Used from one thread."""

    @property
    def name(self) -> str:
        """For people and records, for example "alsa hw:1"."""

    def open(self) -> AudioFormat:
        """Start capture. Raises MicrophoneError with what to do when there is no such device."""

    def read(self) -> AudioChunk:
        """Block for the next chunk (10 to 100 ms). Raises MicrophoneError when the device went away."""

    def close(self) -> None:
        """Stop and free the device; may be called twice, and after an error."""
