"""Recording ids."""

from __future__ import annotations

import os


def uuid7(utc_ns: int, random: bytes | None = None) -> str:
    """A UUIDv7 (RFC 9562, 5.7): 48 bits of milliseconds since 1970, then random, so that ids sort by time of creation.

    random: 10 bytes, for tests; the operating system's by default.
    """
    entropy = int.from_bytes(os.urandom(10) if random is None else random, "big")
    value = ((utc_ns // 1_000_000) & (1 << 48) - 1) << 80 | entropy
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    digits = f"{value:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
