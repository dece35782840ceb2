"""Put a whole small file in place so that a power cut leaves either all of it or nothing under its name."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from agent.errors import StorageError
from agent.vault.filesystem import Filesystem


def write_whole(filesystem: Filesystem, path: Path, data: bytes) -> None:
    """Write beside, sync, rename over `path`. The name lasts only when the caller syncs the folder, if it must.

    Leftovers of failed tries are called NAME.partN and never looked at again. Raises StorageError.
    """
    taken = set(filesystem.list_dir(path.parent))
    attempt = next(number for number in range(1, len(taken) + 2) if f"{path.name}.part{number}" not in taken)
    beside = path.with_name(f"{path.name}.part{attempt}")
    file = filesystem.create(beside)
    try:
        file.write(data)
        file.datasync()
    finally:
        with suppress(StorageError):  # what counts is the sync
            file.close()
    filesystem.rename(beside, path)
