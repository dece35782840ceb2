"""Memory does not grow with the length of a journal."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

from agent.verify.verify import verify_path
from tests.support.identity import BENCH_IDENTITY
from tests.support.vault_builder import VaultBuilder

RECORDS = 150
ALLOWED_BYTES = 300_000
"""Beyond what the short one takes: the hashes of the last 4,096 records are kept for timestamps, and each file's name.
Ten times as many records kept whole would take several MB."""


def peak_bytes(folder: Path, records: int) -> int:
    vault = VaultBuilder(folder, segment_s=3, rotate_bytes=100_000)
    vault.record(6)
    for _ in range(records):
        vault.clock.advance_ns(1000)
        vault.journal.append("clock", message="The wall clock was looked at.", padding="x" * 400)
    vault.journal.commit()
    vault.record(6)
    vault.shut_down()
    tracemalloc.start()
    try:
        report = verify_path(vault.root, roots=[BENCH_IDENTITY.root], video=True)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (report.ok, report.records > records) == (True, True)
    return peak


def test_a_journal_of_ten_times_the_length_takes_no_more(tmp_path: Path) -> None:
    peak_bytes(tmp_path / "warm", 1)  # what is imported and cached at the first time counts for neither
    short, long = peak_bytes(tmp_path / "short", RECORDS), peak_bytes(tmp_path / "long", RECORDS * 10)
    assert long < short + ALLOWED_BYTES, (short, long)
