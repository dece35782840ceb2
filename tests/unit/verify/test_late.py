"""What stands without a signature where a camera was started again: the card may have been in other hands meanwhile."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent.vault.record import parse_line, sha256_hex
from agent.verify.aspect import Aspect, Standing
from agent.verify.finding import Code
from agent.verify.report import RecordingReport
from tests.support.packages import offloaded
from tests.support.vault_builder import VaultBuilder
from tests.unit.verify.tampering import check, fails, index_of, lines_of, notes, warns
from tests.unit.verify.test_verify_script import run

LATE = {Code.SIGNATURE_LATE}


@pytest.fixture
def vault(tmp_path: Path) -> VaultBuilder:
    return VaultBuilder(tmp_path / "vault")


def integrity(recording: RecordingReport) -> Standing:
    return next(verdict.standing for verdict in recording.aspects if verdict.aspect is Aspect.INTEGRITY)


def rewrite_end(path: Path, start: int, drop: str) -> None:
    """What a thief of the card does without a key: everything from a line on again, chained, unsigned, less a type."""
    lines = lines_of(path)
    kept, rest = lines[:start], [parse_line(line[:-1]) for line in lines[start:]]
    before = parse_line(kept[-1][:-1])
    seq, prev = before.seq, before.sha256
    for record in rest:
        if record.type == drop:
            continue
        seq += 1
        data = json.dumps(record.fields | {"seq": seq, "prev": prev}, separators=(",", ":")).encode()
        prev = sha256_hex(data)
        kept.append(data + b"\t-\n")
    path.write_bytes(b"".join(kept))


def test_a_thief_who_rewrites_the_end_without_a_key_is_not_vouched_for_by_the_next_start(
    vault: VaultBuilder, tmp_path: Path
) -> None:
    before = vault.record(2)
    running = vault.begin()
    vault.feed(running, 2)
    vault.mark(running)
    vault.stop(running)
    vault.journal.close()
    journal = vault.layout.journal / "000001.journal"
    rewrite_end(journal, index_of(journal, "trigger", 1), drop="marker")
    (vault.layout.recording(running.recording_id) / "recording.json").unlink()
    vault.start()
    after = vault.record(2)
    vault.shut_down()
    report = check(vault)
    assert warns(report) == LATE
    assert Code.SIGNATURE_PENDING in notes(report)
    said = {recording.recording_id: integrity(recording) for recording in report.recordings}
    assert said == {
        before: Standing.HOLDS,
        running.recording_id: Standing.LIMITED,
        after: Standing.HOLDS,
    }
    packages = offloaded(vault, tmp_path)
    for recording_id, package in packages.items():
        limited = recording_id == running.recording_id
        assert (Code.SIGNATURE_LATE in warns(check(package))) is limited
        script = run(package)
        assert ("SIGNATURE_LATE" in script.codes("warn")) is limited
        assert script.verdicts()["integrity"] == ("limited" if limited else "holds")


def test_a_signer_that_failed_up_to_a_power_cut_looks_the_same(vault: VaultBuilder, tmp_path: Path) -> None:
    running = vault.begin()
    vault.feed(running, 2)
    vault.signer.busy = True
    vault.feed(running, 2)
    vault.signer.busy = False
    vault.restart()
    vault.shut_down()
    report = check(vault)
    assert report.ok
    assert warns(report) == LATE
    assert integrity(report.recordings[0]) is Standing.LIMITED
    script = run(offloaded(vault, tmp_path)[running.recording_id])
    assert script.status == 0
    assert script.codes("warn") == {"SIGNATURE_LATE"}


def test_what_one_process_covers_itself_is_sound(vault: VaultBuilder, tmp_path: Path) -> None:
    vault.rotate_bytes = 100_000
    running = vault.begin()
    vault.feed(running, 2)
    vault.signer.busy = True
    vault.feed(running, 2)
    vault.signer.busy = False
    recording_id = vault.stop(running)
    vault.restart()
    vault.shut_down()
    report = check(vault)
    assert warns(report) == set()
    assert integrity(report.recordings[0]) is Standing.HOLDS
    assert run(offloaded(vault, tmp_path)[recording_id]).codes("warn") == set()


def test_a_recording_that_only_lies_around_such_records_is_warned_of_too(vault: VaultBuilder) -> None:
    """Records of it may have been taken out there."""
    running = vault.begin()
    vault.feed(running, 2)
    vault.signer.busy = True
    vault.journal.append("fault", component="camera", message="no frames")
    vault.journal.commit()
    vault.signer.busy = False
    vault.restart()  # seals it: its last record stands behind
    vault.shut_down()
    report = check(vault)
    assert fails(report) == set()
    assert warns(report) == LATE
    assert report.recordings[0].recovered
