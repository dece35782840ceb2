"""The panel, seen from its pins. Patterns are moved on by a simulated clock; threads only where the thread is meant."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from agent.clock import NS_PER_S, SimulatedClock, SystemClock
from agent.controller.signals import Cue, Indication
from agent.errors import ConfigError, PanelError
from agent.panel.panel import Panel
from agent.panel.pins import BenchFactory
from agent.settings.schema import GpioSettings, PanelSettings, PatternSettings

MS = 1_000_000
RED, GREEN, BLUE, BUZZER, VIBRATION = 22, 23, 24, 25, 27


class Watched:
    """Every change of an output pin, with the simulated time it happened at, in ms from the start."""

    def __init__(self, factory: BenchFactory, clock: SimulatedClock) -> None:
        self.changes: list[tuple[int, int, bool]] = []
        self._clock, self._start_ns = clock, clock.boottime_ns()
        factory.listeners.append(self._changed)

    def _changed(self, pin: int, level: bool) -> None:
        self.changes.append(((self._clock.boottime_ns() - self._start_ns) // MS, pin, level))

    def of(self, pin: int) -> list[int]:
        """Times at which this pin changed: on, off, on …"""
        assert [level for _, at, level in self.changes if at == pin][::2].count(False) == 0
        return [at_ms for at_ms, at, _ in self.changes if at == pin]


@pytest.fixture
def watched(factory: BenchFactory, clock: SimulatedClock) -> Watched:
    return Watched(factory, clock)


@pytest.fixture
def panel(factory: BenchFactory, gpio: GpioSettings, clock: SimulatedClock) -> Iterator[Panel]:
    panel = Panel(gpio, PanelSettings(), factory, clock, threaded=False)
    yield panel
    panel.close()


def pass_time(panel: Panel, clock: SimulatedClock, seconds: float) -> None:
    """What the panel's thread does, at once."""
    end_ns = clock.boottime_ns() + round(seconds * NS_PER_S)
    while (due_ns := panel.advance()) is not None and due_ns <= end_ns:
        assert due_ns > clock.boottime_ns(), "the next change lies ahead, or the thread would spin"
        clock.sleep_until_ns(due_ns)
    clock.sleep_until_ns(end_ns)
    panel.advance()


def lit(factory: BenchFactory) -> set[int]:
    return {pin for pin in (RED, GREEN, BLUE, BUZZER, VIBRATION) if factory.pin(pin).state}


def test_accepted_is_lit_when_show_returns(panel: Panel, factory: BenchFactory) -> None:
    panel.show(Indication.READY)
    assert lit(factory) == {GREEN}
    panel.show(Indication.ACCEPTED)
    assert lit(factory) == {RED}


def test_amber_is_red_and_green_in_step(
    panel: Panel, factory: BenchFactory, clock: SimulatedClock, watched: Watched
) -> None:
    panel.show(Indication.FAULT)
    assert lit(factory) == {RED, GREEN}
    pass_time(panel, clock, 3600)
    assert watched.of(RED) == watched.of(GREEN)
    assert len(watched.of(RED)) > 14_000


def test_ready_blinks_as_the_table_says(panel: Panel, clock: SimulatedClock, watched: Watched) -> None:
    panel.show(Indication.READY)
    pass_time(panel, clock, 4.05)
    assert watched.of(GREEN) == [0, 100, 2000, 2100, 4000]


def test_showing_the_same_again_does_not_restart_the_blink(
    panel: Panel, clock: SimulatedClock, watched: Watched
) -> None:
    for _ in range(40):
        panel.show(Indication.RECORDING)
        pass_time(panel, clock, 0.05)
    assert watched.of(RED) == [0, 500, 1000, 1500, 2000]


def test_a_start_is_two_beeps_and_two_vibrations(panel: Panel, clock: SimulatedClock, watched: Watched) -> None:
    panel.play(Cue.START)
    pass_time(panel, clock, 5)
    assert watched.of(BUZZER) == watched.of(VIBRATION) == [0, 100, 200, 300]


