"""What `bodycam verify` makes of a start that found what its card had confirmed, or did not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent.verify.finding import Code, Severity
from tests.support.vault_builder import VaultBuilder
from tests.unit.verify.tampering import check, fails, warns

LOST: dict[str, Any] = {
    "witness": "lost", "witness_seq": 6, "witness_sha256": "a" * 64, "witness_boot_id": "b", "witness_boottime_ns": 1,
    "witness_found_seq": 3,
}  # fmt: skip


@pytest.fixture
def vault(tmp_path: Path) -> VaultBuilder:
    made = VaultBuilder(tmp_path / "vault")
    made.record(2)
    return made


def started(vault: VaultBuilder, **fields: Any) -> None:
    vault.journal.append("boot", software="bodycam-agent", version="1", pid=1, **fields)
    vault.journal.commit()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (LOST, "did not have records 4 to 6, which it had confirmed before"),
        (LOST | {"witness_found_seq": 5}, "did not have record 6, which it had confirmed before"),
        (LOST | {"witness_found_seq": 0}, "did not have records 1 to 6, which"),
        (
            LOST | {"witness": "differs", "witness_found_seq": 6},
            f"had another record 6 than the one that it had confirmed (by what it remembers outside of the card: "
            f"SHA-256 {'a' * 64})",
        ),
    ],
)
def test_a_card_that_lost_what_it_confirmed_is_named(vault: VaultBuilder, fields: dict[str, Any], said: str) -> None:
    started(vault, **fields)
    vault.shut_down()
    report = check(vault)
    assert fails(report) == set()
    assert warns(report) == {Code.CONFIRMED_LOST}
    (finding,) = [finding for finding in report.findings if finding.code is Code.CONFIRMED_LOST]
    assert said in finding.sentence
    assert "ignores flushes" in finding.sentence
    (recording,) = report.recordings  # closed before that start: it has lost nothing
    completeness = next(aspect for aspect in recording.aspects if aspect.aspect.value == "completeness")
    assert completeness.standing.value == "holds"


def test_a_recording_that_was_cut_by_it_is_limited(vault: VaultBuilder) -> None:
    vault.feed(vault.begin(), 2)
    vault.restart()
    started(vault, **LOST)
    running = vault.begin()
    vault.feed(running, 2)
    started(vault, **LOST)
    vault.stop(running)
    vault.shut_down()
    report = check(vault)
    assert Code.CONFIRMED_LOST in warns(report)
    said = {
        recording.recording_id: next(a for a in recording.aspects if a.aspect.value == "completeness")
        for recording in report.recordings
    }
    assert said[running.recording_id].standing.value == "limited"
    assert "had confirmed before" in said[running.recording_id].reason


@pytest.mark.parametrize("outcome", ["agrees", "told", "out-of-reach", "absent", "unreadable"])
def test_a_start_that_accuses_nobody_is_no_finding(vault: VaultBuilder, outcome: str) -> None:
    started(vault, witness=outcome)
    vault.shut_down()
    report = check(vault)
    assert (fails(report), warns(report)) == (set(), set())
    assert Code.CARD_CHANGED not in {finding.code for finding in report.findings}


def test_another_card_than_the_one_remembered_is_noted_with_how_far_that_one_reached(vault: VaultBuilder) -> None:
    started(vault, **(LOST | {"witness": "another-journal"}))
    vault.shut_down()
    report = check(vault)
    assert (fails(report), warns(report)) == (set(), set())
    (finding,) = [finding for finding in report.findings if finding.code is Code.CARD_CHANGED]
    assert finding.severity is Severity.NOTE
    assert "had confirmed records up to 6 of another log" in finding.sentence


@pytest.mark.parametrize(
    "fields",
    [
        LOST | {"witness": "perhaps"}, LOST | {"witness": None}, LOST | {"witness_seq": 3}, LOST | {"witness_seq": -1},
        LOST | {"witness_found_seq": 6}, LOST | {"witness_found_seq": "3"}, LOST | {"witness_sha256": "A" * 64},
        {"witness": "lost"}, {"witness": "differs", "witness_seq": 1, "witness_found_seq": 1},
        {"witness": "another-journal"},
        LOST | {"witness": "differs"}, LOST | {"witness_found_seq": 10_000, "witness_seq": 10_001},
    ],
)  # fmt: skip
def test_what_contradicts_itself_is_refused(vault: VaultBuilder, fields: dict[str, Any]) -> None:
    started(vault, **fields)
    vault.shut_down()
    assert fails(check(vault)) == {Code.RECORD_INVALID}
