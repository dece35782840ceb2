"""The demonstration as a newcomer sees it: run once, and every command it prints is run as it is printed."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import pytest

from agent.demo.checks import check_signatures, probe_film, run_check_script, run_package_script
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
        """The three commands, cut out of the text as a mouse would: our script, the package's, the frames."""
        return re.findall(r"^# .*\n((?:[^#\n].*\n)+)", self.text, re.MULTILINE)

    @property
    def script(self) -> Path:
        return self.folder / "check.sh"

    @property
    def frames(self) -> int:
        found = re.search(r"sealed +(\d+) frames", self.text)
        assert found
        return int(found[1])

    @property
    def missed_frames(self) -> int:
        """How many the camera missed, as it says in the log: none, unless the machine is busy."""
        found = [re.search(rb'"missed_frames":(\d+)', path.read_bytes()) for path in self.package.glob("journal/*")]
        (missed,) = [int(match[1]) for match in found if match]
        return missed

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", "-c", command],
            cwd=self.working_directory,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )

    def sums(self) -> subprocess.CompletedProcess[str]:
        return self.run(f"cd {shlex.quote(str(self.package))} && sha256sum -c SHA256SUMS")

    def refused_by_script(self) -> str:
        """What the script finds wrong."""
        done = self.run(self.checks[0])
        assert done.returncode == 1, done.stdout + done.stderr
        (wrong,) = re.findall(r"^WRONG: (.*)", done.stdout, re.MULTILINE)
        return str(wrong)

    @contextmanager
    def forged(self, changes: dict[str, bytes | None]) -> Iterator[None]:
        """Files of the package changed, made or taken out (None), and SHA256SUMS made anew to fit; for a while."""
        before = self.folder / "store.before"
        shutil.copytree(self.folder / "store", before)
        package = self.package
        try:
            for name, data in changes.items():
                path = package / name
                assert (path.read_bytes() if path.exists() else None) != data
                if data is None:
                    path.unlink()
                else:
                    path.write_bytes(data)
            files = sorted(path for path in package.rglob("*") if path.is_file() and path.name != "SHA256SUMS")
            sums = (f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(package)}\n" for path in files)
            (package / "SHA256SUMS").write_text("".join(sums))
            assert self.sums().returncode == 0
            yield
        finally:
            shutil.rmtree(self.folder / "store")
            before.rename(self.folder / "store")


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


def test_what_was_checked_is_told_in_a_line_each(demonstration: Shown) -> None:
    assert re.search(r"by its own verify.sh: integrity, origin(, completeness)? hold\n", demonstration.text)
    assert ("completeness is limited." in demonstration.text) is (demonstration.missed_frames > 0)
    found = re.search(r"signed in itself, too: (\d+) of (\d+) GOPs", demonstration.text)
    assert found
    assert 0 < int(found[2]) - int(found[1]) <= 2


def test_the_printed_commands_work_as_printed(demonstration: Shown) -> None:
    assert len(demonstration.checks) == 3
    script, kit, film = (demonstration.run(command) for command in demonstration.checks)
    assert (script.returncode, kit.returncode, film.returncode) == (0, 0, 0), script.stdout + kit.stdout + film.stderr
    complete = "limited" if demonstration.missed_frames else "holds"
    for verdict in ("INTEGRITY     holds", "ORIGIN        holds", f"COMPLETENESS  {complete}"):
        assert verdict in kit.stdout
    records = sum(len(path.read_bytes().splitlines()) for path in demonstration.package.glob("journal/*"))
    assert f"The {records} records of the log are signed" in script.stdout
    assert f"the {demonstration.frames} frames that the log says" in script.stdout
    assert film.stdout == f"{demonstration.frames}\n"
    (ours,) = re.findall(r"^Verify .*\n((?:.+\n)+)", demonstration.text, re.MULTILINE)
    verified = demonstration.run(ours)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert "VERIFIED" in verified.stdout


