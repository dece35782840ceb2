"""The lock that makes `run` the only writer of a vault: flock(2) on the vault's folder, which needs nothing written.

As long as it is held it also tells one card from another. What holds a file system's folder open keeps that file system
and its device number alive, so that whatever else is mounted in its place has another one.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

from agent.errors import StorageError, VaultLockedError


class VaultLock:
    """Held for as long as the process lives; the kernel lets go of it however that ends."""

    def __init__(self, root: Path) -> None:
        """Raises VaultLockedError when another `run` holds it, StorageError when there is no such folder."""
        self._root = root
        try:
            self._descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise StorageError(error.errno, f"The vault cannot be opened: {error.strerror}", str(root)) from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._descriptor)
            raise VaultLockedError(
                f"Another `bodycam run` uses the vault {root}; stop it first, or give this one its own vault.path."
            ) from error
        except OSError as error:
            os.close(self._descriptor)
            raise StorageError(error.errno, f"The vault cannot be locked: {error.strerror}", str(root)) from error

    def in_place(self) -> bool:
        """Whether the folder that is locked is the one that stands under the vault's name now."""
        try:
            return os.path.samestat(self._root.stat(), os.fstat(self._descriptor))
        except OSError:
            return False

    def retake(self, is_ours: Callable[[], None]) -> None:
        """Lock what stands there now, if it turns out to be ours, and let go of what was locked.

        is_ours: raises when it is not; called while both are locked, so that nobody else writes meanwhile. Raises that,
        and StorageError when there is nothing, or another process has it.
        """
        try:
            returned = VaultLock(self._root)
        except VaultLockedError as error:
            raise StorageError(str(error)) from error
        try:
            is_ours()
        except BaseException:
            returned.release()
            raise
        before, self._descriptor = self._descriptor, returned._descriptor
        os.close(before)

    def release(self) -> None:
        """Let go."""
        os.close(self._descriptor)
