"""A memory outside the card: an honest card is never accused, whatever was cut when; one that lies is named.

The card is a disk in memory that loses its power at any operation; a lying one is the same disk with its syncs switched
off from some operation on. What is remembered lies on another disk, so that it is at each cut what it had heard by
then, or any older state of it.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.clock import NS_PER_MS, NS_PER_S, Clock
from agent.controller.signals import Cue
from agent.vault.record import Record
from agent.verify.finding import Code, Severity
from agent.witness.comparison import Outcome
from agent.witness.keeper import WitnessKeeper
from agent.witness.memory import Memory
from tests.support.bench import VAULT, Bench, bench_settings
from tests.support.campaign import Shift, next_boot, verified
from tests.support.crashfs import SYNC_KINDS, CrashFilesystem, Operation
from tests.support.playback import journal_records, of_type

SETTINGS = bench_settings(hold_ms=1000, double_press_ms=200, pre_event_s=2)
PARTS = 4
ACCUSING = {Outcome.LOST.value, Outcome.DIFFERS.value}


@dataclass
class Shelf:
    """Flash of its own that works."""

    kept: Memory | None = None

    def read(self) -> Memory | None:
        return self.kept

    def write(self, memory: Memory) -> None:
        self.kept = memory


class Ear(WitnessKeeper):
    """Notes at which operation of the card it heard of each confirmed record."""

    def __init__(self, filesystem: CrashFilesystem, clock: Clock, kept: Memory | None) -> None:
        self.shelf = Shelf(kept)
        super().__init__(self.shelf, clock)
        self.heard: list[tuple[int, Memory]] = []
        self._filesystem = filesystem
        self.step()

    def confirmed(self, memory: Memory) -> None:
        self.heard.append((len(self._filesystem.operations), memory))
        super().confirmed(memory)


@dataclass
class Life:
    """A shift on a card, with what was heard of it."""

    shift: Shift
    ear: Ear

    def remembered_at(self, operations: int) -> list[Memory]:
        """What the memory may hold when power goes before this operation, the newest last."""
        return [memory for at, memory in self.ear.heard if at <= operations]


@functools.cache
def life() -> Life:
    """Two recordings and an orderly end."""
    filesystem = CrashFilesystem(VAULT)
    shift = Shift(filesystem, SETTINGS)
    bench = shift.bench
    ear = Ear(filesystem, bench.clock, None)
    bench.attach_witness(ear)
    bench.start()
    bench.run_for(3.5)
    now_ns = bench.clock.boottime_ns()
    bench.double_press(now_ns + 500 * NS_PER_MS)
    bench.hold(now_ns + 5 * NS_PER_S)
    bench.double_press(now_ns + 6 * NS_PER_S)
    bench.at(now_ns + 9 * NS_PER_S, bench.terminate)
    bench.run_until(now_ns + 10 * NS_PER_S).run_until_idle()
    assert bench.daemon.exit is not None
    assert bench.recorder is not None
    bench.recorder.end(bench.daemon.exit.reason)
    bench.recorder.close()
    return Life(shift, ear)


def start(state: CrashFilesystem, memory: Memory | None, ear: Ear | None = None) -> Bench:
    """The next start of the product on this card, with this memory."""
    bench = Bench(state, SETTINGS, clock=next_boot(life().shift))
    bench.attach_witness(ear or Ear(state, bench.clock, memory))
    bench.open_vault()
    bench.settle()
    bench.settle()
    return bench


def boots(state: CrashFilesystem) -> list[Record]:
    return [record for record in journal_records(state, life().shift.bench.layout) if record.type == "boot"]


def head_of(state: CrashFilesystem) -> list[Record]:
    return journal_records(state, life().shift.bench.layout)


def lying_from(first: int) -> Callable[[Operation], bool]:
    """The card acknowledges every flush from this operation on and makes none."""

    def lies(operation: Operation) -> bool:
        return operation.kind in SYNC_KINDS and operation.index >= first

    return lies


def test_at_a_clean_stop_the_memory_is_the_journals_last_record() -> None:
    last = head_of(life().shift.filesystem)[-1]
    assert last.type == "shutdown"
    _, memory = life().ear.heard[-1]
    assert (memory.seq, memory.sha256) == (last.seq, last.sha256)
    assert memory.journal_sha256 == head_of(life().shift.filesystem)[0].sha256
    assert memory.boot_id == life().shift.bench.clock.boot_id
    while life().ear.step():
        pass
    assert life().ear.shelf.kept == memory
    first = boots(life().shift.filesystem)[0]
    assert (first.fields["witness"], "witness_seq" in first.fields) == ("absent", False)


@pytest.mark.parametrize("part", range(PARTS))
def test_an_honest_card_is_never_accused_whatever_was_cut_when(part: int) -> None:
    """Nor by any older state of the memory, as when it was slow or failed."""
    chance = random.Random(part)
    starts = 0
    for n, dead in enumerate(life().shift.filesystem.cuts()):
        if n % PARTS != part:
            continue
        may_be = life().remembered_at(n)
        for index, state in enumerate(dead.states_after_cut(limit=2, seed=n)):
            older = chance.sample(may_be, min(len(may_be), 1 - index))
            for memory in dict.fromkeys((*may_be[-1:], *older)):
                again = state.after_kill()
                bench = start(again, memory)
                boot = boots(again)[-1].fields
                assert boot["witness"] == "agrees", (memory, state.origin)
                assert boot["witness_seq"] <= boot["witness_found_seq"]
                assert not of_type(head_of(again), "fault")
                assert "card-forgot" not in bench.daemon.status()["faults"]
                starts += 1
    assert starts > 40


def expected_of(state: CrashFilesystem, memory: Memory) -> tuple[str, int]:
    """From the card's records alone."""
    there = head_of(state)
    if not there:
        return "another-journal", 0
    if memory.seq <= len(there):
        assert there[memory.seq - 1].sha256 == memory.sha256
        return "agrees", len(there)
    return "lost", len(there)


