"""The power goes, for real but for the flash: what was promised is there. A few cases; `make powercut` for many."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.verify.finding import Code
from tests.rig.campaign import line
from tests.rig.cut_outcome import Outcome
from tests.rig.cut_plan import Moment, Phase, Plan, plan
from tests.rig.power_cut import CAUGHT_UP_FRAGMENTS, Bench, run
from tests.rig.write_cache import CutRules

GOP_MS = 1000
FRAME_MS = 100
EMULATION_MS = 5000
"""What encoding, signing and writing a fragment may take on two busy cores without KVM, where a Pi takes 50 ms."""


def carried_out(bench: Bench, what: Plan, folder: Path) -> Outcome:
    outcome = run(bench, what, folder)
    print(line(outcome))  # noqa: T201  # pytest shows it when the test fails, and with -s
    return outcome


@pytest.mark.parametrize(
    ("phase", "seed"),
    [(Phase.STEADY, 1), (Phase.SNAPSHOT, 3), (Phase.STOP, 4), (Phase.TWICE, 5), (Phase.OFFLOAD, 7)],
)
def test_nothing_promised_is_lost(bench: Bench, tmp_path: Path, phase: Phase, seed: int) -> None:
    outcome = carried_out(bench, plan(seed, phase=phase), tmp_path / "case")
    assert outcome.sound, outcome
    assert Code.CONFIRMED_LOST.value not in outcome.findings, "an honest card was accused"
    if phase in (Phase.STEADY, Phase.TWICE):
        assert outcome.promised >= CAUGHT_UP_FRAGMENTS
        assert outcome.lost_ms is not None
        assert outcome.lost_ms <= GOP_MS + FRAME_MS + EMULATION_MS


def test_a_card_that_lies_is_found_out_by_what_the_device_remembers(bench: Bench, tmp_path: Path) -> None:
    """That a promise was broken shows that the cases above could fail; that it is named is what the witness is for."""
    # It forgets its last three seconds whole, of which at least one fragment had been called durable.
    what = Plan(6, Phase.STEADY, Moment(delay_s=2.0), CutRules(seed=6, lie_s=3.0))
    outcome = carried_out(bench, what, tmp_path / "case")
    assert not outcome.sound
    assert outcome.promises_broken
    assert Code.CONFIRMED_LOST.value in outcome.findings, outcome
