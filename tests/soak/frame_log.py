"""What went into the encoder, frame by frame: written by the shift as it goes, because hours of it in memory would look
like a leak; read by whoever compares recordings with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

_ROW = np.dtype([("captured_ns", "<i8"), ("number", "<i4"), ("readable", "u1")])


class FrameLogWriter:
    """One file a boot, in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def write(self, boot_id: str, frames: Sequence[tuple[int, int]], *, readable: bool) -> None:
        """Append (captured_ns, painted counter) in order. readable: False where the picture hid the counter."""
        rows = np.array([(ns, number, readable) for ns, number in frames], _ROW)
        with (self._folder / boot_id).open("ab") as file:
            file.write(rows.tobytes())


@dataclass(frozen=True)
class Frames:
    """Frames in the order of their capture. readable: whether the counter can be expected to be read back."""

    captured_ns: npt.NDArray[np.int64]
    number: npt.NDArray[np.int32]
    readable: npt.NDArray[np.bool_]

    @classmethod
    def read(cls, folder: Path, boot_id: str) -> Frames:
        """Those of one boot; none when nothing was captured in it."""
        path = folder / boot_id
        rows = np.fromfile(path, _ROW) if path.exists() else np.zeros(0, _ROW)
        return cls(rows["captured_ns"], rows["number"], rows["readable"].astype(bool))

    def __len__(self) -> int:
        return len(self.captured_ns)

    def between(self, from_ns: int, to_ns: int) -> Frames:
        """Those with from_ns <= captured_ns <= to_ns."""
        begin, end = np.searchsorted(self.captured_ns, (from_ns, to_ns + 1))
        return Frames(self.captured_ns[begin:end], self.number[begin:end], self.readable[begin:end])

    def without(self, spans: Sequence[tuple[int, int]]) -> Frames:
        """Those with captured_ns in no span from <= captured_ns < to."""
        kept = np.ones(len(self), bool)
        for from_ns, to_ns in spans:
            kept &= ~((from_ns <= self.captured_ns) & (self.captured_ns < to_ns))
        return Frames(self.captured_ns[kept], self.number[kept], self.readable[kept])
