"""The lock that makes `run` the only writer of a vault: flock(2) on the vault's folder, which needs nothing written."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from agent.errors import StorageError, VaultLockedError


class VaultLock:
    """Held for as long as the process lives; the kernel lets go of it however that ends."""

    def __init__(self, root: Path) -> None:
        """Raises VaultLockedError when another `run` holds it, StorageError when there is no such folder."""
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

    def release(self) -> None:
        """Let go."""
        os.close(self._descriptor)
