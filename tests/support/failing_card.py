"""A real folder as a card that fails, whole, for as long as it is told to."""

from __future__ import annotations

import errno
from pathlib import Path

from agent.errors import StorageError
from agent.vault.filesystem import AppendFile, PosixFilesystem


class FailingCard(PosixFilesystem):
    """See the module's text. While it `fails` nothing can be written or made durable."""

    fails = False

    def create(self, path: Path) -> AppendFile:
        self._check(path)
        return _File(super().create(path), path, self)

    def sync_file(self, path: Path) -> None:
        self._check(path)
        super().sync_file(path)

    def make_dir(self, path: Path) -> None:
        self._check(path)
        super().make_dir(path)

    def sync_dir(self, path: Path) -> None:
        self._check(path)
        super().sync_dir(path)

    def rename(self, source: Path, target: Path) -> None:
        self._check(target)
        super().rename(source, target)

    def _check(self, path: Path) -> None:
        if self.fails:
            raise StorageError(errno.EIO, "Writing failed: Input/output error", str(path))


class _File:
    def __init__(self, inner: AppendFile, path: Path, card: FailingCard) -> None:
        self._inner = inner
        self._path = path
        self._card = card
        self.close = inner.close

    def write(self, data: bytes) -> None:
        self._card._check(self._path)
        self._inner.write(data)

    def datasync(self) -> None:
        self._card._check(self._path)
        self._inner.datasync()
