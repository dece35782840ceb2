"""Free space in an MP4: boxes that every reader passes over (ISO/IEC 14496-12, 8.1.2 `free`)."""

from __future__ import annotations

import struct

HEADER_BYTES = 8


def free_box(size_bytes: int) -> bytes:
    """A `free` box of this size, header included. Raises ValueError when it would be smaller than its header."""
    if size_bytes < HEADER_BYTES:
        raise ValueError(f"A box has at least {HEADER_BYTES} bytes; {size_bytes} were asked for.")
    return struct.pack(">I4s", size_bytes, b"free") + bytes(size_bytes - HEADER_BYTES)


def free_up_to(position_bytes: int, unit_bytes: int) -> bytes:
    """What fills a file of `position_bytes` up to a multiple of `unit_bytes`: nothing, or one `free` box."""
    missing = -position_bytes % unit_bytes
    if not missing:
        return b""
    return free_box(missing if missing >= HEADER_BYTES else missing + unit_bytes)
