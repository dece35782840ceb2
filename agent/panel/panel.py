"""Lights, buzzer and vibration: what the wearer sees, hears and feels.

One thread moves all patterns on, by the boot clock. gpiozero's own background blink is not used: it starts a thread for
each device and blink whose death nobody notices, leaves the first switching to that thread instead of doing it before
it returns, and lets the red and green of an amber blink drift apart.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from gpiozero import LED, Buzzer, DigitalOutputDevice

from agent.clock import NS_PER_MS, NS_PER_S, Clock
from agent.controller.signals import Cue, Indication
from agent.errors import PanelError
from agent.panel.patterns import Channel, CuePattern, Light, load_patterns
from agent.panel.pins import claim
from agent.settings.schema import GpioSettings, PanelSettings

_log = logging.getLogger(__name__)

_GAP_NS = 300 * NS_PER_MS
"""Silence between two cues, so that two and two beeps are not counted as four."""
_RETRY_NS = NS_PER_S
_ANSWERS = frozenset({Cue.START, Cue.STOP, Cue.MARKER, Cue.REFUSED})
"""Cues that answer a press: they go before those that merely tell, and cut them short."""


@dataclass(frozen=True, slots=True)
class _Playing:
    cue: Cue
    pattern: CuePattern
    start_ns: int

    @property
    def end_ns(self) -> int:
        return self.start_ns + self.pattern.length_ns


class Panel:
    """The fitted parts of the panel; pins of -1 are not fitted and simply missing from what is shown.

    `show` and `play` may be called from any thread, never wait for a pattern, and never raise for hardware that fails:
    a dead buzzer must not stop a recording. A failure is logged once, tried again, and raised by `check`.
    """

    def __init__(
        self, gpio: GpioSettings, settings: PanelSettings, factory: Any, clock: Clock, *, threaded: bool = True
    ) -> None:
        """Claim the pins, all dark and silent.

        threaded: False for a caller that moves the patterns on itself, by `advance`.
        Raises PanelError for an unknown or doubly used pin, ConfigError for patterns that cannot be shown.
        """
        self._clock = clock
        self._turn = threading.Condition()
        self._closed = False
        self._outputs: dict[str, Any] = {}
        self._levels: dict[str, bool] = {}
        self._failures: dict[str, str] = {}
        self._indication: Indication | None = None
        self._light = Light()
        self._light_since_ns = 0
        self._playing: _Playing | None = None
        self._waiting: deque[Cue] = deque()
        self._quiet_until_ns = 0
        leds = {
            Channel.RED: gpio.led_red_pin,
            Channel.GREEN: gpio.led_green_pin,
            Channel.BLUE: gpio.led_blue_pin,
        }
        self.fitted = frozenset(channel for channel, pin in leds.items() if pin >= 0)
        self._patterns = load_patterns(settings, self.fitted)
        parts: list[tuple[str, type[Any], int]] = [
            *((f"led_{channel.value}", LED, pin) for channel, pin in leds.items()),
            ("buzzer", Buzzer, gpio.buzzer_pin),
            ("vibration", DigitalOutputDevice, gpio.vibration_pin),
        ]
        try:
            for name, device, pin in parts:
                if pin >= 0:
                    self._outputs[name] = claim(device, pin, f"{name}_pin", factory)
                    self._levels[name] = False
        except PanelError:
            self._release()
            raise
        self._thread = threading.Thread(target=self._run, name="panel", daemon=True) if threaded else None
        if self._thread is not None:
            self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def show(self, indication: Indication) -> None:
        """Switch the lights, before returning. The indication that is already shown goes on undisturbed."""
        with self._turn:
            if self._closed or indication is self._indication:
                return
            self._indication = indication
            self._light = self._patterns.lights[indication]
            self._light_since_ns = self._clock.boottime_ns()
            self._switch()
            self._turn.notify()

    def play(self, cue: Cue) -> None:
        """Sound a cue now, or after those that go before it; one that already waits is not queued twice."""
        with self._turn:
            if self._closed:
                return
            now_ns = self._clock.boottime_ns()
            if cue in _ANSWERS:
                self._waiting = deque(waiting for waiting in self._waiting if waiting in _ANSWERS)
                if self._playing is not None and self._playing.cue not in _ANSWERS:
                    self._playing = None
                    self._quiet_until_ns = now_ns + _GAP_NS
            elif self._playing is not None and self._playing.cue is cue:
                return
            if cue not in self._waiting:
                self._waiting.append(cue)
            self._switch()
            self._turn.notify()

    def advance(self) -> int | None:
        """Switch what is due now; returns the boot time of the next change, or None if none will come by itself."""
        with self._turn:
            return None if self._closed else self._switch()

    def check(self) -> None:
        """Raise PanelError if a part cannot be switched, or patterns no longer move."""
        with self._turn:
            if self._failures:
                parts = "; ".join(f"{name}: {why}" for name, why in sorted(self._failures.items()))
                raise PanelError(f"Part of the panel cannot be switched ({parts}). Check its wiring and [gpio].")
            if self._thread is not None and not self._closed and not self._thread.is_alive():
                raise PanelError("The thread that moves the panel's patterns has ended. Restart bodycam.")

    def close(self) -> None:
        """Everything off, pins given back; again does nothing."""
        with self._turn:
            if self._closed:
                return
            self._closed = True
            self._turn.notify()
        if self._thread is not None:
            self._thread.join()
        self._release()

    def _run(self) -> None:
        while True:
            with self._turn:
                if self._closed:
                    return
                try:
                    next_ns = self._switch()
                except Exception as problem:  # noqa: BLE001  # this thread must not die unnoticed; see check()
                    self._failed("patterns", problem)
                    next_ns = self._clock.boottime_ns() + _RETRY_NS
                wait_ns = None if next_ns is None else max(0, next_ns - self._clock.boottime_ns())
                self._turn.wait(None if wait_ns is None else wait_ns / NS_PER_S)

    def _switch(self) -> int | None:
        """Bring every output to the level it has now; returns the boot time of the next change."""
        now_ns = self._clock.boottime_ns()
        self._next_cue(now_ns)
        wanted = dict.fromkeys(self._outputs, False)
        shown_ns = now_ns - self._light_since_ns
        if self._light.lit(shown_ns):
            for channel in self._light.on_channels(self.fitted):
                wanted[f"led_{channel.value}"] = True
        changes: list[int] = []
        if (light_ns := self._light.next_change_ns(shown_ns)) is not None:
            changes.append(self._light_since_ns + light_ns)
        if self._playing is not None:
            since_ns = now_ns - self._playing.start_ns
            for name, pulses in (
                ("buzzer", self._playing.pattern.sound),
                ("vibration", self._playing.pattern.vibration),
            ):
                if name in wanted:
                    wanted[name] = pulses.active(since_ns)
                if (pulse_ns := pulses.next_change_ns(since_ns)) is not None:
                    changes.append(self._playing.start_ns + pulse_ns)
        elif self._waiting:
            changes.append(self._quiet_until_ns)
        for name, level in wanted.items():
            if self._levels[name] != level or name in self._failures:
                self._write(name, level)
        if self._failures:
            changes.append(now_ns + _RETRY_NS)
        return min(changes, default=None)

    def _next_cue(self, now_ns: int) -> None:
        if self._playing is not None and now_ns >= self._playing.end_ns:
            self._quiet_until_ns = self._playing.end_ns + _GAP_NS
            self._playing = None
        while self._playing is None and self._waiting and now_ns >= self._quiet_until_ns:
            cue = self._waiting.popleft()
            pattern = self._patterns.cues[cue]
            if pattern.length_ns:
                self._playing = _Playing(cue, pattern, now_ns)

    def _write(self, name: str, level: bool) -> None:
        try:
            self._outputs[name].value = level
        except Exception as problem:  # noqa: BLE001  # lgpio has its own error type; see the class for why not raised
            self._failed(name, problem)
        else:
            self._levels[name] = level
            if self._failures.pop(name, None) is not None:
                _log.info("The panel's %s can be switched again.", name)

    def _failed(self, name: str, problem: Exception) -> None:
        if name not in self._failures:
            _log.error("The panel's %s cannot be switched: %r", name, problem)
        self._failures[name] = repr(problem)

    def _release(self) -> None:
        for name, output in self._outputs.items():
            # On a Pi, closing a line makes it an input again; the part is switched off first, not left to its pull.
            self._write(name, False)
            output.close()
