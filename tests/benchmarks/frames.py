"""Frames lost in ten minutes of 1080p30, read back from the recording; and whether memory grows meanwhile."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import linear_regression

import av

from agent.capture import counter
from agent.capture.image import luma_of
from agent.clock import NS_PER_S
from tests.benchmarks.device import Device
from tests.benchmarks.figure import Figure
from tests.benchmarks.memory import MB, sample
from tests.benchmarks.process import boottime_s, cpu_s
from tests.benchmarks.source import FPS, FRAMES, raw_source

VAULT = "frames"
_SAMPLE_EVERY_S = 5


def run(folder: Path, *, quick: bool) -> list[Figure]:
    """The raw source's frame in slot n bears the number n modulo its length, so a slot the camera missed shows too."""
    seconds, pre_event_s = (20, 5) if quick else (600, 30)
    samples: list[tuple[float, float]] = []
    with Device(folder / VAULT, raw_source(folder), pre_event_s=pre_event_s) as device:
        device.wait_until_buffered(pre_event_s)
        pressed_s = device.double_press()
        before_s = cpu_s(device.pid)
        while (now_s := boottime_s()) < pressed_s + seconds:
            samples.append((now_s, sample(device).over_bytes))
            time.sleep(min(_SAMPLE_EVERY_S, max(0.01, pressed_s + seconds - now_s)))
        cores = (cpu_s(device.pid) - before_s) / seconds
        dropped = int(device.status()["dropped_frames"])
        device.stop()
        (opened,), (stopped,), (close,) = (device.records(t) for t in ("recording-open", "stop", "recording-close"))
        gaps = len(device.records("gap"))
        joined = _join(device.layout.recording(opened["recording_id"]), folder / "frames.mp4")
    # Every slot from the first frame's on, up to the stop press.
    span_ns = stopped["stop_boottime_ns"] - opened["media_origin_boottime_ns"]
    expected = span_ns * FPS // NS_PER_S + 1
    seen = read_back(joined)
    joined.unlink()
    lost = expected - seen.frames + seen.unreadable
    settled = samples[len(samples) // 4 :]
    slope = linear_regression(*zip(*settled, strict=True)).slope * 60
    return [
        Figure("frames", "frames lost", lost, "", ("==", 0),
               f"{expected} expected from {pre_event_s} s before the press to the stop, {seconds} s after it"),
        Figure("frames", "wrong steps of painted counter or time", seen.wrong_steps, "", ("==", 0),
               f"{seen.frames} pictures decoded, {seen.unreadable} unreadable"),
        Figure("frames", "dropped at the ring, journalled gaps", dropped + gaps, "", ("==", 0)),
        Figure("frames", "frames by the journal, less those decoded", close["frames"] - seen.frames, "", ("==", 0)),
        Figure("frames", "memory growth while recording", slope / MB, "MB/min",
               note=f"least squares over {len(settled)} samples of RSS over payload"),
        Figure("frames", "CPU of the daemon, with sound", cores, "cores"),
    ]  # fmt: skip


def _join(folder: Path, path: Path) -> Path:
    with path.open("wb") as file:
        for part in (folder / "init.mp4", *sorted(folder.glob("*.m4s"))):
            with part.open("rb") as source:
                shutil.copyfileobj(source, file, 1 << 20)
    return path


@dataclass(frozen=True, slots=True)
class Seen:
    """What a recording shows. wrong_steps: neighbours whose counters or times are not one slot apart."""

    frames: int
    unreadable: int
    wrong_steps: int


def read_back(path: Path) -> Seen:
    """Decode every picture and read its counter."""
    pictures: list[tuple[float, int | None]] = []
    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = "AUTO"
        for frame in container.decode(video=0):
            assert frame.time is not None
            pictures.append((frame.time, counter.read(luma_of(frame))))
    wrong = 0
    for (before_s, before), (after_s, after) in pairwise(pictures):
        if before is None or after is None:
            continue
        wrong += (after - before) % FRAMES != 1 or abs(after_s - before_s - 1 / FPS) > 0.0005
    return Seen(len(pictures), sum(number is None for _, number in pictures), wrong)