@pytest.mark.parametrize("part", range(PARTS))
def test_a_card_that_lies_is_named_at_every_cut_at_which_it_lost_anything(tmp_path: Path, part: int) -> None:
    filesystem = life().shift.filesystem
    named = 0
    worst = 0
    for first in range(20 + 5 * part, len(filesystem.operations), 20 * PARTS // 2):
        for n in range(first + 1, min(first + 40, len(filesystem.operations)) + 1, 3):
            memory = life().remembered_at(n)[-1]
            dead = filesystem.cut_before(n, without_sync=lying_from(first))
            for state in dead.states_after_cut(limit=3, seed=n):
                outcome, found = expected_of(state, memory)
                bench = start(state, memory)
                boot = boots(state)[-1]
                assert boot.fields["witness"] == outcome, state.origin
                if outcome != "lost":
                    continue
                named += 1
                worst = max(worst, memory.seq - found)
                assert (boot.fields["witness_seq"], boot.fields["witness_found_seq"]) == (memory.seq, found)
                message = bench.daemon.status()["faults"]["card-forgot"]
                faults = [f for f in of_type(head_of(state), "fault") if f["component"] == "card-forgot"]
                assert [fault["message"] for fault in faults] == [message]
                assert Cue.FAULT in [cue for _, cue in bench.panel.played]
                if named % 10 == 1:
                    said = [f for f in verified(state, tmp_path).findings if f.code is Code.CONFIRMED_LOST]
                    (finding,) = said
                    assert finding.severity is Severity.WARN
                    numbers = (
                        f"record {memory.seq}" if memory.seq == found + 1 else f"records {found + 1} to {memory.seq}"
                    )
                    assert numbers in finding.sentence
    assert named > 30
    assert worst > 10


def test_a_card_that_lost_everything_is_another_one_and_no_liar() -> None:
    dead = life().shift.filesystem.cut_before(60, without_sync=lying_from(0))
    state = dead.smallest_state()
    memory = life().remembered_at(60)[-1]
    bench = start(state, memory)
    (boot,) = boots(state)
    assert (boot.fields["witness"], boot.fields["witness_found_seq"]) == ("another-journal", 0)
    assert "card-forgot" not in bench.daemon.status()["faults"]


def lost() -> tuple[CrashFilesystem, Memory]:
    """A card that lost records, before the start that notices it."""
    operations = len(life().shift.filesystem.operations)
    cut = operations - 20
    dead = life().shift.filesystem.cut_before(cut, without_sync=lying_from(cut - 30))
    memory = life().remembered_at(cut)[-1]
    state = dead.smallest_state()
    assert expected_of(state, memory)[0] == "lost"
    return state.after_kill(), memory


def test_the_memory_follows_and_a_loss_is_told_once() -> None:
    state, memory = lost()
    ear = Ear(state, next_boot(life().shift), memory)
    bench = start(state, memory, ear)
    assert bench.recorder is not None
    bench.recorder.close()
    while ear.step():
        pass
    last = head_of(state)[-1]
    assert ear.shelf.kept is not None
    assert (ear.shelf.kept.seq, ear.shelf.kept.sha256) == (last.seq, last.sha256)
    again = start(state, ear.shelf.kept)
    assert boots(state)[-1].fields["witness"] == "agrees"
    assert "card-forgot" not in again.daemon.status()["faults"]
    assert sum(boot.fields["witness"] in ACCUSING for boot in boots(state)) == 1


def test_a_start_that_is_cut_while_it_tells_of_a_loss_neither_hides_it_nor_tells_it_twice() -> None:
    """The memory had not followed yet when power went again."""
    state, memory = lost()
    start(state, memory)
    told = 0
    for n, dead in enumerate(state.cuts()):
        for after in dead.states_after_cut(limit=4, seed=n):
            bench = start(after, memory)
            said = [boot.fields["witness"] for boot in boots(after) if boot.fields.get("witness") != "absent"]
            assert sum(outcome in ACCUSING for outcome in said) == 1, (said, after.origin)
            assert said[-1] in (*ACCUSING, "told")
            told += said[-1] == "told"
            assert "card-forgot" in bench.daemon.status()["faults"]  # the wearer is told as long as it is not followed
    assert told > 10


def test_a_card_set_back_and_used_elsewhere_meanwhile_has_another_record(tmp_path: Path) -> None:
    """Without the memory at hand the camera went on; when it is back, it knows what once stood there."""
    state, memory = lost()
    bench = start(state, None)
    bench.open_camera()
    bench.run_for(3.5)
    bench.record(3)
    bench.record(3)
    assert len(head_of(state)) >= memory.seq
    again = start(state, memory)
    boot = boots(state)[-1].fields
    assert (boot["witness"], boot["witness_seq"]) == ("differs", memory.seq)
    assert "card-forgot" in again.daemon.status()["faults"]
    (finding,) = [f for f in verified(state, tmp_path).findings if f.code is Code.CONFIRMED_LOST]
    assert f"another record {memory.seq} " in finding.sentence


@pytest.mark.parametrize("boots_in_between", [1, 3])
def test_starts_of_which_the_memory_heard_nothing_are_no_loss(boots_in_between: int) -> None:
    """As `bodycam enroll --recipients` with the other medium out, or a memory that could not be written for days."""
    state = life().shift.filesystem.after_kill()
    _, memory = life().ear.heard[-1]
    for number in range(boots_in_between):
        bench = Bench(state, SETTINGS, clock=next_boot(life().shift))
        bench.open_vault()
        assert bench.recorder is not None
        bench.recorder.close()
        assert "witness" not in boots(state)[-1].fields, number
    start(state, memory)
    assert boots(state)[-1].fields["witness"] == "agrees"
