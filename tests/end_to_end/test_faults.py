"""Faults of the camera through the whole of `run`: what the wearer is told after how long, what stands in the journal,
and what is recorded all the same.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import pytest

from agent.capture.synthetic import Spoil
from agent.clock import NS_PER_MS, NS_PER_S, SystemClock
from agent.controller.picture import PictureFault
from agent.controller.signals import Cue, Indication
from agent.daemon.run import RESTART_EXIT_CODE
from agent.demo.process import CameraProcess
from agent.vault.record import Record
from tests.end_to_end.test_daemon import LIMIT_S, Desk, desk, double_press, wait_recording, wait_status
from tests.support.bench import Bench
from tests.support.crashfs import CrashFilesystem
from tests.support.playback import journal_records, of_type, play, recording_bytes

__all__ = ["desk"]  # a fixture

TOLD_WITHIN_NS = 2 * NS_PER_S
REOPENED_S = 0.5


def recording_bench() -> Bench:
    """A bench that shows "recording"."""
    bench = Bench(CrashFilesystem()).start().run_for(4)
    bench.double_press(bench.clock.boottime_ns() + 300 * NS_PER_MS)
    bench.run_for(3)
    assert bench.panel.now is Indication.RECORDING
    return bench


def journal(bench: Bench) -> list[Record]:
    return journal_records(bench.filesystem, bench.layout)


def faults(bench: Bench, component: str, type_: str = "fault") -> list[dict[str, Any]]:
    return [fields for fields in of_type(journal(bench), type_) if fields["component"] == component]


def first_shown(bench: Bench, indication: Indication, after_ns: int) -> int:
    return next(at_ns for at_ns, shown in bench.panel.shown if at_ns >= after_ns and shown is indication)


@pytest.mark.parametrize("how", ["unplug", "freeze"])
def test_a_lost_camera_is_told_within_two_seconds_and_the_recording_goes_on_linked(how: str) -> None:
    bench = recording_bench()
    lost_ns = bench.clock.boottime_ns()
    getattr(bench.camera, how)()
    bench.run_for(2.5)
    assert first_shown(bench, Indication.FAULT, lost_ns) - lost_ns <= TOLD_WITHIN_NS
    assert any(lost_ns < at_ns <= lost_ns + TOLD_WITHIN_NS and cue is Cue.FAULT for at_ns, cue in bench.panel.played)
    (fault,) = faults(bench, "camera")
    assert fault["boottime_ns"] - lost_ns <= TOLD_WITHIN_NS
    {"unplug": bench.camera.plug_in, "freeze": bench.camera.thaw}[how]()
    bench.run_for(REOPENED_S)
    bench.reopen_camera()
    bench.run_for(3)
    assert bench.panel.now is Indication.RECORDING
    assert len(faults(bench, "camera", "fault-cleared")) == 1
    bench.hold(bench.clock.boottime_ns() + 4 * NS_PER_S)
    bench.run_for(4.5).run_until_idle()
    first, second = of_type(journal(bench), "trigger")
    (opened,) = of_type(journal(bench), "recording-open", second["recording_id"])
    assert (second["source"], opened["linked_from"]) == ("resume", first["recording_id"])
    for fields in (first, second):
        assert play(recording_bytes(bench.filesystem, bench.layout.recording(fields["recording_id"]))).frames
    assert of_type(journal(bench), "stop", first["recording_id"])[0]["reason"] == "camera-lost"


@pytest.mark.parametrize(
    ("how", "fault"),
    [
        (Spoil.COVERED, PictureFault.COVERED),
        (Spoil.WHITE, PictureFault.OVEREXPOSED),
        (Spoil.SAME, PictureFault.FROZEN),
    ],
)
def test_a_picture_that_shows_nothing_is_told_once_and_recorded(how: Spoil, fault: PictureFault) -> None:
    bench = recording_bench()
    bench.camera.spoil(how)
    spoiled_ns = bench.clock.boottime_ns()
    bench.run_for(40)
    (record,) = faults(bench, fault.component)
    assert record["kind"] == fault.value
    assert record["boottime_ns"] - spoiled_ns <= (fault.looks * 2 + 3) * NS_PER_S
    assert bench.daemon.status()["faults"] == {fault.component: fault.message}
    assert [cue for at_ns, cue in bench.panel.played if at_ns > spoiled_ns].count(Cue.FAULT) == 1
    assert {shown for at_ns, shown in bench.panel.shown if at_ns > spoiled_ns} == set(), "recording is recording"
    bench.camera.spoil(None)
    bench.run_for(10)
    assert [cleared["kind"] for cleared in faults(bench, fault.component, "fault-cleared")] == [fault.value]
    assert bench.daemon.status()["faults"] == {}
    bench.hold(bench.clock.boottime_ns() + 4 * NS_PER_S)
    bench.run_for(4.5).run_until_idle()
    (trigger,) = of_type(journal(bench), "trigger")
    played = play(recording_bytes(bench.filesystem, bench.layout.recording(trigger["recording_id"])))
    assert len(played.frames) >= 55 * bench.settings.camera.fps


# A real process, a call that blocks in the kernel


STALL_MS = 500


def start_hanging(desk: Desk) -> CameraProcess:
    command = [sys.executable, "-m", "tests.support.hanging_camera", str(desk.folder)]
    camera = CameraProcess(
        desk.config,
        desk.folder / f"run-{len(desk.running)}.log",
        SystemClock(),
        command=[*command, "run", "--config", str(desk.config)],
    )
    desk.running.append(camera)
    camera.start()
    return camera


def started_recording(desk: Desk) -> tuple[CameraProcess, str]:
    desk.configure(("retry_max_s = 1\n", f"retry_max_s = 1\nstall_ms = {STALL_MS}\n"))
    camera = start_hanging(desk)
    wait_status(camera, lambda status: status["shows"] == "ready", "it was ready")
    with desk.pins() as pins:
        double_press(pins)
    return camera, wait_recording(camera)


def goes_on_linked(desk: Desk, cut: str, reason: str) -> None:
    """Start it again, as the service manager does, and look at all of it."""
    again = start_hanging(desk)
    goes_on = wait_recording(again, but=cut)
    assert again.stop() == 0
    (opened,) = desk.records("recording-open", goes_on)
    assert opened["linked_from"] == cut
    (stop,) = desk.records("stop", cut)
    assert stop["reason"] == reason
    assert [end["reason"] for end in desk.records("shutdown")] == ["camera-hung", "shutdown"]
    verified = desk.verified()
    assert {cut, goes_on} == verified.keys()
    assert not verified[cut].recovered, "it was sealed before the process ended"


def test_a_camera_that_blocks_in_the_kernel_costs_a_restart_and_no_wish(desk: Desk) -> None:
    camera, cut = started_recording(desk)
    (desk.folder / "same").touch()
    frozen = wait_status(camera, lambda status: status["faults"], "it told of the picture that stands still")
    assert frozen["faults"].keys() == {"picture"}
    assert frozen["shows"] == "recording"
    (desk.folder / "same").unlink()
    os.mkfifo(desk.folder / "read")
    hung_ns = SystemClock().boottime_ns()
    told = wait_status(camera, lambda status: status["shows"] == "fault", "it showed the fault")
    assert "camera" in told["faults"]
    assert camera.wait_ended(LIMIT_S) == RESTART_EXIT_CODE
    (first, *_) = (fault for fault in desk.records("fault") if fault["component"] == "camera")
    assert first["boottime_ns"] - hung_ns < (STALL_MS + 1500) * NS_PER_MS  # of which the bench's machine takes some
    (desk.folder / "read").unlink()
    goes_on_linked(desk, cut, "camera-hung")


def test_a_camera_that_hangs_when_it_is_opened_again_takes_the_same_way(desk: Desk) -> None:
    camera, cut = started_recording(desk)
    os.mkfifo(desk.folder / "open")
    (desk.folder / "unplugged").touch()
    wait_status(camera, lambda status: status["shows"] == "fault", "it showed the fault")
    assert camera.wait_ended(LIMIT_S) == RESTART_EXIT_CODE
    messages = [fault["message"] for fault in desk.records("fault") if fault["component"] == "camera"]
    assert "unplugged" in messages[0]
    assert "hangs: opening" in messages[-1]
    (desk.folder / "open").unlink()
    (desk.folder / "unplugged").unlink()
    goes_on_linked(desk, cut, "camera-lost")
