"""A vault with a finished recording, made once, and the receipt that a store would give for it."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from agent.clock import NS_PER_S
from agent.recorder.receipts import expected_objects
from agent.settings.schema import Settings
from agent.vault.filesystem import Filesystem
from agent.vault.layout import VaultLayout
from tests.support.bench import VAULT, Bench, bench_settings
from tests.support.crashfs import CrashFilesystem
from tests.support.playback import journal_records, of_type

LAYOUT = VaultLayout(VAULT)


def settings_with_queue(queue: Path) -> Settings:
    """Bench settings whose receipts wait in a folder of the real disk."""
    settings = bench_settings(hold_ms=1000)
    return replace(settings, vault=replace(settings.vault, receipt_queue_path=queue))


@cache
def _shift() -> tuple[CrashFilesystem, str]:
    filesystem = CrashFilesystem(VAULT)
    bench = Bench(filesystem, bench_settings(hold_ms=1000)).start()
    bench.run_for(4)
    bench.record(4)
    (opened,) = of_type(journal_records(filesystem, LAYOUT), "recording-open")
    return filesystem, opened["recording_id"]


def recorded() -> tuple[CrashFilesystem, str]:
    """A disk of one's own with a finished recording, as the next process finds it, and the recording's id."""
    filesystem, recording_id = _shift()
    return filesystem.after_kill(), recording_id


def running(filesystem: CrashFilesystem) -> CrashFilesystem:
    """A disk with a recording that was cut off in the middle."""
    bench = Bench(filesystem, bench_settings(hold_ms=1000)).start()
    bench.run_for(4)
    now_ns = bench.clock.boottime_ns()
    bench.double_press(now_ns + NS_PER_S)
    bench.run_for(4)
    return filesystem.cut_before(len(filesystem.operations)).smallest_state()


def receipt_for(filesystem: Filesystem, recording_id: str) -> dict[str, Any]:
    """What a store that holds everything says."""
    records = [
        record for record in journal_records(filesystem, LAYOUT) if record.fields.get("recording_id") == recording_id
    ]
    return {
        "recording_id": recording_id,
        "store": "folder /mnt/store",
        "utc": "2026-01-01T00:00:00.000000Z",
        "objects": [
            {"name": name, "bytes": size, "sha256": sha256, "read_back": "buffered"}
            for name, (size, sha256) in expected_objects(records).items()
        ]
        + [{"name": "device/chain.pem", "bytes": 100, "sha256": "a" * 64, "read_back": "o_direct"}],
    }
