"""The memory outside the card with the daemon as it is run: up to date at its end, and heard at the next start."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.trust.certificates import load_chain
from agent.vault.filesystem import PosixFilesystem
from agent.verify.finding import Code
from agent.verify.report import Report
from agent.verify.verify import verify_path
from agent.witness.file import WitnessFile
from agent.witness.memory import Memory
from tests.end_to_end.test_daemon import (
    LIMIT_S,
    Desk,
    double_press,
    record_once,
    wait_recording,
    wait_status,
)
from tests.support.evidence_key import EVIDENCE
from tests.support.playback import journal_records
from tests.support.record_schema import assert_documented


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    (tmp_path / "other-flash").mkdir()
    made.configure(('path = "vault"', 'path = "vault"\nwitness_path = "other-flash/head"'))
    yield made
    for camera in made.running:
        if camera.exit_code is None:
            camera.kill()


def remembered(desk: Desk) -> Memory | None:
    return WitnessFile(desk.folder / "other-flash" / "head").read()


def report(desk: Desk) -> Report:
    return verify_path(desk.vault, roots=load_chain(desk.layout.root_certificate))


def run_and_record(desk: Desk) -> str:
    camera = desk.start_ready()
    recording_id = record_once(desk, camera)
    assert camera.stop() == 0
    return recording_id


def assert_up_to_date(desk: Desk) -> None:
    records = journal_records(PosixFilesystem(), desk.layout)
    memory = remembered(desk)
    assert memory is not None
    assert (memory.seq, memory.sha256) == (records[-1].seq, records[-1].sha256)
    assert memory.journal_sha256 == records[0].sha256
    assert records[-1].type == "shutdown"


def test_it_is_up_to_date_at_every_clean_stop_and_agrees_at_the_next_start(desk: Desk) -> None:
    run_and_record(desk)
    assert_up_to_date(desk)
    camera = desk.start_ready()
    status = wait_status(camera, lambda status: status["witness"]["up_to_date"], "it was remembered")
    assert status["witness"]["start"] == "agrees"
    assert "card-forgot" not in status["faults"]
    said = " ".join(desk.bodycam("status", "--config", str(desk.config)).stdout.split())
    assert "at its start the card had all that is remembered of it; remembers record" in said
    assert camera.logged("witness-medium")  # here it lies on the vault's own disk
    doctor = json.loads(desk.bodycam("doctor", "--json", "--config", str(desk.config)).stdout)
    (check,) = [check for check in doctor["checks"] if check["name"] == "witness"]
    assert check["state"] == "warn"
    assert camera.stop() == 0
    assert_up_to_date(desk)
    assert [boot["witness"] for boot in desk.records("boot")] == ["absent", "agrees"]
    desk.verified()


def test_after_kill_9_an_honest_card_is_not_accused(desk: Desk) -> None:
    camera = desk.start_ready()
    with desk.pins() as pins:
        double_press(pins)
        wait_recording(camera)
        wait_status(camera, lambda status: status["durable_fragments"] >= 3, "some fragments were durable")
    camera.kill()
    camera = desk.start()
    wait_recording(camera)
    assert camera.stop() == 0
    assert desk.records("boot")[-1]["witness"] == "agrees"
    desk.verified()


def test_a_card_that_is_set_back_is_named_shown_and_told_once(desk: Desk) -> None:
    first = run_and_record(desk)
    image = desk.folder / "image"
    shutil.copytree(desk.vault, image)
    run_and_record(desk)
    memory = remembered(desk)
    assert memory is not None
    shutil.rmtree(desk.vault)
    shutil.copytree(image, desk.vault)
    had = journal_records(PosixFilesystem(), desk.layout)[-1].seq
    camera = desk.start_ready()
    status = wait_status(camera, lambda status: "card-forgot" in status["faults"], "it was shown")
    assert f"records {had + 1} to {memory.seq} of the log" in status["faults"]["card-forgot"]
    assert camera.logged("cue", plays="fault-alert")
    assert camera.stop() == 0
    boot = desk.records("boot")[-1]
    assert (boot["witness"], boot["witness_seq"], boot["witness_found_seq"]) == ("lost", memory.seq, had)
    (fault,) = [fault for fault in desk.records("fault") if fault["component"] == "card-forgot"]
    assert fault["message"] == status["faults"]["card-forgot"]
    found = report(desk)
    assert found.ok
    (finding,) = [finding for finding in found.findings if finding.code is Code.CONFIRMED_LOST]
    assert f"records {had + 1} to {memory.seq}" in finding.sentence
    assert [recording.recording_id for recording in found.recordings] == [first]
    assert_documented(desk.layout.journal)
    assert_up_to_date(desk)
    camera = desk.start_ready()
    assert "card-forgot" not in wait_status(camera, lambda _: True, "it answered")["faults"]
    assert camera.stop() == 0
    assert desk.records("boot")[-1]["witness"] == "agrees"


def test_a_memory_that_cannot_be_written_delays_and_ends_nothing(desk: Desk) -> None:
    (desk.folder / "other-flash" / "head").mkdir()
    camera = desk.start_ready()
    status = wait_status(camera, lambda status: "witness" in status["faults"], "it was shown")
    assert "recording goes on" in status["faults"]["witness"]
    assert status["witness"]["start"] == "unreadable"
    with desk.pins() as pins:
        double_press(pins)
        wait_recording(camera)
    (desk.folder / "other-flash" / "head").rmdir()
    wait_status(camera, lambda status: "witness" not in status["faults"], "it was tried again")
    assert camera.stop() == 0
    assert_up_to_date(desk)
    desk.verified()


def test_a_re_enrolment_looks_at_it_and_keeps_it_up_to_date(desk: Desk) -> None:
    run_and_record(desk)
    image = desk.folder / "image"
    shutil.copytree(desk.vault, image)
    run_and_record(desk)
    text = desk.config.read_text()
    desk.config.write_text(f'{text}\n[encryption]\nrecipients = ["{EVIDENCE.recipient}"]\n')
    enroll = ("enroll", "--recipients", "--config", str(desk.config))
    done = desk.bodycam(*enroll)
    assert done.returncode == 0, done.stderr
    assert "replace its card" not in done.stdout
    assert desk.records("boot")[-1]["witness"] == "agrees"
    assert_up_to_date(desk)
    shutil.rmtree(desk.vault)
    shutil.copytree(image, desk.vault)
    done = desk.bodycam(*enroll)
    assert done.returncode == 0, done.stderr
    assert "replace its card" in " ".join(done.stdout.split())
    assert desk.records("boot")[-1]["witness"] == "lost"
    assert_up_to_date(desk)
    assert Code.CONFIRMED_LOST in {finding.code for finding in report(desk).findings}


def test_a_card_that_forgot_while_it_was_out_ends_the_agent_and_the_next_start_says_what_is_gone(desk: Desk) -> None:
    older, away = desk.folder / "older", desk.folder / "away"
    first = run_and_record(desk)
    camera = desk.start_ready()
    shutil.copytree(desk.vault, older)
    record_once(desk, camera)
    wait_status(camera, lambda status: status["witness"]["up_to_date"], "it was remembered")
    desk.vault.rename(away)
    older.rename(desk.vault)
    assert camera.wait_ended(LIMIT_S) == 74
    assert "does not end as it did before" in camera.log.read_text()
    again = desk.start_ready()
    status = again.status()
    assert status is not None
    assert "card-forgot" in status["faults"]  # type: ignore[operator]
    assert again.stop() == 0
    found = report(desk)
    assert Code.CONFIRMED_LOST in {finding.code for finding in found.findings}
    assert [recording.recording_id for recording in found.recordings] == [first]
