"""The power goes, for real but for the flash: what was promised is there. A few cases; `make powercut` for many."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.rig.campaign import line
from tests.rig.cut_outcome import Outcome
from tests.rig.cut_plan import Phase, plan
from tests.rig.power_cut import CAUGHT_UP_FRAGMENTS, run
from tests.rig.warm import Hot, Warm

GOP_MS = 1000
FRAME_MS = 100
EMULATION_MS = 1500
"""What encoding, signing and writing a fragment may take on two busy cores without KVM, where a Pi takes 50 ms."""


def carried_out(rig: Warm, ready: Hot, seed: int, phase: Phase, folder: Path, *, lie: bool = False) -> Outcome:
    outcome = run(rig, ready, plan(seed, phase=phase, lie=lie), folder)
    print(line(outcome))  # noqa: T201  # pytest shows it when the test fails, and with -s
    return outcome


@pytest.mark.parametrize(
    ("phase", "seed"),
    [(Phase.STEADY, 1), (Phase.SNAPSHOT, 3), (Phase.STOP, 4), (Phase.TWICE, 5), (Phase.OFFLOAD, 7)],
)
def test_nothing_promised_is_lost(rig: Warm, ready: Hot, tmp_path: Path, phase: Phase, seed: int) -> None:
    outcome = carried_out(rig, ready, seed, phase, tmp_path / "case")
    assert outcome.sound, outcome
    if phase in (Phase.STEADY, Phase.TWICE):
        assert outcome.promised >= CAUGHT_UP_FRAGMENTS
        assert outcome.lost_ms is not None
        assert outcome.lost_ms <= GOP_MS + FRAME_MS + EMULATION_MS


def test_on_a_card_that_lies_the_bench_sees_a_broken_promise(rig: Warm, ready: Hot, tmp_path: Path) -> None:
    """Else the cases above could not fail. What names it on the card itself is the campaign's to count."""
    outcome = carried_out(rig, ready, 6, Phase.STEADY, tmp_path / "case", lie=True)
    assert not outcome.sound
    assert outcome.promises_broken or outcome.unverifiable
