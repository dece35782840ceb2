"""From the second press to the light, to the first fragment on flash, to the whole pre-event on flash."""

from __future__ import annotations

import os
import random
import statistics
import time
from pathlib import Path

from tests.benchmarks.device import Device
from tests.benchmarks.figure import Figure, percentile
from tests.benchmarks.process import boottime_s
from tests.benchmarks.source import raw_source

WRITE_BYTES = 8_000_000
_POLL_S = 0.003


def run(folder: Path, *, quick: bool) -> list[Figure]:
    """Each trigger after the stop before it: stopping clears nothing, so the ring is full every time."""
    triggers, pre_event_s = (5, 5) if quick else (32, 30)
    phase = random.Random(1)
    lights_ms, firsts_ms, wholes_ms, payloads_bytes = [], [], [], []
    with Device(folder / "latency", raw_source(folder), pre_event_s=pre_event_s) as device:
        device.wait_until_buffered(pre_event_s)
        rate = write_bytes_per_s(device.layout.recordings)
        for _ in range(triggers):
            time.sleep(phase.uniform(0.3, 1.3))  # anywhere in a GOP
            pressed_s = device.double_press()
            lights_ms.append(1000 * (device.wait_for_light(pressed_s, led_red=1) - pressed_s))
            first = device.wait_for_log("shows=recording", pressed_s)
            firsts_ms.append(1000 * (first.at_s - pressed_s))
            whole_s, payload_bytes = _whole(device)
            wholes_ms.append(1000 * (whole_s - pressed_s))
            payloads_bytes.append(payload_bytes)
            device.stop()
    payload = statistics.mean(payloads_bytes)
    bar_ms = 1000 * payload / rate + 500
    note = f"{triggers} triggers, {pre_event_s} s buffer"
    return [
        Figure("latency", "second press → light, p50", percentile(lights_ms, 50), "ms"),
        Figure("latency", "second press → light, p99", percentile(lights_ms, 99), "ms", ("<=", 20.0), note),
        Figure("latency", "→ first fragment durable, p50", percentile(firsts_ms, 50), "ms"),
        Figure("latency", "→ first fragment durable, p99", percentile(firsts_ms, 99), "ms", ("<=", 150.0), note),
        Figure("latency", "→ whole pre-event durable, p50", percentile(wholes_ms, 50), "ms"),
        Figure("latency", "→ whole pre-event durable, p99", percentile(wholes_ms, 99), "ms", ("<=", bar_ms),
               f"{payload / 1e6:.1f} MB ÷ {rate / 1e6:.0f} MB/s + 500 ms"),
    ]  # fmt: skip


def _whole(device: Device) -> tuple[float, int]:
    """When the last fragment with pre-event in it was seen to be durable, and how many bytes were written up to it.

    The daemon counts a fragment as durable when its checkpoint's fdatasync has returned. Raises TimeoutError.
    """
    seen: list[tuple[float, int]] = []
    for _ in range(20):
        until_s = boottime_s() + 1.0
        while boottime_s() < until_s:
            durable = int(device.status()["durable_fragments"] or 0)
            seen.append((boottime_s(), durable))  # after the answer: an upper bound
            time.sleep(_POLL_S)
        # The journal is read only now: a reader must not take the time from what is being timed.
        last = _last_pre_event_fragment(device)
        if last is not None and seen[-1][1] >= last[0]:
            return next(at_s for at_s, durable in seen if durable >= last[0]), last[1]
    raise TimeoutError("The pre-event did not become durable in 20 s.")


def _last_pre_event_fragment(device: Device) -> tuple[int, int] | None:
    """Number of the newest recording's fragment that reaches the trigger, and the bytes up to its end."""
    opened = device.records("recording-open")[-1]
    wanted_90k = (opened["trigger_boottime_ns"] - opened["media_origin_boottime_ns"]) * 9 // 100_000
    file_bytes: dict[str, int] = {}
    for checkpoint in device.records("checkpoint"):
        if checkpoint["recording_id"] == opened["recording_id"]:
            file_bytes[checkpoint["file"]] = checkpoint["bytes"]
            if checkpoint["end_media_90k"] >= wanted_90k:
                return checkpoint["fragment"], sum(file_bytes.values())
    return None


def write_bytes_per_s(folder: Path, count: int = 12) -> float:
    """What this disk takes in writes as the recorder makes them: append 8 MB, fdatasync; the median of `count`."""
    path = folder / "write-rate.tmp"
    data = os.urandom(WRITE_BYTES)
    times_s = []
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
    try:
        for _ in range(count):
            before_s = time.perf_counter()
            os.write(descriptor, data)
            os.fdatasync(descriptor)
            times_s.append(time.perf_counter() - before_s)
    finally:
        os.close(descriptor)
        path.unlink()
    return WRITE_BYTES / statistics.median(times_s)
