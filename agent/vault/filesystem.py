"""The seam between the recorder and flash: every operation whose order decides what survives a power cut.

Everything that writes into a vault goes through a `Filesystem`, so that tests can record each operation, fail it, stop at
it, and rebuild what a disk may hold after a power cut from the synced operations alone.

The contract of POSIX that the vault builds on (fsync(2), open(2)): data is durable when `datasync` returned; a name is
durable when `sync_dir` of its folder returned; after a failed `datasync` the content is unknown and a second one proves
nothing, because the kernel may have dropped the dirty pages ("fsyncgate").
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from agent.errors import StorageError


class AppendFile(Protocol):
    """A new file that only grows."""

    def write(self, data: bytes) -> None:
        """Append all of `data`. Raises StorageError; then an unknown part of it may be in the file."""

    def datasync(self) -> None:
        """Make everything written durable (fdatasync(2)). Raises StorageError; then never call it again."""

    def close(self) -> None:
        """Release the file without syncing; may be called twice."""


class Filesystem(Protocol):
    """What the vault may do to flash. All paths are absolute."""

    def create(self, path: Path) -> AppendFile:
        """Open a file that must not exist yet (O_CREAT|O_EXCL|O_APPEND). Raises StorageError."""

    def sync_file(self, path: Path) -> None:
        """Make an existing file durable, as recovery does with what an earlier process left. Raises StorageError."""

    def make_dir(self, path: Path) -> None:
        """Create one folder; an existing one is fine. Raises StorageError."""

    def sync_dir(self, path: Path) -> None:
        """Make the names in a folder durable. Raises StorageError."""

    def rename(self, source: Path, target: Path) -> None:
        """Replace `target` by `source` atomically. Raises StorageError."""

    def list_dir(self, path: Path) -> list[str]:
        """Names in a folder, sorted; an absent folder is empty."""

    def read(self, path: Path) -> bytes:
        """The whole of a small file. Raises FileNotFoundError or StorageError."""

    def read_chunks(self, path: Path, chunk_bytes: int = 1 << 20) -> Iterator[bytes]:
        """A file piece by piece, for hashing in constant memory. Raises FileNotFoundError or StorageError."""

    def size_bytes(self, path: Path) -> int | None:
        """Size of a file, or None when there is none."""

    def free_bytes(self, path: Path) -> int:
        """Bytes an unprivileged process may still write (statvfs(3) f_bavail)."""


@contextmanager
def _storage_errors(doing: str, path: Path) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, StorageError):
        raise
    except OSError as error:
        raise StorageError(error.errno, f"{doing} failed: {error.strerror}", str(path)) from error


class _PosixAppendFile:
    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor

    def write(self, data: bytes) -> None:
        with _storage_errors("Writing", self._path):
            view = memoryview(data)
            while view:  # write(2) may be short, on a full disk above all
                view = view[os.write(self._descriptor, view) :]

    def datasync(self) -> None:
        with _storage_errors("fdatasync", self._path):
            os.fdatasync(self._descriptor)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class PosixFilesystem:
    """The real one."""

    def create(self, path: Path) -> AppendFile:
        with _storage_errors("Creating the file", path):
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
            return _PosixAppendFile(path, os.open(path, flags, 0o640))

    def sync_file(self, path: Path) -> None:
        with _storage_errors("fsync", path):
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def make_dir(self, path: Path) -> None:
        with _storage_errors("Creating the folder", path):
            path.mkdir(mode=0o750, exist_ok=True)

    def sync_dir(self, path: Path) -> None:
        with _storage_errors("fsync of the folder", path):
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        with _storage_errors("Renaming", source):
            source.replace(target)

    def list_dir(self, path: Path) -> list[str]:
        with _storage_errors("Listing", path):
            return sorted(os.listdir(path)) if path.is_dir() else []

    def read(self, path: Path) -> bytes:
        with _storage_errors("Reading", path):
            return path.read_bytes()

    def read_chunks(self, path: Path, chunk_bytes: int = 1 << 20) -> Iterator[bytes]:
        with _storage_errors("Reading", path), path.open("rb", buffering=0) as file:
            while chunk := file.read(chunk_bytes):
                yield chunk

    def size_bytes(self, path: Path) -> int | None:
        with _storage_errors("stat", path):
            try:
                return path.stat().st_size
            except FileNotFoundError:
                return None

    def free_bytes(self, path: Path) -> int:
        with _storage_errors("statvfs", path):
            stat = os.statvfs(path)
            return stat.f_bavail * stat.f_frsize
