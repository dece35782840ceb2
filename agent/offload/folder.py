"""A folder as a store: a disk at the dock, a mounted share, a stick.

An object is written beside its name, synced, read back past the page cache, compared, and only then given its name,
which it can never take from another. So whenever the cable is pulled, what has a final name is whole.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agent.errors import EvidenceDamagedError, StoreConflictError, StoreError
from agent.offload.folder_files import FolderFiles
from agent.offload.store import PackageObject, StoredObject


@contextmanager
def _store_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except BlockingIOError as error:
        raise StoreError(f"Another offload is copying {path} at this moment; let it finish.") from error
    except OSError as error:
        raise StoreError(
            f"The store failed at {path} ({error.strerror or error}); check its cable, its space and its mount, then "
            "run the offload again: it goes on where it was."
        ) from error


class FolderStore:
    """See the module's text."""

    def __init__(self, root: Path, files: FolderFiles | None = None) -> None:
        """Raises StoreError when `root` is no folder: a mount point without its mount is not made up for."""
        if not root.is_dir():
            raise StoreError(
                f"There is no folder {root} to offload to; connect or mount the store, or make the folder."
            )
        self._root = root.resolve()
        self._files = files or FolderFiles()

    @property
    def description(self) -> str:
        return f"folder:{self._root}"

    def put(self, folder: str, item: PackageObject) -> StoredObject:
        final = self._root / folder / item.name
        part = final.with_name(f".{final.name}.part")
        with _store_errors(final):
            self._make_folders(final.parent)
            self._files.remove_stub(part)
            if self._files.size(final) is not None:
                return self._accept(final, item)
            if self._copy(part, item) != item.sha256:
                self._files.remove_stub(part)
                raise EvidenceDamagedError(
                    f"{item.name} is no longer what the journal vouches for and was not copied; run `bodycam verify` "
                    "on the vault, and keep the card as it is."
                )
            found, how = self._files.read_back(part)
            if found != item.sha256:
                self._files.remove_stub(part)
                raise StoreError(
                    f"{final} reads back with other bytes than were written; do not trust this store before its disk "
                    "was checked."
                )
            try:
                self._files.publish(part, final)
            except FileExistsError:
                self._files.remove_stub(part)
                return self._accept(final, item)
            self._files.sync_folder(final.parent)
            return StoredObject(item.name, item.bytes, item.sha256, how)

    def _make_folders(self, path: Path) -> None:
        below = path.relative_to(self._root).parts
        for depth in range(1, len(below) + 1):
            self._files.make_folder(self._root.joinpath(*below[:depth]))

    def _accept(self, final: Path, item: PackageObject) -> StoredObject:
        """What has the name already: the object from an earlier try, or something else."""
        found, how = self._files.read_back(final)
        if found != item.sha256:
            raise StoreConflictError(
                f"{final} is there with other bytes than this camera's; neither was touched. Have somebody look at "
                "what it is, move it away, and run the offload again.",
                name=item.name,
            )
        self._files.sync_folder(final.parent)  # the try that gave it its name may have been cut before this
        return StoredObject(item.name, item.bytes, item.sha256, how)

    def _copy(self, part: Path, item: PackageObject) -> str:
        """Returns the SHA-256 of what was copied: a source that rots is found before anything has a name."""
        digest = hashlib.sha256()
        descriptor = self._files.create(part)
        try:
            for chunk in item.chunks():
                digest.update(chunk)
                self._files.write(descriptor, chunk)
            self._files.sync(descriptor)
            self._files.drop_cache(descriptor)
        finally:
            self._files.close(descriptor)
        return digest.hexdigest()
