"""Looking up on the card what is remembered: in whichever file it stands, and not without end."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from agent.errors import StorageError
from agent.vault.journal_end import JournalEnd
from agent.vault.record import Record
from agent.witness.card import MAX_FILES, look
from agent.witness.comparison import Outcome, compare
from agent.witness.memory import Memory
from tests.support.crashfs import CrashFilesystem
from tests.unit.vault.journals import FOLDER, disk, names, open_journal, read_chain


def written(records: int, *, per_file: int = 3) -> CrashFilesystem:
    """A journal of many small files."""
    filesystem = disk()
    journal = open_journal(filesystem)
    for number in range(records):
        if number % per_file == 0:
            journal.close()
            journal = open_journal(filesystem)
        journal.append("test", n=number)
        journal.commit()
    return filesystem


def of(records: list[Record], seq: int) -> Memory:
    return Memory(records[0].sha256, seq, records[seq - 1].sha256, "boot", 1)


def looked(filesystem: CrashFilesystem, memory: Memory) -> Outcome:
    end = JournalEnd(filesystem, FOLDER)
    return compare(memory, look(end, len(read_chain(filesystem)), memory)).outcome


def test_every_record_within_reach_is_found_and_no_file_read_in_vain() -> None:
    filesystem = written(3 * MAX_FILES + 9)
    records = read_chain(filesystem)
    files = names(filesystem)
    assert len(files) > MAX_FILES + 2
    within = next(record.seq for record in records if record.fields.get("file") == files[-MAX_FILES])
    for record in records:
        end = JournalEnd(filesystem, FOLDER)
        memory = of(records, record.seq)
        card = look(end, len(records), memory)
        assert len(end.read) <= MAX_FILES + 1
        outcome = compare(memory, card).outcome
        assert outcome is (Outcome.AGREES if record.seq >= within else Outcome.OUT_OF_REACH)
        if record.seq == len(records):
            assert len(end.read) == 1


def test_an_empty_journal_is_another_one() -> None:
    records = read_chain(written(2))
    assert looked(disk(), of(records, 2)) is Outcome.ANOTHER_JOURNAL


def test_a_start_that_has_told_it_is_found() -> None:
    filesystem = written(4)
    records = read_chain(filesystem)
    gone = Memory(records[0].sha256, 90, "f" * 64, "boot", 1)
    assert looked(filesystem, gone) is Outcome.LOST
    journal = open_journal(filesystem)
    said = {"witness_seq": 90, "witness_sha256": "f" * 64}
    journal.append("boot", witness="agrees", **said)
    journal.append("boot", witness="lost", **(said | {"witness_seq": 91}))
    journal.append("boot", witness="lost", **(said | {"witness_sha256": "e" * 64}))
    journal.append("test", witness="lost", **said)
    journal.commit()
    assert looked(filesystem, gone) is Outcome.LOST
    journal.append("boot", witness="lost", **said)
    journal.commit()
    assert looked(filesystem, gone) is Outcome.TOLD


@pytest.mark.parametrize("broken", ["000001.journal", None])
def test_a_card_that_cannot_be_read_that_far_holds_nothing_up(broken: str | None) -> None:
    filesystem = written(9)
    records = read_chain(filesystem)
    read, open_read = filesystem.read, filesystem.open_read

    def rotten(path: Path) -> bytes:
        if broken in (None, path.name):
            raise StorageError(errno.EIO, "Reading failed: a bad sector", str(path))
        return read(path)

    def rotten_open(path: Path) -> object:
        rotten(path)
        return open_read(path)

    filesystem.read = rotten  # type: ignore[method-assign]
    filesystem.open_read = rotten_open  # type: ignore[method-assign, assignment]
    end = JournalEnd(filesystem, FOLDER)
    for seq in (2, len(records)):
        memory = of(records, seq)
        outcome = compare(memory, look(end, len(records), memory)).outcome
        agrees = seq == len(records) and broken is not None
        assert outcome is (Outcome.AGREES if agrees else Outcome.OUT_OF_REACH)
