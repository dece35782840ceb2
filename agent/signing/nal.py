"""NAL units: out of the byte stream of an encoder, out of the samples of a file, and their emulation prevention.

ITU-T H.264 7.3.1 and 7.4.1 (NAL unit, emulation prevention), annex B (byte stream); ISO/IEC 14496-15, 5.3.4 (samples
of an MP4). Any input ends in an answer or in NalError, in time that grows with its length only.
"""

from __future__ import annotations

import re
from typing import NamedTuple

NON_IDR_SLICE = 1
IDR_SLICE = 5
SEI = 6
# Partitions, auxiliary, scalable, 3D: slices that no encoder here makes and that a signature does not cover.
UNCOVERED_PICTURE_TYPES = frozenset({2, 3, 4, 19, 20, 21})

_START_CODE = b"\x00\x00\x01"
_TO_ESCAPE = re.compile(rb"\x00\x00(?=[\x00-\x03])")
_ESCAPED = re.compile(rb"\x00\x00\x03")
_FORBIDDEN = re.compile(rb"\x00\x00(?:[\x00-\x02]|\x03[^\x00-\x03]|\x03?\Z)")


class NalError(ValueError):
    """The bytes are no NAL units; the message says where and why."""


class NalUnit(NamedTuple):
    """Where a NAL unit lies in the bytes it was found in: header at `start`, `end` behind its stop bit's byte.

    prefix: where its start code or length field begins; a NAL unit put in front of this one goes there.
    """

    type: int
    prefix: int
    start: int
    end: int


def split_byte_stream(data: bytes) -> list[NalUnit]:
    """The NAL units of an access unit in Annex B. Raises NalError for bytes in front of them, and for an empty one."""
    found = data.find(_START_CODE)
    if found < 0:
        raise NalError("There is no start code in these bytes.")
    if found and data[:found].strip(b"\x00"):
        raise NalError(f"{found} bytes stand in front of the first start code.")
    # A fourth zero belongs to the start code (zero_byte) and not to the NAL unit before it.
    prefix = max(found - 1, 0)
    units = []
    while found >= 0:
        start = found + 3
        found = data.find(_START_CODE, start)
        following = len(data) if found < 0 else found
        end = _without_trailing_zeros(data, start, following)
        units.append(_unit(data, prefix, start, end))
        prefix = found - 1 if found > end else found
    return units


def split_sample(data: bytes | memoryview, length_bytes: int) -> list[NalUnit]:
    """The NAL units of a sample, each behind a big-endian length field of `length_bytes` (1, 2 or 4).

    Raises NalError when they do not fill the sample exactly, and for an empty one.
    """
    if length_bytes not in (1, 2, 4):
        raise NalError(f"NAL unit lengths of {length_bytes} bytes are not in the standard.")
    units = []
    at = 0
    while at < len(data):
        start = at + length_bytes
        end = start + int.from_bytes(data[at:start], "big")
        if end > len(data):
            raise NalError(f"At byte {at} a NAL unit does not end inside the {len(data)} bytes of its sample.")
        units.append(_unit(data, at, start, _without_trailing_zeros(data, start, end)))
        at = end
    return units


def escape(payload: bytes) -> bytes:
    """With emulation prevention bytes. What is to follow decides about zeros at the end: pass a NAL unit whole."""
    return _TO_ESCAPE.sub(b"\x00\x00\x03", payload)


def unescape(unit: bytes) -> bytes:
    """Without emulation prevention bytes; `escape` gives exactly `unit` back.

    Raises NalError for sequences that cannot be in a NAL unit, and for zeros at its end, where a SEI has its stop bit.
    """
    wrong = _FORBIDDEN.search(unit)
    if wrong is not None:
        raise NalError(f"At byte {wrong.start()} of a NAL unit stand bytes that emulation prevention cannot leave.")
    return _ESCAPED.sub(b"\x00\x00", unit)


def is_first_slice(data: bytes | memoryview, unit: NalUnit) -> bool:
    """Whether a slice begins its picture: first_mb_in_slice, Exp-Golomb in the first bits, is 0 (7.3.3, 9.1)."""
    return unit.end - unit.start > 1 and data[unit.start + 1] >= 0x80


def _without_trailing_zeros(data: bytes | memoryview, start: int, end: int) -> int:
    if end > start and data[end - 1] == 0:
        end -= 1
        if end > start and data[end - 1] == 0:  # rare: zeros that fill up (trailing_zero_8bits)
            return start + len(bytes(data[start:end]).rstrip(b"\x00"))
    return end


def _unit(data: bytes | memoryview, prefix: int, start: int, end: int) -> NalUnit:
    if end <= start:
        raise NalError(f"At byte {prefix} stands an empty NAL unit.")
    if data[start] & 0x80:
        raise NalError(f"At byte {prefix} stands a NAL unit whose forbidden_zero_bit is set.")
    return NalUnit(data[start] & 0x1F, prefix, start, end)
