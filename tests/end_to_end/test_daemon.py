"""The daemon as it is run: real processes on a real disk, pins pressed through the bench socket, signals, kill -9.

Nothing here waits a fixed time for something to have happened: each wait is for a condition, with a limit.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from agent.clock import NS_PER_MS, SystemClock
from agent.control.client import ControlClient
from agent.demo.process import CameraProcess, agent_command
from agent.errors import ControlError
from agent.panel.pin_client import PinChange, PinSocketClient
from agent.trust.certificates import load_chain
from agent.trust.identity import IdentityPaths, enroll_bench
from agent.vault.filesystem import PosixFilesystem
from agent.vault.layout import VaultLayout
from agent.verify.finding import Code, Severity
from agent.verify.report import RecordingReport
from agent.verify.verify import verify_path
from tests.support.playback import journal_records, of_type, play, recording_bytes
from tests.support.record_schema import assert_documented

LIMIT_S = 120.0
"""Generous, because it is only ever waited out by a failure."""

DOUBLE_PRESS_MS = 400
PRESS_MS = 50
"""Well above the debounce time, which is all that a press must last."""

CONFIG = f"""\
profile = "bench"

[device]
id = "CAM-TEST"

[vault]
path = "vault"
key_path = "key/device.key"
socket_path = "control.sock"
receipt_queue_path = "receipts"
signer_timeout_ms = 400

[buffer]
pre_event_s = 1

[camera]
backend = "synthetic"
width = 160
height = 96
fps = 20
retry_max_s = 1

[video]
encoder = "libx264"
bitrate_bps = 200_000
gop_ms = 400
preset = "ultrafast"
threads = 1

[audio]
source = "none"

[recording]
durable_timeout_ms = 1000

[gpio]
factory = "mock"
bench_pin_socket_path = "pins.sock"

[gestures]
double_press_ms = {DOUBLE_PRESS_MS}
hold_ms = 1000
"""


class Finger(PinSocketClient):
    """Knows by the boot clock, which is the daemon's too, when it let go last."""

    _released_ns = 0
    pressed_ns = 0
    """Boot time by which the last press was felt."""

    def press(self, pin: int | str = "record") -> None:
        super().press(pin)
        self.pressed_ns = SystemClock().boottime_ns()

    def release(self, pin: int | str = "record") -> None:
        super().release(pin)
        self._released_ns = SystemClock().boottime_ns()

    def wait_apart(self, ms: int) -> None:
        """Until the next press is at least so much later than the last release."""
        SystemClock().sleep_until_ns(self._released_ns + ms * NS_PER_MS)


class Desk:
    """A folder with a configuration, an identity, a vault, and the daemons started on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "bodycam.toml"
        self.vault = folder / "vault"
        self.layout = VaultLayout(self.vault)
        self.running: list[CameraProcess] = []
        self.configure()
        paths = IdentityPaths(folder / "key" / "device.key", self.layout.chain, self.layout.root_certificate)
        enroll_bench(paths, "CAM-TEST", None, datetime.now(UTC), has_records=False)

    def configure(self, *changes: tuple[str, str]) -> None:
        """Write the configuration, with each `old` line replaced by its `new` one."""
        text = CONFIG
        for old, new in changes:
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        self.config.write_text(text)

    def start(self) -> CameraProcess:
        camera = CameraProcess(self.config, self.folder / f"run-{len(self.running)}.log", SystemClock())
        self.running.append(camera)
        camera.start()
        return camera

    def start_ready(self) -> CameraProcess:
        """A daemon whose buffer holds what is configured."""
        camera = self.start()
        wait_status(
            camera, lambda status: status["shows"] == "ready" and (status["buffered_s"] or 0) >= 1, "it was ready"
        )
        return camera

    def pins(self) -> Finger:
        return Finger(self.folder / "pins.sock")

    def bodycam(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end as a person would."""
        return subprocess.run(agent_command(*arguments), capture_output=True, text=True, timeout=LIMIT_S, check=False)

    def run_refused(self) -> tuple[int, str]:
        """`bodycam run` that is expected to end by itself: exit code and what it said."""
        done = self.bodycam("run", "--config", str(self.config))
        return done.returncode, done.stderr

    def records(self, type_: str, recording_id: str | None = None) -> list[dict[str, Any]]:
        return of_type(journal_records(PosixFilesystem(), self.layout), type_, recording_id)

    def verified(self) -> dict[str, RecordingReport]:
        """The recordings by id as the verifier reports them; fails the test if anything is wrong with any."""
        report = verify_path(self.vault, roots=load_chain(self.layout.root_certificate))
        assert report.ok, report.findings
        # A machine that is busy with other things films fewer frames; the log has to say so, and it is no fault of it.
        warned = {finding.code for finding in report.findings if finding.severity is Severity.WARN}
        assert warned <= {Code.FRAMES_MISSED}, report.findings
        assert_documented(self.layout.journal)
        tests = self.records("self-test")
        assert len(tests) == len(self.records("boot"))
        assert all(record["passed"] for record in tests), tests
        return {recording.recording_id: recording for recording in report.recordings}


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    for camera in made.running:
        if camera.exit_code is None:
            camera.kill()


