"""Who presses the button: starts, markers, stops, and starts right behind a stop, whatever the lights say."""

from __future__ import annotations

import math
import random
from functools import partial

from agent.clock import NS_PER_MS, NS_PER_S
from agent.controller.events import InputActivated
from tests.soak.camera_life import CameraLife
from tests.soak.story import Press

SHORTEST_S = 2.5
LONGEST_S = 300.0
MEAN_PAUSE_S = 45.0
INPUT_PIN = 5


class Wearer:
    """pace: 1 for a shift as it is, less for one that has more in less time."""

    def __init__(self, life: CameraLife, rng: random.Random, pace: float) -> None:
        self._life = life
        self._rng = rng
        self._pace = pace

    def begin(self) -> None:
        """From now on."""
        self._life.after(self._pause_s(), self._start)

    def _pause_s(self) -> float:
        return 2.0 + self._rng.expovariate(1 / (MEAN_PAUSE_S * self._pace))

    def _start(self) -> None:
        at_ns = self._life.clock.boottime_ns() + 500 * NS_PER_MS
        if self._rng.random() < 0.2:
            self._life.bench.at(at_ns, partial(self._life.bench.daemon.post, InputActivated(INPUT_PIN, at_ns)))
            self._note(at_ns, "input")
        else:
            self._life.bench.double_press(at_ns)
            self._note(at_ns, "double press")
        self._go_on(0.5)

    def _note(self, at_ns: int, how: str) -> None:
        self._life.story.presses.append(Press(self._life.clock.boot_id, at_ns))
        self._life.story.count(f"trigger: {how}")

    def _go_on(self, after_s: float) -> None:
        """What follows a start that is so far away: perhaps markers, then the stop."""
        longest_s = SHORTEST_S + (LONGEST_S - SHORTEST_S) * self._pace
        length_s = math.exp(self._rng.uniform(math.log(SHORTEST_S), math.log(longest_s)))
        if length_s > 8:
            for part in range(self._rng.choice((0, 0, 1, 1, 2))):
                self._life.after(after_s + length_s * (0.3 + 0.4 * part), self._mark)
        self._life.after(after_s + length_s, self._stop)

    def _mark(self) -> None:
        at_ns = self._life.clock.boottime_ns() + 300 * NS_PER_MS
        if self._rng.random() < 0.3:  # somebody who wants to be sure
            self._life.bench.double_press(at_ns)
            self._note(at_ns, "double press while it records")
        else:
            self._life.bench.single_press(at_ns)
            self._life.story.count("marker: single press")

    def _stop(self) -> None:
        hold_ns = self._life.settings.gestures.hold_ms * NS_PER_MS
        stop_ns = self._life.clock.boottime_ns() + hold_ns + 100 * NS_PER_MS
        self._life.bench.hold(stop_ns)
        self._life.story.count("stop: hold")
        if self._rng.random() < 0.2:
            again_ns = stop_ns + 600 * NS_PER_MS
            self._life.bench.double_press(again_ns)
            self._note(again_ns, "double press right behind a stop")
            self._go_on((again_ns - self._life.clock.boottime_ns()) / NS_PER_S)
        else:
            self._life.after(1.5 + self._pause_s(), self._start)
