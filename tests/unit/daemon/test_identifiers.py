"""Recording ids: UUIDv7 by RFC 9562."""

from __future__ import annotations

import uuid

from hypothesis import given
from hypothesis import strategies as st

from agent.clock import NS_PER_MS
from agent.daemon.identifiers import uuid7

MAX_UTC_NS = ((1 << 48) - 1) * NS_PER_MS
random_bytes = st.binary(min_size=10, max_size=10)


def test_the_example_of_the_standard() -> None:
    """RFC 9562, appendix A.6: 2022-02-22T19:22:22 UTC, rand_a 0xCC3, rand_b 0x18C4DC0C0C07398F."""
    random = (0xCC3 << 64 | 0x18C4DC0C0C07398F).to_bytes(10, "big")
    assert uuid7(1_645_557_742_000 * NS_PER_MS, random) == "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"


@given(utc_ns=st.integers(0, MAX_UTC_NS), random=random_bytes)
def test_version_variant_time_and_every_random_bit(utc_ns: int, random: bytes) -> None:
    text = uuid7(utc_ns, random)
    parsed = uuid.UUID(text)
    assert str(parsed) == text
    assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
    assert parsed.int >> 80 == utc_ns // NS_PER_MS
    kept = ~(0xF << 76 | 0x3 << 62) & (1 << 80) - 1
    assert parsed.int & kept == int.from_bytes(random, "big") & kept


@given(first_ns=st.integers(0, MAX_UTC_NS), later_ms=st.integers(1, 10**9), a=random_bytes, b=random_bytes)
def test_ids_sort_by_the_time_of_their_making(first_ns: int, later_ms: int, a: bytes, b: bytes) -> None:
    later_ns = min(first_ns + later_ms * NS_PER_MS, MAX_UTC_NS)
    if later_ns // NS_PER_MS > first_ns // NS_PER_MS:
        assert uuid7(first_ns, a) < uuid7(later_ns, b)


@given(st.integers(-(2**70), 2**70))
def test_a_clock_that_believes_anything_still_gives_an_id(utc_ns: int) -> None:
    assert uuid.UUID(uuid7(utc_ns)).version == 7


def test_two_ids_of_one_moment_differ() -> None:
    assert len({uuid7(0) for _ in range(1000)}) == 1000
