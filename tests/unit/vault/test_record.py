"""One line of the journal: what is written is read back, and what could be read in two ways is refused."""

from __future__ import annotations

import base64
import json
import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.clock import NS_PER_S, SimulatedClock, WallObservation
from agent.errors import JournalError
from agent.vault.record import (
    COMMON_FIELDS,
    FORMAT_VERSION,
    MAX_BRACKETS,
    MAX_DEPTH,
    MAX_JSON_BYTES,
    MAX_LINE_BYTES,
    PENDING,
    ZERO_HASH,
    Record,
    encode_json,
    parse_line,
    sha256_hex,
    utc_text,
)

OBSERVATION = SimulatedClock().observe()


def encoded(type_: str = "test", **fields: Any) -> bytes:
    """The JSON of a record."""
    return encode_json(7, "ab" * 32, type_, OBSERVATION, "boot", fields)


def line(json_bytes: bytes | None = None, column: bytes = PENDING.encode()) -> bytes:
    """A line without its newline."""
    return (encoded() if json_bytes is None else json_bytes) + b"\t" + column


def changed(**fields: Any) -> bytes:
    """A line whose JSON has other fields, None for one that is missing."""
    document = {key: value for key, value in (json.loads(encoded()) | fields).items() if value is not ...}
    return line(json.dumps(document, separators=(",", ":")).encode())


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(), children, max_size=4),
    max_leaves=20,
)  # fmt: skip
own_fields = st.dictionaries(
    st.text().filter(lambda key: key not in (*COMMON_FIELDS, "type_")), json_values, max_size=6
)


@given(
    seq=st.integers(1, 2**60),
    type_=st.text(),
    fields=own_fields,
    utc_ns=st.integers(0, 2**63 - 1),
    boottime_ns=st.integers(0, 2**63 - 1),
    uncertainty_ms=st.none() | st.integers(0, 10**9),
    signature=st.none() | st.binary(min_size=1, max_size=300),
)
def test_what_is_written_is_read_back(
    seq: int, type_: str, fields: dict[str, Any], utc_ns: int, boottime_ns: int, uncertainty_ms: int | None,
    signature: bytes | None,
) -> None:  # fmt: skip
    observation = WallObservation(utc_ns, boottime_ns, "ntp", uncertainty_ms)
    json_bytes = encode_json(seq, ZERO_HASH, type_, observation, "boot-1", fields)
    assert all(0x20 <= byte <= 0x7E for byte in json_bytes)
    written = Record(json_bytes, signature, {}).line()
    assert written.count(b"\n") == written.count(b"\t") == 1
    record = parse_line(written.removesuffix(b"\n"))
    assert record.json_bytes == json_bytes
    assert record.signature == signature
    assert (record.seq, record.prev, record.type) == (seq, ZERO_HASH, type_)
    assert record.sha256 == sha256_hex(json_bytes)
    assert record.line() == written
    assert {key: value for key, value in record.fields.items() if key not in COMMON_FIELDS} == fields
    assert (record.fields["boottime_ns"], record.fields["clock_uncertainty_ms"]) == (boottime_ns, uncertainty_ms)


@given(st.binary(max_size=300))
def test_any_bytes_end_in_a_record_or_in_a_sentence(data: bytes) -> None:
    for candidate in (data, data + b"\t-", line(column=data), line(encoded() + data), line(data + encoded())):
        try:
            record = parse_line(candidate)
        except JournalError:
            continue
        assert record.line() == candidate + b"\n"


@given(st.data())
def test_one_changed_byte_ends_in_a_record_or_in_a_sentence(data: st.DataObject) -> None:
    good = bytearray(line(encoded(a=[1, {"b": "c"}], n=5), base64.b64encode(b"signature")))
    good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    try:
        record = parse_line(bytes(good))
    except JournalError:
        return
    assert record.line() == bytes(good) + b"\n"


@given(json_values)
def test_any_json_ends_in_a_record_or_in_a_sentence(value: Any) -> None:
    text = json.dumps(value).encode()
    with pytest.raises(JournalError):
        parse_line(line(text))
    for field in COMMON_FIELDS:
        try:
            record = parse_line(changed(**{field: value}))
        except JournalError:
            continue
        assert record.fields[field] == value


@pytest.mark.parametrize("field", COMMON_FIELDS)
def test_a_common_field_cannot_be_left_out_or_have_another_type(field: str) -> None:
    wrong: tuple[Any, ...] = (..., True, [], {}, 1.5)
    for value in wrong:
        with pytest.raises(JournalError, match=f'lacks "{field}" or has it in a wrong type'):
            parse_line(changed(**{field: value}))


