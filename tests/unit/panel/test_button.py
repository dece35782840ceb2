"""Press the pin, see the edge: right way round, at the kernel's time, and never lost without a word."""

from __future__ import annotations

import pytest

from agent.clock import NS_PER_S, SimulatedClock
from agent.controller.gestures import GestureKind, GestureState, step
from agent.errors import PanelError
from agent.panel.button import ButtonInput, edge_time_ns, open_trigger_inputs
from agent.panel.pins import BenchFactory
from agent.settings.schema import GestureSettings, GpioSettings


class Edges(list[tuple[bool, int]]):
    def __call__(self, pressed: bool, at_ns: int) -> None:
        self.append((pressed, at_ns))


class Ticking:
    """The part of a pin factory that tells time, one second at a time."""

    def __init__(self, now_s: float) -> None:
        self.now_s = now_s

    def ticks(self) -> float:
        return self.now_s

    @staticmethod
    def ticks_diff(later: float, earlier: float) -> float:
        return later - earlier


@pytest.mark.parametrize("pull_up", [True, False])
def test_pressing_the_pin_is_a_press_however_it_is_wired(
    factory: BenchFactory, clock: SimulatedClock, pull_up: bool
) -> None:
    edges = Edges()
    button = ButtonInput(factory, 17, pull_up, edges, clock)
    pin = factory.pin(17)
    press, release = (pin.drive_low, pin.drive_high) if pull_up else (pin.drive_high, pin.drive_low)
    levels = [button.pressed]
    press()
    levels.append(button.pressed)
    release()
    assert levels == [False, True]
    assert [pressed for pressed, _ in edges] == [True, False]
    button.check()
    button.close()
    button.close()
    press()
    assert len(edges) == 2


def test_pressed_pins_make_gestures(factory: BenchFactory, clock: SimulatedClock) -> None:
    edges = Edges()
    button = ButtonInput(factory, 17, True, edges, clock)
    for level in (False, True, False):
        clock.advance_ns(NS_PER_S // 10)
        (factory.pin(17).drive_high if level else factory.pin(17).drive_low)()
    state, found = GestureState(), []
    for pressed, at_ns in edges:
        state, gestures = step(state, GestureSettings(), at_ns, pressed, at_ns)
        found += [gesture.kind for gesture in gestures]
    assert found == [GestureKind.DOUBLE]
    button.close()


def test_an_edge_is_dated_when_the_kernel_saw_it(clock: SimulatedClock) -> None:
    # A suspend lies between: CLOCK_BOOTTIME is 100 s here and CLOCK_MONOTONIC 60 s. Only the age counts.
    assert edge_time_ns(Ticking(60.0), clock, 59.875) == clock.boottime_ns() - NS_PER_S // 8


@pytest.mark.parametrize("ticks", [60.5, -1e9, 1.79e9])
def test_an_age_that_cannot_be_is_no_age(clock: SimulatedClock, ticks: float) -> None:
    assert edge_time_ns(Ticking(60.0), clock, ticks) == clock.boottime_ns()


def test_the_time_of_the_pin_is_used_and_not_that_of_the_call(clock: SimulatedClock, factory: BenchFactory) -> None:
    edges = Edges()
    button = ButtonInput(factory, 17, True, edges, clock)
    button._changed(factory.ticks() - 2.0, 0)  # what lgpio's thread does when it comes late
    age_ns = clock.boottime_ns() - edges[0][1]
    assert 2 * NS_PER_S <= age_ns < 3 * NS_PER_S
    button.close()


def test_a_handover_that_fails_is_told(factory: BenchFactory, clock: SimulatedClock) -> None:
    def full(_pressed: bool, _at_ns: int) -> None:
        raise OverflowError("queue full")

    button = ButtonInput(factory, 17, True, full, clock)
    factory.pin(17).drive_low()
    with pytest.raises(PanelError, match="queue full"):
        button.check()
    button.close()


def test_trigger_inputs_say_which_pin_was_activated(
    factory: BenchFactory, clock: SimulatedClock, gpio: GpioSettings
) -> None:
    seen: list[int] = []
    inputs = open_trigger_inputs(factory, gpio, lambda pin, _at_ns: seen.append(pin), clock)
    factory.pin(6).drive_low()
    factory.pin(5).drive_low()
    factory.pin(6).drive_high()
    assert seen == [6, 5]
    for opened in inputs:
        opened.check()
        opened.close()


def test_a_relay_that_bounces_is_one_activation(
    factory: BenchFactory, clock: SimulatedClock, gpio: GpioSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    start_ns, seen = clock.boottime_ns(), list[int]()
    monkeypatch.setattr("agent.panel.button.edge_time_ns", lambda _factory, clock, _ticks: clock.boottime_ns())
    inputs = open_trigger_inputs(
        factory, gpio, lambda _pin, at_ns: seen.append(at_ns - start_ns), clock, debounce_ms=20
    )
    pin, ms = factory.pin(5), 1_000_000
    for at_ms in (0, 2, 3, 7, 9, 500, 501, 502, 515, 516, 600, 601, 602):
        clock.sleep_until_ns(start_ns + at_ms * ms)
        (pin.drive_high if pin.state is False else pin.drive_low)()
    assert seen == [0, 600 * ms]
    for opened in inputs:
        opened.check()
        opened.close()


def test_trigger_inputs_open_all_or_none(factory: BenchFactory, clock: SimulatedClock) -> None:
    settings = GpioSettings(trigger_input_pins=(5, 60))
    with pytest.raises(PanelError, match="trigger_input_pins = 60 is an unknown pin") as kept:
        open_trigger_inputs(factory, settings, lambda *_: None, clock)
    ButtonInput(factory, 5, True, Edges(), clock).close()
    assert kept.value
