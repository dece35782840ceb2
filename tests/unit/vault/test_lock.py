"""The vault's lock: one writer, and it goes with the process."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent.errors import StorageError, VaultLockedError
from agent.vault.lock import VaultLock


def test_a_second_writer_is_refused_until_the_first_lets_go(tmp_path: Path) -> None:
    lock = VaultLock(tmp_path)
    with pytest.raises(VaultLockedError, match=f"Another `bodycam run` uses the vault {tmp_path}; stop it first"):
        VaultLock(tmp_path)
    lock.release()
    VaultLock(tmp_path).release()
    assert list(tmp_path.iterdir()) == [], "nothing needs to be written"


HOLDER = """
import sys
from pathlib import Path
from agent.vault.lock import VaultLock
VaultLock(Path(sys.argv[1]))
print("locked", flush=True)
sys.stdin.read()
"""


def test_the_lock_is_between_processes_and_goes_with_them(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        with pytest.raises(VaultLockedError):
            VaultLock(tmp_path)
        holder.kill()
    VaultLock(tmp_path).release()


def test_no_descriptor_is_left_behind_by_a_refusal(tmp_path: Path) -> None:
    lock = VaultLock(tmp_path)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        with pytest.raises(VaultLockedError):
            VaultLock(tmp_path)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    lock.release()


def test_a_lock_that_the_filesystem_cannot_give_is_not_blamed_on_another_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(_descriptor: int, _operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with pytest.raises(StorageError, match="cannot be locked"):
        VaultLock(tmp_path)


def test_what_is_no_folder_is_no_vault(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for name in ("file", "absent"):
        with pytest.raises(StorageError, match="The vault cannot be opened"):
            VaultLock(tmp_path / name)


def test_it_is_in_place_until_something_else_stands_there(tmp_path: Path) -> None:
    slot, other = tmp_path / "slot", tmp_path / "other"
    slot.mkdir()
    other.mkdir()
    lock = VaultLock(slot)
    assert lock.in_place()
    slot.rename(tmp_path / "own")
    assert not lock.in_place()
    other.rename(slot)
    assert not lock.in_place()
    slot.rename(other)
    (tmp_path / "own").rename(slot)
    assert lock.in_place()
    lock.release()


def test_what_returned_is_locked_before_it_is_looked_at_and_the_old_one_only_then_let_go_of(tmp_path: Path) -> None:
    slot, own = tmp_path / "slot", tmp_path / "own"
    slot.mkdir()
    lock = VaultLock(slot)
    slot.rename(own)
    slot.mkdir()
    looked = False

    def look() -> None:
        nonlocal looked
        looked = True
        for folder in (slot, own):
            with pytest.raises(VaultLockedError):
                VaultLock(folder)

    lock.retake(look)
    assert looked
    assert lock.in_place()
    VaultLock(own).release()
    lock.release()
    VaultLock(slot).release()


def test_what_is_not_ours_is_let_go_of_again(tmp_path: Path) -> None:
    slot, own = tmp_path / "slot", tmp_path / "own"
    slot.mkdir()
    lock = VaultLock(slot)
    slot.rename(own)
    with pytest.raises(StorageError, match="cannot be opened"):
        lock.retake(lambda: None)  # nothing is there
    slot.mkdir()

    def not_ours() -> None:
        raise StorageError("another card")

    with pytest.raises(StorageError, match="another card"):
        lock.retake(not_ours)
    with pytest.raises(VaultLockedError):
        VaultLock(own)
    theirs = VaultLock(slot)
    with pytest.raises(StorageError, match="Another `bodycam run` uses the vault") as caught:
        lock.retake(lambda: None)
    assert not isinstance(caught.value, VaultLockedError)  # which would end the process, and it passes
    theirs.release()
    lock.release()
