"""CPU time of the whole daemon against Debian's ffmpeg, which encodes and segments the same source as fast."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import av

from agent.encode.video import slice_threads
from tests.benchmarks.device import BITRATE_BPS, Device
from tests.benchmarks.figure import Figure
from tests.benchmarks.process import boottime_s, cpu_s
from tests.benchmarks.source import FPS, HEIGHT, WIDTH, raw_source

SEGMENT_S = 10


@dataclass(frozen=True, slots=True)
class _Run:
    cpu_s: float
    frames: int
    size_bytes: int
    start_up_s: float = 0.0


def run(folder: Path, *, quick: bool) -> list[Figure]:
    """Ours and theirs in turns, so that a slow minute of the machine hits both."""
    seconds, rounds, pre_event_s = (10, 1, 5) if quick else (60, 1, 30)
    source = raw_source(folder)
    ours, theirs = [], []
    for _ in range(rounds):
        ours.append(_daemon(folder / "cpu", source, seconds, pre_event_s))
        theirs.append(_ffmpeg(folder / "cpu-ffmpeg", source, seconds))
    ours_s, theirs_s = sum(run.cpu_s for run in ours), sum(run.cpu_s for run in theirs)
    ours_kbit, theirs_kbit = _kbit_per_s(ours), _kbit_per_s(theirs)
    what = f"{WIDTH}x{HEIGHT} at {FPS}/s, {BITRATE_BPS // 1_000_000} Mbit/s, superfast, {rounds} x {seconds} s"
    return [
        Figure("cpu", "daemon ÷ ffmpeg, CPU time", ours_s / theirs_s, "", ("<=", 1.15), f"goal 1.05; {what}"),
        Figure("cpu", "daemon, CPU per second of video", 1000 * ours_s / (rounds * seconds), "ms/s",
               note=f"writing {pre_event_s} s of pre-event and signing included"),
        Figure("cpu", "ffmpeg, CPU per second of video", 1000 * theirs_s / (rounds * seconds), "ms/s",
               note="whole process: -re, libx264, -f segment, fragmented MP4; no sync"),
        Figure("cpu", "daemon, bit rate recorded", ours_kbit, "kbit/s"),
        Figure("cpu", "ffmpeg, bit rate recorded", theirs_kbit, "kbit/s"),
        Figure("cpu", "daemon, CPU from start to ready", statistics.mean(run.start_up_s for run in ours), "s"),
    ]  # fmt: skip


def _kbit_per_s(runs: list[_Run]) -> float:
    return sum(run.size_bytes for run in runs) * 8 / sum(run.frames for run in runs) * FPS / 1000


def _daemon(folder: Path, source: Path, seconds: int, pre_event_s: int) -> _Run:
    """CPU time from the press on, for as long as is asked; whole pre-event and all threads included."""
    with Device(folder, source, pre_event_s=pre_event_s, sound=False) as device:
        device.wait_for_log("shows=ready")
        start_up_s = cpu_s(device.pid)
        device.wait_until_buffered(pre_event_s)
        pressed_s = device.double_press()
        before_s = cpu_s(device.pid)
        time.sleep(max(0.0, pressed_s + seconds - boottime_s()))
        used_s = cpu_s(device.pid) - before_s
        device.stop()
        (close,) = device.records("recording-close")
        asked = (pre_event_s + seconds) * FPS
        if close["frames"] < asked or close["gaps"]:
            raise RuntimeError(f"The daemon recorded {close['frames']} frames instead of {asked} and more.")
        return _Run(used_s, close["frames"], close["bytes"], start_up_s)


def _ffmpeg(folder: Path, source: Path, seconds: int) -> _Run:
    """ffmpeg doing in real time what the daemon does, without pre-event, journal and sync."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    command = [
        "ffmpeg", "-v", "error", "-nostdin", "-re", "-stream_loop", "-1",
        "-f", "rawvideo", "-pix_fmt", "yuv420p", "-video_size", f"{WIDTH}x{HEIGHT}", "-framerate", str(FPS),
        "-i", str(source), "-frames:v", str(seconds * FPS), "-an",
        # As VideoEncoder opens it.
        "-c:v", "libx264", "-preset", "superfast", "-tune", "zerolatency", "-g", str(FPS), "-bf", "0",
        "-b:v", str(BITRATE_BPS), "-maxrate", str(BITRATE_BPS), "-bufsize", str(BITRATE_BPS),
        "-threads", str(slice_threads(0, WIDTH, HEIGHT, FPS, os.cpu_count() or 1)), "-thread_type", "slice",
        "-a53cc", "0", "-x264-params", "scenecut=0:open-gop=0",
        "-f", "segment", "-segment_time", str(SEGMENT_S), "-segment_format", "mp4",
        "-segment_format_options", "movflags=+frag_keyframe+empty_moov+default_base_moof",
        str(folder / "%03d.mp4"),
    ]  # fmt: skip
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"ffmpeg ended with exit code {process.returncode}; its message is above.")
    frames = size_bytes = 0
    for path in sorted(folder.glob("*.mp4")):
        size_bytes += path.stat().st_size
        with av.open(str(path)) as container:
            frames += sum(1 for packet in container.demux(video=0) if packet.size)
    if frames != seconds * FPS:
        raise RuntimeError(f"ffmpeg wrote {frames} frames instead of {seconds * FPS}, so there is nothing to compare.")
    return _Run(usage.ru_utime + usage.ru_stime, frames, size_bytes)
