"""A frame counter that a machine can read back from decoded video, painted into the top left of the luma plane.

48 cells, 12 wide and 4 high, row by row: 24 bits of counter, then 24 bits of CRC-24 (RFC 9580 section 6.1), each most
significant bit first; black is 0, white is 1. A cell is a whole number of macroblocks wherever the picture is wide
enough (192 and up), so H.264 spends its bits on flat blocks and the counter survives bit rates at which the rest of
the picture is mush. In smaller pictures (down to 96x64) it is one 8x8 transform block.

A reader gets the number or nothing: a cell that is neither clearly black nor clearly white refuses the whole frame, and
the CRC catches what is left (every burst up to 24 cells, all else but 1 in 16 million).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

COUNTER_BITS = 24
COUNTER_MODULO = 1 << COUNTER_BITS
MIN_WIDTH = 96
MIN_HEIGHT = 64

_COLUMNS = 12
_ROWS = 4
_CELLS = _COLUMNS * _ROWS
_CRC24_INIT = 0xB704CE  # not zero, so an all-black picture is no valid word
_CRC24_POLY = 0x864CFB
_BLACK, _WHITE = 16, 235  # limited range, ITU-R BT.601
_MIDDLE = (_BLACK + _WHITE) / 2
_DOUBT = 50  # grey levels either side of the middle in which a cell counts as unreadable

Luma = npt.NDArray[np.uint8]


def _crc24_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        crc = byte << 16
        for _ in range(8):
            crc = (crc << 1) ^ _CRC24_POLY if crc & 0x800000 else crc << 1
        table.append(crc & 0xFFFFFF)
    return tuple(table)


_TABLE = _crc24_table()
_WEIGHTS = (1 << np.arange(_CELLS - 1, -1, -1, dtype=np.int64)).reshape(_ROWS, _COLUMNS)


def crc24(data: bytes) -> int:
    """CRC-24 of RFC 9580 section 6.1."""
    crc = _CRC24_INIT
    for byte in data:
        crc = (crc << 8 & 0xFFFFFF) ^ _TABLE[(crc >> 16) ^ byte]
    return crc


def cell_size(width: int, height: int) -> int:
    """Side of one cell in pixels. Raises ValueError for pictures under 96x64, which cannot hold the counter."""
    if width < MIN_WIDTH or height < MIN_HEIGHT:
        raise ValueError(f"A {width}x{height} picture is too small for the counter; use at least 96x64.")
    if width < _COLUMNS * 16 or height < 2 * _ROWS * 16:
        return 8
    return 16 * max(1, min(width // 640, height // 360))


def painted_size(width: int, height: int) -> tuple[int, int]:
    """Width and height in pixels of the area that the counter covers, from the top left corner."""
    size = cell_size(width, height)
    return _COLUMNS * size, _ROWS * size


def paint(luma: Luma, counter: int) -> None:
    """Write `counter` into a luma plane of shape (height, width), in place.

    Raises ValueError when the number has more than 24 bits or the picture is under 96x64.
    """
    if not 0 <= counter < COUNTER_MODULO:
        raise ValueError(f"The counter {counter} does not fit in {COUNTER_BITS} bits; take it modulo {COUNTER_MODULO}.")
    size = cell_size(luma.shape[1], luma.shape[0])
    word = counter << 24 | crc24(counter.to_bytes(3, "big"))
    levels = np.where(_WEIGHTS & word, np.uint8(_WHITE), np.uint8(_BLACK))
    wide = np.repeat(levels, size, axis=1)
    for row in range(_ROWS):
        luma[row * size : (row + 1) * size, : wide.shape[1]] = wide[row]


def read(luma: Luma) -> int | None:
    """The counter in a decoded luma plane of shape (height, width), or None when it cannot be read for certain."""
    size = cell_size(luma.shape[1], luma.shape[0])
    cells = luma[: _ROWS * size, : _COLUMNS * size].reshape(_ROWS, size, _COLUMNS, size)
    # Edges ring and are deblocked: only the inner half of a cell is looked at.
    inner = cells[:, size // 4 : size - size // 4, :, size // 4 : size - size // 4].mean(axis=(1, 3))
    if (np.abs(inner - _MIDDLE) < _DOUBT).any():
        return None
    word = int(_WEIGHTS[inner > _MIDDLE].sum())
    counter = word >> 24
    return counter if crc24(counter.to_bytes(3, "big")) == word & 0xFFFFFF else None
