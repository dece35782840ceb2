"""`recording.json` is no evidence, but people read it: what does not follow from the journal is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent.vault.record import Record
from agent.vault.summary import RecordingSummary
from agent.verify import derived
from agent.verify.derived import DerivedJson
from agent.verify.finding import Code
from tests.support.vault_builder import VaultBuilder
from tests.unit.verify.tampering import check, notes, verdicts, warns


@pytest.fixture
def vault(tmp_path: Path) -> VaultBuilder:
    return VaultBuilder(tmp_path / "vault")


def summary_of(vault: VaultBuilder, recording_id: str) -> Path:
    return vault.layout.recording(recording_id) / "recording.json"


def test_of_every_kind_of_recording_it_is_what_the_journal_makes_of_it(vault: VaultBuilder) -> None:
    vault.record(5, sound=True, meanwhile=vault.mark)
    running = vault.begin(max_bytes=60_000, pad_bytes=20_000)
    vault.feed(running, 2)
    vault.push(running, 6)  # a gap
    vault.filesystem.fail_next_sync_of = ".m4s"
    vault.feed(running, 1)
    vault.retry()
    vault.feed(running, 1)
    vault.stop(running)
    vault.feed(vault.begin(), 3)
    vault.restart()
    vault.shut_down()
    report = check(vault)
    assert len(list(vault.layout.recordings.glob("*/recording.json"))) == 3
    assert (report.ok, warns(report)) == (True, set())
    assert {Code.RECOVERED, Code.GAP} <= notes(report)


@pytest.mark.parametrize("what", ["edited", "cut", "emptied", "deleted", "reordered", "link"])
def test_whatever_is_done_to_it_is_told_and_touches_no_verdict(vault: VaultBuilder, tmp_path: Path, what: str) -> None:
    hurt, other = vault.record(), vault.record()
    vault.shut_down()
    path = summary_of(vault, hurt)
    data = path.read_bytes()
    if what == "edited":
        path.write_bytes(data.replace(b'"source": "button"', b'"source": "control"'))
    elif what == "cut":
        path.write_bytes(data[:-2])
    elif what == "emptied":
        path.write_bytes(b"")
    elif what == "reordered":
        path.write_text(json.dumps(json.loads(data), indent=2, sort_keys=True) + "\n")
    else:
        path.rename(tmp_path / "away.json")
    if what == "link":
        path.symlink_to(tmp_path / "away.json")
    report = check(vault)
    assert report.ok
    assert [(f.code, f.recording_id) for f in report.findings] == [(Code.RECORDING_JSON_DIFFERS, hurt)]
    assert verdicts(report) == {hurt: "verified", other: "verified"}


def test_it_betrays_a_journal_whose_end_was_cut_off(vault: VaultBuilder) -> None:
    running = vault.begin()
    vault.feed(running, 4)
    assert Code.RECORDING_JSON_DIFFERS not in warns(check(vault))  # of a running one there is none yet
    summary_of(vault, running.recording_id).write_bytes(b"{}")
    (finding,) = (f for f in check(vault).findings if f.code is Code.RECORDING_JSON_DIFFERS)
    assert "cut off the journal's end" in finding.sentence


def test_a_recording_of_which_nothing_was_written_needs_none(vault: VaultBuilder) -> None:
    vault.stop(vault.begin())
    vault.shut_down()
    assert (notes(check(vault)), warns(check(vault))) == ({Code.RECORDING_EMPTY}, set())


def record(type_: str, **fields: object) -> Record:
    return Record(json.dumps(fields).encode(), None, {"type": type_, **fields})


def test_checkpoints_are_not_kept_nor_anything_once_it_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[str] = []
    monkeypatch.setattr(RecordingSummary, "add", lambda _self, type_, _fields: kept.append(type_))
    expected = DerivedJson("x")
    for type_ in ("trigger", "checkpoint", "checkpoint", "segment", "recording-close", "offload"):
        expected.take(record(type_))
    assert kept == ["trigger", "segment", "recording-close"]
    assert expected._summary is None


def test_memory_is_bounded_and_what_is_not_compared_is_told(
    vault: VaultBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording_id = vault.record()
    vault.shut_down()
    size = summary_of(vault, recording_id).stat().st_size
    monkeypatch.setattr(derived, "MAX_RECORDING_JSON_BYTES", size * 2)
    assert check(vault).findings == ()
    monkeypatch.setattr(derived, "MAX_RECORDING_JSON_BYTES", 1000)
    assert warns(check(vault)) == {Code.RECORDING_JSON_DIFFERS}


def test_half_a_surrogate_pair_ends_in_no_error() -> None:
    expected = DerivedJson("x")
    expected.take(record("trigger", source="\ud800"))
    expected.take(record("recording-close"))
    summary = RecordingSummary("x")
    summary.add("trigger", {"source": "\ud800"})
    assert json.loads(summary.to_json())["trigger"] == {"source": "\ud800"}
