"""A real folder that can be made to fail, fill up and stall, and that knows which files are open.

What fails is the operation as the recorder sees it; everything else happens in the real folder. Syncs are judged and
counted, and handed to the disk only when asked for: the power does not go here (that is the rig's and tests/fault/'s
business), a killed process loses nothing of the page cache, and a busy disk would make hours of it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from agent.errors import StorageError
from agent.vault.filesystem import AppendFile, PosixFilesystem


class KilledError(BaseException):
    """SIGKILL in the middle of an operation: no handler of the recorder's may see it."""


class Card(PosixFilesystem):
    """The real filesystem with troubles in front of everything that writes.

    error, failing: this errno for so many operations to come (None: for as long as it stays). free: what `free_bytes`
    says instead of the truth. kill_in: the process dies in the n-th operation from here, half way if it is a write.
    """

    def __init__(self, stall: Callable[[int], None], *, syncs: bool) -> None:
        """stall(ns): lets simulated time pass while an operation does not return. syncs: hand them to the disk."""
        self._stall = stall
        self.syncs = syncs
        self.open_files: set[_File] = set()
        self.operations = 0
        self.error: int | None = None
        self.failing: int | None = None
        self.free: int | None = None
        self.stall_ns = 0
        self.kill_in: int | None = None

    def heal(self) -> None:
        """Fail no more; what stalls or kills comes all the same."""
        self.error = self.failing = None

    def process_ended(self) -> int:
        """The kernel closes what the process left open; how many files that were."""
        left = len(self.open_files)
        for file in tuple(self.open_files):
            file.close()
        return left

    def before(self, path: Path, partly: Callable[[], object] | None = None) -> None:
        """Let an operation have its trouble. partly: what of it happens all the same. Raises StorageError."""
        self.operations += 1
        stall_ns, self.stall_ns = self.stall_ns, 0
        if stall_ns:
            self._stall(stall_ns)
        if self.kill_in is not None:
            self.kill_in -= 1
            if self.kill_in <= 0:
                self.kill_in = None
                if partly is not None:
                    partly()
                raise KilledError
        if self.error is None:
            return
        if partly is not None:
            partly()
        error = self.error
        if self.failing is not None:
            self.failing -= 1
            if self.failing <= 0:
                self.heal()
        raise StorageError(error, os.strerror(error), str(path))

    def create(self, path: Path) -> AppendFile:
        self.before(path)
        file = _File(self, path, super().create(path))
        self.open_files.add(file)
        return file

    def sync_file(self, path: Path) -> None:
        self.before(path)
        if self.syncs:
            super().sync_file(path)

    def make_dir(self, path: Path) -> None:
        self.before(path)
        super().make_dir(path)

    def sync_dir(self, path: Path) -> None:
        self.before(path)
        if self.syncs:
            super().sync_dir(path)

    def rename(self, source: Path, target: Path) -> None:
        self.before(source)
        super().rename(source, target)

    def free_bytes(self, path: Path) -> int:
        return super().free_bytes(path) if self.free is None else self.free


class _File:
    def __init__(self, card: Card, path: Path, file: AppendFile) -> None:
        self._card = card
        self._path = path
        self._file = file

    def write(self, data: bytes) -> None:
        self._card.before(self._path, lambda: self._file.write(data[: len(data) // 2]))
        self._file.write(data)

    def datasync(self) -> None:
        self._card.before(self._path)
        if self._card.syncs:
            self._file.datasync()

    def close(self) -> None:
        self._card.open_files.discard(self)
        self._file.close()