@pytest.mark.parametrize("field", COMMON_FIELDS)
def test_a_common_field_cannot_be_shadowed(field: str) -> None:
    with pytest.raises(ValueError, match=field):
        encode_json(1, ZERO_HASH, "test", OBSERVATION, "boot", {field: 1})


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (line(changed(v=2).partition(b"\t")[0]), "version 2; this software reads 1"),
        (encoded(), "one TAB"),
        (encoded() + b"\t-\t-", "one TAB"),
        (line(b"[]"), "not one JSON object"),
        (line(b""), "not valid JSON"),
        (line(encoded() + b"{}"), "not valid JSON"),
        (line(encoded().replace(b'"seq":7', b'"seq":7,"seq":7')), "same key twice"),
        (line(encoded(a={"b": 1}).replace(b'"b":1', b'"b":1,"b":2')), "same key twice"),
        (line(encoded().replace(b'"seq":7', b'"seq":7,"\\u0073eq":8')), "same key twice"),
        (line(encoded().replace(b'"boot"', b'"bo\xc3\xb6t"')), "printable ASCII"),
        (line(encoded() + b"\r"), "printable ASCII"),
        (line(b"\x00" + encoded()), "printable ASCII"),
        (line(encoded(a=1).replace(b'"a":1', b'"a":NaN')), "NaN"),
        (line(encoded(a=1).replace(b'"a":1', b'"a":-Infinity')), "Infinity"),
        (line(encoded(a=1).replace(b'"a":1', b'"a":' + b"9" * 5000)), "not valid JSON"),
        (line(encoded(a=1).replace(b'"a":1', b'"a":1.50')), "more than one way"),
        (line(encoded(a=1).replace(b'"a":1', b'"a":1e3')), "more than one way"),
        (line(encoded(a=1).replace(b'"a":1', b'"a":1e999')), "more than one way"),
        (line(encoded(a=0).replace(b'"a":0', b'"a":-0')), "more than one way"),
        (line(encoded(a=1).replace(b'"a":1', b'"a": 1')), "more than one way"),
        (line(encoded() + b" "), "more than one way"),
        (line(encoded(a="/").replace(b"/", b"\\/")), "more than one way"),
        (line(encoded(a="\n").replace(b"\\n", b"\\u000a")), "more than one way"),
        (line(encoded(a="\u00e9").replace(b"00e9", b"00E9")), "more than one way"),
        (line(encoded(abc=1).replace(b'"abc"', b'"\\u0061bc"')), "more than one way"),
        (line(encoded().replace(b'"v":1,"seq":7', b'"seq":7,"v":1')), "more than one way"),
        (line(column=b""), "canonical"),
        (line(column=b"--"), "base64"),
        (line(column=b"AA"), "base64"),
        (line(column=b"AB=="), "canonical"),
        (line(column=b"AA==\r"), "base64"),
        (line(column=b" AA=="), "base64"),
        (line(column=b"AA==AA=="), "base64"),
        (line(column=b"-_=="), "base64"),
        (line(encoded(a="x" * (MAX_JSON_BYTES - 500)), b"A" * (1 << 17)), "at most 1048576"),
    ],
)  # fmt: skip
def test_what_could_be_read_in_two_ways_is_refused(text: bytes, reason: str) -> None:
    with pytest.raises(JournalError, match=reason):
        parse_line(text)


def nested(levels: int) -> bytes:
    """A line whose field holds that many lists in one another."""
    return line(encoded(a=0).replace(b'"a":0', b'"a":' + b"[" * levels + b"]" * levels))


def test_depth_is_bounded_to_the_level() -> None:
    assert parse_line(nested(MAX_DEPTH - 1)).seq == 7
    with pytest.raises(JournalError, match="sane depth"):
        parse_line(nested(MAX_DEPTH))


@pytest.mark.parametrize("levels", [50, 300, 490, 600, 900, 1100, 4000, 9000, 20_000])
def test_no_nesting_is_too_deep_for_a_sentence(levels: int) -> None:
    with pytest.raises(JournalError):
        parse_line(nested(levels))


def test_what_is_written_stays_within_what_is_read() -> None:
    room = MAX_JSON_BYTES - len(encoded(a=""))
    largest = Record(encoded(a="x" * room), b"s" * 40_000, {}).line()
    assert len(largest) <= MAX_LINE_BYTES
    assert parse_line(largest.removesuffix(b"\n")).seq == 7
    assert parse_line(line(encoded(a=[[]] * (MAX_BRACKETS - 2)))).seq == 7
    deep: Any = []
    for _ in range(MAX_DEPTH):
        deep = [deep]
    values: tuple[Any, ...] = ("x" * (room + 1), "\u00e9" * (room // 6 + 1), [[]] * MAX_BRACKETS, deep)
    for value in values:
        with pytest.raises(ValueError, match="larger or deeper"):
            encoded(a=value)


def test_the_json_is_compact_and_in_the_order_of_the_format_page() -> None:
    text = encoded("boot", pid=1).decode()
    assert text.startswith(f'{{"v":{FORMAT_VERSION},"seq":7,"prev":"')
    assert tuple(json.loads(text)) == (*COMMON_FIELDS, "pid")
    assert not set(string.whitespace) & set(text)


@pytest.mark.parametrize(
    ("utc_ns", "text"),
    [
        (0, "1970-01-01T00:00:00.000000Z"),
        (1_999, "1970-01-01T00:00:00.000001Z"),
        (951_782_400 * NS_PER_S, "2000-02-29T00:00:00.000000Z"),
        (1_790_000_000 * NS_PER_S + 123_456_789, "2026-09-21T14:13:20.123456Z"),
        (4_294_967_296 * NS_PER_S, "2106-02-07T06:28:16.000000Z"),
        (2**63 - 1, "2262-04-11T23:47:16.854775Z"),
        (-1, "1969-12-31T23:59:59.999999Z"),
    ],
)
def test_wall_time_is_rfc_3339_whatever_the_clock_believes(utc_ns: int, text: str) -> None:
    assert utc_text(utc_ns) == text
