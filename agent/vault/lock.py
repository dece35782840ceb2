"""The lock that makes `run` the only writer of a vault: flock(2) on the vault's folder, which needs nothing written.

It is a lock on what was mounted when it was taken. A card that was pulled out and put back is mounted anew, and is
another folder to the kernel; and a file system on which anything is open cannot be unmounted and mended. So whoever
writes lets go of a card that has failed for long, and locks again before the next try.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from agent.errors import StorageError, VaultLockedError


class VaultLock:
    """Held for as long as the process lives; the kernel lets go of it however that ends."""

    def __init__(self, root: Path) -> None:
        """Raises VaultLockedError when another `run` holds it, StorageError when there is no such folder."""
        self._root = root
        self._descriptor: int | None = _locked(root)

    def regain(self) -> None:
        """Hold it on the folder that is there now. Raises as the constructor does; then it is not held."""
        if self._descriptor is not None and self._is_of(self._descriptor):
            return
        self.release()
        self._descriptor = _locked(self._root)

    def release(self) -> None:
        """Let go, if it is held."""
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            os.close(descriptor)

    def _is_of(self, descriptor: int) -> bool:
        try:
            held, there = os.fstat(descriptor), self._root.stat()
        except OSError:
            return False
        return (held.st_dev, held.st_ino) == (there.st_dev, there.st_ino)


def _locked(root: Path) -> int:
    try:
        descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise StorageError(error.errno, f"The vault cannot be opened: {error.strerror}", str(root)) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise VaultLockedError(
            f"Another `bodycam run` uses the vault {root}; stop it first, or give this one its own vault.path."
        ) from error
    except OSError as error:
        os.close(descriptor)
        raise StorageError(error.errno, f"The vault cannot be locked: {error.strerror}", str(root)) from error
    return descriptor
