"""A real `bodycam run` in a folder of its own: pressed at its pin, watched from outside."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from agent.control.client import ControlClient
from agent.errors import ControlError
from agent.panel.pin_client import PinChange, PinSocketClient
from agent.settings.load import load_settings
from agent.vault.filesystem import PosixFilesystem
from agent.vault.layout import VaultLayout
from tests.benchmarks.process import boottime_s, environment
from tests.benchmarks.source import FPS, HEIGHT, WIDTH
from tests.support.playback import journal_records, of_type

_Found = TypeVar("_Found")

HOLD_S = 1.0
"""The shortest stop gesture the settings allow: a benchmark has no wearer whose sleeve catches on the button."""

BITRATE_BPS = 6_000_000
_CONFIG = """\
extends = "{bench}"
[vault]
path = "vault"
key_path = "key/device.key"
socket_path = "control.sock"
receipt_queue_path = "receipts"
[buffer]
pre_event_s = {pre_event_s}
max_bytes = {max_bytes}
audio = {audio}
[camera]
backend = "file"
device = "{source}"
width = {width}
height = {height}
fps = {fps}
[video]
encoder = "libx264"
bitrate_bps = {bitrate_bps}
preset = "superfast"
threads = 0
[audio]
source = "{sound}"
[gpio]
bench_pin_socket_path = "pins.sock"
[gestures]
hold_ms = {hold_ms}
"""


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line of the daemon's log and when it arrived here, which is a little after it was written."""

    at_s: float
    text: str


class Device:
    """A daemon at 1920x1080, 30 frames/s, 6 Mbit/s, libx264 superfast, from a raw file. A context manager."""

    def __init__(self, folder: Path, source: Path, *, pre_event_s: int = 30, sound: bool = True) -> None:
        """Enrol; the daemon starts with the context. The folder is made anew."""
        self.folder = folder.resolve()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.source = source.resolve()
        self._config = self.folder / "bodycam.toml"
        self._config.write_text(
            _CONFIG.format(
                bench=Path("config/profiles/bench.toml").resolve(),
                pre_event_s=pre_event_s,
                # What the seconds may hold by the VBV, and as much again for a card that falls behind.
                max_bytes=2 * (pre_event_s + 4) * BITRATE_BPS // 8,
                source=self.source,
                width=WIDTH,
                height=HEIGHT,
                fps=FPS,
                bitrate_bps=BITRATE_BPS,
                sound="camera" if sound else "none",
                audio=str(sound).lower(),
                hold_ms=round(HOLD_S * 1000),
            )
        )
        settings = load_settings(self._config).settings
        # Said on standard output otherwise, in the middle of the table.
        subprocess.run(
            [sys.executable, "-m", "agent", "enroll", "--bench", "-c", str(self._config)],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        self._pins_path = Path(settings.gpio.bench_pin_socket_path)
        self._control = ControlClient(settings.vault.socket_path)
        self.layout = VaultLayout(settings.vault.path)
        self.log: list[LogLine] = []
        self.changes: list[PinChange] = []
        self._news = threading.Condition()

    def __enter__(self) -> Self:
        self.started_s = boottime_s()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "agent", "run", "-c", str(self._config)],
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        threading.Thread(target=self._read_log, daemon=True).start()
        self._finger = PinSocketClient(self._pins_path)
        threading.Thread(target=self._watch_pins, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._finger.close()
        self._process.terminate()
        try:
            code = self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise
        if code and error is None:
            last = "\n".join(line.text for line in self.log[-5:])
            raise RuntimeError(f"The daemon ended with exit code {code}. Its last lines:\n{last}")

    @property
    def pid(self) -> int:
        """The daemon's process id."""
        return self._process.pid

    def _read_log(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            with self._news:
                self.log.append(LogLine(boottime_s(), line.rstrip()))
                self._news.notify_all()

    def _watch_pins(self) -> None:
        for change in self._finger.watch():
            with self._news:
                self.changes.append(change)
                self._news.notify_all()

    def wait_for_log(self, text: str, after_s: float = 0.0, timeout_s: float = 30.0) -> LogLine:
        """The first line after a boot time that holds `text`. Raises TimeoutError."""

        def find() -> LogLine | None:
            return next((line for line in self.log if line.at_s >= after_s and text in line.text), None)

        return self._wait(find, text, timeout_s)

    def wait_for_light(self, after_s: float, timeout_s: float = 30.0, **wanted: int) -> float:
        """Boot time in s, not before after_s, from which on the outputs have these levels. Raises TimeoutError."""

        def find() -> float | None:
            levels: dict[str, int] = {}
            for change in self.changes:
                levels[change.name] = change.level
                if change.boottime_ns / 1e9 >= after_s and wanted.items() <= levels.items():
                    return change.boottime_ns / 1e9
            return None

        return self._wait(find, str(wanted), timeout_s)

    def _wait(self, find: Callable[[], _Found | None], what: str, timeout_s: float) -> _Found:
        until_s = time.monotonic() + timeout_s
        with self._news:
            while (found := find()) is None:
                left_s = until_s - time.monotonic()
                if left_s <= 0 or self._process.poll() is not None:
                    last = "\n".join(line.text for line in self.log[-5:])
                    raise TimeoutError(f"The daemon never came to {what!r}. Its last lines:\n{last}")
                self._news.wait(min(left_s, 0.5))
        return found

    def status(self) -> dict[str, Any]:
        """What `bodycam status --json` says."""
        return self._control.request({"command": "status"})

    def wait_until_buffered(self, seconds: float) -> None:
        """Until the pre-event buffer holds that much. Raises TimeoutError."""
        until_s = time.monotonic() + seconds + 30
        while time.monotonic() < until_s:
            try:
                if (self.status()["buffered_s"] or 0) >= seconds:
                    return
            except ControlError:
                self.wait_for_log("shows=")  # it does not listen before that
            time.sleep(0.25)
        raise TimeoutError(f"The buffer never held {seconds} s.")

    def double_press(self) -> float:
        """Boot time in s just before the second press was sent to the pin."""
        self._finger.hold(0.1)
        time.sleep(0.15)
        pressed_s = boottime_s()
        self._finger.hold(0.1)
        return pressed_s

    def stop(self) -> None:
        """Hold until the stop is recognised, and wait until the recording is sealed."""
        held_s = boottime_s()
        self._finger.hold(HOLD_S + 0.3)
        self.wait_for_log("shows=ready", held_s)

    def records(self, type_: str) -> list[dict[str, Any]]:
        """The fields of all journal records of a type, with their boot time."""
        return of_type(journal_records(PosixFilesystem(), self.layout), type_)
