"""The other half of a soak: `bodycam run` as a process in real time, with its threads, sockets and pins: pressed,
unplugged, asked and shouted at, stopped and killed. One thread under a simulated clock cannot leak a thread.
"""

from __future__ import annotations

import os
import random
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

from agent.clock import SystemClock
from agent.daemon.run import RESTART_EXIT_CODE
from agent.demo.process import CameraProcess
from agent.panel.pin_client import PinSocketClient
from agent.trust.certificates import load_chain
from agent.trust.identity import IdentityPaths, enroll_bench
from agent.vault.filesystem import PosixFilesystem
from agent.vault.layout import VaultLayout
from agent.verify.finding import Code, Severity
from agent.verify.verify import verify_path
from tests.benchmarks.figure import Figure
from tests.soak.steadiness import MB, slope_per_h
from tests.soak.vitals import Vitals, descriptors, resident_bytes, threads
from tests.support.playback import journal_records, of_type, play, recording_bytes

NAME = "live"
LIMIT_S = 120.0
"""Only ever waited out by a failure."""
INPUT_PIN = 5
HOLD_S = 1.2
LONG_LIFE = 0.6
"""Of the time; the rest has ends of all kinds."""
WARM_ROUNDS = 3
LOOKS = 5
MOST_MB_PER_100_ROUNDS = 1.0
NOISE_MB = 1.0
"""Allocators of ten threads keep what they were given; nobody can ask them from outside to hand it back."""
ALLOWED_WARNINGS = frozenset({Code.FRAMES_MISSED, Code.UNSIGNED_MEDIA})
"""A machine that was too busy for every frame, and a kill between a fragment and its checkpoint."""

_CONFIG = f"""\
profile = "bench"
[device]
id = "CAM-TEST"
[vault]
path = "vault"
key_path = "key/device.key"
socket_path = "control.sock"
receipt_queue_path = "receipts"
segment_s = 2
[buffer]
pre_event_s = 1
audio = true
[camera]
backend = "synthetic"
width = 160
height = 96
fps = 20
retry_max_s = 1
stall_ms = 1000
[video]
encoder = "libx264"
bitrate_bps = 200_000
gop_ms = 500
preset = "ultrafast"
threads = 1
[audio]
source = "camera"
[gpio]
factory = "mock"
bench_pin_socket_path = "pins.sock"
trigger_input_pins = [{INPUT_PIN}]
[gestures]
hold_ms = 1000
"""


@dataclass
class LiveStory:
    """counts: what was done. vitals: at rest, of the long life, at_s by the wall. exits: (what was done, exit code)."""

    counts: dict[str, int] = field(default_factory=dict)
    vitals: list[Vitals] = field(default_factory=list)
    exits: list[tuple[str, int]] = field(default_factory=list)

    def count(self, name: str) -> None:
        """It happened once more."""
        self.counts[name] = self.counts.get(name, 0) + 1


