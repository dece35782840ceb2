"""Encryption as a department meets it: a real daemon, stock age, a key that stays with the evidence system."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.end_to_end.test_daemon import Desk, double_press, press_again, wait_recording
from tests.support.evidence_key import EVIDENCE, EvidenceKey, stock_age
from tests.support.playback import play


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    made = Desk(tmp_path)
    encrypting(made, EVIDENCE)
    return made


def encrypting(desk: Desk, key: EvidenceKey | None) -> None:
    section = f'wearer = "Jane Doe"\n\n[encryption]\nrecipients = ["{key.recipient}"]' if key else ""
    desk.configure(('id = "CAM-TEST"', f'id = "CAM-TEST"\n{section}'))


def record(desk: Desk) -> str:
    camera = desk.start_ready()
    try:
        with desk.pins() as pins:
            double_press(pins)
            recording_id = wait_recording(camera)
            press_again(pins, 1.4)
        camera.wait(lambda: bool(desk.records("recording-close", recording_id)) or None, "it was sealed", 20.0)
        camera.stop()
        assert camera.exit_code == 0
        return recording_id
    finally:
        if camera.exit_code is None:
            camera.kill()


def test_from_the_button_to_the_examiner(desk: Desk, tmp_path: Path) -> None:
    recording_id = record(desk)
    key = EVIDENCE.write(tmp_path / "key.txt")
    folder = desk.layout.recording(recording_id)
    assert not list(folder.glob("*.m4s"))
    joined = (folder / "init.mp4").read_bytes()
    for path in sorted(folder.glob("*.m4s.age")):
        code, plain, complaint = stock_age(path, key)
        assert (code, complaint) == (0, "")
        joined += plain
    (close,) = desk.records("recording-close", recording_id)
    assert len(play(joined).frames) == close["frames"] > 0
    root = str(desk.layout.root_certificate)
    for arguments in ((), ("--identity", str(key))):
        done = desk.bodycam("verify", str(desk.vault), "--root", root, *arguments)
        assert done.returncode == 0, done.stdout
    assert "wearer: Jane Doe" in done.stdout
    output = tmp_path / "out.mp4"
    refused = desk.bodycam("export", "latest", "-o", str(output), "--from", str(desk.vault))
    assert refused.returncode == 77
    assert "--identity" in refused.stderr
    done = desk.bodycam("export", "latest", "-o", str(output), "--from", str(desk.vault), "--identity", str(key))
    assert done.returncode == 0, done.stderr
    assert output.read_bytes() == joined
    assert b"Jane" not in b"".join(path.read_bytes() for path in desk.vault.rglob("*") if path.is_file())


def test_it_cannot_be_switched_off_in_silence(desk: Desk) -> None:
    first = record(desk)
    config = ("--config", str(desk.config))
    encrypting(desk, None)
    code, said = desk.run_refused()
    assert code == 78
    assert EVIDENCE.recipient in said
    assert "bodycam enroll --no-recipients" in said
    # Nor by a slip: what is asked for and what is configured have to agree.
    assert desk.bodycam("enroll", "--recipients", *config).returncode == 78
    assert desk.run_refused()[0] == 78
    other = EvidenceKey.generate()
    encrypting(desk, other)
    assert desk.bodycam("enroll", "--no-recipients", *config).returncode == 78
    assert desk.bodycam("enroll", "--no-recipients", "--bench", *config).returncode == 78
    code, said = desk.run_refused()
    assert code == 78
    assert "bodycam enroll --recipients" in said
    done = desk.bodycam("enroll", "--recipients", *config)
    assert done.returncode == 0, done.stderr
    assert f"Before: {EVIDENCE.recipient}" in done.stdout
    record(desk)
    encrypting(desk, None)
    done = desk.bodycam("enroll", "--no-recipients", *config)
    assert done.returncode == 0
    assert "NOT encrypted" in done.stdout
    clear = record(desk)
    assert list(desk.layout.recording(clear).glob("*.m4s"))
    assert list(desk.layout.recording(first).glob("*.m4s.age"))
    reasons = [(entry["reason"], len(entry["recipients"])) for entry in desk.records("encryption")]
    assert reasons == [("first", 1), ("re-enrolled", 1), ("unchanged", 1), ("re-enrolled", 0), ("unchanged", 0)]
    report = desk.bodycam("verify", str(desk.vault), "--root", str(desk.layout.root_certificate))
    assert report.returncode == 0, report.stdout
    assert report.stdout.count("ENCRYPTION_CHANGED") == 2


def test_enrolment_waits_for_the_daemon_to_be_stopped(desk: Desk) -> None:
    camera = desk.start_ready()
    try:
        done = desk.bodycam("enroll", "--recipients", "--config", str(desk.config))
        assert done.returncode == 75
        assert "stop it first" in done.stderr
    finally:
        camera.stop()


def test_after_a_crash_an_enrolment_does_not_make_the_camera_film_on(desk: Desk) -> None:
    """The enrolment's record is fresh; the recording that was cut off is not, for all that anybody knows."""
    encrypting(desk, None)
    camera = desk.start_ready()
    with desk.pins() as pins:
        double_press(pins)
        recording_id = wait_recording(camera)
    camera.kill()
    encrypting(desk, EVIDENCE)
    assert desk.bodycam("enroll", "--recipients", "--config", str(desk.config)).returncode == 0
    (close,) = desk.records("recording-close", recording_id)
    assert close["recovered"]
    camera = desk.start_ready()
    camera.stop()
    assert [opened["recording_id"] for opened in desk.records("recording-open")] == [recording_id]
