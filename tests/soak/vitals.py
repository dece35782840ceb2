"""What the kernel says of this process, taken when it rests."""

from __future__ import annotations

import ctypes
import gc
import os
from dataclasses import dataclass
from pathlib import Path

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Vitals:
    """at_s: time into the shift. life: which start of the camera it is, from 0."""

    at_s: float
    life: int
    rss_bytes: int
    descriptors: int
    threads: int


def resident_bytes(pid: int | str = "self") -> int:
    """Resident memory (proc_pid_statm(5))."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES


def descriptors(pid: int | str = "self") -> int:
    """Open file descriptors; of this process without the one that counts them."""
    return len(os.listdir(f"/proc/{pid}/fd")) - (pid == "self")


def threads(pid: int | str = "self") -> int:
    """Threads, Python's and others."""
    return len(os.listdir(f"/proc/{pid}/task"))


def own_vitals(at_s: float, life: int) -> Vitals:
    """Of this process, with garbage collected and free memory handed back: what stays is held by somebody."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return Vitals(at_s, life, resident_bytes(), descriptors(), threads())
