"""The seam between the recorder and flash: every operation whose order decides what survives a power cut.

Everything that writes into a vault goes through a `Filesystem`, so that tests can record each operation, fail it, stop
at it, and rebuild what a disk may hold after a power cut from the synced operations alone.

The contract of POSIX that the vault builds on (fsync(2), open(2)): data is durable when `datasync` returned; a name is
durable when `sync_dir` of its folder returned; after a failed `datasync` the content is unknown and a second one proves
nothing, because the kernel may have dropped the dirty pages ("fsyncgate").
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

from agent.errors import StorageError


class AppendFile(Protocol):
    """A new file that only grows."""

    def write(self, data: bytes) -> None:
        """Append all of `data`. Raises StorageError; then an unknown part of it may be in the file."""

    def datasync(self) -> None:
        """Make everything written durable (fdatasync(2)). Raises StorageError; then never call it again."""

    def close(self) -> None:
        """Release the file without syncing; may be called twice. Raises StorageError; it is released all the same."""


class Filesystem(Protocol):
    """What the vault may do to flash. All paths are absolute."""

    def create(self, path: Path) -> AppendFile:
        """Open a file that must not exist yet (O_CREAT|O_EXCL|O_APPEND). Raises StorageError."""

    def sync_file(self, path: Path) -> None:
        """Make an existing file durable, as recovery does with what an earlier process left. Raises StorageError.

        Afterwards `read` shows what flash holds and not what is cached: when the earlier process had a failed sync, its
        pages may count as clean without ever having been written, and this sync then succeeds without them.
        """

    def make_dir(self, path: Path) -> None:
        """Create one folder; an existing one is fine. Raises StorageError."""

    def sync_dir(self, path: Path) -> None:
        """Make the names in a folder durable. Raises StorageError."""

    def rename(self, source: Path, target: Path) -> None:
        """Replace `target` by `source` atomically. Raises StorageError."""

    def list_dir(self, path: Path) -> list[str]:
        """Names in a folder, sorted; an absent folder, or a file in its place, is empty. Raises StorageError."""

    def read(self, path: Path) -> bytes:
        """The whole of a small file. Raises FileNotFoundError or StorageError."""

    def read_chunks(self, path: Path, chunk_bytes: int = 1 << 20) -> Iterator[bytes]:
        """A file piece by piece, for hashing in constant memory. Raises FileNotFoundError or StorageError."""

    def open_read(self, path: Path) -> BinaryIO:
        """A seekable binary file to read from. Raises FileNotFoundError or StorageError; its reads raise OSError."""

    def is_link(self, path: Path) -> bool:
        """Whether a symbolic link stands under this name, wherever it leads. Raises StorageError."""

    def size_bytes(self, path: Path) -> int | None:
        """Size of a file, or None when there is none or it is no file. Raises StorageError."""

    def free_bytes(self, path: Path) -> int:
        """Bytes an unprivileged process may still write (statvfs(3) f_bavail). Raises StorageError."""


@contextmanager
def _storage_errors(
    doing: str, path: Path, target: Path | None = None, passing: type[OSError] | tuple[()] = ()
) -> Iterator[None]:
    try:
        yield
    except passing:
        raise
    except OSError as error:
        second = () if target is None else (None, str(target))
        raise StorageError(error.errno, f"{doing} failed: {error.strerror}", str(path), *second) from error


class _PosixAppendFile:
    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor

    def write(self, data: bytes) -> None:
        with _storage_errors("Writing", self._path):
            descriptor = self._open_descriptor()
            view = memoryview(data)
            while view:  # write(2) may be short, on a full disk above all
                view = view[os.write(descriptor, view) :]

    def datasync(self) -> None:
        with _storage_errors("fdatasync", self._path):
            os.fdatasync(self._open_descriptor())

    def close(self) -> None:
        # Forgotten first: close(2) frees the number even when it fails, and a second close would hit another file.
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            with _storage_errors("Closing", self._path):
                os.close(descriptor)

    def _open_descriptor(self) -> int:
        if self._descriptor < 0:  # os.write(-1) is an OSError but os.fdatasync(-1) a ValueError, which nobody expects
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return self._descriptor


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
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
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
        with _storage_errors("Renaming", source, target):
            source.replace(target)

    def list_dir(self, path: Path) -> list[str]:
        with _storage_errors("Listing", path):
            # Not is_dir() first: from Python 3.14 on it calls a folder absent when the card fails to read it.
            try:
                return sorted(os.listdir(path))
            except (FileNotFoundError, NotADirectoryError):
                return []

    def read(self, path: Path) -> bytes:
        with _storage_errors("Reading", path, passing=FileNotFoundError):
            return path.read_bytes()

    def read_chunks(self, path: Path, chunk_bytes: int = 1 << 20) -> Iterator[bytes]:
        with _storage_errors("Reading", path, passing=FileNotFoundError), path.open("rb", buffering=0) as file:
            while chunk := file.read(chunk_bytes):
                yield chunk

    def open_read(self, path: Path) -> BinaryIO:
        with _storage_errors("Opening", path, passing=FileNotFoundError):
            return path.open("rb")

    def is_link(self, path: Path) -> bool:
        with _storage_errors("lstat", path):
            try:
                return stat.S_ISLNK(path.lstat().st_mode)
            except FileNotFoundError:
                return False

    def size_bytes(self, path: Path) -> int | None:
        with _storage_errors("stat", path):
            try:
                status = path.stat()
            except FileNotFoundError:
                return None
            return status.st_size if stat.S_ISREG(status.st_mode) else None

    def free_bytes(self, path: Path) -> int:
        with _storage_errors("statvfs", path):
            status = os.statvfs(path)
            return status.f_bavail * status.f_frsize
