"""What timestamps in a journal prove of recordings, and what is said when they do not."""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from agent.clock import NS_PER_S, SimulatedClock
from agent.daemon.timestamps import TimestampDesk
from agent.trust.timestamps import MAX_RESPONSE_BYTES
from agent.vault.record import parse_line
from agent.verify.finding import Code
from agent.verify.interval import Interval
from agent.verify.report import Report
from agent.verify.verify import verify_path
from tests.support.identity import BENCH_IDENTITY
from tests.support.stamping import DirectStorage, at, stamp
from tests.support.time_authority import NOW, time_authority
from tests.support.vault_builder import VaultBuilder
from tests.unit.verify.tampering import fails, first, forge, lines_of, notes, warns

START = NOW.replace(microsecond=0)
JOURNAL = "000001.journal"
Documents = list[dict[str, Any]]


@pytest.fixture
def vault(tmp_path: Path) -> VaultBuilder:
    return VaultBuilder(tmp_path / "vault", clock=SimulatedClock(utc_ns=int(START.timestamp()) * NS_PER_S))


def check(vault: VaultBuilder, *tsa_roots: x509.Certificate) -> Report:
    roots = tsa_roots or (time_authority().root,)
    return verify_path(vault.root, roots=[BENCH_IDENTITY.root], tsa_roots=roots)


def interval(report: Report, number: int = -1) -> Interval:
    found = report.recordings[number].time
    assert found is not None
    return found


def seconds_from(moment: datetime, ns: int | None) -> float:
    assert ns is not None
    return ns / NS_PER_S - moment.timestamp()


def test_a_recording_between_two_tokens_is_bounded_and_estimated(vault: VaultBuilder) -> None:
    stamp(vault)
    docked_out = at(vault.clock)
    vault.clock.advance_ns(3600 * NS_PER_S)
    begun = at(vault.clock)
    vault.record(3)
    vault.clock.advance_ns(7200 * NS_PER_S)
    stamp(vault)
    docked_in = at(vault.clock)
    vault.shut_down()
    report = check(vault)
    assert (fails(report), warns(report), notes(report)) == (set(), set(), set())
    time = interval(report)
    assert time.checked
    assert -2 < seconds_from(docked_out, time.not_before_ns) <= 0
    assert 0 <= seconds_from(docked_in, time.existed_by_ns) < 2
    assert time.before is not None
    assert time.after is not None
    assert time.before.head_seq < time.before.seq < time.after.head_seq < time.after.seq
    assert time.estimate is not None
    assert time.estimate.basis == "fitted"
    assert abs(seconds_from(begun, time.estimate.start_utc_ns)) * 1000 <= time.estimate.uncertainty_ms < 1500
    assert (time.clock_source, time.clock_uncertainty_ms) == ("ntp", 10)
    assert report.to_json()["recordings"][0]["time"]["token_before"]["authority"] == "CN=Test TSA"


def test_the_nearest_tokens_are_the_bounds(vault: VaultBuilder) -> None:
    moments = []
    for _ in range(3):
        vault.clock.advance_ns(300 * NS_PER_S)
        stamp(vault)
        moments.append(at(vault.clock))
    vault.record(2)
    for _ in range(2):
        stamp(vault)
        moments.append(at(vault.clock))
        vault.clock.advance_ns(300 * NS_PER_S)
    time = interval(check(vault))
    assert abs(seconds_from(moments[2], time.not_before_ns)) < 2
    assert abs(seconds_from(moments[3], time.existed_by_ns)) < 2


def test_each_recording_has_bounds_of_its_own(vault: VaultBuilder) -> None:
    for _ in range(3):
        stamp(vault)
        vault.record(2)
        vault.clock.advance_ns(300 * NS_PER_S)
    stamp(vault)
    times = [recording.time for recording in check(vault).recordings]
    bounds = [(time.before.seq, time.after.seq) for time in times if time and time.before and time.after]
    assert len(bounds) == 3
    assert [after for _, after in bounds[:-1]] == [before for before, _ in bounds[1:]]


