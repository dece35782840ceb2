"""The unit on a real systemd: an agent that hangs is ended and comes back, and its lights never lie. And clocks."""

from __future__ import annotations

from pathlib import Path

from agent.clock import NS_PER_MS, NS_PER_S
from agent.trust.certificates import load_chain
from agent.vault.filesystem import PosixFilesystem
from agent.vault.layout import VaultLayout
from agent.vault.record import Record
from agent.verify.report import Report
from agent.verify.verify import verify_path
from tests.rig.camera import GREEN_PIN, RED_PIN, Camera
from tests.rig.power_cut import CAUGHT_UP_FRAGMENTS
from tests.rig.warm import Hot, file_drive
from tests.support.playback import journal_records, of_type, play, recording_bytes

YEAR_S = 365 * 86_400
FPS = 10
"""As in guest/bodycam.toml."""
WATCHDOG_S = 30
"""WatchdogSec= of the unit."""


def stop_and_judge(camera: Camera, folder: Path) -> tuple[VaultLayout, Report, list[Record]]:
    camera.end_recording()
    camera.stop()
    camera.copy_vault(folder / "vault")
    layout = VaultLayout(folder / "vault")
    report = verify_path(layout.root, roots=load_chain(layout.root_certificate))
    assert report.ok, report.findings
    return layout, report, journal_records(PosixFilesystem(), layout)


def test_an_agent_that_hangs_is_ended_shows_a_fault_and_goes_on_with_a_linked_recording(
    ready: Hot, tmp_path: Path
) -> None:
    with ready.start(file_drive(ready.copy_card(tmp_path / "card.ext4"))) as camera:
        camera.double_press()
        first = camera.wait_durable(CAUGHT_UP_FRAGMENTS)["recording"]
        before = len(camera.status_changes())
        process = camera.machine.run("systemctl show -P MainPID bodycam.service").strip()
        camera.machine.run(f"kill -STOP {process}")
        stopped_ns = camera.machine.hand.ask("now")["boottime_ns"]
        # Where a stopped process gets systemd's signal only when it goes on, that would be 45 s later.
        camera.machine.run(
            "for try in $(seq 120); do"
            " journalctl -u bodycam.service -o cat | grep -q 'Watchdog timeout' && break; sleep 1; done;"
            f" kill -CONT {process} || true",
            timeout_s=240,
        )
        again = camera.wait_status(
            lambda status: status["shows"] == "recording" and status["recording"] not in (None, first),
            "it went on in another recording",
            timeout_s=240,
            since=before,
        )
        # Amber, which is red and green, from when systemd had ended it to when it was back: nothing claims to record.
        amber = [
            seen.boottime_ns
            for seen in camera.lines_changes()
            if seen.boottime_ns > stopped_ns and seen.value[str(RED_PIN)] and seen.value[str(GREEN_PIN)]
        ]
        assert amber
        assert amber[0] - stopped_ns >= (WATCHDOG_S - 5) * NS_PER_S
        log = camera.machine.run("journalctl -u bodycam.service -o cat --no-pager")
        assert "Watchdog timeout" in log
        _, report, records = stop_and_judge(camera, tmp_path)
    recovered, linked = sorted(report.recordings, key=lambda recording: recording.recording_id)
    assert (recovered.recording_id, linked.recording_id) == (first, again["recording"])
    (_, trigger) = of_type(records, "trigger")
    assert trigger["source"] != "button"
    assert linked.stop_reason == "button"


def test_whatever_the_time_of_day_does_frames_and_files_keep_their_order(ready: Hot, tmp_path: Path) -> None:
    with ready.start(file_drive(ready.copy_card(tmp_path / "card.ext4"))) as camera:
        edges = camera.double_press()
        fragments = CAUGHT_UP_FRAGMENTS
        for step_s in (YEAR_S, -2 * YEAR_S, YEAR_S):
            camera.wait_durable(fragments)
            camera.machine.run(f"date -s @$(($(date +%s) + {step_s})) >/dev/null")
            fragments += 2
        camera.wait_durable(fragments)
        layout, report, records = stop_and_judge(camera, tmp_path)
    (one,) = report.recordings
    steps_s = [clock["step_ms"] / 1000 for clock in of_type(records, "clock") if clock["reason"] == "step"]
    assert [round(step_s / YEAR_S) for step_s in steps_s] == [1, -2, 1]
    (opened,), (stop,) = of_type(records, "recording-open"), of_type(records, "stop")
    numbers = play(recording_bytes(PosixFilesystem(), layout.recording(one.recording_id))).counters
    assert numbers[0] is not None
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    lasted_ms = (stop["stop_boottime_ns"] - opened["media_origin_boottime_ns"]) / NS_PER_MS
    assert abs(one.duration_ms - lasted_ms) < 200
    assert opened["media_origin_boottime_ns"] < edges[2]
    files = [segment["file"] for segment in of_type(records, "segment", one.recording_id)]
    assert files == sorted(files)


def test_a_device_that_was_suspended_knows_how_long_and_goes_on(ready: Hot, tmp_path: Path) -> None:
    asleep_s = 5.0
    with ready.start(file_drive(ready.copy_card(tmp_path / "card.ext4"))) as camera:
        camera.double_press()
        recording = camera.wait_durable(CAUGHT_UP_FRAGMENTS)["recording"]
        camera.machine.suspend(asleep_s)
        before = len(camera.status_changes())
        after = camera.wait_durable(1, since=before)
        # Frames go on becoming durable, in the same recording or, where the camera was taken for lost, in a linked one.
        camera.wait_durable(int(str(after["durable_fragments"])) + 3, since=before)
        layout, report, records = stop_and_judge(camera, tmp_path)
    assert recording in {one.recording_id for one in report.recordings}
    (stop,) = of_type(records, "stop")
    opened = of_type(records, "recording-open")
    # Media times count the sleep: from the first frame's to the stop's it is what the boot clock says.
    last = max(report.recordings, key=lambda one: one.recording_id)
    began_ns = next(fields for fields in opened if fields["recording_id"] == last.recording_id)[
        "media_origin_boottime_ns"
    ]
    assert abs(last.duration_ms - (stop["stop_boottime_ns"] - began_ns) / NS_PER_MS) < 300
    whole_s = (stop["stop_boottime_ns"] - opened[0]["media_origin_boottime_ns"]) / NS_PER_S
    frames = sum(one.frames for one in report.recordings)
    assert frames < (whole_s - asleep_s + 1) * FPS, "nothing was filmed in its sleep"
    for one in report.recordings:
        numbers = play(recording_bytes(PosixFilesystem(), layout.recording(one.recording_id))).counters
        assert None not in numbers
        assert numbers == sorted({*numbers}, key=lambda number: number or 0), "no frame twice, none out of order"
