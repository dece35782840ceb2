"""What a start concludes from what is remembered outside the card: an honest card is never accused, a lossy one is."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.witness.comparison import CardJournal, Outcome, compare
from agent.witness.memory import Memory

ACCUSING = (Outcome.LOST, Outcome.DIFFERS)


def journal(salt: str, length: int, before: list[str] | None = None) -> list[str]:
    """Hashes of the records of a journal, each resting on the one before it."""
    hashes = list(before or ())
    while len(hashes) < length:
        hashes.append(hashlib.sha256(f"{salt}{hashes[-1] if hashes else ''}".encode()).hexdigest())
    return hashes


def remembers(hashes: list[str], seq: int) -> Memory:
    return Memory(hashes[0], seq, hashes[seq - 1], "boot", 7)


def lies(hashes: list[str], memory: Memory, *, told: bool = False, reached: bool = True) -> CardJournal:
    """The card holds these."""
    there = reached and memory.seq <= len(hashes)
    return CardJournal(hashes[0] if hashes else None, len(hashes), hashes[memory.seq - 1] if there else None, told)


LENGTHS = st.integers(1, 60)


@given(LENGTHS, LENGTHS, st.booleans())
def test_an_honest_card_is_never_accused_however_far_the_memory_lags(seq: int, ahead: int, told: bool) -> None:
    hashes = journal("a", seq + ahead - 1)
    memory = remembers(hashes, seq)
    found = compare(memory, lies(hashes, memory, told=told))
    assert (found.outcome, found.accusation) == (Outcome.AGREES, None)
    assert found.fields()["witness_found_seq"] == len(hashes)


@given(LENGTHS, LENGTHS)
def test_a_card_that_ends_before_what_it_confirmed_has_lost_it(left: int, lost: int) -> None:
    hashes = journal("a", left + lost)
    memory = remembers(hashes, left + lost)
    found = compare(memory, lies(hashes[:left], memory))
    assert found.outcome is Outcome.LOST
    assert found.fields() == {
        "witness": "lost",
        "witness_seq": left + lost,
        "witness_sha256": hashes[-1],
        "witness_boot_id": "boot",
        "witness_boottime_ns": 7,
        "witness_found_seq": left,
    }
    assert found.accusation is not None
    named = f"record {left + 1} of" if lost == 1 else f"records {left + 1} to {left + lost} of"
    assert named in found.accusation
    assert "replace its card" in found.accusation
    told = compare(memory, lies(hashes[:left], memory, told=True))
    assert told.outcome is Outcome.TOLD
    assert told.accusation is not None


@given(LENGTHS, LENGTHS, LENGTHS)
def test_a_card_that_went_on_from_an_earlier_state_has_another_record(left: int, lost: int, further: int) -> None:
    hashes = journal("a", left + lost)
    memory = remembers(hashes, left + lost)
    went_on = journal("b", left + lost + further - 1, hashes[:left])
    found = compare(memory, lies(went_on, memory))
    assert found.outcome is Outcome.DIFFERS
    assert found.accusation is not None
    assert f"another record {memory.seq} " in found.accusation
    assert compare(memory, lies(went_on, memory, told=True)).outcome is Outcome.TOLD
    assert compare(memory, lies(went_on, memory, reached=False)).outcome is Outcome.OUT_OF_REACH


@given(LENGTHS, st.integers(0, 60), st.booleans())
def test_another_card_or_an_empty_one_is_named_and_not_accused(seq: int, length: int, told: bool) -> None:
    memory = remembers(journal("a", seq), seq)
    found = compare(memory, lies(journal("b", length), memory, told=told))
    assert (found.outcome, found.accusation) == (Outcome.ANOTHER_JOURNAL, None)


@pytest.mark.parametrize(("readable", "outcome"), [(True, Outcome.ABSENT), (False, Outcome.UNREADABLE)])
def test_without_a_memory_there_is_nothing_to_say(readable: bool, outcome: Outcome) -> None:
    found = compare(None, CardJournal("a" * 64, 9, None), readable=readable)
    assert found.fields() == {"witness": outcome.value}
    assert found.accusation is None


def test_a_beginning_that_cannot_be_read_hides_neither_agreement_nor_loss() -> None:
    hashes = journal("a", 9)
    memory = remembers(hashes, 5)
    assert compare(memory, CardJournal(None, 9, hashes[4])).outcome is Outcome.AGREES
    assert compare(memory, CardJournal(None, 9, None)).outcome is Outcome.OUT_OF_REACH
    assert compare(memory, CardJournal(None, 9, hashes[3])).outcome is Outcome.DIFFERS
    assert compare(memory, CardJournal(None, 4, None)).outcome is Outcome.LOST
    assert compare(memory, CardJournal(None, 4, None, told=True)).outcome is Outcome.TOLD
    assert compare(memory, CardJournal(None, 0, None)).outcome is Outcome.ANOTHER_JOURNAL
