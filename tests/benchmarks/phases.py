"""The frame-exact campaign in full: see tests/support/phases.py."""

from __future__ import annotations

from pathlib import Path

from tests.benchmarks.figure import Figure
from tests.support.phases import run_phases


def run(folder: Path, *, quick: bool) -> list[Figure]:
    """A frame that is missing, doubled or out of order raises AssertionError and fails the benchmark."""
    del folder
    count = 50 if quick else 1000
    result = run_phases(count, seed=2026)
    slow = run_phases(count // 10, seed=2027, slow_card=True)
    return [
        Figure("phases", "phases with every frame once and in order", result.phases + slow.phases, "", (">=", count),
               f"{slow.phases} of them on a card that stalls up to 2 s"),
        Figure("phases", "frames compared by painted counter", result.frames + slow.frames, ""),
        Figure("phases", "earliest start before the pre-event asked", result.worst_early_ms, "ms",
               note="under one GOP of 1000 ms and two frames"),
    ]  # fmt: skip
