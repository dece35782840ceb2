"""Conversions: to the nearest unit, by exact arithmetic."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from agent.media.units import VIDEO_TIMESCALE_90K, ns_to_90k, ns_to_samples, samples_to_ns

DAY_NS = 86_400 * 10**9
deltas_ns = st.integers(-DAY_NS, 400 * DAY_NS)
rates_hz = st.sampled_from([8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000])


def is_nearest(value: int, exact: Fraction) -> bool:
    """Whether no other whole number is nearer."""
    return abs(value - exact) <= Fraction(1, 2)


@given(deltas_ns)
def test_ticks_are_the_nearest(delta_ns: int) -> None:
    assert is_nearest(ns_to_90k(delta_ns), Fraction(delta_ns * VIDEO_TIMESCALE_90K, 10**9))


@given(deltas_ns, rates_hz)
def test_samples_are_the_nearest(delta_ns: int, rate_hz: int) -> None:
    assert is_nearest(ns_to_samples(delta_ns, rate_hz), Fraction(delta_ns * rate_hz, 10**9))


@given(st.integers(0, 400 * 86_400 * 48_000), rates_hz)
def test_nanoseconds_are_the_nearest_and_lead_back(samples: int, rate_hz: int) -> None:
    delta_ns = samples_to_ns(samples, rate_hz)
    assert is_nearest(delta_ns, Fraction(samples * 10**9, rate_hz))
    assert ns_to_samples(delta_ns, rate_hz) == samples


@given(deltas_ns, st.integers(0, 10**10))
def test_time_never_runs_backwards_by_rounding(delta_ns: int, more_ns: int) -> None:
    assert ns_to_90k(delta_ns) <= ns_to_90k(delta_ns + more_ns)


@given(st.lists(st.integers(1, 10**9), max_size=200))
def test_rounding_never_adds_up(durations_ns: list[int]) -> None:
    """A timeline made of differences of rounded times ends where the clock says, however many there are."""
    times_ns = [sum(durations_ns[:count]) for count in range(len(durations_ns) + 1)]
    ticks = [ns_to_90k(b) - ns_to_90k(a) for a, b in pairwise(times_ns)]
    assert sum(ticks) == ns_to_90k(times_ns[-1])


def test_known_values() -> None:
    assert ns_to_90k(10**9) == 90_000
    assert ns_to_90k(33_333_333) == 3_000
    assert ns_to_90k(5_555) == 0
    assert ns_to_90k(5_556) == 1
    assert samples_to_ns(1024, 48_000) == 21_333_333
    assert ns_to_samples(20_000_000, 44_100) == 882
