"""Where evidence goes: what a store promises, whatever it is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

Chunks = Callable[[], Iterator[bytes]]


@dataclass(frozen=True, slots=True)
class PackageObject:
    """One file of a package. chunks(): its bytes, from the start each time. name: relative, with "/" if in a folder."""

    name: str
    bytes: int
    sha256: str
    chunks: Chunks


@dataclass(frozen=True, slots=True)
class StoredObject:
    """What a store proved to hold. read_back: "o_direct" (past the page cache) or "buffered"."""

    name: str
    bytes: int
    sha256: str
    read_back: str

    def to_json(self) -> dict[str, Any]:
        """As a receipt lists it."""
        return {"name": self.name, "bytes": self.bytes, "sha256": self.sha256, "read_back": self.read_back}


class Store(Protocol):
    """A place that keeps objects under names and never replaces one."""

    @property
    def description(self) -> str:
        """Which store this is, as receipts name it."""

    def put(self, folder: str, item: PackageObject) -> StoredObject:
        """Make the store hold the object under folder/name, whole or not at all, and read it back.

        An object that is there already with the same bytes is fine. Raises EvidenceDamagedError when the source's bytes
        are not `item.sha256`, StoreConflictError when other bytes are there under the name, StoreError for the rest.
        """
