"""From the start of the process to the first frame in the ring, and to the light that says so."""

from __future__ import annotations

from pathlib import Path

from tests.benchmarks.device import Device
from tests.benchmarks.figure import Figure, percentile
from tests.benchmarks.source import raw_source


def run(folder: Path, *, quick: bool) -> list[Figure]:
    """Warm starts: the interpreter and the libraries are in the page cache, as after a crash."""
    starts = 2 if quick else 7
    frames_s, lights_s = [], []
    for number in range(starts + 1):
        with Device(folder / "start", raw_source(folder)) as device:
            # Announced by the daemon when the first packet is in the ring; a first fill is no older than its frame.
            frame_s = device.wait_for_log(" ready ").at_s - device.started_s
            # Amber while it starts, so that both may be lit before: green alone says ready.
            light_s = device.wait_for_light(device.started_s, led_green=1, led_red=0) - device.started_s
        if number:  # the first one reads everything from disk, and compiles it
            frames_s.append(frame_s)
            lights_s.append(light_s)
    return [
        Figure("start", "process start → first frame in the ring, p50", percentile(frames_s, 50), "s"),
        Figure("start", "process start → first frame in the ring, worst", max(frames_s), "s", note=f"{starts} starts"),
        Figure("start", "process start → ready light, p50", percentile(lights_s, 50), "s"),
    ]