def wait_status(camera: CameraProcess, is_so: Callable[[dict[str, Any]], object], what: str) -> dict[str, Any]:
    """The first status of which `is_so` holds."""

    def look() -> dict[str, Any] | None:
        status = camera.status()
        return status if status is not None and is_so(status) else None

    return camera.wait(look, what, LIMIT_S)


def wait_recording(camera: CameraProcess, but: str | None = None) -> str:
    """The id of the recording that runs, once a fragment of it is durable."""
    status = wait_status(
        camera,
        lambda status: status["shows"] == "recording" and status["recording"] not in (None, but),
        "it was recording",
    )
    assert status["durable_fragments"] >= 1
    return str(status["recording"])


def record_once(desk: Desk, camera: CameraProcess) -> str:
    """Start and stop a recording by the button; its id, once it is sealed."""
    with desk.pins() as pins:
        double_press(pins)
        recording_id = wait_recording(camera)
        press_again(pins, 1.1)
        wait_status(camera, lambda status: status["shows"] == "ready", "it was sealed")
    return recording_id


def double_press(pins: Finger) -> None:
    """Again when the machine was so busy that these were two single presses, which do nothing where no recording is."""
    clock, limit_ns = SystemClock(), DOUBLE_PRESS_MS * NS_PER_MS
    while True:
        pins.wait_apart(DOUBLE_PRESS_MS)
        earliest_ns = clock.boottime_ns()
        pins.press()
        latest_ns = clock.boottime_ns()
        clock.sleep_until_ns(latest_ns + PRESS_MS * NS_PER_MS)
        pins.release()
        clock.sleep_until_ns(clock.boottime_ns() + PRESS_MS * NS_PER_MS)
        second_ns = clock.boottime_ns()
        pins.hold(PRESS_MS / 1000)
        if pins.pressed_ns - earliest_ns < limit_ns:
            return
        if second_ns - latest_ns < limit_ns:
            pytest.skip("The machine stalled in the middle of a press: nobody can tell what the daemon saw.")


def press_again(pins: Finger, seconds: float) -> None:
    """A press that counts for itself: one sooner than double_press_ms after a start belongs to the start."""
    pins.wait_apart(DOUBLE_PRESS_MS)
    pins.hold(seconds)


@contextmanager
def watching(pins: PinSocketClient) -> Iterator[list[PinChange]]:
    """What the outputs do meanwhile, as a growing list."""
    seen: list[PinChange] = []

    def watch() -> None:
        for change in pins.watch():
            seen.append(change)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    yield seen


def frames_in(desk: Desk, recording_id: str) -> list[int | None]:
    return play(recording_bytes(PosixFilesystem(), desk.layout.recording(recording_id))).counters


