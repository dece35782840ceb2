"""The demonstration as a newcomer sees it: run once, and every command it prints is run as it is printed."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import pytest

from agent.demo.checks import check_signatures, check_sums, probe_film
from agent.demo.place import PRE_EVENT_S
from agent.demo.process import agent_command
from agent.errors import DemoError
from tests.support.playback import play

WORDS = (
    "enrolled", "running", "ready", "shown", "pressed", "accepted", "recording", "shown", "marker", "stopped",
    "sealed", "offloaded", "verified", "exported", "ended",
)  # fmt: skip
LIMIT_S = 300.0
"""Only against a hang: what is tested does not depend on how fast the machine is."""


@dataclass(frozen=True)
class Shown:
    """A demonstration that was given."""

    working_directory: Path
    folder: Path
    text: str

    @property
    def package(self) -> Path:
        (sums,) = self.folder.glob("store/*/*/SHA256SUMS")
        return sums.parent

    @property
    def root(self) -> Path:
        return self.folder / "key" / "BENCH-ONLY-root.pem"

    @property
    def checks(self) -> list[str]:
        """The three commands, cut out of the text as a mouse would."""
        return re.findall(r"^# .*\n((?:.+\n)+)", self.text, re.MULTILINE)

    @property
    def frames(self) -> int:
        found = re.search(r"sealed +(\d+) frames", self.text)
        assert found
        return int(found[1])

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", "-c", command],
            cwd=self.working_directory,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )

    def results(self) -> list[bool]:
        """Which of the three checks pass."""
        return [self.run(command).returncode == 0 for command in self.checks]


@pytest.fixture(scope="module")
def demonstration(tmp_path_factory: pytest.TempPathFactory) -> Shown:
    working_directory = tmp_path_factory.mktemp("at a desk")  # a space, as people have them
    command = agent_command("demo", "--source", "synthetic", "--seconds", "5", "--folder", "demo")
    done = subprocess.run(command, cwd=working_directory, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    return Shown(working_directory, working_directory / "demo", done.stdout)


@contextmanager
def tampered(path: Path, new: bytes) -> Iterator[None]:
    """The file with other contents, for a while."""
    before = path.read_bytes()
    assert new != before
    path.write_bytes(new)
    try:
        yield
    finally:
        path.write_bytes(before)


def test_the_story_is_whole_and_in_order(demonstration: Shown) -> None:
    told = re.findall(r"^ *([0-9.]+) s  (\w+) ", demonstration.text, re.MULTILINE)
    assert tuple(word for _, word in told) == WORDS
    times = [float(seconds) for seconds, _ in told]
    assert times == sorted(times)
    assert "\x1b" not in demonstration.text  # no colour where there is no terminal
    assert max(map(len, demonstration.text.splitlines())) <= 100


def test_what_was_shown_is_what_the_pins_did(demonstration: Shown) -> None:
    assert "shown      green light blinks\n" in demonstration.text
    assert "shown      red light blinks, 2 beeps, 2 vibration pulses\n" in demonstration.text
    assert re.search(r"marker .*: 1 beep, 1 vibration pulse\n", demonstration.text)
    assert re.search(r"stopped .*: 1 beep, 1 vibration pulse\n", demonstration.text)


def test_the_printed_commands_work_as_printed(demonstration: Shown) -> None:
    assert len(demonstration.checks) == 3
    sums, signatures, film = (demonstration.run(command) for command in demonstration.checks)
    assert (sums.returncode, signatures.returncode, film.returncode) == (0, 0, 0), sums.stderr + film.stderr
    listed = (demonstration.package / "SHA256SUMS").read_text().splitlines()
    assert sums.stdout.count(": OK\n") == len(listed)
    records = sum(len(path.read_bytes().splitlines()) for path in demonstration.package.glob("journal/*"))
    assert signatures.stderr.lower().count("verification successful") == records
    assert film.stdout == f"{demonstration.frames}\n"
    (ours,) = re.findall(r"^Verify it .*\n((?:.+\n)+)", demonstration.text, re.MULTILINE)
    verified = demonstration.run(ours)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert "VERIFIED" in verified.stdout


def test_a_changed_picture_fails_the_first(demonstration: Shown) -> None:
    segment = demonstration.package / "000001.m4s"
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 1
    with tampered(segment, bytes(data)):
        assert demonstration.results()[0] is False
        with pytest.raises(DemoError, match=r"000001\.m4s: FAILED"):
            check_sums(demonstration.package)
    assert demonstration.results() == [True, True, True]


def test_a_changed_record_fails_the_second_even_with_new_sums(demonstration: Shown, tmp_path: Path) -> None:
    (journal,) = demonstration.package.glob("journal/*")
    sums = demonstration.package / "SHA256SUMS"
    changed = journal.read_bytes().replace(b'"source":"button"', b'"source":"buttom"', 1)
    with tampered(journal, changed):
        new_sums = subprocess.run(
            "sha256sum $(cut -c 67- SHA256SUMS)", shell=True, cwd=sums.parent, capture_output=True, check=True
        ).stdout
        with tampered(sums, new_sums):
            assert demonstration.results() == [True, False, True]
            with pytest.raises(DemoError, match="openssl says that the signature of record"):
                check_signatures(demonstration.package, demonstration.root, tmp_path)


def test_another_camera_of_the_same_name_fails_the_second(demonstration: Shown) -> None:
    root = demonstration.root
    other = demonstration.working_directory / "other"
    config = demonstration.folder / "bodycam.toml"
    vault = other / "vault"
    made = subprocess.run(
        agent_command(
            "enroll", "--bench", "--config", str(config), "--set", f"vault.path={vault}",
            "--set", f"vault.key_path={other / 'key' / 'device.key'}",
        ),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    with tampered(root, (vault / "device" / "root.pem").read_bytes()):
        assert demonstration.results() == [True, False, True]


def test_a_missing_end_fails_the_third(demonstration: Shown) -> None:
    *_, last = sorted(demonstration.package.glob("0*.m4s"))
    with tampered(last, b""):
        assert demonstration.results() == [False, True, False]


def test_openssl_is_asked_about_every_record(demonstration: Shown, tmp_path: Path) -> None:
    (journal,) = demonstration.package.glob("journal/*")
    lines = journal.read_bytes().splitlines()
    checked = check_signatures(demonstration.package, demonstration.root, tmp_path)
    assert (checked.signed + checked.pending, len(checked.records)) == (len(lines), len(lines))
    copy = tmp_path / "package"
    shutil.copytree(demonstration.package, copy)
    for index in (0, len(lines) // 2, len(lines) - 1):
        forged = [line.replace(b'"v":1', b'"v":2') if number == index else line for number, line in enumerate(lines)]
        (copy / "journal" / journal.name).write_bytes(b"\n".join(forged) + b"\n")
        with pytest.raises(DemoError, match=f"record {index + 1} "):
            check_signatures(copy, demonstration.root, tmp_path)


def test_ffprobe_complaints_are_not_passed_over(demonstration: Shown, tmp_path: Path) -> None:
    copy = tmp_path / "package"
    shutil.copytree(demonstration.package, copy)
    (copy / "init.mp4").write_bytes(b"\0" * 500)
    with pytest.raises(DemoError, match="ffprobe cannot read the recording"):
        probe_film(copy)


def test_the_film_is_all_there_with_sound(demonstration: Shown) -> None:
    film = demonstration.folder / "demo.mp4"
    seen = play(film.read_bytes())
    first = seen.counters[0]
    assert first is not None
    assert seen.counters == list(range(first, first + demonstration.frames))
    with av.open(str(film)) as container:
        sound = np.concatenate([frame.to_ndarray() for frame in container.decode(audio=0)], axis=1)
    samples = sound.shape[1]
    assert samples / 48_000 == pytest.approx(seen.frames[-1][0], abs=0.3)
    assert float(np.abs(sound).max()) > 0.05  # a tone, and not silence
    found = re.search(r"from ([0-9.]+) s before the press", demonstration.text)
    assert found
    assert float(found[1]) >= PRE_EVENT_S


@dataclass
class Started:
    """A demonstration that goes on; its daemon's process id is known."""

    process: subprocess.Popen[str]
    daemon_pid: int
    said: list[str]

    def rest(self) -> tuple[int, str, str]:
        out, error = self.process.communicate(timeout=LIMIT_S)
        return self.process.returncode, "".join(self.said) + out, error


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Started]:
    command = agent_command("demo", "--source", "synthetic", "--folder", str(tmp_path / "demo"))
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said: list[str] = []
    pid = None
    while pid is None:
        said.append(process.stdout.readline())
        assert said[-1], process.communicate()
        pid = re.search(r"running .* process (\d+)", said[-1])
    try:
        yield Started(process, int(pid[1]), said)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_interrupted_it_leaves_no_process(started: Started, number: signal.Signals) -> None:
    started.process.send_signal(number)
    started.process.send_signal(number)  # people press it more than once
    code, said, _ = started.rest()
    assert code == 130
    assert "Nothing runs any more." in said
    assert "with exit code 0" in said  # the daemon ended in order and was not killed
    assert not is_alive(started.daemon_pid)