class Live:
    """A folder with a configuration, an identity, a vault, and one daemon after another."""

    def __init__(self, folder: Path, minutes: float, seed: int) -> None:
        """folder: a new one."""
        self.folder = folder.resolve()
        self.folder.mkdir(parents=True)
        self._config = self.folder / "bodycam.toml"
        self._config.write_text(_CONFIG)
        self.layout = VaultLayout(self.folder / "vault")
        paths = IdentityPaths(self.folder / "key" / "device.key", self.layout.chain, self.layout.root_certificate)
        enroll_bench(paths, "CAM-TEST", None, datetime.now(UTC), has_records=False)
        self._seconds = minutes * 60
        self._rng = random.Random(seed)
        self._numbers = count()
        self._camera: CameraProcess
        self._recording: str | None = None
        self.story = LiveStory()

    def run(self) -> LiveStory:
        """All of it. Raises DemoError, with the daemon's last words, when something does not come."""
        begin_s = time.monotonic()
        self._start()
        try:
            rounds = 0
            while rounds < WARM_ROUNDS + 3 or time.monotonic() < begin_s + self._seconds * LONG_LIFE:
                self._round(unplugs=rounds % 3 == 1)
                self._rest(begin_s)
                rounds += 1
            self._end("stop", self._camera.stop())
            ends = (self._stopped_while_it_records, self._killed, self._hung)
            for number in count():
                if number >= len(ends) and time.monotonic() >= begin_s + self._seconds:
                    break
                self._start()
                self._round(unplugs=False)
                ends[number % len(ends)]()
            self._start()
            self._stop_recording()
            self._end("stop", self._camera.stop())
        finally:
            if self._camera.exit_code is None:
                self._camera.kill()
        return self.story

    # -- the process ------------------------------------------------------------------------------------------

    def _start(self) -> None:
        command = [sys.executable, "-m", "tests.support.hanging_camera", str(self.folder), "run", "-c"]
        self._camera = CameraProcess(
            self._config,
            self.folder / f"run-{next(self._numbers)}.log",
            SystemClock(),
            command=[*command, str(self._config)],
        )
        self._camera.start()
        self._wait(lambda status: status["shows"] in ("ready", "recording"), "it was ready")
        self.story.count("start")

    def _end(self, how: str, code: int) -> None:
        self.story.exits.append((how, code))
        self.story.count(f"end: {how}")

    def _stopped_while_it_records(self) -> None:
        self._record()
        self._end("stop", self._camera.stop())

    def _killed(self) -> None:
        self._record()
        self._camera.kill()
        self._end("kill", -9)

    def _hung(self) -> None:
        """The camera blocks in the kernel: the process ends by itself, and the next one goes on with the recording."""
        self._record()
        os.mkfifo(self.folder / "read")
        self._end("hang", self._camera.wait_ended(LIMIT_S))
        (self.folder / "read").unlink()

    def _wait(self, condition: Callable[[dict[str, Any]], object], what: str) -> dict[str, Any]:
        def asked() -> dict[str, Any] | None:
            status = self._camera.status()
            return status if status is not None and condition(status) else None

        return self._camera.wait(asked, what, LIMIT_S)

    # -- what happens to it -----------------------------------------------------------------------------------

    def _round(self, *, unplugs: bool) -> None:
        self._record()
        self._shout()
        if unplugs:
            before = self._recording
            (self.folder / "unplugged").touch()
            self._wait(lambda status: status["shows"] == "fault", "it missed its camera")
            (self.folder / "unplugged").unlink()
            self._wait(
                lambda status: status["shows"] == "recording" and status["recording"] not in (None, before),
                "it went on",
            )
            self.story.count("fault: unplugged")
        self._stop_recording()

    def _record(self) -> None:
        """Unless it records already, because it went on with what was interrupted."""
        status = self._wait(lambda status: status["shows"] in ("ready", "recording"), "it was ready")
        if status["shows"] == "ready":
            with PinSocketClient(self.folder / "pins.sock") as pins:
                pins.hold(0.1, INPUT_PIN)
            self.story.count("trigger")
        status = self._wait(lambda status: status["shows"] == "recording", "it recorded")
        self._recording = status["recording"]
        time.sleep(self._rng.uniform(0.1, 1.5))

    def _stop_recording(self) -> None:
        """A hold again and again, because a machine may be too busy to see one."""

        def held() -> bool | None:
            status = self._camera.status()
            if status is not None and status["shows"] == "ready":
                return True
            with PinSocketClient(self.folder / "pins.sock") as pins:
                pins.hold(HOLD_S)
            return None

        self._camera.wait(held, "the hold stopped it", LIMIT_S)

    def _shout(self) -> None:
        """What a control socket has to bear: questions, nonsense, and people who hang up."""
        for word in (b"nonsense\n", b'{"command": "nothing"}\n', b"{", b""):
            with socket.socket(socket.AF_UNIX) as connection, suppress(OSError):
                connection.settimeout(10)
                connection.connect(str(self.folder / "control.sock"))
                connection.sendall(word)
                connection.shutdown(socket.SHUT_WR)
                connection.recv(4096)
            self.story.count("shouted")

    def _rest(self, begin_s: float) -> None:
        """Only with a full buffer: until then it grows."""
        self._wait(
            lambda status: status["shows"] == "ready" and (status["buffered_s"] or 0) >= 3, "its buffer was full"
        )
        pid = self._camera.pid
        looks = []
        for _ in range(LOOKS):
            time.sleep(0.1)
            looks.append((resident_bytes(pid), descriptors(pid), threads(pid)))
        # The least: whoever asked just now is still being answered, and a picture still being measured.
        self.story.vitals.append(Vitals(time.monotonic() - begin_s, 0, *(min(one) for one in zip(*looks, strict=True))))


