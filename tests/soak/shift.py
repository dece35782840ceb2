"""One shift, as a process of its own, so that memory and descriptors are those of a camera and of nothing else:
`python -m tests.soak.shift FOLDER HOURS SEED [sync]`. It leaves vault, frame log and story in FOLDER; others judge.
"""

from __future__ import annotations

import json
import random
import signal
import sys
import time
from pathlib import Path
from types import FrameType

from agent.clock import NS_PER_S
from tests.soak.camera_life import CameraLife
from tests.soak.story import Story
from tests.soak.troubles import Troubles
from tests.soak.vitals import own_vitals
from tests.soak.wearer import Wearer

STORY_NAME = "story.json"
LONG_LIFE = (0.2, 0.85)
"""This part of a shift is one process's, so that nothing that it piles up is let go by its end. Before it the allocator
finds its size, and starts and ends lie on both sides."""
RESTARTS = 40
FULL_PACE_HOURS = 4
SHORT_PACE = 0.4
SAMPLES = 250
STEPS = 400
CALM_S = 15.0
"""At the end, for what a card in trouble has not taken yet: a stop that it does not take looks like a cut."""


def pace_of(hours: float) -> float:
    """A short shift has more of everything in an hour."""
    return 1.0 if hours >= FULL_PACE_HOURS else SHORT_PACE


class Shift:
    """See the module's text."""

    def __init__(self, folder: Path, hours: float, seed: int, *, syncs: bool = False) -> None:
        """folder: a new one. syncs: hand the recorder's syncs to the disk."""
        self.story = Story(hours, seed)
        self.asked_to_end = False
        self._folder = folder
        self._seconds = hours * 3600
        self._rng = random.Random(seed)
        self.life = CameraLife(folder, self.story, syncs=syncs)
        pace = pace_of(hours)
        # Each has dice of its own, so that one more throw of one of them does not change all the others do.
        self._wearer = Wearer(self.life, random.Random(f"wearer {seed}"), pace)
        self._troubles = Troubles(self.life, random.Random(f"troubles {seed}"), pace)
        self._restart_s = max(60.0, self._seconds * (1 - LONG_LIFE[1] + LONG_LIFE[0]) / RESTARTS)
        self._sample_s = max(10.0, self._seconds / SAMPLES)

    def run(self) -> Story:
        """All of it, or as much as there was until it was asked to end."""
        cpu_s, wall_s = time.process_time(), time.monotonic()
        self.life.start()
        self._wearer.begin()
        self._troubles.begin()
        self.life.after(self._restart_s, self._restart)
        self.life.after(self._sample_s, self._sample)
        for step in range(1, STEPS + 1):
            self.life.live(self._seconds * step / STEPS)
            print(json.dumps({"done": step / STEPS}), flush=True)  # noqa: T201 the parent reads it
            if self.asked_to_end:
                self.story.hours = self.story.hours * step / STEPS
                break
        self._troubles.end()
        self.life.live(self.life.now_s + CALM_S)
        self.life.end()
        self.story.simulated_s = self.life.now_s
        self.story.cpu_s, self.story.wall_s = time.process_time() - cpu_s, time.monotonic() - wall_s
        self.story.write(self._folder / STORY_NAME)
        return self.story

    def _restart(self) -> None:
        begin_s, end_s = (self._seconds * part for part in LONG_LIFE)
        now_s = self.life.now_s
        if begin_s - self._restart_s <= now_s < end_s:
            self.life.after(end_s - now_s, self._restart)
        elif self._troubles.restart(self._rng.choice(("kill", "kill-in-operation", "stop", "reboot"))):
            self.life.after(self._restart_s, self._restart)
        else:
            self.life.after(5, self._restart)

    @property
    def _rests(self) -> bool:
        bench = self.life.bench
        if bench.recorder is None or bench.recorder.active or bench.stream is None:
            return False
        # PyAV's resampler has two threads of its own from the first sound of a session on.
        if bench.stream.ring.newest_audio_end_ns is None:
            return False
        return bench.stream.ring.buffered_ns >= bench.settings.buffer.pre_event_s * NS_PER_S

    def _sample(self) -> None:
        """Only when nothing is recorded and the camera runs: what a recording or an encoder holds is no leak."""
        if not self._rests:
            self.life.after(1, self._sample)
            return
        self.story.vitals.append(own_vitals(self.life.now_s, self.life.number))
        self.life.after(self._sample_s, self._sample)


def main() -> None:
    """For the parent. SIGTERM ends the shift early, and in order: what there is of it can be judged."""
    folder, hours, seed, *more = sys.argv[1:]
    shift = Shift(Path(folder), float(hours), int(seed), syncs=more == ["sync"])

    def asked_to_end(number: int, frame: FrameType | None) -> None:
        del number, frame
        shift.asked_to_end = True

    signal.signal(signal.SIGTERM, asked_to_end)
    shift.run()


if __name__ == "__main__":
    main()
