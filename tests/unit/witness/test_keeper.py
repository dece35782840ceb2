"""The keeper: the newest wins, what fails is tried again and said, and nobody waits for it but a start, a moment."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

import pytest

import agent.witness.keeper
from agent.clock import NS_PER_S, SimulatedClock
from agent.errors import StorageError
from agent.witness.keeper import LATE_NS, WitnessKeeper
from agent.witness.memory import Memory

MEMORY = Memory("a" * 64, 1, "b" * 64, "boot", 3)


def nth(seq: int) -> Memory:
    return replace(MEMORY, seq=seq)


class Shelf:
    """A store that fails when told to. during: called while it is at work."""

    def __init__(self, kept: Memory | None = None) -> None:
        self.kept = kept
        self.written: list[int] = []
        self.error: str | None = None
        self.errno: int | None = 5
        self.during: Callable[[], object] = lambda: None

    def read(self) -> Memory | None:
        self.during()
        if self.error:
            raise StorageError(self.errno, self.error)
        return self.kept

    def write(self, memory: Memory) -> None:
        self.during()
        if self.error:
            raise StorageError(5, self.error)
        self.kept = memory
        self.written.append(memory.seq)


def made(shelf: Shelf) -> tuple[WitnessKeeper, SimulatedClock]:
    clock = SimulatedClock()
    return WitnessKeeper(shelf, clock), clock


def work(keeper: WitnessKeeper) -> None:
    while keeper.step():
        pass


def test_what_an_earlier_process_left_is_remembered_until_this_one_knows_better() -> None:
    keeper, _ = made(Shelf(nth(7)))
    work(keeper)
    assert keeper.remembered() == nth(7)
    keeper.confirmed(nth(9))
    assert keeper.remembered() == nth(9)  # also when it is not written yet: a vault that is opened twice


def test_the_newest_is_written_and_those_in_between_passed_over() -> None:
    shelf = Shelf()
    keeper, _ = made(shelf)
    work(keeper)
    assert (keeper.is_up_to_date, keeper.written_seq) == (True, None)
    for seq in (1, 2, 3):
        keeper.confirmed(nth(seq))
    assert [keeper.is_up_to_date] == [False]
    shelf.during = lambda: keeper.confirmed(nth(5)) if not shelf.written else None  # comes while 3 is being written
    work(keeper)
    assert shelf.written == [3, 5]
    assert (keeper.is_up_to_date, keeper.written_seq) == (True, 5)


def test_newer_counts_and_not_higher() -> None:
    """A card that lost records goes on with lower numbers."""
    shelf = Shelf(nth(100))
    keeper, _ = made(shelf)
    work(keeper)
    keeper.confirmed(nth(91))
    work(keeper)
    assert shelf.kept == nth(91)


def test_what_cannot_be_written_is_said_until_it_can_and_nothing_is_raised() -> None:
    shelf = Shelf()
    keeper, _ = made(shelf)
    work(keeper)
    assert keeper.fault() is None
    shelf.error = "The stick is gone"
    keeper.confirmed(nth(1))
    work(keeper)
    fault = keeper.fault()
    assert fault is not None
    assert "The stick is gone" in fault
    assert "recording goes on" in fault
    assert not keeper.is_up_to_date
    shelf.error = None
    work(keeper)
    assert shelf.written == [1]
    assert keeper.fault() is None


def test_what_says_nothing_is_raised_at_the_start_and_written_over() -> None:
    shelf = Shelf(nth(3))
    shelf.error, shelf.errno = "Neither slot is whole", None
    keeper, _ = made(shelf)
    work(keeper)
    with pytest.raises(StorageError, match="Neither slot"):
        keeper.remembered()
    shelf.error = None
    keeper.confirmed(nth(4))
    work(keeper)
    assert keeper.remembered() == shelf.kept == nth(4)


def test_what_could_not_be_read_stays_for_the_next_start_to_be_compared_with() -> None:
    """The card may have forgotten what this says: a process that could not look must not make that unseen."""
    shelf = Shelf(nth(30))
    shelf.error = "Input/output error"
    keeper, _ = made(shelf)
    work(keeper)
    with pytest.raises(StorageError, match="Input/output error"):
        keeper.remembered()
    shelf.error = None
    keeper.confirmed(nth(28))
    work(keeper)
    assert shelf.kept == nth(30)
    assert "for the next start" in str(keeper.fault())
    next_keeper, _ = made(shelf)
    work(next_keeper)
    assert next_keeper.remembered() == nth(30)


def test_a_medium_that_hangs_is_said_and_the_start_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent.witness.keeper, "READ_TIMEOUT_S", 0.0)
    shelf = Shelf(nth(3))
    keeper, clock = made(shelf)
    seen: list[str | None] = []

    def hangs() -> None:
        seen.append(keeper.fault())
        clock.advance_ns(LATE_NS + NS_PER_S)
        seen.append(keeper.fault())
        with pytest.raises(StorageError, match="did not answer"):
            keeper.remembered()
        keeper.confirmed(nth(4))

    shelf.during = hangs
    keeper.step()
    assert seen[0] is None
    assert "does not answer" in str(seen[1])
    shelf.during = lambda: None
    work(keeper)
    assert shelf.kept == nth(3)
    assert "for the next start" in str(keeper.fault())


def test_one_whose_medium_is_mounted_after_the_start_is_read_when_it_is_asked_for() -> None:
    shelf = Shelf()
    keeper, _ = made(shelf)
    keeper.start()
    assert keeper.remembered() is None
    shelf.kept = nth(8)
    assert keeper.remembered() == nth(8)
    keeper.confirmed(nth(9))
    assert keeper.stop(60)
    assert shelf.kept == nth(9)


def test_one_that_was_left_as_it_was_ends_at_once() -> None:
    shelf = Shelf(nth(3))
    shelf.error = "Input/output error"
    keeper, _ = made(shelf)
    keeper.start()
    with pytest.raises(StorageError):
        keeper.remembered()
    keeper.confirmed(nth(4))
    assert keeper.stop(60)


def test_its_thread_ends_up_to_date() -> None:
    shelf = Shelf(nth(1))
    keeper, _ = made(shelf)
    keeper.start()
    assert keeper.remembered() == nth(1)
    for seq in range(2, 200):
        keeper.confirmed(nth(seq))
    assert keeper.stop(60)
    assert shelf.kept == nth(199)
    assert shelf.written == sorted(set(shelf.written))


def test_what_is_confirmed_just_before_the_end_is_still_written() -> None:
    """The thread had found nothing to do, and had not begun to wait, when both came."""
    shelf = Shelf()
    keeper, _ = made(shelf)
    work(keeper)
    keeper.confirmed(nth(1))
    assert not keeper.stop(0)
    assert keeper.wait()
    work(keeper)
    assert shelf.written == [1]
    assert not keeper.wait()


def test_its_end_does_not_wait_for_a_medium_that_fails_or_hangs() -> None:
    shelf = Shelf()
    shelf.error = "gone"
    keeper, _ = made(shelf)
    keeper.start()
    keeper.confirmed(nth(1))
    assert not keeper.stop(60)  # well before: a failed write is tried once more and left
    stuck, asked = threading.Event(), threading.Event()
    hanging = Shelf()

    def hangs() -> None:
        asked.set()
        stuck.wait(60)

    hanging.during = hangs
    keeper, _ = made(hanging)
    keeper.start()
    assert asked.wait(60)
    keeper.confirmed(nth(1))
    assert not keeper.stop(0.0)
    stuck.set()
    assert keeper.stop(60)
