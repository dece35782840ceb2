"""Button and trigger inputs: raw edges with the time at which the kernel saw them.

No debounce is asked of gpiozero: lgpio's reports an edge only after the line was stable that long, which is latency,
and the mock factory ignores it. Bounce is dealt with in `agent.controller.contact`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gpiozero import InputDevice

from agent.clock import NS_PER_MS, NS_PER_S, Clock
from agent.controller.contact import ContactState, feel, settle
from agent.errors import PanelError
from agent.panel.pins import claim
from agent.settings.schema import GestureSettings, GpioSettings

_OLDEST_EDGE_NS = 60 * NS_PER_S

OnEdge = Callable[[bool, int], None]


class ButtonInput:
    """One contact between a pin and ground (pull_up) or a pin and 3.3 V.

    on_edge: called with (pressed, boot time of the edge in ns) for every raw edge, by the thread that reads edges for
    all pins. It must only hand over: no waiting, no work. If it raises, that is kept for `check`, because an exception
    let through would end lgpio's only notification thread, and every button with it, without a word.
    """

    def __init__(
        self, factory: Any, pin: int, pull_up: bool, on_edge: OnEdge, clock: Clock, key: str = "record_button_pin"
    ) -> None:
        """Claim the pin. Raises PanelError if it is unknown or in use."""
        self._factory = factory
        self._on_edge = on_edge
        self._clock = clock
        self._key = key
        self._failure: str | None = None
        self.pin = pin
        self._pressed_level = not pull_up
        self._device = claim(InputDevice, pin, key, factory, pull_up=pull_up)
        # gpiozero keeps a weak reference to this method: the edges end if this object is dropped.
        self._device.pin.when_changed = self._changed

    @property
    def pressed(self) -> bool:
        """The raw level of the pin now, bounce and all; for `agent.controller.gestures.resync`."""
        return bool(self._device.pin.state) == self._pressed_level

    def check(self) -> None:
        """Raise PanelError if edges have been lost or can no longer come."""
        if self._failure is not None:
            raise PanelError(
                f"[gpio] {self._key}: an edge could not be handed over ({self._failure}). Restart bodycam."
            )
        if not _edges_are_read(self._factory):
            raise PanelError(f"[gpio] {self._key}: the thread that reads edges has ended. Restart bodycam.")

    def close(self) -> None:
        """Stop the edges and give the pin back; again does nothing."""
        if not self._device.closed:
            self._device.pin.when_changed = None
            self._device.close()

    def _changed(self, ticks: float, state: int) -> None:
        try:
            self._on_edge(bool(state) == self._pressed_level, edge_time_ns(self._factory, self._clock, ticks))
        except Exception as problem:  # noqa: BLE001  # kept for check(); see the class
            self._failure = repr(problem)


def edge_time_ns(factory: Any, clock: Clock, ticks: float) -> int:
    """Boot time of an edge from gpiozero's ticks.

    With lgpio, ticks are the kernel's time of the edge, CLOCK_MONOTONIC in seconds (GPIO uAPI v2, the default event
    clock); with mock pins `time.monotonic()`; and `factory.ticks()` is the same clock now. Only the age is taken from
    it: CLOCK_MONOTONIC stands still in suspend and CLOCK_BOOTTIME does not. An age that cannot be (before 5.7 kernels
    stamped edges with wall time) counts as no age: late by microseconds instead of wrong by decades.
    """
    age_ns = round(float(factory.ticks_diff(factory.ticks(), ticks)) * NS_PER_S)
    now_ns = clock.boottime_ns()
    return now_ns - age_ns if 0 <= age_ns <= _OLDEST_EDGE_NS else now_ns


class TriggerInput(ButtonInput):
    """A contact that starts a recording: holster, door, light bar, radio emergency.

    on_active: called with (pin, boot time in ns) once for each activation, bounce left out. A contact that is closed
    when the camera starts has no edge and starts nothing.
    """

    def __init__(
        self,
        factory: Any,
        pin: int,
        pull_up: bool,
        on_active: Callable[[int, int], None],
        clock: Clock,
        debounce_ms: int,
    ) -> None:
        """Claim the pin. Raises PanelError if it is unknown or in use."""
        self._on_active = on_active
        self._debounce_ns = debounce_ms * NS_PER_MS
        self._contact = ContactState()
        super().__init__(factory, pin, pull_up, self._feel, clock, key="trigger_input_pins")

    def _feel(self, active: bool, at_ns: int) -> None:
        # No timer is needed: only activations matter, they count at their first edge, and whether the contact had
        # been open for long enough before can be decided when that edge is there.
        while self._contact.settle_ns is not None and self._contact.settle_ns <= at_ns:
            self._contact, _ = settle(self._contact, self._debounce_ns)
        self._contact, change = feel(self._contact, self._debounce_ns, at_ns, active, at_ns)
        if change is not None and change.pressed:
            self._on_active(self.pin, change.at_ns)


def open_trigger_inputs(
    factory: Any,
    settings: GpioSettings,
    on_active: Callable[[int, int], None],
    clock: Clock,
    debounce_ms: int = GestureSettings().debounce_ms,
) -> tuple[TriggerInput, ...]:
    """An input for each of [gpio] trigger_input_pins, wired like the button; all of them, or none and PanelError."""
    inputs: list[TriggerInput] = []
    try:
        for pin in settings.trigger_input_pins:
            inputs.append(TriggerInput(factory, pin, settings.button_pull_up, on_active, clock, debounce_ms))
    except PanelError:
        for opened in inputs:
            opened.close()
        raise
    return tuple(inputs)


def _edges_are_read(factory: Any) -> bool:
    if type(factory).__name__ != "LGPIOFactory":
        return True  # mock pins call from whichever thread drives them
    import lgpio

    return bool(lgpio._notify_thread.is_alive())
