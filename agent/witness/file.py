"""The file that holds the memory, on other flash than the card: two slots, written in place, in turn, and synced.

In place and not by a new file under the same name: it is written about once a second while the camera records, and so
costs one page of flash a time and no change of the file system's own tables.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agent.errors import StorageError
from agent.witness.memory import FILE_BYTES, SLOT_BYTES, SLOTS, Memory, encode_slot, newest

_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class WitnessFile:
    """Used from one thread. Opened anew each time: the medium may be taken out and put in again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._count = 0
        """Of the newest slot that is known to be whole; the next write spares it."""

    def read(self) -> Memory | None:
        """What is remembered; None when there is no file, or an empty one. Raises StorageError when it is no use."""
        with self._errors("Reading"):
            try:
                descriptor = os.open(self._path, os.O_RDONLY | _FLAGS)
            except FileNotFoundError:
                return None
            try:
                self._require_file(descriptor)
                data = os.pread(descriptor, FILE_BYTES, 0)
            finally:
                os.close(descriptor)
        if not data.strip(b"\0"):
            return None  # made, and cut off before the first slot was whole
        found = newest(data)
        if found is None:
            raise StorageError(None, "Neither slot of the head witness is whole", str(self._path))
        self._count, memory = found
        return memory

    def write(self, memory: Memory) -> None:
        """Remember this, durably. Raises StorageError; what was remembered before is then still there."""
        count = self._count + 1
        with self._errors("Writing"):
            is_new = not self._path.exists()
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | _FLAGS, 0o640)
            try:
                self._require_file(descriptor)
                if is_new:
                    self._keep_owner(descriptor)
                slot, offset = encode_slot(count, memory), count % SLOTS * SLOT_BYTES
                if os.pwrite(descriptor, slot, offset) != len(slot):
                    raise StorageError(None, "The head witness could not be written whole", str(self._path))
                os.fdatasync(descriptor)
            finally:
                os.close(descriptor)
            if is_new:
                self._sync_folder()
        self._count = count

    @contextmanager
    def _errors(self, doing: str) -> Iterator[None]:
        try:
            yield
        except StorageError:
            raise
        except OSError as error:
            raise StorageError(
                error.errno, f"{doing} the head witness failed: {error.strerror}", str(self._path)
            ) from error

    def _require_file(self, descriptor: int) -> None:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise StorageError(None, "What stands in the head witness's place is no file", str(self._path))

    def _keep_owner(self, descriptor: int) -> None:
        # Re-enrolling as root must not leave a file that the camera's own user cannot write.
        if os.geteuid() == 0:
            owner = self._path.parent.stat()
            os.fchown(descriptor, owner.st_uid, owner.st_gid)

    def _sync_folder(self) -> None:
        descriptor = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