def assert_unbroken(counters: list[int | None]) -> None:
    """Every painted counter once and in order."""
    assert counters
    first = counters[0]
    assert first is not None
    assert counters == list(range(first, first + len(counters)))


def test_what_doctor_finds_while_it_runs_is_journalled(desk: Desk) -> None:
    config = ("--config", str(desk.config))
    refused = desk.bodycam("doctor", "--record", "--json", *config)
    assert refused.returncode == 69
    assert json.loads(refused.stdout)["recorded"] is False
    assert "start it with `bodycam run`" in refused.stderr
    camera = desk.start_ready()
    done = desk.bodycam("doctor", "--record", "--json", *config)
    said = json.loads(done.stdout)
    assert said["recorded"] is True
    assert camera.stop() == 0
    _, record = desk.records("self-test")
    assert (record["source"], record["passed"]) == ("doctor", said["ok"])
    assert [(test["name"], test["state"]) for test in record["tests"]] == [
        (check["name"], check["state"]) for check in said["checks"]
    ]
    assert_documented(desk.layout.journal)


def test_sigterm_while_recording_seals_and_ends_in_order(desk: Desk) -> None:
    camera = desk.start_ready()
    with desk.pins() as pins:
        double_press(pins)
        recording_id = wait_recording(camera)
    assert camera.stop() == 0

    (stop,) = desk.records("stop")
    assert (stop["recording_id"], stop["reason"]) == (recording_id, "shutdown")
    (opened,) = desk.records("recording-open")
    assert opened["pre_event_short_reason"] is None
    assert opened["actual_pre_event_ms"] >= 1000
    (closed,) = desk.records("recording-close")
    assert closed["recovered"] is False
    assert journal_records(PosixFilesystem(), desk.layout)[-1].type == "shutdown"
    counters = frames_in(desk, recording_id)
    assert len(counters) == closed["frames"]
    assert_unbroken(counters)
    verify = desk.bodycam("verify", "--json", "--root", str(desk.layout.root_certificate), str(desk.vault))
    assert verify.returncode == 0, verify.stdout + verify.stderr
    ((found,),) = (report["recordings"] for report in json.loads(verify.stdout))
    assert (found["recording_id"], found["verdict"], found["closed"]) == (recording_id, "verified", True)


def test_a_marker_and_a_hold_and_a_second_recording(desk: Desk) -> None:
    camera = desk.start_ready()
    with desk.pins() as pins, watching(pins) as seen:
        double_press(pins)
        first = wait_recording(camera)
        camera.wait(lambda: [c for c in seen if (c.name, c.level) == ("led_red", 1)], "the red light", LIMIT_S)
        press_again(pins, 0.1)
        camera.wait_logged("marker", "the marker", LIMIT_S, recording=first, source="button")
        press_again(pins, 1.1)
        camera.wait_logged("stop", "the stop", LIMIT_S, recording=first, reason="button")
        wait_status(camera, lambda status: status["shows"] == "ready", "it was ready again")
        double_press(pins)
        second = wait_recording(camera, but=first)
    assert camera.stop() == 0

    assert len(desk.records("marker", first)) == 1
    verified = desk.verified()
    assert {first: 1, second: 0} == {name: len(found.marker_ms) for name, found in verified.items()}
    assert [verified[name].stop_reason for name in (first, second)] == ["button", "shutdown"]
    # Stopping clears nothing: the second has its whole pre-event too, although it overlaps the first.
    assert desk.records("recording-open", second)[0]["pre_event_short_reason"] is None
    for name in (first, second):
        assert_unbroken(frames_in(desk, name))


