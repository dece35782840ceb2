"""What is remembered outside the card: which record the card confirmed last. Its form to the byte; see the format page.

Two slots are written in turn, each with a check of itself. A write that is cut off spoils the slot that it was for, and
the other one still holds what was remembered before.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

SLOT_BYTES = 4096
"""A page of a flash chip or of the kernel's cache: a torn write of one slot does not reach into the other."""
SLOTS = 2
FILE_BYTES = SLOTS * SLOT_BYTES
MAX_NUMBER = (1 << 63) - 1

_HEAD = "bodycam head witness 1\n"
_SLOT = re.compile(
    r"(bodycam head witness 1\n"
    r"count (0|[1-9][0-9]{0,18})\n"
    r"journal ([0-9a-f]{64})\n"
    r"seq ([1-9][0-9]{0,18})\n"
    r"sha256 ([0-9a-f]{64})\n"
    r"boot_id ([!-~]{1,64})\n"
    r"boottime_ns (0|[1-9][0-9]{0,18})\n)"
    r"check ([0-9a-f]{64})\n"
    r"\0*"
)


@dataclass(frozen=True, slots=True)
class Memory:
    """The newest record that the card has confirmed: its number and SHA-256, and when (boot clock) it was.

    journal_sha256: SHA-256 of the journal's first record, by which a journal is known; 64 zeros when it was not known.
    """

    journal_sha256: str
    seq: int
    sha256: str
    boot_id: str
    boottime_ns: int


def encode_slot(count: int, memory: Memory) -> bytes:
    """One slot. count: how many times this file was written; it says which of two slots is the newer, and its place."""
    text = (
        f"{_HEAD}count {count}\njournal {memory.journal_sha256}\nseq {memory.seq}\nsha256 {memory.sha256}\n"
        f"boot_id {memory.boot_id}\nboottime_ns {memory.boottime_ns}\n"
    )
    checked = f"{text}check {hashlib.sha256(text.encode()).hexdigest()}\n"
    return checked.encode("ascii").ljust(SLOT_BYTES, b"\0")


def decode_slot(slot: bytes, place: int) -> tuple[int, Memory] | None:
    """Count and content of the slot at this place (from 0); None when it is not one that was written whole there."""
    match = _SLOT.fullmatch(slot.decode("latin-1")) if len(slot) == SLOT_BYTES else None
    if match is None or hashlib.sha256(match[1].encode("latin-1")).hexdigest() != match[8]:
        return None
    count, seq, boottime_ns = int(match[2]), int(match[4]), int(match[7])
    if max(count, seq, boottime_ns) > MAX_NUMBER or count % SLOTS != place:
        return None
    return count, Memory(match[3], seq, match[5], match[6], boottime_ns)


def newest(data: bytes) -> tuple[int, Memory] | None:
    """The newer whole slot of a file; None when there is none."""
    slots = (decode_slot(data[n * SLOT_BYTES : (n + 1) * SLOT_BYTES], n) for n in range(SLOTS))
    return max((slot for slot in slots if slot is not None), key=lambda slot: slot[0], default=None)