def test_a_token_within_a_recording_bounds_neither_end(vault: VaultBuilder) -> None:
    vault.record(3, meanwhile=lambda _: stamp(vault))
    vault.shut_down()
    report = check(vault)
    assert warns(report) == {Code.TIMESTAMP_ABSENT}
    time = interval(report)
    assert (time.before, time.after) == (None, None)


def test_a_token_that_was_asked_for_before_the_end_does_not_cover_it(vault: VaultBuilder) -> None:
    desk = TimestampDesk(DirectStorage(vault), vault.clock)
    running = vault.begin()
    vault.feed(running, 2)
    request = base64.b64decode(desk.request({})["request"])
    vault.stop(running)
    desk.token({"response": base64.b64encode(time_authority().at(at(vault.clock))(request)).decode()})
    assert interval(check(vault)).after is None
    stamp(vault)
    assert interval(check(vault)).after is not None


def test_a_camera_without_a_clock_is_told_the_time_by_its_tokens(vault: VaultBuilder) -> None:
    vault.clock.source, vault.clock.uncertainty_ms = "unsynchronised", None
    away_s = 40 * 86400
    vault.clock.step_wall_ns(-away_s * NS_PER_S)
    stamp(vault, off_s=away_s)
    begun = at(vault.clock) + timedelta(seconds=away_s)
    vault.record(3)
    stamp(vault, off_s=away_s)
    vault.shut_down()
    report = check(vault)
    assert (fails(report), warns(report)) == (set(), {Code.TIME_OUTSIDE_TIMESTAMPS})
    (finding,) = [found for found in report.findings if found.code is Code.TIME_OUTSIDE_TIMESTAMPS]
    assert "-345" in finding.sentence
    estimate = interval(report).estimate
    assert estimate is not None
    assert abs(seconds_from(begun, estimate.start_utc_ns)) < 2


def test_a_claim_after_the_fact_is_outside_as_well(vault: VaultBuilder) -> None:
    vault.record(2)
    stamp(vault, off_s=-60)
    vault.shut_down()
    assert warns(check(vault)) == {Code.TIMESTAMP_ABSENT, Code.TIME_OUTSIDE_TIMESTAMPS}


def test_a_claim_may_be_off_by_its_own_uncertainty(vault: VaultBuilder) -> None:
    vault.clock.uncertainty_ms = 70_000
    vault.record(2)
    stamp(vault, off_s=-60)
    vault.shut_down()
    assert warns(check(vault)) == {Code.TIMESTAMP_ABSENT}


def test_across_a_reboot_the_interval_stands_and_the_estimate_rests_on_one_token(vault: VaultBuilder) -> None:
    stamp(vault)
    vault.record(2)
    vault.shut_down()
    vault.restart()
    stamp(vault)
    time = interval(check(vault))
    assert time.before is not None
    assert time.after is not None
    assert time.before.boot_id != time.after.boot_id
    assert time.estimate is not None
    assert time.estimate.basis == "extrapolated"


def test_without_a_token_of_its_boot_there_is_no_estimate(vault: VaultBuilder) -> None:
    stamp(vault)
    vault.restart()
    vault.record(2)
    vault.restart()
    stamp(vault)
    time = interval(check(vault))
    assert time.before is not None
    assert time.after is not None
    assert time.estimate is None


def test_the_estimate_is_of_the_first_frame_which_lies_before_the_first_record(vault: VaultBuilder) -> None:
    stamp(vault)
    vault.clock.advance_ns(600 * NS_PER_S)
    begun = at(vault.clock)
    vault.record(2)

    def earlier(documents: Documents) -> None:
        first(documents, "recording-open")["media_origin_boottime_ns"] -= 30 * NS_PER_S

    rewrite(vault, earlier)
    estimate = interval(check(vault)).estimate
    assert estimate is not None
    assert estimate.basis == "extrapolated"
    assert abs(seconds_from(begun - timedelta(seconds=30), estimate.start_utc_ns)) * 1000 <= estimate.uncertainty_ms
    assert estimate.uncertainty_ms < 2000