def test_a_second_run_on_the_vault_is_refused_and_disturbs_nothing(desk: Desk) -> None:
    camera = desk.start_ready()
    with desk.pins() as pins:
        double_press(pins)
        recording_id = wait_recording(camera)
        code, said = desk.run_refused()
        assert code == 75
        assert str(desk.vault) in said
        assert "stop it first" in said
        before = wait_status(camera, lambda status: status["recording"] == recording_id, "it went on")
        wait_status(
            camera, lambda status: status["durable_fragments"] > before["durable_fragments"] + 1, "it got further"
        )
        assert camera.exit_code is None
        press_again(pins, 1.1)  # the socket is still the first one's
        camera.wait_logged("stop", "the stop", LIMIT_S, recording=recording_id)
    assert camera.stop() == 0
    assert len(desk.records("boot")) == 1
    assert_unbroken(frames_in(desk, recording_id))


def test_after_kill_9_the_next_start_seals_and_goes_on_linked(desk: Desk) -> None:
    camera = desk.start_ready()
    with desk.pins() as pins:
        double_press(pins)
        cut = wait_recording(camera)
        wait_status(camera, lambda status: status["durable_fragments"] >= 4, "some fragments were durable")
    camera.kill()
    checkpointed = sum(record["frames"] for record in desk.records("checkpoint", cut))
    assert checkpointed
    assert not desk.records("recording-close")

    again = desk.start()
    goes_on = wait_recording(again, but=cut)  # nobody pressed
    assert again.logged("recovered", recording=cut)
    assert again.stop() == 0

    (closed,) = desk.records("recording-close", cut)
    assert closed["recovered"] is True
    assert closed["interrupted"] is True
    assert closed["frames"] >= checkpointed
    (opened,) = desk.records("recording-open", goes_on)
    assert opened["linked_from"] == cut
    (trigger,) = desk.records("trigger", goes_on)
    assert trigger["source"] == "resume"
    verified = desk.verified()
    assert (verified[cut].recovered, verified[goes_on].recovered) == (True, False)
    assert verified[goes_on].linked_from == cut
    assert_unbroken(frames_in(desk, cut)[:checkpointed])


def test_after_a_stop_and_kill_9_nothing_goes_on_by_itself(desk: Desk) -> None:
    camera = desk.start_ready()
    recording_id = record_once(desk, camera)
    camera.kill()
    again = desk.start_ready()
    assert again.status() is not None
    assert again.logged("recording") is None
    assert again.stop() == 0
    assert list(desk.verified()) == [recording_id]


