"""Vaults of thousands of recordings, made in seconds: one real recording, journalled and laid out again and again.

The journal's writer, key and chain are the real ones; only the syncs are left out, and the media files are hard links
to the one recording's, so that ten thousand of them fit on any disk. Such a vault verifies like any other.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.clock import NS_PER_MS, NS_PER_S, SimulatedClock
from agent.vault.filesystem import AppendFile, PosixFilesystem
from agent.vault.journal import Journal
from agent.vault.layout import RECORDING_JSON_NAME, VaultLayout
from agent.vault.record import COMMON_FIELDS, Record
from agent.vault.summary import summarise
from tests.support.identity import BENCH_IDENTITY, BenchIdentity
from tests.support.playback import journal_records
from tests.support.vault_builder import DEVICE_ID, VaultBuilder


class _UnsyncedFile:
    def __init__(self, inner: AppendFile) -> None:
        self._inner = inner

    def write(self, data: bytes) -> None:
        self._inner.write(data)

    def datasync(self) -> None:
        """Nothing is to survive a power cut here."""

    def close(self) -> None:
        self._inner.close()


class _UnsyncedFilesystem(PosixFilesystem):
    def create(self, path: Path) -> AppendFile:
        return _UnsyncedFile(super().create(path))

    def sync_file(self, path: Path) -> None:
        """Nothing is to survive a power cut here."""

    def sync_dir(self, path: Path) -> None:
        """Nothing is to survive a power cut here."""


@dataclass(slots=True)
class LargeVault:
    """A vault in the making: `run` adds one run of the camera, as often as wanted."""

    root: Path
    clock: SimulatedClock
    layout: VaultLayout
    pattern: list[Record]
    recordings: int = 0
    boots: int = 0
    identity: BenchIdentity = BENCH_IDENTITY

    @classmethod
    def begin(cls, root: Path, *, identity: BenchIdentity = BENCH_IDENTITY) -> LargeVault:
        """With no recording yet. The pattern is made in a vault beside it."""
        pattern = VaultBuilder(root.with_name(root.name + "-pattern"), segment_s=2)
        recording_id = pattern.record(2)
        pattern.shut_down()
        records = [
            record
            for record in journal_records(pattern.filesystem, pattern.layout)
            if record.fields.get("recording_id") == recording_id
        ]
        layout = VaultLayout(root)
        for folder in (root, layout.journal, layout.recordings):
            folder.mkdir(exist_ok=True)
        identity.install(layout)
        pattern.layout.recording(recording_id).rename(root.with_name(root.name + "-media"))
        return cls(root, SimulatedClock(), layout, records, identity=identity)

    def run(self, recordings: int, *, filler_bytes: int = 0, ended: bool = True, settle: bool = True) -> None:
        """One run: so many recordings, then about that many more bytes of journal.

        ended: switched off in order. settle: with the `settled` record that a start after a power cycle makes.
        """
        from agent.recorder.settled import RECORD_TYPE, settled_record

        self.boots += 1
        self.clock = SimulatedClock(
            boottime_ns=20 * NS_PER_S,
            utc_ns=self.clock.utc_ns() + 60 * NS_PER_S,
            boot_id=f"00000000-0000-4000-8000-{self.boots:012d}",
        )
        signer = self.identity.record_signer
        journal = Journal(
            _UnsyncedFilesystem(), self.layout.journal, signer, self.clock, device_id=DEVICE_ID, rotate_bytes=4_000_000
        )
        journal.append("boot", software="bodycam-agent", version="0", pid=1)
        journal.append("encryption", recipients=[], reason="unchanged")
        names = os.listdir(self.layout.recordings)
        if settle and (fields := settled_record(names, ())) is not None:
            journal.append(RECORD_TYPE, **fields)
        journal.commit()
        for _ in range(recordings):
            self._record(journal)
        before = self.journal_bytes
        while self.journal_bytes - before < filler_bytes:
            for _ in range(100):
                self.clock.advance_ns(NS_PER_S)
                journal.append("clock", reason="periodic", step_ms=0)
            journal.commit()
        if ended:
            journal.append("shutdown", reason="signal")
            journal.commit()
        journal.close()

    @property
    def journal_bytes(self) -> int:
        """Of all files."""
        return sum(entry.stat().st_size for entry in os.scandir(self.layout.journal))

    def _record(self, journal: Journal) -> None:
        self.recordings += 1
        recording_id = str(
            uuid.UUID(int=(self.clock.utc_ns() // NS_PER_MS << 80) | 7 << 76 | 2 << 62 | self.recordings)
        )
        own: list[tuple[str, dict[str, Any]]] = []
        for record in self.pattern:
            fields = {key: value for key, value in record.fields.items() if key not in (*COMMON_FIELDS, "recording_id")}
            own.append((record.type, fields))
            journal.append(record.type, recording_id=recording_id, **fields)
            self.clock.advance_ns(100 * NS_PER_MS)
        journal.commit()
        folder = self.layout.recording(recording_id)
        folder.mkdir()
        media = self.root.with_name(self.root.name + "-media")
        for path in media.iterdir():
            if path.name != RECORDING_JSON_NAME:
                _link(path, folder / path.name)
        (folder / RECORDING_JSON_NAME).write_bytes(summarise(recording_id, own).to_json())


def _link(source: Path, target: Path, link: Callable[[Path, Path], None] = os.link) -> None:
    try:
        link(source, target)
    except OSError:  # 65,000 links to a file is what ext4 bears
        target.write_bytes(source.read_bytes())
