"""The power goes, for real but for the flash: what was promised is there. A few cases; `make powercut` for many."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.verify.verify import verify_path
from tests.rig.campaign import line, named
from tests.rig.power_cut import Outcome, Phase, plan, run
from tests.rig.warm import Warm

GOP_MS = 1000
FRAME_MS = 100
EMULATION_MS = 1500
"""What encoding, signing and writing a fragment may take on two busy cores without KVM, where a Pi takes 50 ms."""


def carried_out(rig: Warm, seed: int, phase: Phase, folder: Path, *, lie: bool = False) -> Outcome:
    outcome = run(rig, plan(seed, phase=phase, lie=lie), folder)
    print(line(outcome))  # noqa: T201  # pytest shows it when the test fails, and with -s
    return outcome


@pytest.mark.parametrize(
    ("phase", "seed"), [(Phase.STEADY, 1), (Phase.STEADY, 2), (Phase.SNAPSHOT, 3), (Phase.STOP, 4)]
)
def test_nothing_promised_is_lost(rig: Warm, tmp_path: Path, phase: Phase, seed: int) -> None:
    outcome = carried_out(rig, seed, phase, tmp_path / "case")
    assert outcome.sound, outcome
    if phase is Phase.STEADY:
        assert outcome.promised >= 5
        assert outcome.lost_ms is not None
        assert outcome.lost_ms <= GOP_MS + FRAME_MS + EMULATION_MS


def test_cut_again_while_it_recovers(rig: Warm, tmp_path: Path) -> None:
    outcome = carried_out(rig, 5, Phase.RECOVERY, tmp_path / "case")
    assert outcome.sound, outcome
    assert outcome.promised >= 3


def test_a_card_that_lies_is_named(rig: Warm, tmp_path: Path) -> None:
    """The bench must be able to see a broken promise: else the cases above could not fail."""
    outcome = carried_out(rig, 6, Phase.STEADY, tmp_path / "case", lie=True)
    assert not outcome.sound
    assert named(outcome)
    vault = tmp_path / "case" / "vault"
    if vault.is_dir():
        assert {finding.code.value for finding in verify_path(vault).findings} <= {*outcome.findings, "no-root"}
