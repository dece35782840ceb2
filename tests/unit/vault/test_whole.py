"""A small file put in place: all of it or nothing, after any failure and any cut."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from agent.errors import StorageError
from agent.vault.whole import write_whole
from tests.support.crashfs import CrashFilesystem

TARGET = Path("/vault/recording.json")
OLD, NEW = b"old" * 100, b"new" * 200


def content(filesystem: CrashFilesystem) -> bytes | None:
    """What is under the name."""
    return None if filesystem.size_bytes(TARGET) is None else filesystem.read(TARGET)


def disk(old: bytes | None) -> CrashFilesystem:
    """A disk with or without an older file."""
    filesystem = CrashFilesystem()
    if old is not None:
        filesystem.put(TARGET, old)
    return filesystem


@pytest.mark.parametrize("old", [None, OLD])
def test_after_a_cut_at_any_operation_there_is_all_or_nothing_of_it(old: bytes | None) -> None:
    filesystem = disk(old)
    write_whole(filesystem, TARGET, NEW)
    assert content(filesystem) == NEW
    seen = set()
    for dead in filesystem.cuts():
        for state in dead.states_after_cut():
            seen.add(content(state))
    assert seen == {old, NEW}


@pytest.mark.parametrize("old", [None, OLD])
@pytest.mark.parametrize("partial_bytes", [0, 10])
def test_after_a_failure_at_any_operation_the_next_try_succeeds(old: bytes | None, partial_bytes: int) -> None:
    for n in range(4):
        filesystem = disk(old)
        filesystem.fail_at(n, errno.EIO, partial_bytes=partial_bytes, data_lost=True)
        with pytest.raises(StorageError):
            write_whole(filesystem, TARGET, NEW)
        assert content(filesystem) == old
        write_whole(filesystem, TARGET, NEW)
        assert content(filesystem) == NEW
        filesystem.sync_dir(TARGET.parent)
        assert content(filesystem.cut_before(len(filesystem.operations)).smallest_state()) == NEW
        leftovers = [name for name in filesystem.list_dir(TARGET.parent) if name != TARGET.name]
        assert all(name.startswith("recording.json.part") for name in leftovers)
