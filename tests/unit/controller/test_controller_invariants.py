"""What must hold of the controller whatever happens in whatever order, over long random lives.

A life is a seeded walk: probable orders (frames, presses, fragments that follow starts) mixed with impossible ones
(fragments of recordings that never were, streams that end twice, clocks that leap). The watcher keeps its own account
of what was asked for and compares it with every step.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from agent.clock import NS_PER_MS, NS_PER_S
from agent.controller import controller
from agent.controller.controller import STOP_TIMEOUT_NS
from agent.controller.effects import (
    Effect,
    EndStream,
    Exit,
    MarkRecording,
    Play,
    Show,
    StartRecording,
    StopRecording,
)
from agent.controller.events import (
    ButtonEdge,
    CardForgot,
    Event,
    FragmentDurable,
    InputActivated,
    MicrophoneFailed,
    MicrophoneRestored,
    RecordingClosed,
    ResumeWanted,
    StorageFailed,
    StorageMeasured,
    StorageRestored,
    StreamEnded,
    StreamSigned,
    StreamStarted,
    StreamUnsigned,
    TerminationAsked,
    Tick,
)
from agent.controller.signals import Cue, Indication
from agent.controller.state import ControllerState, indication
from agent.settings.rate import recording_bytes_per_s
from tests.unit.controller.drive import SETTINGS

RATE = recording_bytes_per_s(SETTINGS)
MINUTE_BYTES = 60 * RATE
STALL_NS = SETTINGS.camera.stall_ms * NS_PER_MS
DURABLE_NS = SETTINGS.recording.durable_timeout_ms * NS_PER_MS
REPEAT_NS = SETTINGS.panel.fault_repeat_s * NS_PER_S
REMINDER_NS = SETTINGS.panel.reminder_s * NS_PER_S


@dataclass
class Watcher:
    """Takes every step and raises AssertionError at the first that breaks an invariant."""

    state: ControllerState = field(default_factory=ControllerState)
    now_ns: int = 100 * NS_PER_S
    shown: Indication | None = None
    started: dict[int, int] = field(default_factory=dict)
    stopped: dict[int, str] = field(default_factory=dict)
    closed: set[int] = field(default_factory=set)
    durable_ns: dict[int, int] = field(default_factory=dict)
    storage_fault: bool = False
    full: bool = False
    terminated_ns: int | None = None
    alerted_ns: int | None = None
    reminded_ns: int = 0
    exit: Exit | None = None
    was_stopping: bool = False
    seen: set[Indication] = field(default_factory=set)

    def send(self, event: Event) -> tuple[Effect, ...]:
        """One step, checked."""
        before = self.state
        self.was_stopping = before.stopping is not None
        self._account(event)
        self.state, effects = controller.step(before, SETTINGS, event, self.now_ns)
        assert self.exit is None or (effects == () and self.state == before), "something came after Exit"
        for effect in effects:
            self._take(effect)
        if self.exit is None or effects:
            self._check(event, before, effects)
        return effects

    def _account(self, event: Event) -> None:
        match event:
            case StorageFailed():
                self.storage_fault = True
            case StorageRestored():
                self.storage_fault = False
            case StorageMeasured(spare_bytes) if self.exit is None:
                self.full = spare_bytes == 0
            case FragmentDurable(number) if number in self.started and number not in self.stopped:
                self.durable_ns[number] = self.now_ns
            case RecordingClosed(number):
                self.closed.add(number)
            case TerminationAsked() if self.terminated_ns is None:
                self.terminated_ns = self.now_ns

    @property
    def running(self) -> list[int]:
        """Recordings started and not stopped."""
        return [number for number in self.started if number not in self.stopped]

    def _take(self, effect: Effect) -> None:
        assert self.exit is None, "Exit was not the last effect"
        match effect:
            case StartRecording(number):
                assert not self.full, "a recording began that has no room"
                assert number not in self.started, "a number was used twice"
                assert not self.running, "two recordings run at once"
                # The same tick may find a press and, after it, that the camera hangs.
                assert not self.was_stopping, "a recording began while stopping"
                if isinstance(effect.linked_from, int):
                    assert effect.linked_from in self.stopped
                self.started[number] = self.now_ns
                self.reminded_ns = self.now_ns
                self.closed.discard(number)
            case StopRecording(number, _, reason):
                assert number in self.started, "what was never started was stopped"
                assert number not in self.stopped, "a recording was stopped twice"
                self.stopped[number] = reason
                self.closed.discard(number)
            case MarkRecording(number):
                assert number in self.running, "a marker for nothing"
            case EndStream():
                assert not self.running, "a stream was given up under a running recording"
            case Show(shown):
                assert shown is not self.shown, "the same was shown twice"
                self.shown = shown
                self.seen.add(shown)
                self.alerted_ns = None
            case Play(Cue.REMINDER):
                assert self.running
                assert self.now_ns - self.reminded_ns >= REMINDER_NS
                self.reminded_ns = self.now_ns
            case Exit():
                self.exit = effect
            case _:
                pass

    def _check(self, event: Event, before: ControllerState, effects: tuple[Effect, ...]) -> None:
        state, now_ns = self.state, self.now_ns
        assert sum(isinstance(effect, Show) for effect in effects) == (state.shown is not before.shown)
        assert state.shown is self.shown is indication(state, SETTINGS, now_ns)
        assert [state.active.number] == self.running if state.active else not self.running
        assert state.finishing <= self.stopped.keys(), "what is finishing was never started"
        assert state.finishing == self.stopped.keys() - self.closed
        assert state.active is None or state.pending is None
        if self.shown is Indication.RECORDING:
            (number,) = self.running
            assert now_ns - self.durable_ns[number] <= DURABLE_NS
        if self.shown is Indication.READY:
            assert state.streaming
            assert state.frames_fresh
            assert not state.finishing
            assert not self.running
            assert not self.storage_fault
            assert not self.full
            assert state.camera_fault is None
        if self.shown in (Indication.FAULT, Indication.RECORDING_UNSAFE):
            self._check_alert(effects)
        elif not isinstance(event, MicrophoneFailed | StreamUnsigned | CardForgot):
            assert Play(Cue.FAULT) not in effects, "an alert without a fault"
        if self.running:
            assert now_ns - self.reminded_ns < REMINDER_NS, "a reminder is missing"
        told = MicrophoneFailed | StreamUnsigned | CardForgot
        if isinstance(event, StorageFailed | StorageRestored | FragmentDurable | told):
            assert not any(isinstance(effect, StartRecording | StopRecording) for effect in effects)
        if isinstance(event, StorageMeasured):
            assert not any(isinstance(effect, StartRecording) for effect in effects)
            reasons = [effect.reason for effect in effects if isinstance(effect, StopRecording)]
            assert reasons == (["storage-full"] if before.active is not None and self.full else [])
        if isinstance(event, InputActivated):
            self._check_input(event, before, effects)
        if isinstance(event, ButtonEdge):
            # Without time passing up to the edge there is no hold in it; a press is never a stop.
            stops = [effect for effect in effects if isinstance(effect, StopRecording)]
            assert all(stop.stop_ns <= max(event.edge_ns, before.gesture.contact.raw_edge_ns) for stop in stops)
        self._check_end(effects)

    def _check_alert(self, effects: tuple[Effect, ...]) -> None:
        alerted = Play(Cue.FAULT) in effects
        if self.alerted_ns is None:
            assert alerted, "a fault without a sound"
        if alerted:
            self.alerted_ns = self.now_ns
        assert self.alerted_ns is not None
        assert self.now_ns - self.alerted_ns < REPEAT_NS, "an alert was not repeated"

    def _check_input(self, event: InputActivated, before: ControllerState, effects: tuple[Effect, ...]) -> None:
        starts = [effect for effect in effects if isinstance(effect, StartRecording)]
        if before.streaming and before.stopping is None and not starts and not self.full:
            assert any(isinstance(effect, MarkRecording) for effect in effects)
        for start in starts:
            if start.source == "button":
                continue  # a press that had been undecided until the time of this event
            assert start.trigger_ns == event.at_ns
            if before.frames_fresh:
                assert self.shown is Indication.ACCEPTED

    def _check_end(self, effects: tuple[Effect, ...]) -> None:
        exits = [effect for effect in effects if isinstance(effect, Exit)]
        if self.state.stopping is None:
            assert not exits
            return
        assert self.shown is Indication.STOPPING
        idle = not self.running and not self.state.finishing
        if exits:
            assert exits == [Exit(self.state.stopping, self.state.stop_clean and idle)]
            assert idle or self.now_ns - self.state.stopping_ns > STOP_TIMEOUT_NS
        else:
            assert not idle
            assert self.now_ns - self.state.stopping_ns <= STOP_TIMEOUT_NS


class Life:
    """Random events for a watcher, with the world behind them: a camera, a card, a thumb."""

    def __init__(self, rng: random.Random, *, wild: bool) -> None:
        self.rng = rng
        self.wild = wild
        self.watcher = Watcher()
        self.newest_ns: int | None = None
        self.hung = False
        self.pressed = False

    def live(self, steps: int) -> Watcher:
        """That many events, or until Exit and some more."""
        for _ in range(steps):
            self.watcher.now_ns += self._pause_ns()
            self.watcher.send(self._event())
        return self.watcher

    def _pause_ns(self) -> int:
        return (
            self.rng.choices(
                [0, self.rng.randrange(30), self.rng.randrange(400), self.rng.randrange(20_000)], [3, 4, 6, 0.3]
            )[0]
            * NS_PER_MS
        )

    def _event(self) -> Event:
        rng, now_ns, state = self.rng, self.watcher.now_ns, self.watcher.state
        pick = rng.random()
        if pick < 0.35:
            return self._tick()
        if pick < 0.65:
            self.pressed = not self.pressed
            late_ns = rng.choice([0, 0, 0, rng.randrange(50), rng.randrange(3000)]) * NS_PER_MS
            return ButtonEdge(self.pressed if rng.random() < 0.95 else not self.pressed, now_ns - late_ns)
        if pick < 0.83 and state.active is not None:
            return FragmentDurable(state.active.number)
        if pick < 0.90 and state.finishing:
            return RecordingClosed(rng.choice(sorted(state.finishing)))
        return self._rare()

    def _tick(self) -> Tick:
        state = self.watcher.state
        if self.rng.random() < 0.02:
            self.hung = not self.hung
        if state.streaming and not self.hung:
            self.newest_ns = self.watcher.now_ns - self.rng.randrange(80) * NS_PER_MS
        button = self.rng.choice([None, self.pressed, self.pressed]) if self.rng.random() < 0.98 else not self.pressed
        return Tick(self.newest_ns if state.streaming or self.wild else None, button)

    def _rare(self) -> Event:
        rng, now_ns, state = self.rng, self.watcher.now_ns, self.watcher.state
        events: list[Event] = [
            StreamEnded("gone", self.newest_ns) if state.streaming else StreamStarted(),
            StreamStarted() if not state.streaming else InputActivated(4, now_ns),
            StorageFailed("EIO"),
            StorageRestored(),
            (MicrophoneFailed("none"), StreamUnsigned("hung"), CardForgot("lost"))[state.next_number % 3],
            MicrophoneRestored() if state.next_number % 2 else StreamSigned(3),
            ResumeWanted("earlier"),
            StorageMeasured(rng.choice([0, 20, 45, *[200] * 9]) * MINUTE_BYTES, rng.choice([None, RATE])),
            InputActivated(rng.randrange(4), now_ns - rng.randrange(30) * NS_PER_MS),
        ]
        if rng.random() < 0.01:
            return TerminationAsked()
        if self.watcher.full and rng.random() < 0.5:
            return StorageMeasured(200 * MINUTE_BYTES, RATE)  # somebody makes room, or nothing more would happen
        if self.wild:
            number = rng.randrange(state.next_number + 2)
            events += [
                StreamEnded("again", None),
                StreamStarted(),
                FragmentDurable(number),
                InputActivated(9, rng.randrange(10**12)),
                ButtonEdge(rng.random() < 0.5, rng.randrange(10**12)),
            ]
            if number not in self.watcher.running:
                events.append(RecordingClosed(number))
        event = rng.choice(events)
        if isinstance(event, StreamStarted):
            self.hung = False
            self.newest_ns = now_ns
        return event


@pytest.mark.parametrize("wild", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_long_lives(seed: int, wild: bool) -> None:
    rng = random.Random(seed)
    recordings = exits = 0
    reasons: set[str] = set()
    shown: set[Indication] = set()
    for _ in range(12):
        watcher = Life(rng, wild=wild).live(2500)
        shown |= watcher.seen
        recordings += len(watcher.started)
        reasons |= set(watcher.stopped.values())
        exits += watcher.exit is not None
    # The walk has seen what it was made for.
    assert recordings > 40
    assert reasons >= {"button", "camera-lost"}
    assert shown == set(Indication)
    assert exits > 0


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32), wild=st.booleans())
def test_any_life(seed: int, wild: bool) -> None:
    Life(random.Random(seed), wild=wild).live(300)


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32), steps=st.integers(0, 250))
def test_after_termination_there_is_one_exit_whatever_was_going_on(seed: int, steps: int) -> None:
    life = Life(random.Random(seed), wild=False)
    watcher = life.live(steps)
    assume(watcher.state.stopping is None)  # a life may have ended by itself, and late
    watcher.send(TerminationAsked())
    stop_ns = watcher.now_ns
    while watcher.exit is None and watcher.now_ns < stop_ns + STOP_TIMEOUT_NS + NS_PER_S:
        for number in sorted(watcher.state.finishing):
            watcher.send(RecordingClosed(number))
        watcher.now_ns += 100 * NS_PER_MS
        watcher.send(Tick(None))
    assert watcher.exit is not None
    assert watcher.exit.clean or watcher.state.stop_clean is False
    assert watcher.now_ns - stop_ns < NS_PER_S or not watcher.state.stop_clean


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32), steps=st.integers(0, 250))
def test_after_termination_a_dead_card_is_left_after_the_timeout(seed: int, steps: int) -> None:
    watcher = Life(random.Random(seed), wild=False).live(steps)
    if watcher.state.stopping is not None:
        return
    watcher.send(TerminationAsked())
    stuck = bool(watcher.state.finishing)
    stop_ns = watcher.state.stopping_ns
    while not watcher.state.exited:
        watcher.now_ns += 100 * NS_PER_MS
        assert watcher.now_ns <= stop_ns + STOP_TIMEOUT_NS + 200 * NS_PER_MS
        watcher.send(Tick(None))
    assert watcher.exit is not None
    assert watcher.exit.clean is (not stuck and watcher.state.stop_clean)


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 2**32))
def test_a_thumb_that_only_holds_starts_nothing_and_one_that_only_doubles_stops_nothing(seed: int) -> None:
    for doubles in (False, True):
        rng = random.Random(seed)
        watcher = Watcher()
        watcher.send(StreamStarted())
        for _ in range(20):
            spans_ms = (rng.randint(30, 150), rng.randint(30, 150), 300) if doubles else (rng.randint(1050, 5000),)
            level = True
            for span_ms in spans_ms:
                watcher.send(ButtonEdge(level, watcher.now_ns))
                _let_pass(watcher, span_ms)
                level = not level
            watcher.send(ButtonEdge(False, watcher.now_ns))
            _let_pass(watcher, rng.randint(500, 5000))
        assert len(watcher.started) == (1 if doubles else 0)
        assert watcher.stopped == {}


def _let_pass(watcher: Watcher, span_ms: int) -> None:
    end_ns = watcher.now_ns + span_ms * NS_PER_MS
    while watcher.now_ns < end_ns:
        due_ns = controller.next_deadline_ns(watcher.state, SETTINGS)
        regular_ns = watcher.now_ns + 100 * NS_PER_MS
        next_ns = regular_ns if due_ns is None else min(regular_ns, max(due_ns, watcher.now_ns + 1))
        watcher.now_ns = min(next_ns, end_ns)
        watcher.send(Tick(watcher.now_ns))
        for number in watcher.running:
            watcher.send(FragmentDurable(number))
