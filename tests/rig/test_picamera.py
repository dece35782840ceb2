"""The real picamera2 on libcamera's software camera: recorded, stalled, vanished, hung. One guest for all."""

from __future__ import annotations

import json
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

from agent.clock import NS_PER_MS, NS_PER_S
from agent.trust.certificates import load_chain
from agent.vault.filesystem import PosixFilesystem
from agent.vault.layout import VaultLayout
from agent.vault.record import Record
from agent.verify.report import Verdict
from agent.verify.verify import verify_path
from tests.rig import software_camera
from tests.rig.camera import Camera
from tests.rig.software_camera import FPS, HEIGHT, MODEL, PICTURES, REPEATS, WIDTH, order
from tests.rig.warm import Warm, file_drive
from tests.support.playback import journal_records, of_type, play, recording_bytes

PRE_EVENT_S = 5
STALL_MS = 3000
"""Twice as patient as by default: the machine under the guest may be busy, and no picture come for that."""
TELLING_MS = 500
"""Beyond stall_ms: with the default of 1500 the wearer knows within 2 s."""
EMULATION_MS = 10_000
"""What two busy cores without KVM may add to that."""
DOCTOR_TRIES = 3
"""It gives a camera half a minute, which a busy machine under the guest may not have had."""
OPENINGS = 4
SLOW_FRAME_MS = 400
HANGS = "hangs: opening"


def test_records_through_picamera2_and_survives_its_camera(rig: Warm, card: Path, tmp_path: Path) -> None:
    with rig.start(file_drive(card)) as camera:
        camera.insert_card()
        software_camera.install(camera, STALL_MS)
        doctor_sees_it(camera)
        camera.start()
        camera.wait_shows("ready")
        camera.let_pass(PRE_EVENT_S + 1)
        record(camera)
        silent_ns, told_ns = stall(camera)
        vanish(camera)
        hang(camera)
        camera.stop()

        code, said = camera.verify()
        assert code == 0, said
        camera.copy_vault(tmp_path / "vault")
        judge(tmp_path / "vault", silent_ns, told_ns)


def doctor_sees_it(camera: Camera) -> None:
    """`bodycam doctor` before the first start, as docs/operations.md has it."""
    for _ in range(DOCTOR_TRIES):
        camera.machine.run(
            f"cd /run && runuser -u bodycam -- env PYTHONPATH={software_camera.FOLDER}"
            " bodycam doctor --json >/run/rig/doctor.json || test $? -le 2",
            timeout_s=180,
        )
        told = json.loads(camera.machine.get("/run/rig/doctor.json"))
        (check,) = (check for check in told["checks"] if check["name"] == "camera")
        if "no answer within" not in check["found"]:
            break
    assert f"picamera2 {MODEL} gives 320x180 nv12" in check["found"], told
    assert check["state"] != "fail", told


def record(camera: Camera) -> None:
    """One recording from press to hold."""
    camera.double_press()
    camera.wait_shows("recording")
    camera.let_pass(3)
    before = len(camera.status_changes())
    camera.hold()
    camera.wait_shows("ready", since=before)


def stall(camera: Camera) -> tuple[int, int]:
    """Silent while it records; it goes on by itself when pictures come again. When it did, when that was told."""
    opened_before = software_camera.openings(camera)
    camera.double_press()
    camera.wait_shows("recording")
    camera.let_pass(2)
    open_before = software_camera.descriptors(camera)
    before = len(camera.status_changes())
    silent_ns = order(camera, "silent")
    camera.wait_shows("fault", since=before)
    told_ns = next(seen.boottime_ns for seen in camera.status_changes()[before:] if seen.value["shows"] == "fault")
    assert told_ns - silent_ns < (STALL_MS + TELLING_MS + EMULATION_MS) * NS_PER_MS

    while software_camera.openings(camera) < opened_before + OPENINGS:
        camera.let_pass(1)
    before = len(camera.status_changes())
    order(camera, "run")
    camera.wait_shows("recording", since=before)
    order(camera, f"slow {SLOW_FRAME_MS}")
    camera.let_pass(2)
    order(camera, "run")
    assert software_camera.descriptors(camera) <= open_before
    before = len(camera.status_changes())
    camera.hold()
    camera.wait_shows("ready", since=before)
    return silent_ns, told_ns


