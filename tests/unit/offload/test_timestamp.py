"""The network's side of a timestamp: real HTTP to a real authority, and every way in which it can fail."""

from __future__ import annotations

import io
import socket
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.clock import NS_PER_S, SimulatedClock
from agent.errors import ControlError, TimestampError
from agent.offload.timestamp import (
    FIRST_RETRY_NS,
    MAX_REPLY_BYTES,
    HttpAuthority,
    TimestampSchedule,
    keep_timestamping,
)
from agent.trust.timestamps import check_response, make_request
from tests.support.time_authority import served, time_authority

REQUEST = make_request(b"head")


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")


def test_a_token_over_http() -> None:
    with served(time_authority()) as url:
        timestamp = check_response(HttpAuthority(url)(REQUEST.der), REQUEST)
    assert timestamp.authority == "CN=Test TSA"


def test_nobody_there() -> None:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: refused
        port = taken.getsockname()[1]
        with pytest.raises(TimestampError, match=r"does not answer.*refused.*check the network"):
            HttpAuthority(f"http://127.0.0.1:{port}/")(REQUEST.der)


def test_a_name_that_nobody_knows() -> None:
    with pytest.raises(TimestampError, match="does not answer"):
        HttpAuthority("http://authority.invalid/")(REQUEST.der)


def test_one_that_accepts_and_says_nothing() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        authority = HttpAuthority(f"http://127.0.0.1:{silent.getsockname()[1]}/", timeout_s=0.05)
        with pytest.raises(TimestampError, match=r"does not answer.*timed out"):
            authority(REQUEST.der)


@pytest.mark.parametrize("status", [301, 302, 307, 400, 403, 404, 500, 503])
def test_an_error_or_a_redirect_is_told(status: int) -> None:
    with served(time_authority(), status=status) as url, pytest.raises(TimestampError, match=f"HTTP {status}"):
        HttpAuthority(url)(REQUEST.der)


def test_a_login_page_is_no_timestamp() -> None:
    page = served(lambda _: b"<html>", kind="text/html; charset=utf-8")
    with page as url, pytest.raises(TimestampError, match="login page"):
        HttpAuthority(url)(REQUEST.der)


def test_an_endless_answer_is_cut() -> None:
    with served(lambda _: b"\x30" * (MAX_REPLY_BYTES + 1)) as url, pytest.raises(TimestampError, match="more than"):
        HttpAuthority(url)(REQUEST.der)


def test_an_answer_that_drips_has_an_end() -> None:
    ticks: Iterator[int] = iter(range(1000))
    authority = HttpAuthority("http://drips.invalid/", timeout_s=10, monotonic_s=lambda: next(ticks))

    class Drips(io.BytesIO):
        def read1(self, _size: int | None = -1) -> bytes:
            return super().read(1)

    reply: Any = Drips(b"\x30" * 100)
    with pytest.raises(TimestampError, match="longer than 10 s"):
        authority._read(reply, 10.0)


@pytest.mark.parametrize(
    "url",
    ["", "file:///etc/passwd", "ftp://x/", "authority.example", "http://", "http://[::1", "http://x:port/", "//x/"],
)
def test_only_http_and_https_are_addresses(url: str) -> None:
    with pytest.raises(TimestampError, match="no address"):
        HttpAuthority(url)


@pytest.mark.parametrize("url", ["http://authority.example:99999/", "http://a b/", "http://x/\r\nHost: y"])
def test_an_address_that_cannot_be_used_ends_in_our_own_error(url: str) -> None:
    with pytest.raises(TimestampError):
        HttpAuthority(url, timeout_s=1)(REQUEST.der)


def test_a_certificate_that_does_not_fit_is_refused() -> None:
    """Plain HTTP behind https:// stands for anything that is not the TLS peer it should be."""
    with served(time_authority()) as url, pytest.raises(TimestampError, match=r"does not answer.*SSL"):
        HttpAuthority(url.replace("http:", "https:"), timeout_s=2)(REQUEST.der)


@given(st.integers(10, 86_400), st.lists(st.booleans(), max_size=40))
def test_tries_back_off_up_to_the_interval_and_never_beyond(every_s: int, outcomes: list[bool]) -> None:
    schedule = TimestampSchedule(every_s)
    failures = 0
    for taken in outcomes:
        wait_ns = schedule.next_ns(1000, taken=taken) - 1000
        failures = 0 if taken else failures + 1
        if taken:
            assert wait_ns == every_s * NS_PER_S
        else:
            assert wait_ns == min(FIRST_RETRY_NS * 2 ** (failures - 1), every_s * NS_PER_S)


def test_it_goes_on_through_failures_and_says_each_once() -> None:
    clock = SimulatedClock()
    start_ns = clock.boottime_ns()
    script: list[Exception | str] = [
        TimestampError("no network"),
        TimestampError("no network"),
        ControlError("no daemon"),
        "t1",
        "t2",
        TimestampError("no network"),
    ]
    tries: list[int] = []
    said: list[str] = []

    def ask(message: dict[str, Any]) -> dict[str, Any]:
        if message["command"] == "timestamp-request":
            tries.append((clock.boottime_ns() - start_ns) // NS_PER_S)
            step = script[len(tries) - 1]
            if isinstance(step, Exception):
                raise step
            return {"request": "AAAA"}
        return {"head_seq": 7, "gen_time": script[len(tries) - 1]}

    keep_timestamping(
        ask, lambda der: der, clock, every_s=300, say=said.append, going_on=lambda: len(tries) < len(script)
    )
    assert tries == [0, 5, 15, 35, 335, 635]
    assert said == [
        "No timestamp: no network",
        "No timestamp: no daemon",
        "Timestamp: record 7 and all before it existed by t1.",
        "Timestamp: record 7 and all before it existed by t2.",
        "No timestamp: no network",
    ]
