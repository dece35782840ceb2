"""Whatever is done to media files is found and named."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.verify.finding import Code
from tests.support.vault_builder import VaultBuilder
from tests.unit.verify.tampering import check, fails, flip, notes, verdicts, warns


@pytest.fixture
def vault(tmp_path: Path) -> VaultBuilder:
    return VaultBuilder(tmp_path / "vault")


def segment(vault: VaultBuilder, recording_id: str, number: int = 1) -> Path:
    return vault.layout.recording(recording_id) / f"{number:06d}.m4s"


def test_an_untouched_vault_passes_without_a_word(vault: VaultBuilder) -> None:
    whole = vault.record(5, sound=True, meanwhile=vault.mark)
    vault.record(3)
    vault.shut_down()
    report = check(vault)
    assert report.ok
    assert report.findings == ()
    assert set(verdicts(report).values()) == {"verified"}
    recording = report.recordings[0]
    assert (recording.recording_id, recording.frames, recording.duration_ms) == (whole, 50, 5000)
    assert (recording.configured_pre_event_ms, recording.actual_pre_event_ms) == (1000, 1000)
    assert recording.marker_ms == (1000,)
    assert recording.stop_reason == "button"
    assert report.to_json()["recordings"][0]["start_utc_claimed"] == "2026-09-21T14:13:20Z"


def test_a_flipped_byte_is_found_at_its_place_and_only_there(vault: VaultBuilder) -> None:
    hurt, other = vault.record(5), vault.record(3)
    path = segment(vault, hurt, 2)
    flip(path, path.stat().st_size - 1)
    report = check(vault)
    assert fails(report) == {Code.CHECKPOINT_HASH, Code.SEGMENT_HASH}
    assert verdicts(report) == {hurt: "failed", other: "verified"}
    (finding,) = (finding for finding in report.findings if finding.code is Code.CHECKPOINT_HASH)
    assert "fragment 4" in finding.sentence
    assert "00:03.000 to 00:04.000 of the recording" in finding.sentence


@pytest.mark.parametrize("cut", [1, 5000])
def test_a_truncated_segment(vault: VaultBuilder, cut: int) -> None:
    path = segment(vault, vault.record())
    os.truncate(path, path.stat().st_size - cut)
    assert fails(check(vault)) == {Code.SEGMENT_SIZE}


def test_bytes_added_to_a_sealed_segment(vault: VaultBuilder) -> None:
    with segment(vault, vault.record()).open("ab") as file:
        file.write(b"\0")
    assert fails(check(vault)) == {Code.SEGMENT_SIZE}


def test_a_deleted_segment(vault: VaultBuilder) -> None:
    segment(vault, vault.record()).unlink()
    assert fails(check(vault)) == {Code.SEGMENT_MISSING}


def test_an_emptied_segment(vault: VaultBuilder) -> None:
    segment(vault, vault.record()).write_bytes(b"")
    assert fails(check(vault)) == {Code.SEGMENT_SIZE}


def test_swapped_segments(vault: VaultBuilder) -> None:
    recording_id = vault.record(4)
    one, two = segment(vault, recording_id, 1), segment(vault, recording_id, 2)
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)
    assert Code.CHECKPOINT_HASH in fails(check(vault))


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_what_is_no_plain_file_is_not_read(vault: VaultBuilder, tmp_path: Path, kind: str) -> None:
    path = segment(vault, vault.record())
    if kind == "link":
        path.rename(tmp_path / "elsewhere.m4s")
        path.symlink_to(tmp_path / "elsewhere.m4s")
    else:
        path.unlink()
        os.mkfifo(path) if kind == "pipe" else path.mkdir()
    assert fails(check(vault)) == {Code.SEGMENT_MISSING}


def test_a_recording_behind_a_link_is_not_read(vault: VaultBuilder, tmp_path: Path) -> None:
    folder = vault.layout.recording(vault.record())
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    assert fails(check(vault)) == {Code.RECORDING_MISSING}


@pytest.mark.parametrize("what", ["flip", "delete"])
def test_init(vault: VaultBuilder, what: str) -> None:
    path = vault.layout.recording(vault.record()) / "init.mp4"
    flip(path, 100) if what == "flip" else path.unlink()
    assert fails(check(vault)) == {Code.INIT_HASH}


def test_a_deleted_recording(vault: VaultBuilder) -> None:
    gone, other = vault.record(), vault.record()
    folder = vault.layout.recording(gone)
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    report = check(vault)
    assert fails(report) == {Code.RECORDING_MISSING}
    assert verdicts(report) == {gone: "failed", other: "verified"}


@pytest.mark.parametrize("name", ["000099.m4s", "notes.txt", ".hidden"])
def test_a_file_slipped_in(vault: VaultBuilder, name: str) -> None:
    (vault.layout.recording(vault.record()) / name).write_bytes(b"x")
    assert fails(check(vault)) == {Code.FILE_UNKNOWN}


def test_a_leftover_is_a_note(vault: VaultBuilder) -> None:
    (vault.layout.recording(vault.record()) / "recording.json.part1").write_bytes(b"x")
    report = check(vault)
    assert report.ok
    assert notes(report) == {Code.FILE_UNKNOWN}


def test_a_recording_slipped_in_touches_no_other(vault: VaultBuilder) -> None:
    recording_id = vault.record()
    vault.layout.recording(recording_id.replace("-7", "-8")).mkdir()
    report = check(vault)
    assert fails(report) == {Code.RECORDING_UNRECORDED}
    assert verdicts(report) == {recording_id: "verified"}


def test_a_failed_write_is_told_and_its_leftover_bounded(vault: VaultBuilder) -> None:
    running = vault.begin()
    vault.feed(running, 2)
    vault.filesystem.fail_next_sync_of = ".m4s"
    vault.feed(running, 1)
    vault.retry()
    vault.feed(running, 1)
    recording_id = vault.stop(running)
    assert vault.listener.faults
    vault.shut_down()
    report = check(vault)
    assert report.ok
    assert notes(report) == {Code.UNSIGNED_BYTES}
    assert report.recordings[0].frames == 40
    torn = segment(vault, recording_id, 1)
    whole = torn.read_bytes()
    torn.write_bytes(whole + b"more than was ever written")
    assert fails(check(vault)) == {Code.SEGMENT_SIZE}
    torn.write_bytes(whole[: whole.index(b"moof", 8) - 4])  # only what was confirmed
    report = check(vault)
    assert report.ok
    assert report.findings == ()


def test_a_segment_that_never_began_may_be_absent(vault: VaultBuilder) -> None:
    vault.filesystem.fail_next_sync_of = "000001.m4s"
    running = vault.begin()
    vault.feed(running, 2)
    vault.retry()
    recording_id = vault.stop(running)
    segment(vault, recording_id, 1).unlink()
    vault.shut_down()
    assert check(vault).findings == ()


def test_a_running_recording_is_stated_and_no_fault(vault: VaultBuilder) -> None:
    running = vault.begin()
    vault.feed(running, 4)
    report = check(vault)
    assert report.ok
    assert warns(report) == {Code.RECORDING_UNCLOSED, Code.RUN_NOT_ENDED}
    assert verdicts(report) == {running.recording_id: "verified-so-far"}
    assert report.recordings[0].duration_ms == 3000
    with segment(vault, running.recording_id, 2).open("ab") as file:
        file.write(b"not yet checkpointed")
    (segment(vault, running.recording_id, 3)).write_bytes(b"nor this")
    report = check(vault)
    assert report.ok
    assert warns(report) == {Code.RECORDING_UNCLOSED, Code.UNSIGNED_BYTES, Code.RUN_NOT_ENDED}
    flip(segment(vault, running.recording_id, 2), 50)
    assert Code.CHECKPOINT_HASH in fails(check(vault))


def test_a_trigger_of_which_nothing_became_durable(vault: VaultBuilder) -> None:
    vault.begin()
    vault.work()
    report = check(vault)
    assert report.ok
    assert warns(report) == {Code.RECORDING_UNCLOSED, Code.RUN_NOT_ENDED}


def test_a_gap_is_told(vault: VaultBuilder) -> None:
    running = vault.begin(max_bytes=60_000, pad_bytes=20_000)
    vault.feed(running, 2)
    vault.push(running, 6)  # the recorder does not keep up
    vault.feed(running, 1)
    vault.stop(running)
    report = check(vault)
    assert report.ok
    assert notes(report) == {Code.GAP}
    assert report.recordings[0].gaps == 1


class TestRecovered:
    def cut(self, vault: VaultBuilder, seconds: int = 4) -> str:
        running = vault.begin()
        vault.feed(running, seconds)
        return running.recording_id

    def test_a_cut_recording_is_sealed_as_it_lay(self, vault: VaultBuilder) -> None:
        recording_id = self.cut(vault)
        vault.restart()
        report = check(vault)
        assert report.ok
        assert notes(report) == {Code.RECOVERED, Code.RUN_NOT_ENDED}
        assert report.recordings[0].frames == 30
        flip(segment(vault, recording_id, 2), 50)
        assert Code.CHECKPOINT_HASH in fails(check(vault))

    def test_bytes_behind_the_last_checkpoint_are_named(self, vault: VaultBuilder) -> None:
        recording_id = self.cut(vault)
        path = segment(vault, recording_id, 2)
        fragment = path.read_bytes()
        path.write_bytes(fragment + fragment + fragment[:50])
        vault.restart()
        report = check(vault)
        assert report.ok
        assert Code.UNSIGNED_MEDIA in warns(report)
        (finding,) = (finding for finding in report.findings if finding.code is Code.UNSIGNED_MEDIA)
        assert f"{len(fragment) + 50} bytes" in finding.sentence
        assert "They hold 1 whole fragment with 10 frames" in finding.sentence
        flip(path, len(fragment) + 200)
        assert fails(check(vault)) == {Code.SEGMENT_HASH}

    def test_what_was_damaged_before_the_restart_is_not_whitewashed(self, vault: VaultBuilder) -> None:
        flip(segment(vault, self.cut(vault), 2), 50)
        vault.restart()
        assert Code.CHECKPOINT_HASH in fails(check(vault))

    def test_what_was_removed_before_the_restart_is_not_whitewashed(self, vault: VaultBuilder) -> None:
        segment(vault, self.cut(vault), 2).unlink()
        vault.restart()
        assert Code.SEGMENT_MISSING in fails(check(vault))

    def test_a_cut_before_the_first_checkpoint(self, vault: VaultBuilder) -> None:
        recording_id = self.cut(vault, 2)
        journal = vault.layout.journal / "000001.journal"
        lines = journal.read_bytes().splitlines(keepends=True)
        journal.write_bytes(b"".join(lines[:2]))  # neither trigger nor checkpoint reached flash
        vault.restart()
        report = check(vault)
        assert report.ok
        assert Code.RECOVERED in notes(report)
        assert Code.UNSIGNED_MEDIA in warns(report)
        assert verdicts(report) == {recording_id: "verified"}
        flip(vault.layout.recording(recording_id) / "init.mp4", 60)
        assert fails(check(vault)) == {Code.INIT_HASH}
