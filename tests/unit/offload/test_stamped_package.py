"""A package reaches to the timestamps next to its recording, so that it bounds its time by itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent.clock import NS_PER_S, SimulatedClock
from agent.offload import package as package_module
from agent.offload.folder import FolderStore
from agent.offload.offload import OffloadReport, offload_once
from agent.offload.package import EvidencePackage
from agent.offload.receipts import ReceiptQueue
from agent.verify.aspect import Aspect, Standing
from agent.verify.evidence import locate
from agent.verify.index import read_index
from agent.verify.interval import Interval
from agent.verify.report import Report
from agent.verify.verify import verify_path
from tests.support.identity import BENCH_IDENTITY
from tests.support.packages import offloaded
from tests.support.stamping import stamp
from tests.support.time_authority import NOW, time_authority
from tests.support.vault_builder import VaultBuilder


@pytest.fixture
def vault(tmp_path: Path) -> VaultBuilder:
    start_ns = int(NOW.replace(microsecond=0).timestamp()) * NS_PER_S
    return VaultBuilder(tmp_path / "vault", clock=SimulatedClock(utc_ns=start_ns))


def checked(package: Path) -> Report:
    report = verify_path(package, roots=[BENCH_IDENTITY.root], tsa_roots=[time_authority().root])
    assert report.ok, report.findings
    return report


def interval(report: Report) -> Interval:
    (recording,) = report.recordings
    assert recording.time is not None
    return recording.time


def time_standing(report: Report) -> Standing:
    return next(verdict.standing for verdict in report.recordings[0].aspects if verdict.aspect is Aspect.TIME)


def names(package: Path) -> list[str]:
    return sorted(path.name for path in (package / "journal").iterdir())


def test_a_shift_between_two_docks_is_bounded_in_each_package(vault: VaultBuilder, tmp_path: Path) -> None:
    stamp(vault)  # in the dock, in a run of its own
    vault.restart()
    first = vault.record(seconds=2)
    second = vault.record(seconds=2)
    vault.restart()
    stamp(vault)
    stamp(vault)
    packages = offloaded(vault, tmp_path)
    for recording_id in (first, second):
        report = checked(packages[recording_id])
        found = interval(report)
        assert found.before is not None
        assert found.after is not None
        assert time_standing(report) is Standing.HOLDS
        assert names(packages[recording_id]) == ["000001.journal", "000002.journal", "000003.journal"]
        assert report.last_seq == found.after.seq, "it ends behind the first timestamp after it"


def test_without_timestamps_a_package_is_the_run_up_to_the_close(vault: VaultBuilder, tmp_path: Path) -> None:
    vault.restart()
    recording_id = vault.record(seconds=2)
    vault.restart()
    package = offloaded(vault, tmp_path)[recording_id]
    assert names(package) == ["000002.journal"]
    assert time_standing(checked(package)) is Standing.OPEN


def test_only_the_nearest_run_with_a_timestamp_is_taken(vault: VaultBuilder, tmp_path: Path) -> None:
    stamp(vault)
    vault.restart()
    stamp(vault)
    vault.restart()
    recording_id = vault.record(seconds=2)
    package = offloaded(vault, tmp_path)[recording_id]
    assert names(package) == ["000002.journal", "000003.journal"]
    found = interval(checked(package))
    assert found.before is not None
    assert found.after is None


def test_a_timestamp_that_was_asked_for_before_the_end_is_not_the_one_behind_it(
    vault: VaultBuilder, tmp_path: Path
) -> None:
    running = vault.begin()
    vault.push(running, 2)
    stamp(vault)
    recording_id = vault.stop(running)
    stamp(vault)
    report = checked(offloaded(vault, tmp_path)[recording_id])
    found = interval(report)
    assert found.before is None
    assert found.after is not None
    assert found.after.seq == report.last_seq


def test_across_a_broken_chain_no_timestamp_is_fetched(vault: VaultBuilder) -> None:
    stamp(vault)
    stamp(vault)
    vault.restart()
    vault.record(seconds=2)
    vault.shut_down()
    journal = vault.root / "journal" / "000001.journal"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:-1]))
    (recording,) = read_index(locate(vault.root)).recordings.values()
    assert recording.stamped_from is None
    assert recording.run_file == "000002.journal"


def test_a_timestamp_too_far_off_is_left_out(
    vault: VaultBuilder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stamp(vault)
    vault.restart()
    recording_id = vault.record(seconds=2)
    stamp(vault)
    monkeypatch.setattr(package_module, "MAX_DETOUR_BYTES", 1000)
    package = offloaded(vault, tmp_path)[recording_id]
    assert names(package) == ["000002.journal"]
    found = interval(checked(package))
    assert found.before is None
    assert found.after is None


def offload(vault: VaultBuilder, tmp_path: Path) -> OffloadReport:
    (tmp_path / "store").mkdir(exist_ok=True)
    return offload_once(
        vault.root,
        FolderStore(tmp_path / "store"),
        control=None,
        queue=ReceiptQueue(tmp_path / "receipts"),
        clock=SimulatedClock(),
    )


def begun(vault: VaultBuilder, tmp_path: Path) -> EvidencePackage:
    """What would be copied now."""
    (recording,) = read_index(locate(vault.root)).recordings.values()
    package = EvidencePackage(locate(vault.root), recording)
    (tmp_path / "store").mkdir()
    return package


@pytest.mark.parametrize("copied", range(1, 20))
def test_a_package_that_was_interrupted_before_the_timestamp_came_is_finished(
    vault: VaultBuilder, tmp_path: Path, copied: int
) -> None:
    stamp(vault)
    vault.restart()
    recording_id = vault.record(seconds=2)
    before = begun(vault, tmp_path)
    store = FolderStore(tmp_path / "store")
    for item in before.objects[:copied]:
        store.put(before.folder, item)
    stamp(vault)
    vault.shut_down()
    report = offload(vault, tmp_path)
    assert report.ok, report.refused
    (receipt,) = report.receipts
    package = tmp_path / "store" / before.folder
    assert package.name == receipt.recording_id == recording_id
    found = interval(checked(package))
    assert found.before is not None
    log_was_there = copied > [item.name for item in before.objects].index("journal/000002.journal")
    assert (found.after is None) is log_was_there
    assert len(before.objects) <= 19, "every place to interrupt is tried"


def test_a_place_that_is_taken_by_something_else_is_still_refused(vault: VaultBuilder, tmp_path: Path) -> None:
    vault.record(seconds=2)
    stamp(vault)
    package = begun(vault, tmp_path)
    for name in ("journal/000001.journal", "init.mp4"):
        path = tmp_path / "store" / package.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"something else")
        (refused,) = offload(vault, tmp_path).refused
        assert f"{name} is there with other bytes" in refused[1]
        path.unlink()


def test_the_support_sheet_tells_of_the_time_of_the_recording(vault: VaultBuilder, tmp_path: Path) -> None:
    stamp(vault)
    stamp(vault)
    vault.restart()
    recording_id = vault.record(seconds=2)
    vault.restart()
    stamp(vault)
    sheet = json.loads((offloaded(vault, tmp_path)[recording_id] / "support.json").read_bytes())
    assert [entry["file"] for entry in sheet["journal_files"]] == ["000002.journal"]
    assert [entry["journal_file"] for entry in sheet["runs"]] == ["000002.journal"]
    assert len(sheet["timestamps"]) == 2, "the last before it and the first after it"
    own = [entry["record"] for entry in sheet["recording"]]
    before, after = (entry["record"] for entry in sheet["timestamps"])
    assert before < own[0] < own[-1] < after
