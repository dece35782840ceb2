"""The journal's writer: nothing appended is lost or doubled, whatever flash, signer and power do."""

from __future__ import annotations

import errno
import hashlib
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import agent.vault.journal
from agent.clock import NS_PER_S, SimulatedClock
from agent.errors import JournalError, OtherCardError, StorageError
from agent.vault.filesystem import AppendFile, PosixFilesystem
from agent.vault.journal import Journal, chained_prefix
from agent.vault.journal_end import JournalEnd
from agent.vault.record import PENDING
from tests.support.crashfs import CrashFile, CrashFilesystem, OpKind, PowerCut
from tests.support.failing_card import FailingCard
from tests.unit.vault.journals import FOLDER, FakeSigner, disk, names, open_journal, payloads, read_chain


def committed(journal: Journal, *numbers: int) -> Journal:
    """Append and commit test records."""
    for number in numbers:
        journal.append("test", n=number)
    journal.commit()
    return journal


def test_a_new_journal_writes_nothing_before_something_is_to_be_said() -> None:
    filesystem = disk()
    journal = open_journal(filesystem)
    journal.commit()
    assert names(filesystem) == []
    assert journal.head == (0, "0" * 64)
    committed(journal, 1)
    (opening, record) = read_chain(filesystem)
    assert opening.fields["device_id"] == "CAM-1"
    assert opening.fields["certificate_sha256"] == "c" * 64
    assert opening.fields["key"] == "fake"
    assert (opening.fields["torn_bytes"], opening.fields["torn_exact"]) == (0, True)
    assert journal.head == (2, record.sha256)


def test_what_was_committed_survives_any_cut_and_what_was_not_may_not() -> None:
    filesystem = disk()
    journal = committed(open_journal(filesystem), 1, 2)
    journal.append("test", n=3)
    for state in filesystem.cut_before(len(filesystem.operations)).states_after_cut():
        assert payloads(state) == [1, 2]


def test_a_record_has_the_time_it_was_appended_at_and_not_that_of_its_commit() -> None:
    filesystem = disk()
    clock = SimulatedClock()
    journal = Journal(filesystem, FOLDER, FakeSigner(), clock, device_id="x", rotate_bytes=1 << 20)
    journal.append("test", n=1)
    at_ns = clock.boottime_ns()
    clock.advance_ns(NS_PER_S)
    journal.commit()
    assert read_chain(filesystem)[1].fields["boottime_ns"] == at_ns


def test_the_chain_runs_on_through_rotation() -> None:
    filesystem = disk()
    journal = open_journal(filesystem, rotate_bytes=1500)
    for number in range(30):
        committed(journal, number)
    files = names(filesystem)
    assert len(files) > 5
    chain = read_chain(filesystem)
    assert [record.fields["n"] for record in chain if record.type == "test"] == list(range(30))
    openings = [record.fields for record in chain if record.type == "journal-open"]
    assert [fields["reason"] for fields in openings] == ["first"] + ["rotated"] * (len(files) - 1)
    assert all(fields["torn_exact"] for fields in openings)
    for fields in openings[1:]:
        assert fields["prev_file_bytes"] == filesystem.size_bytes(FOLDER / fields["prev_file"])


def test_a_new_start_begins_a_new_file_and_reads_what_the_last_one_left() -> None:
    filesystem = disk()
    committed(open_journal(filesystem), 1)
    journal = open_journal(filesystem)
    assert journal.last_record is not None
    assert (journal.last_record.type, journal.last_record.fields["n"]) == ("test", 1)
    assert journal.torn_bytes_at_start == 0
    committed(journal, 2)
    assert payloads(filesystem) == [1, 2]
    assert read_chain(filesystem)[2].fields["reason"] == "started"


def test_a_closed_journal_that_is_used_all_the_same_tells_the_truth_of_its_old_file() -> None:
    filesystem = disk()
    journal = committed(open_journal(filesystem), 1)
    journal.close()
    journal.close()
    committed(journal, 2)
    assert payloads(filesystem) == [1, 2]


# The signer


