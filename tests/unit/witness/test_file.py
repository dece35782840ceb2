"""The file: made when it is first needed, written in turn and in place, synced, and read with care."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest

from agent.errors import StorageError
from agent.witness.file import WitnessFile
from agent.witness.memory import FILE_BYTES, SLOT_BYTES, Memory, decode_slot, newest

MEMORY = Memory("a" * 64, 1, "b" * 64, "boot", 3)


def nth(seq: int) -> Memory:
    return replace(MEMORY, seq=seq)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "head"


def test_nothing_is_remembered_before_the_first_write(path: Path) -> None:
    assert WitnessFile(path).read() is None
    assert not path.exists()
    path.write_bytes(b"")
    assert WitnessFile(path).read() is None
    path.write_bytes(bytes(SLOT_BYTES))
    assert WitnessFile(path).read() is None


def test_the_newest_is_read_by_the_next_process_and_goes_on_in_the_other_slot(path: Path) -> None:
    for seq in range(1, 8):
        file = WitnessFile(path)  # each time as after a restart
        assert file.read() == (nth(seq - 1) if seq > 1 else None)
        before = newest(path.read_bytes()) if path.exists() else None
        file.write(nth(seq))
        assert file.read() == nth(seq)
        data = path.read_bytes()
        if before is not None:  # what was remembered before still stands
            place = before[0] % 2
            assert decode_slot(data[place * SLOT_BYTES : (place + 1) * SLOT_BYTES], place) == before
    assert path.stat().st_size == FILE_BYTES
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_spoilt_slot_is_the_next_to_be_written(path: Path) -> None:
    file = WitnessFile(path)
    for seq in (1, 2, 3):
        file.write(nth(seq))
    with path.open("r+b") as raw:
        raw.seek(SLOT_BYTES)  # the newest, number 3
        raw.write(b"\xff" * 100)
    again = WitnessFile(path)
    assert again.read() == nth(2)
    again.write(nth(4))
    assert WitnessFile(path).read() == nth(4)
    with path.open("r+b") as raw:
        raw.seek(SLOT_BYTES)
        raw.write(b"\xff" * 100)
    assert WitnessFile(path).read() == nth(2)


def test_two_spoilt_slots_are_said_and_written_anew(path: Path) -> None:
    path.write_bytes(b"\xff" * FILE_BYTES)
    file = WitnessFile(path)
    with pytest.raises(StorageError, match="Neither slot"):
        file.read()
    file.write(nth(5))
    assert WitnessFile(path).read() == nth(5)


def test_each_write_is_synced_and_the_first_ones_name_too(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    pwrite = os.pwrite

    def writes(descriptor: int, data: bytes, offset: int) -> int:
        done.append("write")
        return pwrite(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", writes)
    monkeypatch.setattr(os, "fdatasync", lambda _: done.append("datasync"))
    monkeypatch.setattr(os, "fsync", lambda _: done.append("sync of the folder"))
    file = WitnessFile(path)
    file.write(nth(1))
    file.write(nth(2))
    assert done == ["write", "datasync", "sync of the folder", "write", "datasync"]


def test_a_failed_write_is_tried_again_in_the_same_slot(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = WitnessFile(path)
    file.write(nth(1))
    file.write(nth(2))

    def fails(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", fails)
        for seq in (3, 4):
            with pytest.raises(StorageError, match="Writing the head witness failed: Input/output error"):
                file.write(nth(seq))
            data = path.read_bytes()
            assert decode_slot(data[:SLOT_BYTES], 0) == (2, nth(2))
    file.write(nth(5))
    assert WitnessFile(path).read() == nth(5)


@pytest.mark.parametrize("what", ["folder", "pipe", "link", "no folder"])
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, what: str) -> None:
    path = tmp_path / "head"
    if what == "folder":
        path.mkdir()
    elif what == "pipe":
        os.mkfifo(path)
    elif what == "link":
        (tmp_path / "other").write_bytes(b"x")
        path.symlink_to(tmp_path / "other")
    else:
        path = tmp_path / "absent" / "head"
    file = WitnessFile(path)
    if what == "no folder":
        assert file.read() is None
    else:
        with pytest.raises(StorageError):
            file.read()
    with pytest.raises(StorageError):
        file.write(MEMORY)
    if what == "link":
        assert (tmp_path / "other").read_bytes() == b"x"
