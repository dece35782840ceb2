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
