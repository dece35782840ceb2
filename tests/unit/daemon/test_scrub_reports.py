"""What `bodycam scrub` hands in: journalled as it is when it is proper, refused when not, bounded, and shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent.clock import NS_PER_S
from agent.daemon.scrub_reports import MAX_DIFFERENCES, MAX_ERROR_CHARS, PAUSE_NS, ScrubReports
from agent.errors import ControlError
from agent.vault.record import Record, parse_line
from tests.support.record_schema import problems
from tests.support.vault_builder import VaultBuilder
from tests.unit.daemon.test_doctor_results import Storage

GOOD: dict[str, Any] = {
    "from_utc": "2026-11-21T22:00:00Z",
    "to_utc": "2026-11-21T23:59:59Z",
    "finished": True,
    "recordings": 3,
    "files": 40,
    "bytes": 1 << 33,
    "differing": 0,
    "differences": [],
}
DIFFERENCE: dict[str, Any] = {
    "recording": "01890a5d-ac96-774b-bcce-b302099a8057",
    "file": "000001.m4s",
    "found_sha256": "a" * 64,
    "error": None,
}
BAD = GOOD | {"differing": 1, "differences": [DIFFERENCE]}


def numbered(count: int) -> list[dict[str, Any]]:
    return [DIFFERENCE | {"file": f"{number:06d}.m4s.age"} for number in range(count)]


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(VaultBuilder(tmp_path / "vault"))


@pytest.fixture
def shown() -> dict[str, str | None]:
    return {}


@pytest.fixture
def reports(storage: Storage, shown: dict[str, str | None]) -> ScrubReports:
    return ScrubReports(storage, storage.vault.clock, shown.__setitem__)


def records(storage: Storage) -> list[Record]:
    (path,) = storage.vault.layout.journal.glob("*.journal")
    return [parse_line(line) for line in path.read_bytes().splitlines()]


def later(storage: Storage) -> None:
    storage.vault.clock.advance_ns(PAUSE_NS)


def test_a_good_card_is_journalled_and_no_fault(
    storage: Storage, reports: ScrubReports, shown: dict[str, str | None]
) -> None:
    assert reports.take({"command": "scrub", **GOOD, "more": [1]}) == {}
    record = records(storage)[-1]
    assert record.type == "scrub"
    assert {name: record.fields[name] for name in GOOD} == GOOD
    assert "more" not in record.fields
    assert problems(record.json_bytes) == []
    assert shown == {"bit-rot": None}


def test_a_difference_is_journalled_and_shown_as_a_fault_until_a_whole_pass_is_clean(
    storage: Storage, reports: ScrubReports, shown: dict[str, str | None]
) -> None:
    reports.take(BAD | {"finished": False})
    scrub, fault = records(storage)[-2:]
    assert (scrub.type, scrub.fields["differences"]) == ("scrub", [DIFFERENCE])
    assert (fault.type, fault.fields["component"]) == ("fault", "bit-rot")
    assert f"{DIFFERENCE['recording']}/000001.m4s" in fault.fields["message"]
    assert shown == {"bit-rot": fault.fields["message"]}
    assert [problems(record.json_bytes) for record in (scrub, fault)] == [[], []]
    later(storage)
    reports.take(BAD)  # the same again, at the end of the pass, is no other fault
    assert records(storage)[-1].type == "scrub"
    later(storage)
    reports.take(GOOD | {"finished": False})  # a pass that has only begun proves nothing
    assert records(storage)[-1].type == "scrub"
    assert shown["bit-rot"] is not None
    later(storage)
    reports.take(GOOD)
    assert [record.type for record in records(storage)[-2:]] == ["scrub", "fault-cleared"]
    assert shown == {"bit-rot": None}


def test_as_many_differences_as_are_taken_fit_into_a_record(storage: Storage, reports: ScrubReports) -> None:
    unreadable = {"found_sha256": None, "error": "\u00e9" * MAX_ERROR_CHARS}
    entries = [entry | unreadable for entry in numbered(MAX_DIFFERENCES)]
    reports.take(GOOD | {"differing": 1 << 40, "differences": entries})
    assert records(storage)[-2].fields["differences"] == entries


NO_DIFFERENCES: tuple[Any, ...] = (
    None,
    [],
    {},
    DIFFERENCE | {"more": 1},
    {k: v for k, v in DIFFERENCE.items() if k != "error"},
    DIFFERENCE | {"recording": "../.."},
    DIFFERENCE | {"recording": 7},
    DIFFERENCE | {"file": "../x.m4s"},
    DIFFERENCE | {"file": "000001.m4s\n"},
    DIFFERENCE | {"file": None},
    DIFFERENCE | {"found_sha256": "A" * 64},
    DIFFERENCE | {"found_sha256": 7},
    DIFFERENCE | {"found_sha256": None},
    DIFFERENCE | {"error": "both"},
    DIFFERENCE | {"found_sha256": None, "error": "x" * (MAX_ERROR_CHARS + 1)},
    DIFFERENCE | {"found_sha256": None, "error": "a\nb"},
    DIFFERENCE | {"found_sha256": None, "error": 7},
)


@pytest.mark.parametrize(
    "edit",
    [
        *({name: None} for name in GOOD),
        {"from_utc": "2026-11-21 22:00:00"}, {"to_utc": "2026-11-21T22:00:00Z\n"}, {"to_utc": ["x"]},
        {"finished": 1}, {"files": -1}, {"files": True}, {"files": 1.5}, {"bytes": 1 << 63}, {"recordings": "3"},
        {"differing": 1}, {"differing": 2, "differences": [DIFFERENCE]}, {"differing": -1}, {"differing": "1"},
        {"differing": 2, "differences": [DIFFERENCE, DIFFERENCE]},
        {"differing": MAX_DIFFERENCES + 1, "differences": numbered(MAX_DIFFERENCES + 1)},
        {"differences": {}},
        *({"differing": 1, "differences": [entry]} for entry in NO_DIFFERENCES),
    ],
)  # fmt: skip
def test_anything_else_is_refused_and_leaves_no_record(
    storage: Storage, reports: ScrubReports, shown: dict[str, str | None], edit: dict[str, Any]
) -> None:
    before = records(storage)[-1].seq
    with pytest.raises(ControlError, match="refused"):
        reports.take(GOOD | edit)
    assert records(storage)[-1].seq == before
    assert shown == {}
    reports.take(GOOD)  # and what was refused does not count as taken


def test_reports_do_not_fill_the_card(storage: Storage, reports: ScrubReports) -> None:
    reports.take(GOOD)
    with pytest.raises(ControlError, match="wait a moment"):
        reports.take(BAD)
    storage.vault.clock.advance_ns(PAUSE_NS - NS_PER_S)
    with pytest.raises(ControlError, match="wait a moment"):
        reports.take(BAD)
    assert [record.type for record in records(storage)].count("scrub") == 1
    storage.vault.clock.advance_ns(NS_PER_S)
    reports.take(BAD)


def test_a_card_that_hangs_is_said(storage: Storage, reports: ScrubReports) -> None:
    storage.hangs = True
    with pytest.raises(ControlError, match="could not be journalled in time"):
        reports.take(GOOD)
