"""`bodycam press`: the wearer's finger on a bench camera, whose button exists in memory only."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from agent.errors import ConfigError
from agent.panel.pin_client import PinSocketClient
from agent.settings.schema import Settings

GESTURES = ("double", "single", "hold")
# What is slower than the gesture's limit by this much is read as it was meant on a busy machine, too.
_MARGIN_MS = 300
_CONNECT_S = 1.0


def press(
    settings: Settings, gesture: str, hold_s: float | None = None, *, sleep: Callable[[float], object] = time.sleep
) -> int:
    """Make one of GESTURES on the record button of the bench camera that runs; returns 0.

    hold_s: how long "hold" keeps it closed, seconds; as long as a stop takes when left. Raises ConfigError where there
    is no such button, PanelError when no camera runs.
    """
    path = settings.gpio.bench_pin_socket_path
    if settings.profile != "bench" or not path:
        raise ConfigError(
            "Only the button of a bench camera can be pressed from here; name a configuration with profile "
            '"bench" and gpio.bench_pin_socket_path, or press the real one.'
        )
    with PinSocketClient(Path(path), timeout_s=_CONNECT_S, sleep=sleep) as pins:
        if gesture == "double":
            pins.double_press()
        elif gesture == "single":
            pins.single_press()
        else:
            pins.hold((settings.gestures.hold_ms + _MARGIN_MS) / 1000 if hold_s is None else hold_s)
    return 0