def test_a_busy_signer_leaves_records_pending_and_the_next_signed_one_covers_them() -> None:
    filesystem, signer = disk(), FakeSigner()
    journal = committed(open_journal(filesystem, signer), 1)
    signer.busy = True
    committed(journal, 2, 3)
    fault = journal.signer_fault
    assert fault == "The signer sleeps."
    signer.busy = False
    committed(journal, 4)
    assert journal.signer_fault is None
    chain = read_chain(filesystem)
    assert [record.signature is None for record in chain] == [False, False, True, True, False]
    assert chain[4].prev == chain[3].sha256
    lines = filesystem.read(FOLDER / "000001.journal").splitlines()
    assert lines[2].endswith(b"\t" + PENDING.encode())
    assert chain[1].signature == b"signed " + hashlib.sha256(chain[1].json_bytes).digest()


def test_a_signer_that_is_gone_from_the_start_holds_nothing_up() -> None:
    filesystem = disk()
    committed(open_journal(filesystem, FakeSigner(busy=True)), 1)
    assert payloads(filesystem) == [1]
    assert all(record.signature is None for record in read_chain(filesystem))


def test_a_defect_of_the_signer_is_not_taken_for_a_busy_one() -> None:
    class Broken(FakeSigner):
        def sign_record(self, json_bytes: bytes) -> bytes:
            raise RuntimeError(f"a defect in {len(json_bytes)} bytes")

    journal = open_journal(disk(), Broken())
    journal.append("test", n=1)
    with pytest.raises(RuntimeError):
        journal.commit()


# Flash


