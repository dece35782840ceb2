"""What the kernel says of a process: CPU time and memory."""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_MAPPING = re.compile(r"^[0-9a-f]+-[0-9a-f]+ \S{4} \S+ \S+ \d+ *(?P<path>.*)$")


def boottime_s() -> float:
    """CLOCK_BOOTTIME, the clock of journal and pins."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def environment() -> dict[str, str]:
    """This process's, but with compiled modules kept, as on a camera: compiling them costs time and memory."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def cpu_s(pid: int) -> float:
    """User and system time of all threads, dead ones included (proc_pid_stat(5): utime, stime, in clock ticks)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident bytes from smaps, without the benchmark's own source file, which the raw camera maps.

    rss: as the kernel counts it. pss: shared pages divided among their users. uss: private pages alone.
    """

    rss_bytes: int
    pss_bytes: int
    uss_bytes: int
    maps_cv2: bool


def memory(pid: int, without: Path) -> Memory:
    """Sum of all mappings but those of the file `without`."""
    totals = {"Rss": 0, "Pss": 0, "Private_Clean": 0, "Private_Dirty": 0}
    counts = maps_cv2 = False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if mapping := _MAPPING.match(line):
            counts = mapping["path"] != str(without.resolve())
            maps_cv2 |= "/cv2/" in mapping["path"]
            continue
        name, _, value = line.partition(":")
        if counts and name in totals:
            totals[name] += int(value.split()[0]) * 1024
    return Memory(totals["Rss"], totals["Pss"], totals["Private_Clean"] + totals["Private_Dirty"], maps_cv2)
