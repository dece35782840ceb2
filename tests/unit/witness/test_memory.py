"""The two slots: what was written whole is read back, and a write cut anywhere leaves what was remembered before."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.witness.memory import FILE_BYTES, MAX_NUMBER, SLOT_BYTES, Memory, decode_slot, encode_slot, newest

HASHES = st.binary(min_size=32, max_size=32).map(bytes.hex)
NUMBERS = st.integers(1, MAX_NUMBER)
BOOT_IDS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=64)
MEMORIES = st.builds(Memory, HASHES, NUMBERS, HASHES, BOOT_IDS, st.integers(0, MAX_NUMBER))
ONE = Memory("a" * 64, 41, "b" * 64, "2d4c9f0e-7f4e-4c6f-9d5f-0123456789ab", 5_000_000_000)
TWO = replace(ONE, seq=42, sha256="c" * 64)
TEXT_BYTES = len(encode_slot(2, TWO).rstrip(b"\0"))


def file_of(even: bytes, odd: bytes) -> bytes:
    return even.ljust(SLOT_BYTES, b"\0") + odd.ljust(SLOT_BYTES, b"\0")


@given(MEMORIES, st.integers(0, MAX_NUMBER))
def test_what_was_written_is_read_in_its_place_only(memory: Memory, count: int) -> None:
    slot = encode_slot(count, memory)
    assert len(slot) == SLOT_BYTES
    assert decode_slot(slot, count % 2) == (count, memory)
    assert decode_slot(slot, 1 - count % 2) is None


@given(MEMORIES, MEMORIES, st.integers(1, MAX_NUMBER - 1))
def test_of_two_whole_slots_the_one_that_was_written_later_holds(one: Memory, two: Memory, count: int) -> None:
    slots = sorted(
        [encode_slot(count, one), encode_slot(count + 1, two)], key=lambda slot: decode_slot(slot, 0) is None
    )
    assert newest(b"".join(slots)) == (count + 1, two)


@pytest.mark.parametrize("rest", ["before", "zeros", "garbage"])
def test_a_write_torn_at_any_byte_leaves_what_was_remembered_before(rest: str) -> None:
    """The slot that is written held an older memory, nothing, or what a torn page of flash holds."""
    before, written = encode_slot(1, ONE), encode_slot(2, TWO)
    old = {"before": encode_slot(0, replace(ONE, seq=40)), "zeros": bytes(SLOT_BYTES), "garbage": b"\xa5" * SLOT_BYTES}
    for cut in range(SLOT_BYTES + 1):
        data = written[:cut] + old[rest][cut:] + before
        found = newest(data)
        # Behind its text a slot is NULs: from there on the write is as good as whole, unless others stand there.
        whole = cut >= SLOT_BYTES if rest == "garbage" else cut >= TEXT_BYTES
        if found == (2, TWO):
            assert cut >= TEXT_BYTES - 1
        else:
            assert not whole
            assert found == (1, ONE)


def test_a_bit_that_turned_is_seen_wherever_it_is() -> None:
    other = encode_slot(1, ONE)
    whole = encode_slot(2, TWO)
    for offset in range(SLOT_BYTES):
        for bit in (0, 3, 7):
            turned = bytearray(whole)
            turned[offset] ^= 1 << bit
            assert newest(bytes(turned) + other) == (1, ONE)


@given(st.binary(max_size=3 * SLOT_BYTES) | st.binary(max_size=80).map(lambda tail: encode_slot(4, ONE)[:200] + tail))
def test_anything_else_is_no_memory_and_no_error(data: bytes) -> None:
    assert newest(data) is None
    assert newest(data.ljust(FILE_BYTES, b"\0")) is None


@pytest.mark.parametrize(
    "edit",
    [
        ("witness 1", "witness 2"), ("count 2", "count 02"), ("count 2", "count 3"), ("count 2", f"count {10**19}"),
        ("seq 42", "seq 0"), ("seq 42", f"seq {MAX_NUMBER + 1}"), ("seq 42", "seq -1"), ("journal aa", "journal AA"),
        ("boot_id 2", "boot_id  2"), ("boottime_ns 5", "boottime_ns +5"), ("\nseq", "\r\nseq"),
    ],
)  # fmt: skip
def test_what_no_camera_writes_is_refused_also_with_a_check_that_fits(edit: tuple[str, str]) -> None:
    text = encode_slot(2, TWO).rstrip(b"\0").decode().partition("check ")[0]
    assert text.count(edit[0]) >= 1
    text = text.replace(*edit, 1)
    slot = f"{text}check {hashlib.sha256(text.encode()).hexdigest()}\n".encode().ljust(SLOT_BYTES, b"\0")
    assert decode_slot(slot, 0) is None


def test_the_form_is_what_the_page_says() -> None:
    page = (Path(__file__).parents[3] / "docs" / "evidence-format.md").read_text()
    documented = page.partition("```\nbodycam head witness 1\n")[2].partition("```")[0]
    names = re.findall(r"^(\w+) <", documented, re.MULTILINE)
    lines = encode_slot(2, TWO).rstrip(b"\0").decode().splitlines()
    assert lines[0] == "bodycam head witness 1"
    assert [line.split(" ")[0] for line in lines[1:]] == names
    assert f"two slots of {SLOT_BYTES} bytes" in page
    covered = encode_slot(2, TWO)[: encode_slot(2, TWO).index(b"check ")]
    assert lines[-1] == f"check {hashlib.sha256(covered).hexdigest()}"
