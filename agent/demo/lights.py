"""What a wearer sees, hears and feels: the output pins as they really change, watched over the pin socket."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from agent.errors import PanelError
from agent.panel.pin_client import PinChange, PinSocketClient

_LIGHTS = {"led_red": "red", "led_green": "green", "led_blue": "blue"}
_PULSES = {"buzzer": ("beep", "beeps"), "vibration": ("vibration pulse", "vibration pulses")}


class LightsWatch:
    """Collects the changes on a thread of its own until the daemon is gone."""

    def __init__(self, client: PinSocketClient) -> None:
        self._client = client
        self.changes: list[PinChange] = []
        self._thread = threading.Thread(target=self._watch, name="lights-watch", daemon=True)
        self._thread.start()

    def first(self, name: str, level: int, since_ns: int) -> PinChange | None:
        """The first change of a pin to a level at or after a boot time."""
        return next(
            (c for c in tuple(self.changes) if c.boottime_ns >= since_ns and (c.name, c.level) == (name, level)), None
        )

    def describe(self, since_ns: int) -> str:
        """What could be seen, heard and felt since a boot time."""
        return describe(tuple(self.changes), since_ns)

    def _watch(self) -> None:
        try:
            for change in self._client.watch():
                self.changes.append(change)
        except (PanelError, OSError):
            return  # the daemon is gone, which others find out and say


def describe(changes: Sequence[PinChange], since_ns: int) -> str:
    """In words: lights that are on or blink, and how often buzzer and motor went."""
    parts: list[str] = []
    for name, colour in _LIGHTS.items():
        before, levels = _levels(changes, name, since_ns)
        rises = levels.count(1)
        if rises + before >= 2:
            parts.append(f"{colour} light blinks")
        elif rises:
            parts.append(f"{colour} light {'on' if levels[-1] else 'flashes once'}")
        elif before and not levels:
            parts.append(f"{colour} light on")
    for name, (one, many) in _PULSES.items():
        _, levels = _levels(changes, name, since_ns)
        if rises := levels.count(1):
            parts.append(f"{rises} {one if rises == 1 else many}")
    return ", ".join(parts) or "dark and silent"


def _levels(changes: Sequence[PinChange], name: str, since_ns: int) -> tuple[int, list[int]]:
    """The level a pin had at a time, and those it changed to afterwards."""
    mine = [change for change in changes if change.name == name]
    before = [change.level for change in mine if change.boottime_ns < since_ns]
    levels = [change.level for change in mine if change.boottime_ns >= since_ns]
    return before[-1] if before else 0, levels
