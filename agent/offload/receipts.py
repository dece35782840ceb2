"""Receipts: proof that a store holds a recording, on their way to the journal."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.offload.store import StoredObject
from agent.trust import durable


@dataclass(frozen=True, slots=True)
class Receipt:
    """What one store holds of one recording, read back and compared. utc: RFC 3339, by this machine's clock."""

    recording_id: str
    store: str
    utc: str
    objects: tuple[StoredObject, ...]

    def to_json(self) -> dict[str, Any]:
        """As the control socket and the queue take it."""
        return {
            "recording_id": self.recording_id,
            "store": self.store,
            "utc": self.utc,
            "objects": [item.to_json() for item in self.objects],
        }


class ReceiptQueue:
    """Receipts that wait for the daemon's next start, one file each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, receipt: Receipt) -> Path:
        """Keep a receipt durably; another for the same recording and store takes its place. Raises StorageError."""
        path = self._folder / self._name(receipt.recording_id, receipt.store)
        durable.make_folder(self._folder, 0o770)
        durable.replace(path, json.dumps(receipt.to_json(), indent=1).encode() + b"\n", 0o660)
        return path

    def holds(self, recording_id: str, store: str) -> bool:
        """Whether a receipt of that store for that recording waits."""
        return (self._folder / self._name(recording_id, store)).is_file()

    def check_writable(self) -> None:
        """Raises StorageError now rather than after hours of copying."""
        durable.make_folder(self._folder, 0o770)

    @staticmethod
    def _name(recording_id: str, store: str) -> str:
        return f"{recording_id}-{hashlib.sha256(store.encode()).hexdigest()[:8]}.json"