def write_video(path: Path, frames: int = 20) -> None:
    """A short real video file."""
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=20)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        for number in range(frames):
            picture = np.full((96, 160, 3), number * 10, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def test_an_absent_camera_is_a_shown_state_and_one_that_comes_is_taken(desk: Desk) -> None:
    film = desk.folder / "film.mp4"
    desk.configure(('backend = "synthetic"', f'backend = "file"\ndevice = "{film}"'))
    camera = desk.start()
    wait_status(camera, lambda status: status["shows"] == "fault", "it showed the fault")
    with desk.pins() as pins, watching(pins) as seen:
        for colour in ("led_red", "led_green"):  # amber, blinking
            camera.wait(lambda c=colour: [s.level for s in seen if s.name == c].count(1) >= 3, colour, LIMIT_S)  # type: ignore[misc]
        said = desk.bodycam("status", "--config", str(desk.config))
        assert said.returncode == 0
        assert "does not exist; correct [camera] device" in " ".join(said.stdout.split())
        double_press(pins)  # is kept, and carried out with the first frame
        camera.wait_logged("trigger-pending", "the press was noted", LIMIT_S)
        pid = camera.pid
        assert camera.exit_code is None
        write_video(desk.folder / "unfinished.mp4")
        (desk.folder / "unfinished.mp4").rename(film)
        recording_id = wait_recording(camera)
        assert camera.pid == pid
    assert camera.stop() == 0
    assert len(desk.records("boot")) == 1
    (opened,) = desk.records("recording-open", recording_id)
    assert opened["pre_event_short_reason"] == "camera-started"
    assert [record["component"] for record in desk.records("fault")] == ["camera"]  # told once, not at each attempt
    desk.verified()


def test_a_vault_that_is_not_there_is_a_fault_and_what_was_filmed_is_written_once_it_is(desk: Desk) -> None:
    away = desk.folder / "away"
    desk.vault.rename(away)
    desk.vault.write_text("no folder")
    camera = desk.start()
    status = wait_status(camera, lambda status: status["shows"] == "fault", "it showed the fault")
    assert "Is the card in and mounted?" in status["faults"]["storage"]
    wait_status(camera, lambda status: (status["buffered_s"] or 0) >= 1, "capture went on")
    with desk.pins() as pins:
        double_press(pins)
        wait_status(camera, lambda status: status["shows"] == "recording-unsafe", "the wearer was told")
    desk.vault.unlink()
    away.rename(desk.vault)
    recording_id = wait_recording(camera)
    assert camera.stop() == 0
    (opened,) = desk.records("recording-open", recording_id)
    assert opened["pre_event_short_reason"] is None
    assert desk.records("gap") == []
    assert_unbroken(frames_in(desk, recording_id))
    desk.verified()


def test_another_card_is_told_while_idle_and_its_receipts_are_none_of_this_one(desk: Desk) -> None:
    away = desk.folder / "away"
    camera = desk.start_ready()
    first = record_once(desk, camera)
    client = ControlClient(desk.folder / "control.sock")
    desk.vault.rename(away)
    desk.vault.mkdir()
    status = wait_status(camera, lambda status: status["shows"] == "fault", "it was told")
    assert "put its card back in" in status["faults"]["storage"]
    for command in ("receipt", "scrub"):
        with pytest.raises(ControlError, match="put its card back in"):
            client.request({"command": command, "receipt": {}})
    assert list(desk.vault.iterdir()) == []
    desk.vault.rmdir()
    away.rename(desk.vault)
    wait_status(camera, lambda status: status["shows"] == "ready", "it was back")
    second = record_once(desk, camera)
    assert camera.stop() == 0
    assert sorted(desk.verified()) == sorted([first, second])


def test_a_read_only_card_is_a_fault_until_it_can_be_written(desk: Desk) -> None:
    away = desk.folder / "away"
    desk.vault.rename(away)
    desk.vault.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(desk.vault)], capture_output=True, check=False).returncode:
        pytest.skip("A file system can only be mounted as root.")
    try:
        shutil.copytree(away / "device", desk.layout.device)
        subprocess.run(["mount", "-o", "remount,ro", str(desk.vault)], check=True)
        camera = desk.start()
        status = wait_status(camera, lambda status: status["shows"] == "fault", "it showed the fault")
        assert "Read-only file system" in status["faults"]["storage"]
        wait_status(camera, lambda status: (status["buffered_s"] or 0) >= 1, "capture went on")
        assert camera.exit_code is None
        subprocess.run(["mount", "-o", "remount,rw", str(desk.vault)], check=True)
        with desk.pins() as pins:
            wait_status(camera, lambda status: status["shows"] == "ready", "it was ready")
            double_press(pins)
            recording_id = wait_recording(camera)
        assert camera.stop() == 0
        assert_unbroken(frames_in(desk, recording_id))
        desk.verified()
    finally:
        for running in desk.running:
            if running.exit_code is None:
                running.kill()
        subprocess.run(["umount", str(desk.vault)], check=True)


def test_a_missing_key_is_said_at_once(desk: Desk) -> None:
    (desk.folder / "key" / "device.key").unlink()
    code, said = desk.run_refused()
    assert code == 77
    assert "bodycam enroll" in said
    assert not (desk.folder / "control.sock").exists()