def test_a_file_that_could_not_be_started_is_let_go_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tried for hours: a descriptor lost with each try is none left at the end."""
    filesystem = PosixFilesystem()
    journal = Journal(filesystem, tmp_path, FakeSigner(), SimulatedClock(), device_id="x", rotate_bytes=1 << 20)
    journal.append("test", n=1)

    def failing(_source: Path, target: Path) -> None:
        raise StorageError(errno.EIO, "Renaming failed: Input/output error", str(target))

    monkeypatch.setattr(filesystem, "rename", failing)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        with pytest.raises(StorageError):
            journal.commit()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def _faults() -> Iterator[tuple[str, dict[str, object]]]:
    for kind in (OpKind.CREATE, OpKind.WRITE, OpKind.DATASYNC, OpKind.RENAME, OpKind.SYNC_DIR):
        yield str(kind), {"kinds": (kind,)}
    for partial in (1, 500, 100_000):
        yield f"write of {partial}", {"kinds": (OpKind.WRITE,), "partial_bytes": partial}
    yield "datasync and pages lost", {"kinds": (OpKind.DATASYNC,), "data_lost": True}
    yield "sync of the folder and names lost", {"kinds": (OpKind.SYNC_DIR,), "data_lost": True}


FAULTS = list(_faults())


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize(("label", "fault"), FAULTS, ids=[label for label, _ in FAULTS])
def test_a_failure_at_any_operation_loses_and_doubles_nothing(label: str, fault: dict[str, object], times: int) -> None:
    del label
    whole = disk()
    journal = open_journal(whole, rotate_bytes=1200)
    for number in range(6):
        committed(journal, number)
    reached = 0
    for n in range(len(whole.operations)):
        filesystem = disk()
        filesystem.fail_at(n, errno.EIO, times, **fault)  # type: ignore[arg-type]
        journal = open_journal(filesystem, rotate_bytes=1200)
        failures = 0
        for number in range(6):
            journal.append("test", n=number)
            head = journal.head
            try:
                journal.commit()
            except StorageError:
                failures += 1
                assert journal.head[0] in (head[0], head[0] + 1), "only an opening may have become durable"
        for _ in range(times + 1):
            try:
                journal.commit()
            except StorageError:
                failures += 1
        reached += failures
        assert payloads(filesystem) == list(range(6))
        last_record = open_journal(filesystem).last_record
        assert last_record is not None
        assert last_record.fields["n"] == 5
        for state in filesystem.cut_before(len(filesystem.operations)).states_after_cut(limit=4):
            assert payloads(state) == list(range(6))
    assert reached >= times


def test_after_a_failed_sync_the_file_is_never_touched_again_and_the_next_says_what_counts_of_it() -> None:
    filesystem = disk()
    journal = committed(open_journal(filesystem), 1)
    good = filesystem.size_bytes(FOLDER / "000001.journal")
    journal.append("test", n=2)
    filesystem.fail_at(len(filesystem.operations), errno.EIO, kinds=(OpKind.DATASYNC,))
    with pytest.raises(StorageError):
        journal.commit()
    failed = len(filesystem.operations)
    committed(journal, 3)
    after = filesystem.operations[failed:]
    assert all("000001" not in operation.path.name for operation in after)
    opening = read_chain(filesystem)[2].fields
    assert (opening["reason"], opening["prev_file"], opening["prev_file_bytes"]) == (
        "write-failed", "000001.journal", good,
    )  # fmt: skip
    assert opening["torn_exact"] is False
    data = filesystem.read(FOLDER / "000001.journal")
    assert len(chained_prefix(data)[0]) == 3, (
        "the failed bytes are still there and chain; only the opening excludes them"
    )
    assert payloads(filesystem) == [1, 2, 3]


def journal_on(
    folder: Path, filesystem: PosixFilesystem, *, rotate_bytes: int = 1 << 20, device_id: str = "CAM-1"
) -> Journal:
    folder.mkdir(exist_ok=True)
    return Journal(filesystem, folder, FakeSigner(), SimulatedClock(), device_id=device_id, rotate_bytes=rotate_bytes)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def numbers_in(folder: Path) -> list[int]:
    """What test records say, over the chained parts of all files."""
    records = [
        record for data in JournalEnd(PosixFilesystem(), folder) for record in map(data.record, range(len(data)))
    ]
    return sorted(record.fields["n"] for record in records if record.type == "test")


@pytest.mark.parametrize("files", [0, 1, 2, 3])
def test_a_card_that_is_exchanged_after_a_failure_is_not_written(tmp_path: Path, files: int) -> None:
    """Whatever lies on it: nothing, another journal that is shorter, as long, or longer."""
    filesystem, slot, other = FailingCard(), tmp_path / "slot", tmp_path / "other"
    journal = committed(journal_on(slot, filesystem), 1)
    theirs = journal_on(other, PosixFilesystem(), rotate_bytes=1)
    for number in range(files):
        committed(theirs, 100 + number)
    journal.append("test", n=2)
    filesystem.fails = True
    with pytest.raises(StorageError):
        journal.commit()
    filesystem.fails = False
    slot.rename(tmp_path / "own")
    other.rename(slot)
    before = contents(slot)
    for _ in range(3):
        with pytest.raises(StorageError, match="put its card back in"):
            journal.commit()
    assert contents(slot) == before
    # The own one is back: nothing was lost meanwhile.
    slot.rename(other)
    (tmp_path / "own").rename(slot)
    committed(journal, 3)
    assert numbers_in(slot) == [1, 2, 3]


def test_a_file_that_somebody_else_continued_the_chain_with_is_not_replaced(tmp_path: Path) -> None:
    filesystem, folder = FailingCard(), tmp_path / "journal"
    journal = committed(journal_on(folder, filesystem), 1)
    journal.append("test", n=2)
    filesystem.fails = True
    with pytest.raises(StorageError):
        journal.commit()
    committed(journal_on(folder, PosixFilesystem()), 100)
    before = contents(folder)
    filesystem.fails = False
    with pytest.raises(StorageError, match="put its card back in"):
        journal.commit()
    assert contents(folder) == before


@pytest.mark.parametrize("files", [0, 1, 2, 3])
def test_a_card_that_was_exchanged_is_known_before_anything_failed(tmp_path: Path, files: int) -> None:
    slot, other = tmp_path / "slot", tmp_path / "other"
    journal = committed(journal_on(slot, PosixFilesystem()), 1)
    theirs = journal_on(other, PosixFilesystem(), rotate_bytes=1, device_id="CAM-2")
    for number in range(files):
        committed(theirs, 100 + number)
    slot.rename(tmp_path / "own")
    with pytest.raises(OtherCardError, match="put its card back in"):
        journal.require_own_folder()  # there is none at all
    other.rename(slot)
    before = contents(slot)
    with pytest.raises(OtherCardError, match="put its card back in"):
        journal.require_own_folder()
    assert contents(slot) == before
    slot.rename(other)
    (tmp_path / "own").rename(slot)
    journal.require_own_folder()
    committed(journal, 2)
    assert numbers_in(slot) == [1, 2]
    assert len(contents(slot)) == 2, "nothing of what was open before is gone on with"


def test_the_own_card_without_what_it_had_confirmed_is_for_a_start_to_look_at(tmp_path: Path) -> None:
    slot = tmp_path / "slot"
    committed(journal_on(slot, PosixFilesystem()), 1)
    journal = committed(journal_on(slot, PosixFilesystem()), 2)
    image = contents(slot)
    committed(journal, 3)
    for name in contents(slot):
        (slot / name).unlink()
    for name, data in image.items():
        (slot / name).write_bytes(data)
    with pytest.raises(JournalError, match="starts again from what is there"):
        journal.require_own_folder()
    assert contents(slot) == image


def test_two_journals_whose_beginnings_cannot_be_read_are_not_the_same_for_it(tmp_path: Path) -> None:
    slot = tmp_path / "slot"
    committed(journal_on(slot, PosixFilesystem()), 1)
    committed(journal_on(slot, PosixFilesystem()), 2)
    (slot / "000001.journal").unlink()
    journal = committed(journal_on(slot, PosixFilesystem()), 3)
    assert journal.first_sha256 is None
    slot.rename(tmp_path / "own")
    slot.mkdir()
    with pytest.raises(OtherCardError):
        journal.require_own_folder()


@pytest.mark.parametrize("error", [StorageError(errno.EIO, "Opening failed", "card"), OSError(errno.EIO, "bad sector")])
def test_a_beginning_that_cannot_be_read_holds_nothing_up(tmp_path: Path, error: OSError) -> None:
    class Rotten(PosixFilesystem):
        def open_read(self, path: Path) -> BinaryIO:
            if path.name == "000001.journal":
                raise error
            return super().open_read(path)

    slot = tmp_path / "slot"
    committed(journal_on(slot, PosixFilesystem()), 1)
    committed(journal_on(slot, PosixFilesystem()), 2)
    committed(journal_on(slot, Rotten()), 3)
    assert numbers_in(slot) == [1, 2, 3]


def test_a_card_that_is_exchanged_while_its_journal_is_read_gets_nothing(tmp_path: Path) -> None:
    slot, other = tmp_path / "slot", tmp_path / "other"
    committed(journal_on(slot, PosixFilesystem()), 1)
    committed(journal_on(other, PosixFilesystem(), device_id="CAM-2"), 100)
    before = contents(other)
    journal = journal_on(slot, PosixFilesystem())
    slot.rename(tmp_path / "own")
    other.rename(slot)
    journal.append("test", n=2)
    with pytest.raises(OtherCardError):
        journal.commit()
    assert contents(slot) == before


def test_an_own_card_that_somebody_went_on_with_is_for_a_start_to_look_at(tmp_path: Path) -> None:
    slot = tmp_path / "slot"
    journal = committed(journal_on(slot, PosixFilesystem()), 1)
    committed(journal_on(slot, PosixFilesystem()), 2)
    before = contents(slot)
    with pytest.raises(JournalError, match="starts again from what is there"):
        journal.require_own_folder()
    assert contents(slot) == before


def test_a_card_that_is_unmounted_while_it_is_looked_at_is_no_crash(tmp_path: Path) -> None:
    class Unmounted(FailingCard):
        gone = False

        def open_read(self, path: Path) -> BinaryIO:
            if self.gone:
                raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(path))
            return super().open_read(path)

    filesystem = Unmounted()
    journal = committed(journal_on(tmp_path / "journal", filesystem), 1)
    journal.append("test", n=2)
    filesystem.fails = True
    with pytest.raises(StorageError):
        journal.commit()
    filesystem.fails, filesystem.gone = False, True
    with pytest.raises(StorageError, match="put its card back in"):
        journal.commit()
    filesystem.gone = False
    journal.commit()
    assert numbers_in(tmp_path / "journal") == [1, 2]


def test_a_rename_that_was_done_and_reported_as_failed_is_no_other_card(tmp_path: Path) -> None:
    class Renames(FailingCard):
        rename_fails = False

        def rename(self, source: Path, target: Path) -> None:
            super().rename(source, target)
            if self.rename_fails:
                raise StorageError(errno.EIO, "Renaming failed: Input/output error", "card")

    filesystem = Renames()
    journal = journal_on(tmp_path / "journal", filesystem, rotate_bytes=1)
    committed(journal, 1)
    journal.append("test", n=2)
    filesystem.fails = True
    with pytest.raises(StorageError, match="Writing failed"):
        journal.commit()
    filesystem.fails, filesystem.rename_fails = False, True
    with pytest.raises(StorageError, match="Renaming failed"):
        journal.commit()
    filesystem.rename_fails = False
    committed(journal, 3)
    assert numbers_in(tmp_path / "journal") == [1, 2, 3]


class _FailingClose:
    """An append file whose first close fails, as close(2) may after an I/O error."""

    def __init__(self, inner: CrashFile) -> None:
        self._inner = inner
        self._closed = False

    def write(self, data: bytes) -> None:
        self._inner.write(data)

    def datasync(self) -> None:
        self._inner.datasync()

    def close(self) -> None:
        self._inner.close()
        if not self._closed:
            self._closed = True
            raise StorageError(errno.EIO, "Closing failed: Input/output error", "/vault")


class _FailingCloseFilesystem(CrashFilesystem):
    def create(self, path) -> AppendFile:  # type: ignore[no-untyped-def, override]
        return _FailingClose(super().create(path))


def test_a_close_that_fails_as_well_costs_one_more_try_and_no_record() -> None:
    filesystem = _FailingCloseFilesystem(FOLDER.parent)
    filesystem.put(FOLDER / ".keep", b"")
    journal = committed(open_journal(filesystem, rotate_bytes=1200), 1)
    filesystem.fail_at(len(filesystem.operations), errno.EIO, kinds=(OpKind.DATASYNC,))
    journal.append("test", n=2)
    with pytest.raises(StorageError):
        journal.commit()
    touched = len(filesystem.operations)
    number = 3
    while number < 12:
        journal.append("test", n=number)
        number += 1
        try:
            journal.commit()
        except StorageError:
            continue
    journal.commit()
    assert payloads(filesystem) == list(range(1, 12))
    assert not [op for op in filesystem.operations[touched:] if "000001" in op.path.name]


def test_a_full_card_keeps_records_in_memory_until_there_is_room() -> None:
    filesystem = disk()
    journal = committed(open_journal(filesystem), 1)
    filesystem.set_free_bytes(100)
    for number in (2, 3):
        journal.append("test", n=number)
        with pytest.raises(StorageError):
            journal.commit()
    filesystem.set_free_bytes(1 << 20)
    committed(journal, 4)
    assert payloads(filesystem) == [1, 2, 3, 4]


@pytest.fixture
def small_memory(monkeypatch: pytest.MonkeyPatch) -> int:
    """How many records fit into memory."""
    assert agent.vault.journal.MAX_UNCOMMITTED >= 1000
    monkeypatch.setattr(agent.vault.journal, "MAX_UNCOMMITTED", 40)
    return 40


def test_what_no_longer_fits_in_memory_is_counted_and_said(small_memory: int) -> None:
    filesystem = disk()
    journal = open_journal(filesystem)
    filesystem.fail_at(0, errno.EROFS, None)
    for number in range(small_memory + 7):
        journal.append("test", n=number)
    with pytest.raises(StorageError):
        journal.commit()
    filesystem.heal()
    journal.commit()
    chain = read_chain(filesystem)
    assert len(chain) == small_memory + 2
    assert chain[-2].fields["n"] == small_memory - 1
    assert (chain[-1].type, chain[-1].fields["records"]) == ("records-lost", 7)
    committed(journal, 1)
    assert read_chain(filesystem)[-1].fields["n"] == 1


def test_what_a_recording_or_a_receipt_rests_on_still_fits_and_nothing_without_end(
    small_memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent.vault.journal, "MOST_UNCOMMITTED", small_memory + 3)
    journal = open_journal(disk())
    taken = [journal.append("marker") for _ in range(small_memory + 2)]
    assert taken == [True] * small_memory + [False] * 2
    assert journal.is_crowded
    assert [journal.append(type_) for type_ in ("stop", "marker", "checkpoint", "offload", "segment")] == [
        True, False, True, True, False,
    ]  # fmt: skip


def test_the_count_of_what_was_lost_is_lost_with_no_failed_write(small_memory: int) -> None:
    filesystem = disk()
    journal = committed(open_journal(filesystem, FakeSigner()), 0)
    for number in range(small_memory + 3):
        journal.append("test", n=number)
    filesystem.fail_at(len(filesystem.operations), errno.EIO, kinds=(OpKind.DATASYNC,))
    with pytest.raises(StorageError):
        journal.commit()
    journal.append("test", n=-1)
    journal.commit()
    journal.append("test", n=-2)
    journal.commit()
    lost = [record.fields["records"] for record in read_chain(filesystem) if record.type == "records-lost"]
    assert lost == [3, 1]
    assert payloads(filesystem)[-1] == -2


# What an earlier run left


@pytest.mark.parametrize("torn", [b"{", b'{"v":1,"seq":3', b"\x00" * 40, b"garbage with a newline\n", b"\n\n"])
def test_a_torn_tail_is_named_by_length_and_hash_and_stays_as_it_is(torn: bytes) -> None:
    filesystem = disk()
    committed(open_journal(filesystem), 1)
    left = filesystem.read(FOLDER / "000001.journal") + torn
    after = disk()
    after.put(FOLDER / "000001.journal", left)
    journal = open_journal(after)
    assert journal.torn_bytes_at_start == len(torn)
    committed(journal, 2)
    assert after.read(FOLDER / "000001.journal") == left
    opening = read_chain(after)[2].fields
    assert opening["reason"] == "recovered"
    assert opening["torn_bytes"] == len(torn)
    assert opening["torn_sha256"] == hashlib.sha256(torn).hexdigest()
    assert payloads(after) == [1, 2]


@pytest.mark.parametrize("change", [{"seq": 4}, {"seq": 2}, {"prev": "0" * 64}])
def test_a_record_chains_by_number_and_by_hash(change: dict[str, Any]) -> None:
    filesystem = disk()
    committed(open_journal(filesystem), 1, 2)
    data = filesystem.read(FOLDER / "000001.journal")
    lines = data.splitlines(keepends=True)
    assert [record.seq for record in chained_prefix(data)[0]] == [1, 2, 3]
    json_bytes, signature = lines[2].split(b"\t")
    other = json.dumps(json.loads(json_bytes) | change, separators=(",", ":")).encode()
    assert chained_prefix(lines[0] + lines[1] + other + b"\t" + signature)[1] == len(lines[0] + lines[1])


def test_a_whole_line_that_does_not_chain_is_torn_as_well() -> None:
    filesystem = disk()
    committed(open_journal(filesystem), 1, 2)
    lines = filesystem.read(FOLDER / "000001.journal").splitlines(keepends=True)
    after = disk()
    after.put(FOLDER / "000001.journal", lines[0] + lines[1] + lines[1])
    committed(open_journal(after), 3)
    assert payloads(after) == [1, 3]


@pytest.mark.parametrize("data", [b"", b"\n", b"{}\t-\n", b'{"v":1'])
def test_a_newest_file_without_a_whole_record_is_a_matter_for_a_person(data: bytes) -> None:
    filesystem = disk()
    filesystem.put(FOLDER / "000007.journal", data)
    with pytest.raises(JournalError, match=r"000007\.journal does not begin with a whole record.*Keep the vault"):
        open_journal(filesystem)
    assert filesystem.read(FOLDER / "000007.journal") == data


def test_leftovers_and_strangers_in_the_folder_are_passed_over() -> None:
    filesystem = disk()
    for name in ("000009.journal.part1", "0000010.journal", "x.journal", "000001.journal.part1", "1.journal"):
        filesystem.put(FOLDER / name, b"junk")
    committed(open_journal(filesystem), 1)
    assert names(filesystem) == ["000001.journal"]
    assert filesystem.read(FOLDER / "000001.journal.part1") == b"junk"
    assert payloads(filesystem) == [1]


def test_a_start_makes_durable_what_a_killed_process_left_before_it_signs_for_it() -> None:
    filesystem = disk()
    journal = committed(open_journal(filesystem), 1)
    journal.append("test", n=2)
    filesystem.stop_at(len(filesystem.operations) + 1)  # written, and killed before the sync
    with pytest.raises(PowerCut):
        journal.commit()
    alive = filesystem.cut_before(len(filesystem.operations)).after_kill()
    committed(open_journal(alive), 3)
    for state in alive.cut_before(len(alive.operations)).states_after_cut():
        assert payloads(state) == [1, 2, 3]


def test_a_start_after_a_failed_sync_signs_for_nothing_that_is_only_cached() -> None:
    """The pages of a failed sync count as clean: the next process reads them, syncs them, and they are nowhere."""
    filesystem = disk()
    journal = committed(open_journal(filesystem), 1)
    journal.append("test", n=2)
    filesystem.fail_at(len(filesystem.operations), errno.EIO, kinds=(OpKind.DATASYNC,), data_lost=True)
    with pytest.raises(StorageError):
        journal.commit()
    alive = filesystem.cut_before(len(filesystem.operations)).after_kill()
    committed(open_journal(alive), 3)
    assert payloads(alive) == [1, 3]
    for state in alive.cut_before(len(alive.operations)).states_after_cut():
        assert payloads(state) == [1, 3]


def test_a_record_that_no_reader_would_take_is_not_written() -> None:
    filesystem = disk()
    journal = committed(open_journal(filesystem), 1)
    before = filesystem.read(FOLDER / "000001.journal")
    refused: tuple[dict[str, Any], ...] = (
        {"text": "x" * (1 << 20)}, {"list": [[]] * 20_000}, {"seq": 3}, {"number": float("nan")},
    )  # fmt: skip
    for fields in refused:
        other = open_journal(filesystem)
        other.append("test", **fields)
        with pytest.raises(ValueError, match=r"larger|belong|JSON"):
            other.commit()
    assert filesystem.read(FOLDER / "000001.journal") == before
    assert journal.head[0] == 2


# Anything


class Model:
    """What a journal may hold: everything committed, then some beginning of what was appended behind it."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.filesystem = disk()
        self.signer = FakeSigner()
        self.journal = open_journal(self.filesystem, self.signer, rotate_bytes=2000)
        self.durable: list[int] = []
        self.waiting: list[int] = []
        self.next = 0
        self.events: set[str] = set()

    def live(self, steps: int) -> None:
        """Random work, faults, cuts and starts; all checked."""
        for _ in range(steps):
            twice = (self.append, self.commit)
            self.rng.choice((*twice, *twice, self.fault, self.heal, self.boot))()

    def append(self) -> None:
        self.signer.busy = self.rng.random() < 0.2
        self.journal.append("test", n=self.next, text="x" * self.rng.randrange(300))
        self.waiting.append(self.next)
        self.next += 1

    def commit(self) -> None:
        try:
            self.journal.commit()
        except StorageError:
            self.events.add("failed")
            return
        self.durable += self.waiting
        self.waiting = []
        self.events.add("committed")
        assert payloads(self.filesystem) == self.durable

    def fault(self) -> None:
        self.filesystem.fail_at(
            len(self.filesystem.operations) + self.rng.randrange(4),
            self.rng.choice((errno.EIO, errno.ENOSPC)),
            self.rng.choice((1, 2, 5)),
            kinds=self.rng.choice([(kind,) for kind in OpKind] + [tuple(OpKind)]),
            partial_bytes=self.rng.choice((0, 1, 700, 10_000)),
            data_lost=self.rng.random() < 0.5,
        )

    def heal(self) -> None:
        self.filesystem.heal()

    def boot(self) -> None:
        """Power goes, or the process is killed, perhaps in the middle of a commit; then a new start."""
        self.filesystem.heal()
        if self.rng.random() < 0.5:
            self.filesystem.stop_at(
                len(self.filesystem.operations) + self.rng.randrange(5), written_bytes=self.rng.randrange(400)
            )
            try:
                self.commit()
            except PowerCut:
                self.events.add("cut in a commit")
        if self.rng.random() < 0.3:
            self.filesystem = self.filesystem.cut_before(len(self.filesystem.operations)).after_kill()
            self.events.add("killed")
        else:
            dead = self.filesystem.cut_before(len(self.filesystem.operations))
            states = list(dead.states_after_cut(limit=5, seed=self.rng.randrange(1000)))
            self.filesystem = self.rng.choice(states)
            self.events.add("cut")
        both = self.durable + self.waiting
        for opened in (False, True):
            if opened:  # which decides what of the uncommitted counts
                self.journal = open_journal(self.filesystem, self.signer, rotate_bytes=2000)
            found = payloads(self.filesystem)
            assert found[: len(self.durable)] == self.durable, f"lost: {self.filesystem.origin}"
            assert found == both[: len(found)], f"doubled or out of order: {self.filesystem.origin}"
        self.durable, self.waiting = found, []


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32))
def test_any_history_loses_and_doubles_nothing(seed: int) -> None:
    Model(random.Random(seed)).live(60)


def test_a_long_history_has_met_everything() -> None:
    model = Model(random.Random(1))
    model.live(400)
    assert model.events == {"failed", "committed", "cut in a commit", "killed", "cut"}
    assert len(names(model.filesystem)) > 20
