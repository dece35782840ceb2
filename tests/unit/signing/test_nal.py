"""NAL units out of hostile bytes, and emulation prevention both ways."""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent.signing.nal import NalError, escape, is_first_slice, split_byte_stream, split_sample, unescape
from tests.unit.signing.streams import unsigned_stream

ZEROS_AND_SMALL = st.lists(st.sampled_from([0, 0, 0, 1, 2, 3, 4, 0x65, 0x80, 0xFF]), max_size=60).map(bytes)
START = b"\x00\x00\x00\x01"


@given(st.one_of(ZEROS_AND_SMALL, st.binary(max_size=200)))
@example(b"\x00\x00\x00\x00\x00")
@example(b"\x00\x00\x03")
def test_escaping_is_undone_exactly_and_leaves_no_start_code(payload: bytes) -> None:
    unit = escape(payload + b"\x80")
    assert unescape(unit) == payload + b"\x80"
    assert not any(bytes([0, 0, last]) in unit for last in (0, 1, 2))


@given(ZEROS_AND_SMALL)
def test_what_unescape_takes_escape_gives_back(unit: bytes) -> None:
    try:
        payload = unescape(unit)
    except NalError:
        return
    assert escape(payload) == unit


@given(st.one_of(ZEROS_AND_SMALL, st.binary(max_size=300)))
def test_any_bytes_split_or_raise_nal_error(data: bytes) -> None:
    for split in (split_byte_stream, lambda given: split_sample(given, 4), lambda given: split_sample(given, 1)):
        try:
            units = split(data)
        except NalError:
            continue
        for unit in units:
            assert 0 <= unit.prefix < unit.start < unit.end <= len(data)
            assert data[unit.start] & 0x1F == unit.type
            assert data[unit.end - 1] != 0


PARTS = st.lists(st.tuples(st.booleans(), st.binary(max_size=40), st.integers(0, 3)), min_size=1, max_size=8)


@given(PARTS)
def test_both_framings_give_back_what_was_put_in(parts: list[tuple[bool, bytes, int]]) -> None:
    payloads = [escape(b"\x41" + body + b"\x80") for _, body, _ in parts]
    stream = b"".join(
        (START if long else START[1:]) + payload + bytes(zeros)
        for (long, _, zeros), payload in zip(parts, payloads, strict=True)
    )
    units = split_byte_stream(stream)
    assert [stream[unit.start : unit.end] for unit in units] == payloads
    for unit, (long, _, _) in zip(units, parts, strict=True):
        assert stream[unit.prefix : unit.start] in ((START,) if long else (START, START[1:]))
    sample = b"".join(len(payload).to_bytes(4, "big") + payload for payload in payloads)
    assert [sample[unit.start : unit.end] for unit in split_sample(sample, 4)] == payloads


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00\x00\x00",
        b"\x65\x88" + START + b"\x65\x88",  # something in front
        START + START + b"\x65\x88",  # an empty one
        START + b"\xe5\x88",  # forbidden_zero_bit
        START,
    ],
)
def test_a_malformed_byte_stream_is_refused(data: bytes) -> None:
    with pytest.raises(NalError):
        split_byte_stream(data)


@pytest.mark.parametrize(
    "data",
    [
        b"\x00\x00\x00\x02\x65",  # cut off
        b"\x00\x00\x00\x00",  # empty
        b"\x00\x00\x00\x02\x00\x00",  # nothing but zeros
        b"\x00\x00\x00\x01\x65\x00",  # a rest
        b"\xff\xff\xff\xff\x65",
    ],
)
def test_a_malformed_sample_is_refused(data: bytes) -> None:
    with pytest.raises(NalError):
        split_sample(data, 4)


def test_a_length_field_of_three_bytes_is_not_in_the_standard() -> None:
    with pytest.raises(NalError):
        split_sample(b"\x00\x00\x01\x65", 3)


@pytest.mark.parametrize("unit", [b"\x06\x00\x00\x01", b"\x06\x00\x00\x03\x04", b"\x06\x00\x00", b"\x06\x00\x00\x03"])
def test_what_no_encoder_escapes_so_is_refused(unit: bytes) -> None:
    with pytest.raises(NalError):
        unescape(unit)


def test_zeros_without_end_take_no_time() -> None:
    data = START + b"\x65\x88" + bytes(4_000_000) + START + b"\x41\x9a" + bytes(4_000_000)
    began = time.process_time()
    units = split_byte_stream(data)
    assert [unit.end - unit.start for unit in units] == [2, 2]
    assert time.process_time() - began < 1


@pytest.mark.parametrize("threads", [1, 2])
def test_the_encoder_s_own_pictures(threads: int) -> None:
    for packet in unsigned_stream(threads):
        slices = [unit for unit in split_byte_stream(packet.data) if unit.type in (1, 5)]
        assert [is_first_slice(packet.data, unit) for unit in slices] == [True, False][:threads]
        assert slices[-1].end == len(packet.data)
