"""What a start goes on with after a run whose camera was lost or hung: read out of the journal's last records."""

from __future__ import annotations

from typing import Any

import pytest

from agent.clock import NS_PER_S, SimulatedClock
from agent.recorder.continuation import to_go_on
from agent.vault.record import Record, encode_json, parse_line
from tests.support.bench import rebooted

WITHIN_S = 120


class Log:
    """Records as a camera writes them, a second apart."""

    def __init__(self) -> None:
        self.clock = SimulatedClock()
        self.records: list[Record] = []

    def add(self, type_: str, **fields: Any) -> Log:
        self.clock.advance_ns(NS_PER_S)
        data = encode_json(len(self.records) + 1, "0" * 64, type_, self.clock.observe(), self.clock.boot_id, fields)
        self.records.append(parse_line(data + b"\t-"))
        return self

    def goes_on(self, clock: SimulatedClock | None = None, within_s: int = WITHIN_S) -> str | None:
        return to_go_on(reversed(self.records), clock or self.clock, within_s)


def stopped(reason: str) -> Log:
    log = Log().add("trigger", recording_id="A", source="button")
    return (
        log.add("stop", recording_id="A", reason=reason)
        .add("segment", recording_id="A")
        .add("recording-close", recording_id="A")
    )


@pytest.mark.parametrize(
    ("reason", "goes_on"),
    [("camera-hung", "A"), ("camera-lost", "A"), ("button", None), ("storage-full", None), ("shutdown", None)],
)
def test_only_what_ended_with_its_camera_goes_on(reason: str, goes_on: str | None) -> None:
    assert stopped(reason).goes_on() == goes_on


def test_an_end_by_the_hang_is_no_wish_and_every_other_is() -> None:
    assert stopped("camera-hung").add("shutdown", reason="camera-hung").goes_on() == "A"
    assert stopped("camera-lost").add("shutdown", reason="shutdown").goes_on() is None
    assert stopped("camera-hung").add("shutdown", reason="enrolled").goes_on() is None


def test_it_is_asked_for_again_as_long_as_starts_fail() -> None:
    log = stopped("camera-hung").add("shutdown", reason="camera-hung")
    for _ in range(3):
        log.add("journal-open").add("boot").add("trigger-pending", source="resume")
        log.add("fault", component="camera").add("shutdown", reason="camera-hung")
    assert log.goes_on() == "A"


def test_what_went_on_or_was_taken_back_does_not_go_on_again() -> None:
    went_on = stopped("camera-lost").add("trigger", recording_id="B", source="resume")
    assert went_on.goes_on() is None, "it was cut off itself, which the folders say"
    assert went_on.add("stop", recording_id="B", reason="button").goes_on() is None
    assert stopped("camera-lost").add("trigger-dropped", source="resume").goes_on() is None


def test_only_moments_later() -> None:
    log = stopped("camera-hung")
    log.clock.advance_ns((WITHIN_S - 2) * NS_PER_S)
    assert log.goes_on() == "A"
    log.clock.advance_ns(NS_PER_S)
    assert log.goes_on() is None
    assert stopped("camera-hung").goes_on(within_s=0) is None


def test_across_a_reboot_wall_time_tells_and_one_that_went_back_tells_nothing() -> None:
    log = stopped("camera-hung")
    assert log.goes_on(rebooted(log.clock, after_s=20)) == "A"
    assert log.goes_on(rebooted(log.clock, after_s=400)) is None
    assert log.goes_on(rebooted(log.clock, after_s=-400)) is None


def test_an_empty_journal_asks_for_nothing() -> None:
    assert Log().goes_on() is None
