"""What a folder store does to a disk, one operation a method, so that tests can stop at each."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import hashlib
import mmap
import os
import stat
from pathlib import Path

BUFFER_BYTES = 1 << 20
_AT_FDCWD = -100
_RENAME_NOREPLACE = 1
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
_NO_DIRECT = (errno.EINVAL, errno.EOPNOTSUPP)
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)


class FolderFiles:
    """The real disk. Every method raises OSError."""

    def make_folder(self, path: Path) -> None:
        """Create one folder durably; one that is there is fine."""
        try:
            path.mkdir(mode=0o750)
        except FileExistsError:
            return
        self.sync_folder(path.parent)

    def size(self, path: Path) -> int | None:
        """Size of a plain file; None when nothing is there. Raises OSError for anything else under the name."""
        try:
            status = path.lstat()
        except FileNotFoundError:
            return None
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EEXIST, "something that is no plain file has this name", str(path))
        return status.st_size

    def create(self, path: Path) -> int:
        """A new file, locked against a second copier where the file system has locks; returns its descriptor."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
        try:
            self._lock(descriptor)
        except OSError:
            os.close(descriptor)
            raise
        return descriptor

    def remove_stub(self, path: Path) -> None:
        """Remove what an interrupted copy left; nothing there is fine. Raises BlockingIOError when it goes on still."""
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return
        try:
            self._lock(descriptor)
            path.unlink()
        finally:
            os.close(descriptor)

    @staticmethod
    def _lock(descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise

    def write(self, descriptor: int, data: bytes) -> None:
        """Append all of `data`."""
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]

    def sync(self, descriptor: int) -> None:
        """fsync(2)."""
        os.fsync(descriptor)

    def drop_cache(self, descriptor: int) -> None:
        """Ask the kernel to forget its copy of the file, so that reading it asks the disk (posix_fadvise(2))."""
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)

    def close(self, descriptor: int) -> None:
        """Release the file and its lock."""
        os.close(descriptor)

    def read_back(self, path: Path) -> tuple[str, str]:
        """SHA-256 of a file, and how it was read: "o_direct" (past the page cache, open(2)) or "buffered"."""
        try:
            return self._hash(path, os.O_DIRECT), "o_direct"
        except OSError as error:
            if error.errno not in _NO_DIRECT:
                raise
        return self._hash(path, 0), "buffered"

    @staticmethod
    def _hash(path: Path, flag: int) -> str:
        digest = hashlib.sha256()
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | flag)
        try:
            # An anonymous mapping begins at a page, the alignment that O_DIRECT asks for.
            with mmap.mmap(-1, BUFFER_BYTES) as buffer, memoryview(buffer) as view:
                while count := os.readv(descriptor, [buffer]):
                    digest.update(view[:count])
                    if count % mmap.PAGESIZE:
                        break  # only the end of a file is; the next read would not be aligned
        finally:
            os.close(descriptor)
        return digest.hexdigest()

    def publish(self, part: Path, final: Path) -> None:
        """Give a finished file its name, never replacing one. Raises FileExistsError."""
        try:
            os.link(part, final)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            self._rename(part, final)  # FAT and exFAT have no hard links
            return
        part.unlink()

    @staticmethod
    def _rename(part: Path, final: Path) -> None:
        """renameat2(2) with RENAME_NOREPLACE, which Python does not offer."""
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.renameat2(_AT_FDCWD, os.fsencode(part), _AT_FDCWD, os.fsencode(final), _RENAME_NOREPLACE):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(final))

    def sync_folder(self, path: Path) -> None:
        """Make the names in a folder durable."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