def judge_live(live: Live) -> tuple[list[Figure], list[str]]:
    """Figures with their bars, and sentences on what missed them."""
    story, wrong = live.story, []
    codes = {"stop": 0, "kill": -9, "hang": RESTART_EXIT_CODE}
    wrong += [f"After {how} the exit code was {code}." for how, code in story.exits if code != codes[how]]
    frames, lost = _frames(live, wrong)
    before_s = time.monotonic()
    report = verify_path(live.layout.root, roots=load_chain(live.layout.root_certificate), video=True)
    took_s = time.monotonic() - before_s
    bad = [
        finding
        for finding in report.findings
        if finding.severity is Severity.FAIL
        or (finding.severity is Severity.WARN and finding.code not in ALLOWED_WARNINGS)
    ]
    wrong += [f"{finding.severity.value} {finding.code.value} {finding.subject}: {finding.sentence}" for finding in bad]
    warm = story.vitals[WARM_ROUNDS:]
    # By rounds and not by time: each is a recording, four rude clients and, in every third, a new camera session.
    per_100 = slope_per_h([(float(number), one.rss_bytes / MB) for number, one in enumerate(warm)]) / 3600 * 100
    noise = 100 * NOISE_MB / len(warm)
    figures = [
        Figure(NAME, "triggers", story.counts.get("trigger", 0), "", (">=", 3),
               ", ".join(f"{name} {count}" for name, count in sorted(story.counts.items()))),
        Figure(NAME, "frames decoded, each once and in order", frames, "", (">=", 1)),
        Figure(NAME, "frames lost or doubled", lost, "", ("==", 0)),
        Figure(NAME, "exit codes other than they should be",
               sum(code != codes[how] for how, code in story.exits), "", ("==", 0)),
        Figure(NAME, "memory: slope per 100 recordings", per_100, "MB", ("<=", max(MOST_MB_PER_100_ROUNDS, noise)),
               f"{len(warm)} rounds, {warm[0].rss_bytes / MB:.1f} to {warm[-1].rss_bytes / MB:.1f} MB"),
        Figure(NAME, "file descriptors: more at the end than at the beginning",
               _grown([one.descriptors for one in warm]), "", ("<=", 0), f"of {warm[0].descriptors}, at rest"),
        Figure(NAME, "threads: more at the end than at the beginning",
               _grown([one.threads for one in warm]), "", ("<=", 0), f"of {warm[0].threads}, at rest"),
        Figure(NAME, "verify: all of it in one go", took_s, "s", None,
               f"{report.records} records, {len(report.recordings)} recordings"),
        Figure(NAME, "verify: failing, or warning without a cause", len(bad), "", ("==", 0)),
    ]  # fmt: skip
    return figures, wrong


def _grown(values: list[int]) -> int:
    """By the least of each half: a client that is being answered at that moment is no leak."""
    half = len(values) // 2
    return min(values[half:]) - min(values[:half])


def _frames(live: Live, wrong: list[str]) -> tuple[int, int]:
    """Frames read back, and how many are missing or twice: the counter counts what the camera delivered."""
    filesystem = PosixFilesystem()
    records = journal_records(filesystem, live.layout)
    frames = lost = 0
    for opened in of_type(records, "recording-open"):
        recording_id = opened["recording_id"]
        vouched = {
            segment["file"]: segment["bytes"] - segment.get("torn_bytes", 0)
            for segment in of_type(records, "segment", recording_id)
        }
        counters = play(recording_bytes(filesystem, live.layout.recording(recording_id), until=vouched)).counters
        first = counters[0] if counters and counters[0] is not None else 0
        asked = list(range(first, first + len(counters)))
        frames += len(counters)
        if counters != asked:
            bad = sum(shown != number for shown, number in zip(counters, asked, strict=True))
            lost += bad
            wrong.append(f"{recording_id}: {bad} frames are not where the counter before them leads to.")
    return frames, lost
