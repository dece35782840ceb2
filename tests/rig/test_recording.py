"""From the pin to the verified recording, on a real kernel: no part of the device under test is replaced."""

from __future__ import annotations

from pathlib import Path

from agent.clock import NS_PER_MS, NS_PER_S
from agent.trust.certificates import load_chain
from agent.vault.filesystem import PosixFilesystem
from agent.vault.layout import VaultLayout
from agent.verify.report import Verdict
from agent.verify.verify import verify_path
from tests.rig.camera import GREEN_PIN, RED_PIN, Camera
from tests.rig.warm import Warm, file_drive
from tests.support.playback import journal_records, of_type, play, recording_bytes

SECONDS = 4.0
PRE_EVENT_S = 5
FPS = 10


def test_a_press_becomes_a_verified_recording(rig: Warm, card: Path, tmp_path: Path) -> None:
    with rig.start(file_drive(card)) as camera:
        record_one(camera, tmp_path / "vault")


def test_the_same_after_a_cold_boot(rig: Warm, card: Path, tmp_path: Path) -> None:
    """Nothing rests on the saved state: a device that was just switched on does the same."""
    with rig.boot(file_drive(card)) as camera:
        record_one(camera, tmp_path / "vault")
        camera.machine.power_off()


def record_one(camera: Camera, vault: Path) -> None:
    """Press, record, stop; judge lights, journal and pictures; leaves the vault's copy at `vault`."""
    camera.insert_card()
    camera.start()
    camera.wait_shows("ready")
    camera.wait_blinking(GREEN_PIN, 100, 1900)
    # A full buffer, so that the recording's beginning is known.
    camera.let_pass(PRE_EVENT_S + 1)

    edges = camera.double_press()
    lit_ns = camera.wait_blinking(RED_PIN, 500, 500)
    # "recording" is never shown before something is on flash.
    first = camera.wait_shows("recording")
    assert first["durable_fragments"] >= 1
    assert edges[2] < lit_ns
    camera.let_pass(SECONDS)
    before = len(camera.status_changes())
    held = camera.hold()
    camera.wait_shows("ready", since=before)
    camera.stop()

    code, said = camera.verify()
    assert code == 0, said
    camera.copy_vault(vault)
    layout = VaultLayout(vault)
    report = verify_path(vault, roots=load_chain(layout.root_certificate))
    assert report.ok, report.findings
    (recording,) = report.recordings
    assert recording.verdict is Verdict.VERIFIED
    assert recording.stop_reason == "button"
    assert not recording.gaps

    records = journal_records(PosixFilesystem(), layout)
    (trigger,) = of_type(records, "trigger")
    # The kernel's edge is what counts: the second press of the two.
    assert abs(trigger["trigger_boottime_ns"] - edges[2]) < 2000 * NS_PER_MS
    (opened,) = of_type(records, "recording-open")
    assert opened["actual_pre_event_ms"] >= PRE_EVENT_S * 1000
    (stop,) = of_type(records, "stop")
    assert 1400 * NS_PER_MS < stop["stop_boottime_ns"] - held[0] < 5000 * NS_PER_MS

    played = play(recording_bytes(PosixFilesystem(), layout.recording(recording.recording_id)))
    assert len(played.frames) == recording.frames
    # The painted counters: none missing, none there twice. (What an overloaded camera never painted has no number.)
    numbers = played.counters
    assert numbers[0] is not None
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    lasted_s = (stop["stop_boottime_ns"] - opened["media_origin_boottime_ns"]) / NS_PER_S
    assert abs(recording.duration_ms / 1000 - lasted_s) < 2 / FPS