def test_a_daemon_that_dies_is_not_hidden(started: Started) -> None:
    os.kill(started.daemon_pid, signal.SIGKILL)
    code, _, error = started.rest()
    assert code == 1
    assert "The daemon ended by signal 9" in error
    assert "info state shows=ready" in error
    assert "Traceback" not in error


def test_two_in_one_folder_do_not_hurt_each_other(started: Started, tmp_path: Path) -> None:
    second = subprocess.run(
        agent_command("demo", "--source", "synthetic", "--folder", str(tmp_path / "demo")),
        capture_output=True, text=True, timeout=LIMIT_S, check=False,
    )  # fmt: skip
    assert second.returncode == 75
    assert "stop it first" in second.stderr
    assert is_alive(started.daemon_pid)
    assert (tmp_path / "demo" / "vault" / "journal").is_dir()
    started.process.send_signal(signal.SIGINT)
    assert started.rest()[0] == 130


def refused(folder: Path, *arguments: str, path: str | None = None) -> tuple[int, str]:
    environment = os.environ if path is None else {**os.environ, "PATH": path}
    done = subprocess.run(
        agent_command("demo", "--folder", str(folder / "demo"), *arguments),
        env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("source", "sentence"),
    [("nowhere.mp4", "name a source"), ("/dev/video99", "what is plugged in"), (__file__, "not a video")],
)
def test_a_source_that_cannot_be_filmed_is_said_at_once(tmp_path: Path, source: str, sentence: str) -> None:
    code, said = refused(tmp_path, "--source", source)
    assert (code, sentence in said) == (69, True), said
    assert not (tmp_path / "demo").exists()


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "thesis.txt").write_text("precious")
    code, said = refused(tmp_path, "--source", "synthetic")
    assert (code, "nothing in it was touched" in said) == (1, True), said
    assert (tmp_path / "demo" / "thesis.txt").read_text() == "precious"


def test_a_tool_that_is_missing_is_named(tmp_path: Path) -> None:
    code, said = refused(tmp_path, "--source", "synthetic", path=str(tmp_path))
    assert code == 1
    assert "openssl and sha256sum and ffprobe cannot be found" in said
    assert "apt-get install openssl coreutils ffmpeg" in said
