"""Resident memory of the daemon with sound, over what its ring holds; and what the ring itself adds to its packets."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.device import Device
from tests.benchmarks.figure import Figure
from tests.benchmarks.process import Memory, boottime_s, memory
from tests.benchmarks.source import raw_source

MB = 1e6
BAR_MB = 120


@dataclass(frozen=True, slots=True)
class Sample:
    """Memory and the ring's payload at one moment."""

    memory: Memory
    payload_bytes: int

    @property
    def over_bytes(self) -> int:
        """Resident beyond the payload."""
        return self.memory.rss_bytes - self.payload_bytes


def sample(device: Device) -> Sample:
    """The payload is asked for after the memory, so that what comes in between counts against the daemon."""
    now = memory(device.pid, device.source)
    return Sample(now, int(device.status()["buffer_bytes"]))


def run(folder: Path, *, quick: bool) -> list[Figure]:
    """Two buffers; each measured full and idle, then from the press on."""
    figures = []
    for pre_event_s in (5, 10) if quick else (30, 120):
        figures += _daemon(folder, pre_event_s, record_s=5 if quick else 20)
    return figures + _ring(folder, seconds=20 if quick else 120)


def _daemon(folder: Path, pre_event_s: int, record_s: int) -> list[Figure]:
    with Device(folder / "memory", raw_source(folder), pre_event_s=pre_event_s) as device:
        device.wait_until_buffered(pre_event_s)
        idle = sample(device)
        until_s = device.double_press() + record_s
        recording = []
        while boottime_s() < until_s:
            recording.append(sample(device))
            time.sleep(0.05)
        device.stop()
    worst = max([idle, *recording], key=lambda taken: taken.over_bytes)
    name = f"{pre_event_s} s buffer"
    return [
        Figure("memory", f"{name}: RSS over payload, largest", worst.over_bytes / MB, "MB", ("<=", BAR_MB),
               f"payload {worst.payload_bytes / MB:.1f} MB; {len(recording)} samples while recording"),
        Figure("memory", f"{name}: RSS over payload, full and idle", idle.over_bytes / MB, "MB",
               note=f"payload {idle.payload_bytes / MB:.1f} MB; over it PSS "
               f"{(idle.memory.pss_bytes - idle.payload_bytes) / MB:.0f}, "
               f"USS {(idle.memory.uss_bytes - idle.payload_bytes) / MB:.0f} MB"),
        Figure("memory", f"{name}: mappings of cv2", int(worst.memory.maps_cv2), "", ("==", 0)),
    ]  # fmt: skip


def _ring(folder: Path, seconds: int) -> list[Figure]:
    """In a process of its own, whose memory nothing else changes."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.ring_child", str(raw_source(folder)), str(seconds)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    result = json.loads(done.stdout)
    return [
        Figure("memory", "ring overhead over its payload", 100 * (result["grown_bytes"] / result["payload_bytes"] - 1),
               "%", ("<=", 2.0),
               f"{seconds} s, {result['payload_bytes'] / MB:.1f} MB, {result['packets']} packets"),
    ]  # fmt: skip