def vanish(camera: Camera) -> None:
    """Out of libcamera's list and back: what was not recording is ready again."""
    before = len(camera.status_changes())
    order(camera, "gone")
    camera.wait_shows("fault", since=before)
    while "libcamera finds no camera" not in camera.log(lines=200):
        camera.let_pass(1)
    before = len(camera.status_changes())
    order(camera, "run")
    camera.wait_shows("ready", since=before)


def hang(camera: Camera) -> None:
    """Its start blocks in the kernel, where no error reaches: the agent ends itself, and the next one has a camera."""
    before = len(camera.status_changes())
    order(camera, "hang")
    camera.wait_shows("fault", since=before)
    while HANGS not in camera.log(lines=200):
        camera.let_pass(1)
    before = len(camera.status_changes())
    order(camera, "run")
    camera.wait_shows("ready", since=before)


def judge(vault: Path, silent_ns: int, told_ns: int) -> None:
    layout = VaultLayout(vault)
    report = verify_path(vault, roots=load_chain(layout.root_certificate))
    assert report.ok, report.findings
    records = journal_records(PosixFilesystem(), layout)
    whole, cut, linked = of_type(records, "recording-open")
    assert [opened["linked_from"] for opened in (whole, cut, linked)] == [None, None, cut["recording_id"]]
    stops = {stop["recording_id"]: stop["reason"] for stop in of_type(records, "stop")}
    assert [stops[opened["recording_id"]] for opened in (whole, cut, linked)] == ["button", "camera-lost", "button"]
    assert all(recording.verdict is Verdict.VERIFIED for recording in report.recordings)
    assert whole["actual_pre_event_ms"] >= PRE_EVENT_S * 1000
    for opened in (whole, cut, linked):
        judge_pictures(layout, records, opened)
    (closed,) = of_type(records, "recording-close", linked["recording_id"])
    assert closed["missed_frames"] > 0, "it was slow for a while"

    fault = next(fault for fault in of_type(records, "fault") if fault["boottime_ns"] > silent_ns)
    assert fault["component"] == "camera"
    assert fault["boottime_ns"] <= told_ns
    messages = [fault["message"] for fault in of_type(records, "fault")]
    assert any(HANGS in message for message in messages)


def judge_pictures(layout: VaultLayout, records: list[Record], opened: dict[str, Any]) -> None:
    """Each is one that the camera made, there once, in its place in time; what is missing was told."""
    recording_id = opened["recording_id"]
    video = opened["video"]
    assert (video["width"], video["height"], video["fps"]) == (WIDTH, HEIGHT, FPS)
    (closed,) = of_type(records, "recording-close", recording_id)
    played = play(recording_bytes(PosixFilesystem(), layout.recording(recording_id)))
    assert len(played.frames) == closed["frames"]

    missed = closed["missed_frames"]
    runs = [(number, len(list(same))) for number, same in groupby(played.counters)]
    shown = [times for _, times in runs]
    assert max(shown) <= REPEATS, "a picture is there more often than the camera showed it"
    # Only its beginning and its end may fall between the repetitions of a picture.
    assert sum(REPEATS - times for times in shown[1:-1]) <= missed
    numbers = [number for number, _ in runs if number is not None]
    assert len(numbers) == len(runs), "a picture that is not the camera's"
    skipped = sum((after - before - 1) % PICTURES for before, after in pairwise(numbers))
    assert skipped * REPEATS <= missed
    times_s = [time_s for time_s, _ in played.frames]
    assert all(before < after for before, after in pairwise(times_s))
    assert abs((times_s[-1] - times_s[0]) * FPS - (len(times_s) - 1) - missed) < 2 + missed

    (stop,) = of_type(records, "stop", recording_id)
    newest_ns = opened["media_origin_boottime_ns"] + round(times_s[-1] * NS_PER_S)
    assert -NS_PER_S // FPS < stop["stop_boottime_ns"] - newest_ns < (STALL_MS + TELLING_MS + EMULATION_MS) * NS_PER_MS
