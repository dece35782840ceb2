"""Whatever is done to the journal is found and named."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from agent.verify.finding import Code
from tests.support.vault_builder import VaultBuilder
from tests.unit.verify.tampering import (
    check,
    edit_lines,
    fails,
    index_of,
    lines_of,
    notes,
    unsigned,
    verdicts,
    warns,
)


@pytest.fixture
def vault(tmp_path: Path) -> VaultBuilder:
    return VaultBuilder(tmp_path / "vault")


def journal(vault: VaultBuilder, number: int = 1) -> Path:
    return vault.layout.journal / f"{number:06d}.journal"


def test_a_deleted_line_hurts_only_the_recording_it_was_in(vault: VaultBuilder) -> None:
    before, hurt, after = vault.record(2), vault.record(2), vault.record(2)
    path = journal(vault)
    at = index_of(path, "segment", 1)
    edit_lines(path, lambda lines: lines[:at] + lines[at + 1 :])
    report = check(vault)
    assert Code.JOURNAL_SEQ in fails(report)
    assert verdicts(report) == {before: "verified", hurt: "failed", after: "verified"}


def test_a_recording_cut_out_of_the_journal_and_the_folder(vault: VaultBuilder) -> None:
    gone = vault.record(2)
    vault.record(2)
    folder = vault.layout.recording(gone)
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    edit_lines(journal(vault), lambda lines: [line for line in lines if gone.encode() not in line])
    assert fails(check(vault)) == {Code.JOURNAL_SEQ}


def test_swapped_lines(vault: VaultBuilder) -> None:
    vault.record(4)
    path = journal(vault)
    at = index_of(path, "checkpoint")
    edit_lines(path, lambda lines: [*lines[:at], lines[at + 1], lines[at], *lines[at + 2 :]])
    assert Code.JOURNAL_SEQ in fails(check(vault))


def test_a_doubled_line(vault: VaultBuilder) -> None:
    vault.record(4)
    path = journal(vault)
    at = index_of(path, "trigger")
    edit_lines(path, lambda lines: [*lines[:at], lines[at], *lines[at:]])
    assert Code.JOURNAL_SEQ in fails(check(vault))


def test_an_edited_record(vault: VaultBuilder) -> None:
    vault.record()
    path = journal(vault)
    at = index_of(path, "trigger")

    def edit(lines: list[bytes]) -> list[bytes]:
        lines[at] = lines[at].replace(b'"source":"button"', b'"source":"butto_"')
        return lines

    edit_lines(path, edit)
    assert {Code.SIGNATURE_BAD, Code.JOURNAL_CHAIN_BROKEN} <= fails(check(vault))


def test_a_signature_of_another_record(vault: VaultBuilder) -> None:
    vault.record()

    def edit(lines: list[bytes]) -> list[bytes]:
        lines[3] = lines[3].partition(b"\t")[0] + b"\t" + lines[2].partition(b"\t")[2]
        return lines

    edit_lines(journal(vault), edit)
    assert fails(check(vault)) == {Code.SIGNATURE_BAD}


def test_a_line_that_is_no_record(vault: VaultBuilder) -> None:
    hurt, other = vault.record(), vault.record()
    path = journal(vault)
    at = index_of(path, "checkpoint")

    def edit(lines: list[bytes]) -> list[bytes]:
        lines[at] = b"x" + lines[at][1:]
        return lines

    edit_lines(path, edit)
    report = check(vault)
    assert Code.JOURNAL_LINE_BAD in fails(report)
    assert verdicts(report) == {hurt: "failed", other: "verified"}


def test_the_newest_lines_cut_off_leave_an_open_recording(vault: VaultBuilder) -> None:
    recording_id = vault.record(4)
    path = journal(vault)
    at = index_of(path, "checkpoint", 2)
    edit_lines(path, lambda lines: lines[:at])
    report = check(vault)
    assert report.ok  # a cut is named as what it may be; only the derived recording.json tells it from a power cut
    assert warns(report) == {
        Code.RUN_NOT_ENDED, Code.RECORDING_UNCLOSED, Code.UNSIGNED_BYTES, Code.RECORDING_JSON_DIFFERS,
    }  # fmt: skip
    assert verdicts(report) == {recording_id: "verified-so-far"}


def test_an_unfinished_last_line_is_stated(vault: VaultBuilder) -> None:
    vault.record()
    vault.shut_down()
    os.truncate(journal(vault), journal(vault).stat().st_size - 5)
    report = check(vault)
    assert report.ok
    assert warns(report) == {Code.JOURNAL_UNFINISHED, Code.RUN_NOT_ENDED}


def test_a_bad_last_line_is_no_power_cut(vault: VaultBuilder) -> None:
    vault.record()
    with journal(vault).open("ab") as file:
        file.write(b"hello\n")
    assert fails(check(vault)) == {Code.JOURNAL_LINE_BAD}


def test_an_empty_file_is_no_power_cut(vault: VaultBuilder) -> None:
    journal(vault).write_bytes(b"")
    assert fails(check(vault)) == {Code.JOURNAL_LINE_BAD}


def test_zeros_at_the_end_are_a_power_cut(vault: VaultBuilder) -> None:
    vault.record()
    with journal(vault).open("ab") as file:
        file.write(b"\0" * 100 + b"rest\n")
    report = check(vault)
    assert report.ok
    assert warns(report) == {Code.JOURNAL_UNFINISHED, Code.RUN_NOT_ENDED}


def test_no_journal_at_all(vault: VaultBuilder) -> None:
    recording_id = vault.record()
    journal(vault).unlink()
    assert fails(check(vault)) == {Code.JOURNAL_MISSING, Code.RECORDING_UNRECORDED}
    for path in vault.layout.recording(recording_id).iterdir():
        path.unlink()
    vault.layout.recording(recording_id).rmdir()
    assert check(vault).ok


class TestManyFiles:
    @pytest.fixture
    def rotated(self, tmp_path: Path) -> VaultBuilder:
        vault = VaultBuilder(tmp_path / "vault", rotate_bytes=3000)
        vault.record(5)
        vault.shut_down()
        vault.restart()
        vault.record(5)
        vault.shut_down()
        assert len(list(vault.layout.journal.iterdir())) > 5
        return vault

    def test_the_chain_runs_on(self, rotated: VaultBuilder) -> None:
        report = check(rotated)
        assert report.findings == ()
        assert report.last_seq == report.records

    @pytest.mark.parametrize("number", [1, 3])
    def test_a_deleted_file(self, rotated: VaultBuilder, number: int) -> None:
        journal(rotated, number).unlink()
        assert Code.JOURNAL_FILE_MISSING in fails(check(rotated))

    def test_a_renamed_file(self, rotated: VaultBuilder) -> None:
        journal(rotated, 2).rename(rotated.layout.journal / "000099.journal")
        assert Code.JOURNAL_FILE_MISSING in fails(check(rotated))

    def test_a_shortened_file(self, rotated: VaultBuilder) -> None:
        edit_lines(journal(rotated, 2), lambda lines: lines[:-1])
        assert {Code.JOURNAL_FILE_MISSING, Code.JOURNAL_SEQ} <= fails(check(rotated))

    def test_swapped_files(self, rotated: VaultBuilder) -> None:
        one, two = journal(rotated, 2), journal(rotated, 3)
        first, second = one.read_bytes(), two.read_bytes()
        one.write_bytes(second)
        two.write_bytes(first)
        assert Code.JOURNAL_FILE_MISSING in fails(check(rotated))

    def test_bytes_added_behind_a_file(self, rotated: VaultBuilder) -> None:
        with journal(rotated, 2).open("ab") as file:
            file.write(b"x")
        assert fails(check(rotated)) == {Code.TORN_TAIL_MISMATCH}

    def test_bytes_slipped_in_where_a_line_ends(self, rotated: VaultBuilder) -> None:
        edit_lines(journal(rotated, 2), lambda lines: [*lines[:-1], b"hello\n", lines[-1]])
        assert Code.JOURNAL_LINE_BAD in fails(check(rotated))

    def test_files_that_are_none_are_named(self, rotated: VaultBuilder) -> None:
        (rotated.layout.journal / "000009.journal.part1").write_bytes(b"x")
        assert notes(check(rotated)) == {Code.JOURNAL_LEFTOVER}
        (rotated.layout.journal / "readme").write_bytes(b"x")
        report = check(rotated)
        assert report.ok
        assert warns(report) == {Code.FILE_UNKNOWN}

    def test_a_pipe_in_place_of_a_file(self, rotated: VaultBuilder) -> None:
        journal(rotated, 2).unlink()
        os.mkfifo(journal(rotated, 2))
        assert Code.FILE_UNREADABLE in fails(check(rotated))


class TestTornTails:
    def test_an_interrupted_line_is_named_by_the_next_file(self, vault: VaultBuilder) -> None:
        vault.record()
        with journal(vault).open("ab") as file:
            file.write(b'{"v":1,"seq":')
        vault.restart()
        report = check(vault)
        assert report.ok
        assert notes(report) == {Code.TORN_TAIL, Code.RUN_NOT_ENDED}
        with journal(vault).open("ab") as file:
            file.write(b"9")
        assert fails(check(vault)) == {Code.TORN_TAIL_MISMATCH}
        os.truncate(journal(vault), journal(vault).stat().st_size - 2)
        assert fails(check(vault)) == {Code.TORN_TAIL_MISMATCH}

    def test_damage_that_the_camera_took_for_a_torn_line_is_shown(self, vault: VaultBuilder) -> None:
        vault.record()
        path = journal(vault)
        at = index_of(path, "stop")

        def edit(lines: list[bytes]) -> list[bytes]:
            lines[at] = b"x" + lines[at][1:]
            return lines

        edit_lines(path, edit)
        vault.restart()
        assert Code.TORN_TAIL_RECORDS in warns(check(vault))

    def test_the_tail_of_a_failed_write_may_be_anything(self, vault: VaultBuilder) -> None:
        running = vault.begin()
        vault.feed(running, 2)
        vault.filesystem.fail_next_sync_of = ".journal"
        vault.feed(running, 2)
        vault.retry()
        vault.stop(running)
        report = check(vault)
        assert report.ok
        assert notes(report) == {Code.TORN_TAIL}
        with journal(vault).open("ab") as file:
            file.write(b"whatever")
        assert check(vault).ok
        edit_lines(journal(vault), lambda lines: lines[:3])
        assert Code.JOURNAL_FILE_MISSING in fails(check(vault))


class TestPending:
    def test_a_later_signature_covers(self, vault: VaultBuilder) -> None:
        running = vault.begin()
        vault.feed(running, 2)
        vault.signer.busy = True
        vault.feed(running, 3)
        vault.signer.busy = False
        vault.stop(running)
        report = check(vault)
        assert report.ok
        assert notes(report) == {Code.SIGNATURE_PENDING}
        # Covered means that they cannot be changed, either.
        path = journal(vault)
        at = next(n for n, line in enumerate(lines_of(path)) if line.endswith(b"\t-\n"))

        def edit(lines: list[bytes]) -> list[bytes]:
            lines[at] = lines[at].replace(b'_uncertainty_ms":10', b'_uncertainty_ms":11')
            return lines

        edit_lines(path, edit)
        assert {Code.JOURNAL_CHAIN_BROKEN, Code.SIGNATURE_UNCOVERED} <= fails(check(vault))

    def test_a_closed_recording_that_no_signature_covers_fails(self, vault: VaultBuilder) -> None:
        before = vault.record()
        vault.signer.busy = True
        after = vault.record()
        report = check(vault)
        assert fails(report) == {Code.SIGNATURE_UNCOVERED}
        assert verdicts(report) == {before: "verified", after: "failed"}

    def test_a_running_recording_waits_for_its_signature(self, vault: VaultBuilder) -> None:
        running = vault.begin()
        vault.feed(running, 2)
        vault.signer.busy = True
        vault.feed(running, 2)
        report = check(vault)
        assert report.ok
        assert warns(report) == {Code.SIGNATURE_UNCOVERED, Code.RECORDING_UNCLOSED, Code.RUN_NOT_ENDED}

    def test_all_signatures_stripped(self, vault: VaultBuilder) -> None:
        vault.record()
        edit_lines(journal(vault), lambda lines: [unsigned(line) for line in lines])
        assert fails(check(vault)) == {Code.SIGNATURE_UNCOVERED}


class TestTheEnd:
    """What no chain of hashes shows: records that are gone from the journal's end."""

    def run_not_ended(self, vault: VaultBuilder) -> list[tuple[str, str]]:
        return [(f.severity.value, f.sentence) for f in check(vault).findings if f.code is Code.RUN_NOT_ENDED]

    @pytest.fixture
    def ended(self, tmp_path: Path) -> VaultBuilder:
        vault = VaultBuilder(tmp_path / "vault", rotate_bytes=3000)
        vault.record(4)
        vault.record(4)
        vault.shut_down()
        assert check(vault).findings == ()
        return vault

    def test_every_border_between_records_is_told(self, ended: VaultBuilder) -> None:
        newest = max(ended.layout.journal.iterdir())
        for _ in range(1, len(lines_of(newest))):
            edit_lines(newest, lambda lines: lines[:-1])
            ((severity, sentence),) = self.run_not_ended(ended)
            assert (severity, check(ended).ok) == ("warn", True)
            assert "with a shutdown" in sentence
            assert "noted elsewhere" in sentence

    def test_the_newest_file_deleted(self, ended: VaultBuilder) -> None:
        max(ended.layout.journal.iterdir()).unlink()
        report = check(ended)
        assert report.ok
        assert Code.RUN_NOT_ENDED in warns(report)

    def test_the_last_recording_cut_out_with_its_folder(self, vault: VaultBuilder) -> None:
        kept, gone = vault.record(2), vault.record(2)
        vault.shut_down()
        edit_lines(
            journal(vault), lambda lines: lines[: next(n for n, line in enumerate(lines) if gone.encode() in line)]
        )
        shutil.rmtree(vault.layout.recording(gone))
        report = check(vault)
        assert (report.ok, verdicts(report)) == (True, {kept: "verified"})
        assert warns(report) == {Code.RUN_NOT_ENDED}

    def test_an_earlier_run_without_an_end_is_a_note(self, vault: VaultBuilder) -> None:
        vault.record(2)
        vault.restart()
        vault.record(2)
        vault.shut_down()
        vault.restart()
        vault.shut_down()
        ((severity, sentence),) = self.run_not_ended(vault)
        assert severity == "note"
        assert "(recording-close, 2" in sentence
        assert "power was cut or it was killed" in sentence

    def test_a_vault_that_the_same_process_opened_twice_is_one_run(self, vault: VaultBuilder) -> None:
        vault.journal.close()
        vault.start()
        vault.shut_down()
        assert self.run_not_ended(vault) == []

    def test_a_run_that_wrote_nothing_but_its_first_line(self, vault: VaultBuilder) -> None:
        edit_lines(journal(vault), lambda lines: lines[:1])
        assert [severity for severity, _ in self.run_not_ended(vault)] == ["warn"]
        vault.restart()
        vault.shut_down()
        assert [severity for severity, _ in self.run_not_ended(vault)] == ["note"]


