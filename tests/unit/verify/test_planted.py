"""What somebody who has the card, and no key, can put there before the camera is started again.

The camera signs what it finds. So what it vouches for only since then is told apart from what it wrote itself.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from agent.verify.aspect import Aspect, Standing
from agent.verify.finding import Code
from agent.verify.report import RecordingReport
from tests.support.evidence_key import EVIDENCE
from tests.support.identity import make_identity
from tests.support.packages import offloaded, renew_sums
from tests.support.vault_builder import VaultBuilder
from tests.unit.verify.tampering import check, edit_lines, fails, index_of, notes, warns
from tests.unit.verify.test_verify_script import run

PLANTED = {Code.UNSIGNED_MEDIA}


def integrity(recording: RecordingReport) -> Standing:
    return next(verdict.standing for verdict in recording.aspects if verdict.aspect is Aspect.INTEGRITY)


def foreign(tmp_path: Path) -> Path:
    """The folder of a recording of another camera."""
    other = VaultBuilder(tmp_path / "other", identity=make_identity("CAM-0002"))
    return other.layout.recording(other.record(5))


def both(vault: VaultBuilder, folder: Path, recording_id: str) -> tuple[set[Code], Standing]:
    """Warnings and the integrity of a recording's package, on which both verifiers agree."""
    package = offloaded(vault, folder)[recording_id]
    report = check(package)
    script = run(package)
    assert (script.status == 0) == report.ok
    assert script.codes("warn") == {code.value for code in warns(report)}
    standing = integrity(report.recordings[0])
    assert script.verdicts()["integrity"] == standing.value
    return warns(report), standing


@pytest.mark.parametrize("closed", [False, True])
def test_a_foreign_film_behind_the_genuine_trigger_is_not_vouched_for(tmp_path: Path, closed: bool) -> None:
    vault = VaultBuilder(tmp_path / "vault")
    running = vault.begin()
    vault.feed(running, 3)
    recording_id = vault.stop(running) if closed else running.recording_id
    vault.journal.close()
    # The card is out: the log is cut behind the trigger, the media exchanged.
    journal = vault.layout.journal / "000001.journal"
    edit_lines(journal, lambda lines: lines[: index_of(journal, "trigger") + 1])
    folder = vault.layout.recording(recording_id)
    shutil.rmtree(folder)
    shutil.copytree(foreign(tmp_path), folder)
    (folder / "recording.json").unlink()
    vault.restart()
    assert both(vault, tmp_path / "dock", recording_id) == (PLANTED, Standing.LIMITED)


def test_foreign_segments_behind_an_interrupted_recording_are_not_vouched_for(tmp_path: Path) -> None:
    vault = VaultBuilder(tmp_path / "vault")
    running = vault.begin()
    vault.feed(running, 3)
    vault.journal.close()
    folder = vault.layout.recording(running.recording_id)
    taken = sorted(path.name for path in folder.glob("*.m4s"))
    for number, path in enumerate(sorted(foreign(tmp_path).glob("*.m4s")), len(taken) + 1):
        shutil.copy(path, folder / f"{number:06d}.m4s")
    vault.restart()
    found, standing = both(vault, tmp_path / "dock", running.recording_id)
    assert (found, standing) == (PLANTED, Standing.LIMITED)


def test_fragments_whose_numbers_do_not_go_on_are_told(tmp_path: Path) -> None:
    vault = VaultBuilder(tmp_path / "vault", segment_s=10)
    running = vault.begin()
    vault.feed(running, 3)
    vault.journal.close()
    segment = vault.layout.recording(running.recording_id) / "000001.m4s"
    segment.write_bytes(segment.read_bytes() + (foreign(tmp_path) / "000001.m4s").read_bytes())
    vault.restart()
    vault.shut_down()
    report = check(vault)
    (finding,) = [finding for finding in report.findings if finding.code is Code.UNSIGNED_MEDIA]
    assert "do not go on from the checkpoints'" in finding.sentence


def test_what_a_power_cut_leaves_of_a_fragment_is_a_note(tmp_path: Path) -> None:
    vault = VaultBuilder(tmp_path / "vault", segment_s=10)
    running = vault.begin()
    vault.feed(running, 3)
    segment = max(vault.layout.recording(running.recording_id).glob("*.m4s"))
    segment.write_bytes(segment.read_bytes() + b"\0\0\0\x10moof")
    vault.restart()
    found, standing = both(vault, tmp_path / "dock", running.recording_id)
    assert (found, standing) == (set(), Standing.HOLDS)
    vault.shut_down()
    assert Code.UNSIGNED_BYTES in notes(check(vault))


def test_encrypted_bytes_behind_the_last_checkpoint_are_not_vouched_for(tmp_path: Path) -> None:
    """Whoever knows the recipients, whose keys are public, can encrypt a film of their own to them."""
    vault = VaultBuilder(tmp_path / "vault", segment_s=10, recipients=(EVIDENCE.recipient,))
    running = vault.begin()
    vault.feed(running, 3)
    segment = max(vault.layout.recording(running.recording_id).glob("*.m4s.age"))
    segment.write_bytes(segment.read_bytes() + bytes(70_000))
    vault.restart()
    found, standing = both(vault, tmp_path / "dock", running.recording_id)
    assert (found, standing) == (PLANTED, Standing.LIMITED)


def test_a_trigger_that_was_journalled_cannot_be_left_out_of_the_extract(tmp_path: Path) -> None:
    vault = VaultBuilder(tmp_path / "vault")
    running = vault.begin()
    vault.feed(running, 2)
    vault.journal.close()
    journal = vault.layout.journal / "000001.journal"
    edit_lines(journal, lambda lines: lines[: index_of(journal, "trigger") + 1])  # as if power went a moment later
    vault.restart()
    package = offloaded(vault, tmp_path)[running.recording_id]
    assert fails(check(package)) == set()
    (package / "journal" / "000001.journal").unlink()
    renew_sums(package)
    assert Code.PACKAGE_INCOMPLETE in fails(check(package))
    assert "PACKAGE_INCOMPLETE" in run(package).codes("fail")


def test_a_package_leaves_out_what_no_record_describes_and_nothing_may_be_put_there(tmp_path: Path) -> None:
    vault = VaultBuilder(tmp_path / "vault")
    running = vault.begin()
    vault.feed(running, 2)
    vault.filesystem.fail_next_sync_of = ".journal"
    vault.feed(running, 2)
    vault.retry()
    recording_id = vault.stop(running)
    journal = vault.layout.journal / "000001.journal"
    lines = journal.read_bytes().splitlines(keepends=True)
    with journal.open("ab") as file:
        file.write(lines[2])  # on the card it stays possible, and counts for nothing
    package = offloaded(vault, tmp_path)[recording_id]
    assert fails(check(package)) == set()
    packed = package / "journal" / "000001.journal"
    assert packed.stat().st_size < journal.stat().st_size
    assert run(package).status == 0
    with packed.open("ab") as file:
        file.write(lines[2])
    renew_sums(package)
    assert fails(check(package)) == {Code.TORN_TAIL_MISMATCH}
    assert run(package).codes("fail") == {"TORN_TAIL_MISMATCH"}
