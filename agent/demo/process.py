"""A running `bodycam run` seen from outside: its process, its log as it comes, its status, its pins."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from agent.clock import Clock
from agent.control.client import ControlClient
from agent.errors import ControlError, DemoError
from agent.settings.load import load_settings

_POLL_S = 0.03
_LAST_LINES = 12
STOP_TIMEOUT_S = 40.0
"""Longer than the daemon itself waits for flash, camera and threads, so that it is never killed for being thorough."""

T = TypeVar("T")


def agent_command(*arguments: str) -> list[str]:
    """The command line of `bodycam` with the interpreter that runs this, wherever it is installed."""
    return [sys.executable, "-m", "agent", *arguments]


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line of the daemon's log and when it arrived here, on the boot clock."""

    arrived_ns: int
    text: str

    def says(self, event: str, **fields: str) -> bool:
        """Whether it is this event with these fields, none of which holds a space."""
        words = self.text.split()
        # Time, level, event, fields.
        return len(words) > 2 and words[2] == event and all(f"{k}={v}" in words[3:] for k, v in fields.items())


class CameraProcess:
    """`bodycam run` with one configuration file, in the process group of whoever started it."""

    def __init__(self, config: Path, log: Path, clock: Clock, *, command: Sequence[str] | None = None) -> None:
        """log: the file that gets all the daemon says. Raises ConfigError when the configuration does not load."""
        self.config = config
        self.settings = load_settings(config).settings
        self.log = log
        self._clock = clock
        self._command = list(command or agent_command("run", "--config", str(config)))
        self._control = ControlClient(self.settings.vault.socket_path, timeout_s=10.0)
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self._told = False
        self.lines: list[LogLine] = []

    def start(self) -> None:
        """Start it; returns at once."""
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        self._reader = threading.Thread(target=self._read_log, name="daemon-log", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Of the running daemon."""
        return self._started.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative is the signal that ended it."""
        return None if self._process is None else self._process.poll()

    def status(self) -> dict[str, object] | None:
        """What `bodycam status` asks for; None while nobody answers."""
        try:
            return self._control.request({"command": "status"})
        except ControlError:
            return None

    def logged(self, event: str, since: int = 0, **fields: str) -> LogLine | None:
        """The first line about this event after the first `since` lines."""
        return next((line for line in tuple(self.lines)[since:] if line.says(event, **fields)), None)

    def wait(self, condition: Callable[[], T | None], what: str, timeout_s: float) -> T:
        """The first result of `condition` that is true.

        Raises DemoError when the daemon ends meanwhile, or when it takes longer; both with the daemon's last words.
        """
        deadline_s = time.monotonic() + timeout_s
        while True:
            ended = self.exit_code is not None
            if found := condition():
                return found
            if ended:
                self._finish_log()
                raise DemoError(f"The daemon ended {self.how_it_ended()} before {what}.{self.last_words()}")
            if time.monotonic() > deadline_s:
                raise DemoError(f"It took longer than {timeout_s:.0f} s until {what}.{self.last_words()}")
            time.sleep(_POLL_S)

    def wait_logged(self, event: str, what: str, timeout_s: float, since: int = 0, **fields: str) -> LogLine:
        """Wait for a log line. Raises DemoError as `wait` does."""
        return self.wait(lambda: self.logged(event, since, **fields), what, timeout_s)

    def wait_ended(self, timeout_s: float) -> int:
        """The exit code, once it has ended. Raises subprocess.TimeoutExpired."""
        code = self._started.wait(timeout_s)
        self._finish_log()
        return code

    def ended_by_itself(self, grace_s: float = 2.0) -> int | None:
        """The exit code if it has ended, or is just about to, without `stop` or `kill`; else None."""
        if self._told:
            return None
        try:
            return self.wait_ended(grace_s)
        except subprocess.TimeoutExpired:
            return None

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """SIGTERM, then its exit code. One that does not end in time is killed, which gives -9."""
        process = self._started
        if process.poll() is None:
            self._told = True
            process.terminate()
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._finish_log()
        return process.returncode

    def kill(self) -> None:
        """SIGKILL: what a crash is like. Waits until the process is gone."""
        self._told = True
        self._started.kill()
        self._started.wait()
        self._finish_log()

    def how_it_ended(self) -> str:
        """The exit code in words."""
        code = self.exit_code
        return f"by signal {-code}" if code is not None and code < 0 else f"with exit code {code}"

    def last_words(self) -> str:
        """Its last log lines, for the end of a message."""
        lines = [line.text for line in tuple(self.lines)[-_LAST_LINES:]]
        if not lines:
            return " It said nothing."
        return f" The last it said (all of it is in {self.log}):\n" + "\n".join(f"    {line}" for line in lines)

    @property
    def _started(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "start() comes first"
        return self._process

    def _read_log(self) -> None:
        stream = self._started.stderr
        assert stream is not None
        with self.log.open("ab") as file, stream:
            for line in stream:
                arrived_ns = self._clock.boottime_ns()
                self.lines.append(LogLine(arrived_ns, line.decode("utf-8", errors="replace").rstrip("\n")))
                file.write(line)
                file.flush()

    def _finish_log(self) -> None:
        if self._reader is not None:
            self._reader.join(5.0)
