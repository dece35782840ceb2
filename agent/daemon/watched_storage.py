"""The vault's filesystem and opening with somebody looking at them.

Each operation on flash is said before it is made: a card that stalls is then a declared state, and a storage thread
that is nowhere in the kernel and does not turn either is not.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from agent.clock import NS_PER_S
from agent.daemon.health import HealthBoard, Part
from agent.daemon.storage import OpenVault
from agent.errors import StorageError
from agent.recorder.recorder import Recorder
from agent.recorder.recovery import Recovered
from agent.vault.filesystem import AppendFile, Filesystem

STALL_NS = 300 * NS_PER_S
"""How long one operation may take. A restart would throw away what waits in memory, and a process that is blocked in
the kernel cannot even be killed; so this is longer than the kernel's own repeats (SCSI: 30 s, five times) last."""
TURN_NS = 60 * NS_PER_S
"""How long the storage thread may be busy between two operations: a slow key's signatures, a journal that is parsed."""
BETWEEN = "between two operations"
PAUSE = "waiting to open the vault again"
OPENING = "opening the vault"


class _WatchedFile:
    def __init__(self, file: AppendFile, name: str, watch: WatchedFilesystem) -> None:
        self._file = file
        self._name = name
        self._watch = watch

    def write(self, data: bytes) -> None:
        with self._watch.during(f"writing {self._name}"):
            self._file.write(data)

    def datasync(self) -> None:
        with self._watch.during(f"fdatasync of {self._name}"):
            self._file.datasync()

    def close(self) -> None:
        with self._watch.during(f"closing {self._name}"):
            self._file.close()


class WatchedFilesystem:
    """A Filesystem, for the storage thread alone: what another thread does must not pass for its progress."""

    def __init__(self, filesystem: Filesystem, board: HealthBoard) -> None:
        self._filesystem = filesystem
        self._board = board

    @contextmanager
    def during(self, doing: str) -> Iterator[None]:
        """Say what is done now, and afterwards that it is."""
        self._board.says(Part.STORAGE, doing, STALL_NS)
        try:
            yield
        finally:
            self._board.says(Part.STORAGE, BETWEEN, TURN_NS)

    def create(self, path: Path) -> AppendFile:
        with self.during(f"creating {path.name}"):
            return _WatchedFile(self._filesystem.create(path), path.name, self)

    def sync_file(self, path: Path) -> None:
        with self.during(f"fsync of {path.name}"):
            self._filesystem.sync_file(path)

    def make_dir(self, path: Path) -> None:
        with self.during(f"creating the folder {path.name}"):
            self._filesystem.make_dir(path)

    def sync_dir(self, path: Path) -> None:
        with self.during(f"fsync of the folder {path.name}"):
            self._filesystem.sync_dir(path)

    def rename(self, source: Path, target: Path) -> None:
        with self.during(f"renaming {source.name}"):
            self._filesystem.rename(source, target)

    def list_dir(self, path: Path) -> list[str]:
        with self.during(f"listing {path.name}"):
            return self._filesystem.list_dir(path)

    def read(self, path: Path) -> bytes:
        with self.during(f"reading {path.name}"):
            return self._filesystem.read(path)

    def read_chunks(self, path: Path, chunk_bytes: int = 1 << 20) -> Iterator[bytes]:
        chunks = self._filesystem.read_chunks(path, chunk_bytes)
        while True:
            with self.during(f"reading {path.name}"):
                chunk = next(chunks, None)
            if chunk is None:
                return
            yield chunk

    def open_read(self, path: Path) -> BinaryIO:
        with self.during(f"opening {path.name}"):
            return self._filesystem.open_read(path)

    def is_link(self, path: Path) -> bool:
        with self.during(f"looking at {path.name}"):
            return self._filesystem.is_link(path)

    def size_bytes(self, path: Path) -> int | None:
        with self.during(f"looking at {path.name}"):
            return self._filesystem.size_bytes(path)

    def free_bytes(self, path: Path) -> int:
        with self.during(f"statvfs of {path.name}"):
            return self._filesystem.free_bytes(path)


class WatchedOpening:
    """An OpenVault: a vault that cannot be opened yet is a declared state."""

    def __init__(self, open_vault: OpenVault, board: HealthBoard) -> None:
        self._open_vault = open_vault
        self._board = board

    def __call__(self) -> tuple[Recorder, Recovered]:
        self._board.says(Part.STORAGE, OPENING, STALL_NS)
        try:
            opened = self._open_vault()
        except StorageError:
            self._board.says(Part.STORAGE, PAUSE, TURN_NS)
            raise
        self._board.says(Part.STORAGE, BETWEEN, TURN_NS)
        return opened