def test_a_cue_is_not_cut_by_what_is_shown(panel: Panel, clock: SimulatedClock, watched: Watched) -> None:
    panel.play(Cue.STOP)
    for indication in (Indication.FINISHING, Indication.READY, Indication.READY):
        pass_time(panel, clock, 0.2)
        panel.show(indication)
    pass_time(panel, clock, 2)
    assert watched.of(BUZZER) == [0, 800]


def test_cues_follow_each_other_with_a_silence_between(panel: Panel, clock: SimulatedClock, watched: Watched) -> None:
    panel.play(Cue.STOP)
    panel.play(Cue.STORAGE_FULL)
    panel.play(Cue.STORAGE_FULL)
    pass_time(panel, clock, 10)
    assert watched.of(BUZZER) == [0, 800, 1100, 1300, 1500, 1700, 1900, 2100]


def test_the_answer_to_a_press_cuts_an_alarm_and_is_heard_apart_from_it(
    panel: Panel, clock: SimulatedClock, watched: Watched
) -> None:
    panel.play(Cue.FAULT)
    panel.play(Cue.CLOCK_UNSET)
    pass_time(panel, clock, 0.4)
    panel.play(Cue.REFUSED)
    pass_time(panel, clock, 0)
    assert watched.of(BUZZER) == [0, 400]
    pass_time(panel, clock, 10)
    assert watched.of(BUZZER)[2] == 700
    assert len(watched.of(BUZZER)) == 2 + 2 * 8


def test_a_repeated_alarm_does_not_pile_up(panel: Panel, clock: SimulatedClock, watched: Watched) -> None:
    for _ in range(100):
        panel.play(Cue.FAULT)
    pass_time(panel, clock, 60)
    assert len(watched.of(BUZZER)) == 2 * 3


def test_a_silent_cue_does_not_hold_up_the_next(
    factory: BenchFactory, gpio: GpioSettings, clock: SimulatedClock, watched: Watched
) -> None:
    settings = PanelSettings(patterns={"marker": PatternSettings()})
    panel = Panel(gpio, settings, factory, clock, threaded=False)
    panel.play(Cue.MARKER)
    panel.play(Cue.STOP)
    pass_time(panel, clock, 5)
    assert watched.of(BUZZER) == [0, 800]
    panel.close()


@pytest.mark.parametrize("only", ["led_red_pin", "led_green_pin", "led_blue_pin"])
def test_with_one_led_every_indication_still_shows(factory: BenchFactory, clock: SimulatedClock, only: str) -> None:
    pins = {"led_red_pin": -1, "led_green_pin": -1, "led_blue_pin": -1, "buzzer_pin": -1, "vibration_pin": -1, only: 4}
    gpio = replace(GpioSettings(factory="mock"), **pins)  # type: ignore[arg-type]  # all of them are numbers
    panel = Panel(gpio, PanelSettings(), factory, clock, threaded=False)
    seen = []
    for indication in Indication:
        panel.show(indication)
        seen.append(bool(factory.pin(4).state))
        panel.play(Cue.START)
        pass_time(panel, clock, 10)
    assert all(seen)
    panel.close()


def test_nothing_fitted_shows_nothing_and_does_no_harm(factory: BenchFactory, clock: SimulatedClock) -> None:
    gpio = GpioSettings("mock", led_red_pin=-1, led_green_pin=-1, led_blue_pin=-1, buzzer_pin=-1, vibration_pin=-1)
    panel = Panel(gpio, PanelSettings(), factory, clock, threaded=False)
    panel.show(Indication.RECORDING)
    panel.play(Cue.START)
    pass_time(panel, clock, 5)
    panel.check()
    panel.close()


def test_close_turns_all_off_and_gives_the_pins_back(
    factory: BenchFactory, gpio: GpioSettings, clock: SimulatedClock
) -> None:
    for _ in range(2):
        panel = Panel(gpio, PanelSettings(), factory, clock, threaded=False)
        panel.show(Indication.FAULT)
        panel.play(Cue.STOP)
        assert lit(factory) == {RED, GREEN, BUZZER, VIBRATION}
        panel.close()
        panel.close()
        panel.show(Indication.READY)
        panel.play(Cue.STOP)
        assert lit(factory) == set()


