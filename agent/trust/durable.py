"""Writing a small file so that after a power cut it is there whole or not at all.

For keys and certificates, which are made outside a running vault. Order, after rename(2) and fsync(2): content to a
temporary name, fsync it, give it its name, fsync the folder.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agent.errors import StorageError


@contextmanager
def _storage_errors(doing: str, path: Path) -> Iterator[None]:
    try:
        yield
    except (FileExistsError, StorageError):
        raise
    except OSError as error:
        raise StorageError(error.errno, f"{doing} failed: {error.strerror}", str(path)) from error


def make_folder(path: Path, mode: int) -> None:
    """Create a folder and its parents durably; an existing one is left as it is. Raises StorageError."""
    with _storage_errors("Creating the folder", path):
        if path.is_dir():
            return
        make_folder(path.parent, 0o755)
        path.mkdir(mode=mode)
        _keep_owner(path)
        _sync_folder(path.parent)


def create(path: Path, data: bytes, mode: int) -> None:
    """Write a new file durably. Raises FileExistsError when there is one already, whose bytes stay; StorageError."""
    with _storage_errors("Writing", path):
        temporary = _write_temporary(path, data, mode)
        try:
            # link(2) and not rename(2): it never replaces, as O_EXCL does, and the name appears with all its bytes.
            os.link(temporary, path)
        finally:
            temporary.unlink()
        _sync_folder(path.parent)


def replace(path: Path, data: bytes, mode: int) -> None:
    """Write a file durably in place of any older one. Raises StorageError; then the older one may still be there."""
    with _storage_errors("Writing", path):
        _write_temporary(path, data, mode).replace(path)
        _sync_folder(path.parent)


def move(source: Path, target: Path) -> None:
    """Give a file of the same folder another's name, durably. Raises StorageError; then it has one of the two names."""
    with _storage_errors("Renaming", source):
        source.replace(target)
        _sync_folder(target.parent)


def _write_temporary(path: Path, data: bytes, mode: int) -> Path:
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)  # what an interrupted earlier try left
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(temporary, flags, mode)
    try:
        os.fchmod(descriptor, mode)  # the umask may have taken bits away; none may be added after this
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        _keep_owner(temporary)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return temporary


def _keep_owner(path: Path) -> None:
    # Enrolling as root must not leave a key that the camera's own user cannot read.
    if os.geteuid() == 0:
        owner = path.parent.stat()
        os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