@pytest.mark.parametrize(
    ("change", "expected_code", "expected"),
    [
        (("fps = 20", "fps = 20\nframes = 20"), 78, "frames"),
        (("fps = 20", 'fps = "20"'), 78, "camera.fps"),
        (('factory = "mock"', 'factory = "mock"\nled_red_pin = 60'), 69, "led_red_pin = 60"),
        (('profile = "bench"', 'profile = "production"'), 78, "gpio.factory"),
    ],
    ids=["unknown-key", "wrong-type", "unknown-pin", "mock-pins-in-production"],
)
def test_a_wrong_configuration_is_refused_and_named(
    desk: Desk, change: tuple[str, str], expected_code: int, expected: str
) -> None:
    desk.configure(change)
    code, said = desk.run_refused()
    assert (code, expected in said) == (expected_code, True), said
    assert "Traceback" not in said
    assert not list(desk.vault.glob("journal/*"))  # nothing was started


def test_nobody_there_to_ask(desk: Desk) -> None:
    done = desk.bodycam("status", "--config", str(desk.config))
    assert done.returncode == 69
    assert "start it with `bodycam run`" in done.stderr


def test_receipts_are_compared_with_the_journal_and_then_noted(desk: Desk) -> None:
    camera = desk.start_ready()
    with desk.pins() as pins:
        double_press(pins)
        recording_id = wait_recording(camera)
        press_again(pins, 1.1)
        wait_status(camera, lambda status: status["shows"] == "ready", "it was sealed")
    folder = desk.layout.recording(recording_id)
    objects = [
        {
            "name": path.name,
            "bytes": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "read_back": "buffered",
        }
        for path in sorted(folder.iterdir())
    ]
    receipt = {"recording_id": recording_id, "store": "folder:test", "objects": objects}
    control = ControlClient(desk.folder / "control.sock")
    forged = [{**entry, "sha256": "0" * 64} for entry in objects]
    with pytest.raises(ControlError, match=r"hash for init\.mp4"):
        control.request({"command": "receipt", "receipt": {**receipt, "objects": forged}})
    with pytest.raises(ControlError, match="says nothing of"):
        control.request({"command": "receipt", "receipt": {**receipt, "objects": objects[:1]}})
    assert desk.records("offload") == []
    assert control.request({"command": "receipt", "receipt": receipt}) == {"recording_id": recording_id}
    (noted,) = desk.records("offload")  # on flash when the answer comes, not at some later time
    media = [entry for entry in objects if entry["name"] != "recording.json"]  # the journal does not vouch for that
    assert sorted(noted["objects"], key=lambda entry: entry["name"]) == media
    assert camera.stop() == 0
    desk.verified()


@contextmanager
def acting_as(uid: int) -> Iterator[None]:
    """This process as another user, in all that it opens meanwhile."""
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)


def test_the_control_socket_knows_who_asks(desk: Desk) -> None:
    if os.geteuid() != 0:
        pytest.skip("Only root can ask as somebody else.")
    offload_uid, stranger_uid = 61_001, 61_002
    with tempfile.TemporaryDirectory() as public:
        Path(public).chmod(0o755)  # pytest's own folders are closed to others, which would hide what is tested
        socket = Path(public) / "control.sock"
        desk.configure(('"control.sock"', f'"{socket}"\nsocket_uids = [{offload_uid}]'))
        camera = desk.start()
        wait_status(camera, lambda _: True, "it answered")
        control = ControlClient(socket)
        with acting_as(offload_uid):
            assert control.request({"command": "status"})["device"] == "CAM-TEST"
        with acting_as(stranger_uid), pytest.raises(ControlError, match=f"User {stranger_uid} may not control"):
            control.request({"command": "status"})
        assert camera.stop() == 0


def test_without_other_users_the_control_socket_is_closed_to_them(desk: Desk) -> None:
    if os.geteuid() != 0:
        pytest.skip("Only root can ask as somebody else.")
    with tempfile.TemporaryDirectory() as public:
        Path(public).chmod(0o755)
        socket = Path(public) / "control.sock"
        desk.configure(('"control.sock"', f'"{socket}"'))
        camera = desk.start()
        wait_status(camera, lambda _: True, "it answered")
        with acting_as(61_002), pytest.raises(ControlError, match="Permission denied"):
            ControlClient(socket).request({"command": "status"})
        assert camera.stop() == 0