def test_the_estimate_follows_a_boot_clock_that_drifts(vault: VaultBuilder) -> None:
    stamp(vault)
    vault.clock.advance_ns(50_000 * NS_PER_S)
    begun = at(vault.clock)
    vault.record(2)
    vault.clock.advance_ns(50_000 * NS_PER_S)
    stamp(vault, off_s=40)
    estimate = interval(check(vault)).estimate
    assert estimate is not None
    assert abs(seconds_from(begun + timedelta(seconds=20), estimate.start_utc_ns)) < 1


def test_no_token_is_nothing_until_somebody_asks(vault: VaultBuilder) -> None:
    vault.record(2)
    vault.shut_down()
    assert notes(verify_path(vault.root, roots=[BENCH_IDENTITY.root])) == set()
    report = check(vault)
    assert report.ok
    assert warns(report) == {Code.TIMESTAMP_ABSENT}


def test_without_an_authoritys_root_tokens_count_unchecked(vault: VaultBuilder) -> None:
    stamp(vault)
    vault.record(2)
    stamp(vault)
    report = verify_path(vault.root, roots=[BENCH_IDENTITY.root])
    assert notes(report) == {Code.TIMESTAMP_UNCHECKED}
    time = interval(report)
    assert time.existed_by_ns is not None
    assert not time.checked


@pytest.mark.parametrize(
    ("name", "expired", "trusted", "code"),
    [
        ("Test TSA", False, "Other TSA", Code.TIMESTAMP_UNTRUSTED),
        ("Old TSA", True, "Old TSA", Code.TIMESTAMP_EXPIRED),
    ],
)
def test_a_token_that_the_examiner_cannot_believe_does_not_count(
    vault: VaultBuilder, name: str, expired: bool, trusted: str, code: Code
) -> None:
    known = time_authority(trusted, expired=expired).root
    vault.record(2)
    stamp(vault, time_authority(name, expired=expired))
    report = check(vault, known)
    assert (fails(report), warns(report)) == (set(), {code, Code.TIMESTAMP_ABSENT, Code.RUN_NOT_ENDED})
    assert interval(report).after is None
    # The network can put such tokens there; the evidence and the next good token stand.
    good = time_authority("Good TSA")
    stamp(vault, good)
    report = check(vault, known, good.root)
    assert report.ok
    assert interval(report).after is not None


def test_a_certificate_that_expired_since_does_not_matter(vault: VaultBuilder) -> None:
    old = time_authority("Old TSA", expired=True)
    vault.record(2)
    stamp(vault, old, moment=START - timedelta(days=5))
    report = check(vault, old.root)
    assert Code.TIMESTAMP_EXPIRED not in warns(report)
    assert interval(report).after is not None


def rewrite(vault: VaultBuilder, edit: Callable[[Documents], object]) -> None:
    """What whoever holds the camera's key can do; the hashes of records before the first change stay."""
    path = vault.layout.journal / JOURNAL
    before = [line.partition(b"\t")[0] for line in lines_of(path)]

    def edited(documents: Documents) -> Documents:
        edit(documents)
        return documents

    forge(path, edited, BENCH_IDENTITY.record_signer)
    assert [line.partition(b"\t")[0] for line in lines_of(path)] != before


def test_a_token_whose_bytes_were_changed_does_not_count(vault: VaultBuilder) -> None:
    vault.record(2)
    stamp(vault)

    def alter(documents: Documents) -> None:
        token = first(documents, "timestamp")
        response = bytearray(base64.b64decode(token["response"]))
        response[-5] ^= 1
        token["response"] = base64.b64encode(response).decode()

    vault.shut_down()
    rewrite(vault, alter)
    report = check(vault)
    assert (fails(report), warns(report)) == (set(), {Code.TIMESTAMP_BAD, Code.TIMESTAMP_ABSENT})


@pytest.mark.parametrize(
    "response", ["", "AAAA", "no base64", "ä", base64.b64encode(b"0" * (MAX_RESPONSE_BYTES + 1)).decode()]
)
def test_a_token_that_is_none_is_a_forgery(vault: VaultBuilder, response: str) -> None:
    vault.record(2)
    stamp(vault)
    rewrite(vault, lambda documents: first(documents, "timestamp").update(response=response))
    assert fails(check(vault)) == {Code.TIMESTAMP_BAD}