def test_the_end_is_seen_on_a_small_terminal_and_says_how_it_went(demonstration: Shown) -> None:
    *_, ending = re.split(r"^ *[0-9.]+ s  .*\n", demonstration.text, flags=re.MULTILINE)
    rows = sum(max(1, -(-len(line) // 80)) for line in ending.splitlines())
    assert rows < 24  # the prompt needs one
    assert f"{demonstration.frames} frames recorded, offloaded and checked" in ending.splitlines()[-1]
    assert "is made anew each time" in ending


def test_the_script_is_short_and_calls_nothing_of_ours(demonstration: Shown) -> None:
    code = [line.split("#")[0] for line in demonstration.script.read_text().splitlines()]
    assert len(code) < 60
    assert "bodycam" not in "".join(code)
    assert "python" not in "".join(code)


def test_a_changed_picture_is_found_even_with_new_sums(demonstration: Shown) -> None:
    segment = demonstration.package / "000001.m4s"
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 1
    with tampered(segment, bytes(data)):
        assert "SHA256SUMS" in demonstration.refused_by_script()
        assert demonstration.sums().returncode == 1
        assert demonstration.run(demonstration.checks[1]).returncode == 1
        with pytest.raises(DemoError, match="fail CHECKPOINT_HASH"):
            run_package_script(demonstration.package, demonstration.root)
    with demonstration.forged({"000001.m4s": bytes(data)}):
        assert demonstration.refused_by_script() == "a file of the video is not the one that was signed"
        with pytest.raises(DemoError, match="not the one that was signed"):
            run_check_script(demonstration.script)
    run_check_script(demonstration.script)


def test_files_put_in_taken_out_or_emptied_are_found(demonstration: Shown) -> None:
    *_, last = sorted(path.name for path in demonstration.package.glob("0*.m4s"))
    changes: tuple[dict[str, bytes | None], ...] = (
        {"000099.m4s": (demonstration.package / last).read_bytes()},
        {last: None},
        {last: b""},
        {"init.mp4": (demonstration.package / "init.mp4").read_bytes() + b"\0"},
    )
    for change in changes:
        with demonstration.forged(change):
            assert "video" in demonstration.refused_by_script(), change


def test_records_changed_taken_out_or_moved_are_found_even_with_new_sums(demonstration: Shown, tmp_path: Path) -> None:
    (journal,) = demonstration.package.glob("journal/*")
    name = f"journal/{journal.name}"
    lines = journal.read_bytes().splitlines(keepends=True)
    marker = next(number for number, line in enumerate(lines) if b'"type":"marker"' in line)
    closed = next(number for number, line in enumerate(lines) if b'"type":"recording-close"' in line)
    changed = journal.read_bytes().replace(b'"source":"button"', b'"source":"buttom"', 1)
    with demonstration.forged({name: changed}):
        assert "is not signed by this camera" in demonstration.refused_by_script()
        with pytest.raises(DemoError, match="openssl says that the signature of record"):
            check_signatures(demonstration.package, demonstration.root, tmp_path)
    taken_out = lines[:marker] + lines[marker + 1 :]
    moved = [*lines[:marker], lines[marker + 1], lines[marker], *lines[marker + 2 :]]
    unsigned = [line.split(b"\t")[0] + b"\t-\n" for line in lines]
    for wrong, sentence in (
        (taken_out, f"record {marker + 1} of the log does not follow"),
        (moved, f"record {marker + 1} of the log does not follow"),
        (lines[1:], "record 1 of the log does not follow"),
        (lines[:closed], "holds no end of this recording"),
        (unsigned, "last record is not signed"),
        ([], "last record is not signed"),
    ):
        with demonstration.forged({name: b"".join(wrong)}):
            assert sentence in demonstration.refused_by_script()


def test_another_camera_of_the_same_name_is_found(demonstration: Shown) -> None:
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
        assert "record 1 of the log is not signed by this camera" in demonstration.refused_by_script()


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
    assert len(seen.counters) == demonstration.frames
    if not demonstration.missed_frames:
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


def test_frames_that_the_camera_missed_are_said_and_are_no_failure(started: Started) -> None:
    """As on a busy computer: the daemon is kept from running for a second, in the middle of the recording."""
    assert started.process.stdout is not None
    while "s  recording " not in started.said[-1]:
        started.said.append(started.process.stdout.readline())
        assert started.said[-1], started.process.communicate()
    os.kill(started.daemon_pid, signal.SIGSTOP)
    threading.Event().wait(1.0)
    os.kill(started.daemon_pid, signal.SIGCONT)
    code, said, error = started.rest()
    assert code == 0, said + error
    said = re.sub(r"\s+", " ", said)
    found = re.search(r"(\d+) frames were missed: the camera is software here, and the computer was too busy", said)
    assert found
    assert int(found[1]) >= 20
    assert f"but: {found[1]} frames" in said
    assert "by its own verify.sh: integrity, origin hold" in said
    assert "but: completeness is limited." in said
    assert "frames recorded, offloaded and checked: they are what the camera signed." in said


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