@pytest.mark.parametrize("name", ["journal", "recordings", "device"])
@pytest.mark.parametrize("kind", ["link", "file"])
def test_a_link_in_place_of_a_folder_is_not_followed(vault: VaultBuilder, tmp_path: Path, name: str, kind: str) -> None:
    recording_id = vault.record()
    vault.shut_down()
    folder = vault.root / name
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere") if kind == "link" else folder.write_bytes(b"x")
    report = check(vault)
    assert Code.FOLDER_NOT_PLAIN in fails(report)
    assert verdicts(report) == ({} if name == "journal" else {recording_id: "failed"})
    assert {finding.subject for finding in report.findings if finding.code is Code.FOLDER_NOT_PLAIN} == {name}
    # What is good behind it makes nothing good.
    absent = {"journal": Code.JOURNAL_MISSING, "recordings": Code.RECORDING_MISSING, "device": Code.CERT_UNKNOWN}
    assert absent[name] in fails(report)


def test_all_of_it_behind_links_is_no_vault_that_passes(vault: VaultBuilder, tmp_path: Path) -> None:
    vault.record()
    vault.shut_down()
    (tmp_path / "other").mkdir()
    for folder in ("journal", "recordings", "device"):
        (tmp_path / "other" / folder).symlink_to(vault.root / folder)
    assert Code.FOLDER_NOT_PLAIN in fails(check(tmp_path / "other"))
