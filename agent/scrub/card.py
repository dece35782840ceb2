"""Reads files of recordings from the card itself, not from what the kernel still holds of them in memory.

O_DIRECT (open(2)) goes past the page cache, and puts nothing into it that the recording would need. Where a file system
knows none, the kernel is asked to forget the file before it is read, and again behind what was read (posix_fadvise(2)).
"""

from __future__ import annotations

import errno
import hashlib
import mmap
import os
import stat
from collections.abc import Callable
from pathlib import Path

BUFFER_BYTES = 1 << 18
"""Read at once: what a recording that begins has to wait for."""
_NO_DIRECT = (errno.EINVAL, errno.EOPNOTSUPP)


class FileDamagedError(OSError):
    """A file is not there as it was left; the message is the end of a sentence, without its full stop."""


class Card:
    """The real one."""

    def sha256(self, path: Path, count: int, after_read: Callable[[int], None]) -> str:
        """SHA-256, hex, of a file's first `count` bytes. after_read(bytes) is called behind each read.

        Raises FileDamagedError when it is gone, no plain file or shorter; OSError when it cannot be read.
        """
        try:
            return self._sha256(path, count, after_read, os.O_DIRECT)
        except OSError as error:
            if error.errno not in _NO_DIRECT:
                raise
        return self._sha256(path, count, after_read, 0)

    def _sha256(self, path: Path, count: int, after_read: Callable[[int], None], flag: int) -> str:
        digest = hashlib.sha256()
        left = count
        descriptor = self._open(path, flag)
        try:
            if not flag:
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            # An anonymous mapping begins at a page, the alignment that O_DIRECT asks for.
            with mmap.mmap(-1, BUFFER_BYTES) as buffer, memoryview(buffer) as view:
                while left and (got := os.readv(descriptor, [buffer])):
                    digest.update(view[: min(got, left)])
                    left -= min(got, left)
                    if not flag:
                        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
                    after_read(got)
                    if got % mmap.PAGESIZE:
                        break  # only the end of a file is; the next read would not be aligned
        finally:
            os.close(descriptor)
        if left:
            raise FileDamagedError(0, f"it is {left} bytes shorter than the journal says", str(path))
        return digest.hexdigest()

    @staticmethod
    def _open(path: Path, flag: int) -> int:
        # O_NONBLOCK: a pipe in its place would have this wait for a writer.
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            descriptor = os.open(path, flags | flag)
        except FileNotFoundError as error:
            raise FileDamagedError(error.errno, "it is not there", str(path)) from error
        except OSError as error:
            if path.is_symlink():
                raise FileDamagedError(0, "it is a symbolic link", str(path)) from error
            raise
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise FileDamagedError(0, "it is not a plain file", str(path))
        return descriptor