def test_wrong_pins_and_patterns_leave_nothing_claimed(
    factory: BenchFactory, gpio: GpioSettings, clock: SimulatedClock
) -> None:
    with pytest.raises(PanelError, match="buzzer_pin = 22 is already used") as kept:
        Panel(replace(gpio, buzzer_pin=RED), PanelSettings(), factory, clock)
    with pytest.raises(PanelError, match="vibration_pin = 50 is an unknown pin"):
        Panel(replace(gpio, vibration_pin=50), PanelSettings(), factory, clock)
    with pytest.raises(ConfigError, match="expected"):
        Panel(gpio, PanelSettings(patterns={"ready": PatternSettings(light="blink")}), factory, clock)
    # The exception still holds the half-made panel, so it is not the garbage collector that gave the pins back.
    Panel(gpio, PanelSettings(), factory, clock, threaded=False).close()
    assert kept.value


def test_a_part_that_cannot_be_switched_stops_nothing_and_is_told_until_it_works(
    panel: Panel, factory: BenchFactory, clock: SimulatedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    buzzer = factory.pin(BUZZER)

    def broken(_value: bool) -> bool:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(buzzer, "_change_state", broken)
        panel.show(Indication.RECORDING)
        panel.play(Cue.STOP)
        assert lit(factory) == {RED, VIBRATION}
        with pytest.raises(PanelError, match=r"buzzer.*Input/output error"):
            panel.check()
        pass_time(panel, clock, 1)
    # By now the buzzer is meant to be silent again, which it is already thought to be.
    pass_time(panel, clock, 2)
    panel.check()
    assert BUZZER not in lit(factory)


def test_the_thread_moves_patterns_on_and_survives_what_goes_wrong(
    factory: BenchFactory, gpio: GpioSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    dark = threading.Event()
    factory.listeners.append(lambda pin, level: dark.set() if pin == GREEN and not level else None)
    panel = Panel(gpio, PanelSettings(), factory, SystemClock())
    panel.show(Indication.READY)
    assert dark.wait(20), "the green flash ends by itself"
    panel.check()

    told = threading.Event()

    def broken() -> int:
        told.set()
        raise RuntimeError("a bug in the patterns")

    with monkeypatch.context() as patch:
        patch.setattr(panel, "_switch", broken)
        with panel._turn:
            panel._turn.notify()
        assert told.wait(20)
        with pytest.raises(PanelError, match="a bug in the patterns"):
            panel.check()
    panel.close()
    assert panel._thread is not None
    assert not panel._thread.is_alive()


def test_show_switches_the_pin_itself_and_leaves_it_to_no_other_thread(
    factory: BenchFactory, gpio: GpioSettings
) -> None:
    """How long it takes is the benchmark's to say: what no machine may change is that nothing is waited for."""
    switched: list[tuple[int, bool, int]] = []
    factory.listeners.append(lambda pin, level: switched.append((pin, level, threading.get_ident())))
    panel = Panel(gpio, PanelSettings(), factory, SystemClock())
    for _ in range(50):
        panel.show(Indication.READY)
        panel.play(Cue.STOP)
        switched.clear()
        panel.show(Indication.ACCEPTED)
        seen = list(switched)
        assert [change for change in seen if change[0] == RED] == [(RED, True, threading.get_ident())]
        assert len(seen) <= 5, "each output is switched once at most"
    panel.close()


def test_a_thread_that_ended_is_noticed(
    factory: BenchFactory, gpio: GpioSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    panel = Panel(gpio, PanelSettings(), factory, SystemClock())
    with monkeypatch.context() as patch:
        patch.setattr(panel._thread, "is_alive", lambda: False)
        with pytest.raises(PanelError, match="has ended"):
            panel.check()
    panel.close()
