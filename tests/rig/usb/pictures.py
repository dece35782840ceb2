"""Pictures that get a number without being decoded: the counter of agent/capture/counter.py, block by block."""

from __future__ import annotations

CELL, COLUMNS, ROWS = 16, 12, 4
CELLS = COLUMNS * ROWS
BLACK, WHITE = 16, 235


def cells(number: int) -> list[bool]:
    """The counter's cells, row by row, True for white: 24 bits and their CRC-24 (RFC 9580 section 6.1)."""
    crc = 0xB704CE
    for byte in number.to_bytes(3, "big"):
        crc ^= byte << 16
        for _ in range(8):
            crc = (crc << 1) ^ (0x1864CFB if crc & 0x800000 else 0)
    word = number << 24 | crc
    return [bool(word >> (CELLS - 1 - place) & 1) for place in range(CELLS)]


class Jpeg:
    """A baseline JPEG (ITU-T T.81) that is changed block by block, without decoding anything."""

    def __init__(self, picture: bytes, width: int) -> None:
        scan = picture.index(b"\xff\xda")  # SOS
        start = scan + 2 + int.from_bytes(picture[scan + 2 : scan + 4], "big")
        self._head, body = picture[:start], picture[start : picture.rindex(b"\xff\xd9")]
        self._blocks: list[bytes] = []
        begin = 0
        for place in range(len(body) - 1):
            # A restart marker (B.1.1.3); a byte FF of the data has 00 behind it.
            if body[place] == 0xFF and 0xD0 <= body[place + 1] <= 0xD7:
                self._blocks.append(body[begin:place])
                begin = place + 2
        self._blocks.append(body[begin:])
        self._places = [row * -(-width // CELL) + column for row in range(ROWS) for column in range(COLUMNS)]
        shown = cells(0)
        self._black, self._white = (self._blocks[self._places[shown.index(lit)]] for lit in (False, True))

    def numbered(self, number: int) -> bytes:
        """The picture with this number."""
        blocks = list(self._blocks)
        for place, lit in zip(self._places, cells(number), strict=True):
            blocks[place] = self._white if lit else self._black
        return self._whole(blocks)

    def dark(self) -> bytes:
        """Nothing but black."""
        return self._whole([self._black] * len(self._blocks))

    def _whole(self, blocks: list[bytes]) -> bytes:
        parts = [self._head]
        for place, block in enumerate(blocks):
            parts += [block, bytes((0xFF, 0xD0 + place % 8))]
        parts[-1] = b"\xff\xd9"
        return b"".join(parts)


class Yuyv:
    """The same for raw pictures."""

    def __init__(self, picture: bytes, width: int) -> None:
        self._lines = [picture[start : start + 2 * width] for start in range(0, len(picture), 2 * width)]
        self._black, self._white = (bytes((level, 128)) * CELL for level in (BLACK, WHITE))

    def numbered(self, number: int) -> bytes:
        """The picture with this number."""
        shown, lines = cells(number), list(self._lines)
        for row in range(ROWS):
            lit = shown[row * COLUMNS : (row + 1) * COLUMNS]
            painted = b"".join(self._white if cell else self._black for cell in lit)
            for line in range(row * CELL, (row + 1) * CELL):
                lines[line] = painted + lines[line][len(painted) :]
        return b"".join(lines)

    def dark(self) -> bytes:
        """Nothing but black."""
        return bytes((BLACK, 128)) * (sum(map(len, self._lines)) // 2)
