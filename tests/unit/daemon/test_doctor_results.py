"""What `bodycam doctor --record` hands in: journalled as it is when it is proper, refused when not, and bounded."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from agent.daemon.doctor_results import MAX_FOUND_CHARS, MAX_TESTS, PAUSE_NS, DoctorResults
from agent.errors import ControlError
from agent.recorder.recorder import Recorder
from agent.vault.record import parse_line
from tests.support.record_schema import problems
from tests.support.vault_builder import VaultBuilder

GOOD = {"name": "camera", "state": "ok", "found": "It gives 30 fps."}


class Storage:
    """Carries a command out at once, or never."""

    def __init__(self, vault: VaultBuilder) -> None:
        self.vault = vault
        self.hangs = False

    def ask(self, command: Callable[[Recorder], object]) -> Future[object]:
        future: Future[object] = Future()
        if self.hangs:
            future.set_exception(TimeoutError())
        else:
            command(self.vault.recorder)
            self.vault.journal.commit()
            future.set_result(None)
        return future


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(VaultBuilder(tmp_path / "vault"))


@pytest.fixture
def results(storage: Storage) -> DoctorResults:
    return DoctorResults(storage, storage.vault.clock)


def last(storage: Storage) -> Any:
    return parse_line((storage.vault.layout.journal / "000001.journal").read_bytes().splitlines()[-1])


def test_it_is_journalled_and_told_apart_from_the_test_at_the_start(storage: Storage, results: DoctorResults) -> None:
    tests = [GOOD, GOOD | {"name": "clock", "state": "warn"}, GOOD | {"name": "gpio", "state": "skipped"}]
    assert results.take({"command": "self-test", "tests": tests, "more": "x"}) == {"passed": True}
    record = last(storage)
    assert (record.type, record.fields["source"], record.fields["passed"]) == ("self-test", "doctor", True)
    assert record.fields["tests"] == [test | {"passed": True} for test in tests]
    assert problems(record.json_bytes) == []


def test_one_failure_fails_it(storage: Storage, results: DoctorResults) -> None:
    assert results.take({"tests": [GOOD, GOOD | {"state": "fail"}]}) == {"passed": False}
    assert [test["passed"] for test in last(storage).fields["tests"]] == [True, False]


@pytest.mark.parametrize(
    "tests",
    [
        None, {}, [], "x", [GOOD] * (MAX_TESTS + 1), [None], [{}], [GOOD | {"name": ""}], [GOOD | {"name": "x" * 33}],
        [GOOD | {"name": "A\tb"}], [GOOD | {"name": 1}], [GOOD | {"state": "fine"}], [GOOD | {"state": []}],
        [GOOD | {"found": "x" * (MAX_FOUND_CHARS + 1)}], [GOOD | {"found": "a\nb"}], [GOOD | {"found": None}],
    ],
)  # fmt: skip
def test_anything_else_is_refused_and_leaves_no_record(storage: Storage, results: DoctorResults, tests: object) -> None:
    before = last(storage).seq
    with pytest.raises(ControlError, match="refused"):
        results.take({"tests": tests})
    assert last(storage).seq == before
    results.take({"tests": [GOOD] * MAX_TESTS})  # nor does it make a proper one wait


def test_the_card_is_not_filled_with_them(storage: Storage, results: DoctorResults) -> None:
    results.take({"tests": [GOOD]})
    with pytest.raises(ControlError, match="less than 10 s ago"):
        results.take({"tests": [GOOD]})
    storage.vault.clock.advance_ns(PAUSE_NS)
    results.take({"tests": [GOOD]})


def test_a_card_that_hangs_is_said(storage: Storage, results: DoctorResults) -> None:
    storage.hangs = True
    with pytest.raises(ControlError, match="could not be journalled in time"):
        results.take({"tests": [GOOD]})