@pytest.mark.parametrize(
    "change",
    [
        {"head_seq": -1},
        {"head_seq": "7"},
        {"head_sha256": "x"},
        {"requested_boottime_ns": 1 << 62},
        {"requested_boottime_ns": None},
        {"gen_time": "2020-01-01T00:00:00Z"},
        {"response": 5},
    ],
)
def test_fields_that_cannot_be_are_found(vault: VaultBuilder, change: dict[str, Any]) -> None:
    vault.record(2)
    stamp(vault)
    rewrite(vault, lambda documents: first(documents, "timestamp").update(change))
    assert fails(check(vault)) == {Code.RECORD_INVALID}


def test_after_a_record_that_cannot_be_the_next_token_still_counts(vault: VaultBuilder) -> None:
    vault.record(2)
    stamp(vault)
    rewrite(vault, lambda documents: first(documents, "timestamp").update(gen_time="2020-01-01T00:00:00Z"))
    vault.restart()
    stamp(vault)
    assert interval(check(vault)).after is not None


def test_a_journal_rewritten_under_its_tokens_is_found(vault: VaultBuilder) -> None:
    """The camera's own key signs anything; it cannot stamp it in the past."""
    vault.record(2)
    stamp(vault)
    assert interval(check(vault)).after is not None
    rewrite(vault, lambda documents: first(documents, "boot").update(version="1"))
    report = check(vault)
    assert fails(report) == {Code.TIMESTAMP_REPLAYED}
    assert interval(report).after is None


def test_a_token_copied_from_another_camera_is_found(tmp_path: Path, vault: VaultBuilder) -> None:
    other = VaultBuilder(tmp_path / "other", clock=SimulatedClock(utc_ns=vault.clock.utc_ns() + 1000))
    other.record(2)
    stamp(other)
    stolen = first([parse_line(line[:-1]).fields for line in lines_of(other.layout.journal / JOURNAL)], "timestamp")
    vault.record(2)
    stamp(vault)
    copied = {name: stolen[name] for name in ("response", "gen_time")}
    rewrite(vault, lambda documents: first(documents, "timestamp").update(copied))
    assert fails(check(vault)) == {Code.TIMESTAMP_REPLAYED}
    rewrite(vault, lambda documents: first(documents, "timestamp").update(head_sha256=stolen["head_sha256"]))
    assert fails(check(vault)) == {Code.TIMESTAMP_REPLAYED}


@pytest.mark.parametrize("between", [0, 1])
def test_the_same_token_twice_is_found(vault: VaultBuilder, between: int) -> None:
    vault.record(2)
    for _ in range(1 + between):
        stamp(vault)
    rewrite(vault, lambda documents: documents.append(dict(first(documents, "timestamp"))))
    assert fails(check(vault)) == {Code.TIMESTAMP_REPLAYED}


def test_tokens_whose_times_go_back_are_found(vault: VaultBuilder) -> None:
    stamp(vault, off_s=60)
    vault.restart()
    stamp(vault, off_s=-60)
    assert Code.TIMESTAMP_ORDER in warns(check(vault))


@pytest.mark.parametrize(("drift_s", "found"), [(0, False), (3, False), (-3, False), (12, True), (-12, True)])
def test_a_boot_clock_that_ran_at_another_speed_is_found(vault: VaultBuilder, drift_s: int, found: bool) -> None:
    stamp(vault)
    vault.clock.advance_ns(3600 * NS_PER_S)
    stamp(vault, off_s=drift_s)
    assert (Code.TIME_RATE in warns(check(vault))) is found


def test_across_a_broken_chain_tokens_bound_nothing(vault: VaultBuilder) -> None:
    vault.record(2)
    vault.journal.append("fault", component="storage", message="x")
    vault.journal.append("fault-cleared", component="storage", message="x")
    vault.journal.commit()
    stamp(vault)
    path = vault.layout.journal / JOURNAL
    path.write_bytes(b"".join(line for line in lines_of(path) if b'"type":"fault",' not in line))
    report = check(vault)
    assert Code.JOURNAL_SEQ in fails(report)
    assert interval(report).after is None
