"""The clocks: the simulated one keeps the contract that the real one is held to here."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.clock import NS_PER_MS, NS_PER_S, Clock, SimulatedClock, SystemClock, WallObservation


@pytest.mark.parametrize("clock", [SystemClock(), SimulatedClock()], ids=lambda clock: type(clock).__name__)
def test_what_every_clock_keeps_to(clock: Clock) -> None:
    assert len(clock.boot_id) == 36
    assert clock.boot_id == clock.boot_id.strip().lower()
    times_ns = [clock.boottime_ns() for _ in range(100)]
    assert times_ns == sorted(times_ns)
    target_ns = clock.boottime_ns() + NS_PER_MS
    clock.sleep_until_ns(target_ns)
    assert clock.boottime_ns() >= target_ns
    clock.sleep_until_ns(target_ns - NS_PER_S)  # long past: at once
    before_ns, observation, after_ns = clock.boottime_ns(), clock.observe(), clock.boottime_ns()
    assert before_ns <= observation.boottime_ns <= after_ns
    assert observation.source in ("ntp", "unsynchronised")
    assert abs((observation.utc_ns - observation.boottime_ns) - (clock.utc_ns() - clock.boottime_ns())) < 50 * NS_PER_MS


# The real one


def test_the_system_clock_is_the_kernels() -> None:
    clock = SystemClock()
    assert clock.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    uptime_s = float(Path("/proc/uptime").read_text().split()[0])
    assert clock.boottime_ns() / NS_PER_S == pytest.approx(uptime_s, abs=1)
    assert clock.utc_ns() / NS_PER_S == pytest.approx(time.time(), abs=1)


def fake_adjtimex(status: int, maxerror_us: int, result: int = 0):  # type: ignore[no-untyped-def]
    """adjtimex(2) as a kernel in that state answers it."""

    def adjtimex(reference) -> int:  # type: ignore[no-untyped-def]
        timex = reference._obj
        assert timex.modes == 0, "asking must change nothing"
        timex.status, timex.maxerror = status, maxerror_us
        return result

    return adjtimex


@pytest.mark.parametrize(
    ("status", "maxerror_us", "result", "source", "uncertainty_ms"),
    [
        (0x2001, 1_000, 0, "ntp", 1),
        (0x2001, 1_001, 0, "ntp", 2),
        (0x2001, 0, 0, "ntp", 0),
        (0x0040, 16_000_000, 5, "unsynchronised", None),
        (0x2041, 10, 5, "unsynchronised", None),
        (0, 10, -1, "unsynchronised", None),
    ],
)
def test_wall_time_says_where_it_comes_from_and_never_that_it_is_better_than_known(
    monkeypatch: pytest.MonkeyPatch, status: int, maxerror_us: int, result: int, source: str, uncertainty_ms: int | None
) -> None:
    clock = SystemClock()
    monkeypatch.setattr(clock, "_adjtimex", fake_adjtimex(status, maxerror_us, result))
    observation = clock.observe()
    assert (observation.source, observation.uncertainty_ms) == (source, uncertainty_ms)


class InterruptedClock(SystemClock):
    """A system clock whose thread is put aside between two readings, for so many seconds each time."""

    def __init__(self, *stalls_s: int) -> None:
        super().__init__()
        self.now_ns = 50 * NS_PER_S
        self.stalls_s = list(stalls_s)

    def boottime_ns(self) -> int:
        self.now_ns += 10
        return self.now_ns

    def utc_ns(self) -> int:
        if self.stalls_s:
            self.now_ns += NS_PER_S * self.stalls_s.pop(0)
        return self.now_ns + 1_000_000 * NS_PER_S


@pytest.mark.parametrize("stalls_s", [(), (3600,), (1, 2, 3, 4)])
def test_a_thread_that_is_put_aside_dates_wall_time_not_wrongly(stalls_s: tuple[int, ...]) -> None:
    observation = InterruptedClock(*stalls_s).observe()
    assert abs(observation.utc_ns - observation.boottime_ns - 1_000_000 * NS_PER_S) <= 20


def test_a_thread_that_is_always_put_aside_gets_the_best_there_was() -> None:
    observation = InterruptedClock(5, 4, 1, 3, 2, 1, 1).observe()
    assert abs(observation.utc_ns - observation.boottime_ns - 1_000_000 * NS_PER_S) <= NS_PER_S // 2 + 20


# The simulated one


def test_simulated_time_stands_still_until_it_is_moved() -> None:
    clock = SimulatedClock(5, 7, "boot")
    assert clock.observe() == clock.observe() == WallObservation(7, 5, "ntp", 10)
    clock.source, clock.uncertainty_ms = "unsynchronised", None
    assert clock.observe() == WallObservation(7, 5, "unsynchronised", None)
    assert clock.boot_id == "boot"


@given(
    st.lists(
        st.tuples(st.sampled_from(["advance", "sleep", "step"]), st.integers(-(10**12), 10**12)),
        max_size=30,
    )
)
def test_simulated_boot_time_never_goes_back_and_wall_time_follows_it(moves: list[tuple[str, int]]) -> None:
    clock = SimulatedClock()
    offset_ns = clock.utc_ns() - clock.boottime_ns()
    for kind, delta_ns in moves:
        before_ns = clock.boottime_ns()
        if kind == "advance":
            if delta_ns < 0:
                with pytest.raises(ValueError, match="never goes back"):
                    clock.advance_ns(delta_ns)
                delta_ns = 0
            else:
                clock.advance_ns(delta_ns)
        elif kind == "sleep":
            clock.sleep_until_ns(before_ns + delta_ns)
            delta_ns = max(delta_ns, 0)
        else:
            clock.step_wall_ns(delta_ns)
            offset_ns, delta_ns = offset_ns + delta_ns, 0
        assert clock.boottime_ns() == before_ns + delta_ns
        assert clock.utc_ns() == clock.boottime_ns() + offset_ns
