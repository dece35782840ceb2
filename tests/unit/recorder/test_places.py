"""Receipts one after another: each costs its own records, and finds the same as reading all of the journal back."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.clock import SimulatedClock
from agent.errors import StorageError
from agent.recorder.places import RecordPlaces
from agent.recorder.recovery import records_of
from agent.vault.journal import Journal
from agent.vault.layout import VaultLayout
from tests.support.large_vault import LargeVault
from tests.support.vault_builder import FailingFilesystem
from tests.unit.recorder.test_settled import CountingFilesystem
from tests.unit.vault.journals import FakeSigner


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LargeVault]:
    """Six runs of five recordings."""
    made = LargeVault.begin(tmp_path_factory.mktemp("places") / "vault")
    for _ in range(6):
        made.run(5, filler_bytes=20_000)
    yield made
    shutil.rmtree(made.root.parent)


def ids(layout: VaultLayout) -> list[str]:
    return sorted(path.name for path in layout.recordings.iterdir())


def test_the_same_records_are_found_in_any_order(large: LargeVault) -> None:
    filesystem = CountingFilesystem(large.layout.recordings)
    for order in (ids(large.layout), ids(large.layout)[::-1], ids(large.layout)[7::13]):
        places = RecordPlaces(filesystem, large.layout)
        for recording_id in order:
            found = places.records_of(recording_id)
            assert found == records_of(filesystem, large.layout, recording_id)
            assert found[0].type == "trigger"
            assert found[-1].type == "recording-close"


def test_what_was_looked_through_once_is_not_again(large: LargeVault) -> None:
    filesystem = CountingFilesystem(large.layout.recordings)
    places = RecordPlaces(filesystem, large.layout)
    files = len(list(large.layout.journal.iterdir()))
    assert files == 6
    oldest, *others = ids(large.layout)
    places.records_of(oldest)
    assert filesystem.operations["read"] <= files + 3
    before = filesystem.operations["read"]
    for recording_id in others:
        places.records_of(recording_id)
    # Its own file, and twice the newest, which goes on.
    assert filesystem.operations["read"] - before <= 3 * len(others)


def test_what_is_recent_is_found_without_reading_the_rest(large: LargeVault) -> None:
    filesystem = CountingFilesystem(large.layout.recordings)
    assert RecordPlaces(filesystem, large.layout).records_of(ids(large.layout)[-1])
    assert filesystem.operations["read"] <= 2
    filesystem = CountingFilesystem(large.layout.recordings)
    assert RecordPlaces(filesystem, large.layout).records_of(ids(large.layout)[-6])
    assert filesystem.operations["read"] <= 4


def test_a_journal_that_goes_on_meanwhile(tmp_path: Path) -> None:
    layout = VaultLayout(tmp_path)
    layout.journal.mkdir()
    filesystem = CountingFilesystem(layout.recordings)
    journal = Journal(filesystem, layout.journal, FakeSigner(), SimulatedClock(), device_id="x", rotate_bytes=3000)
    places = RecordPlaces(filesystem, layout)
    one, two = (f"01890a5d-ac96-774b-bcce-b302099a805{number}" for number in (1, 2))
    assert places.records_of(one) == []
    for number in range(40):
        journal.append("trigger" if not number else "offload", recording_id=one, n=number)
        if number == 25:
            journal.append("trigger", recording_id=two)
        journal.append("test", recording_id=two, n=number)
        journal.commit()
        assert [record.fields["n"] for record in places.records_of(one)] == list(range(number + 1))
        assert places.records_of(two) == records_of(filesystem, layout, two) or number < 25
    assert len(list(layout.journal.iterdir())) > 5


def test_what_does_not_chain_is_not_found(tmp_path: Path) -> None:
    """Not what stands behind a damaged line, nor what a later file says is none of the chain, first time or second."""
    made = LargeVault.begin(tmp_path / "vault")
    made.run(3)
    made.run(1)
    filesystem = CountingFilesystem(made.layout.recordings)
    places = RecordPlaces(filesystem, made.layout)
    first, *_ = ids(made.layout)
    whole = places.records_of(first)
    path = sorted(made.layout.journal.iterdir())[0]
    path.write_bytes(path.read_bytes().replace(b'"reason":"button"', b'"reason":"buttom"', 1))
    assert len(places.records_of(first)) < len(whole)
    assert places.records_of(first) == records_of(filesystem, made.layout, first)


def test_what_a_failed_sync_left_is_not_found_beside_what_was_written_again(tmp_path: Path) -> None:
    layout = VaultLayout(tmp_path)
    layout.journal.mkdir()
    filesystem = FailingFilesystem()
    journal = Journal(filesystem, layout.journal, FakeSigner(), SimulatedClock(), device_id="x", rotate_bytes=1 << 20)
    recording_id = "01890a5d-ac96-774b-bcce-b302099a8051"
    journal.append("trigger", recording_id=recording_id, n=0)
    journal.commit()
    for number in range(1, 4):
        journal.append("offload", recording_id=recording_id, n=number)
        filesystem.fail_next_sync_of = ".journal"
        with pytest.raises(StorageError):
            journal.commit()
        journal.commit()
    places = RecordPlaces(filesystem, layout)
    for _ in range(2):
        assert [record.fields["n"] for record in places.records_of(recording_id)] == [0, 1, 2, 3]
