"""Random trigger and stop phases against the real encoder and recorder, checked frame by frame.

Used by the tests with a few hundred phases and by the benchmark with all of them.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from agent.clock import NS_PER_MS, NS_PER_S
from tests.support.bench import VAULT, Bench, bench_settings
from tests.support.crashfs import CrashFilesystem
from tests.support.playback import journal_records, of_type, play, recording_bytes


@dataclass(frozen=True)
class Phase:
    """One recording as it was asked for."""

    trigger_ns: int
    stop_ns: int


@dataclass
class PhaseResult:
    """What was checked. Anything wrong raised AssertionError."""

    phases: int
    frames: int
    worst_early_ms: float
    """How much earlier than asked the earliest start was: under one GOP."""


def run_phases(
    count: int, *, seed: int, fps: int = 10, pre_event_s: int = 2, jitter: float = 0.3, slow_card: bool = False
) -> PhaseResult:
    """Record `count` times at random phases of GOP, segment and earlier recordings; decode and compare every frame."""
    rng = random.Random(seed)
    settings = bench_settings(fps=fps, pre_event_s=pre_event_s, hold_ms=1000, double_press_ms=200)
    filesystem = CrashFilesystem(VAULT)
    frame_ns = NS_PER_S // fps
    bench = Bench(filesystem, settings, jitter_ns=int(frame_ns * jitter), seed=seed).start()
    bench.run_for(pre_event_s + 1.5)
    phases: list[Phase] = []
    for _ in range(count):
        trigger_ns = bench.clock.boottime_ns() + rng.randrange(600 * NS_PER_MS, 3000 * NS_PER_MS)
        stop_ns = trigger_ns + rng.randrange(1250 * NS_PER_MS, 4000 * NS_PER_MS)
        bench.double_press(trigger_ns)
        bench.hold(stop_ns)
        if slow_card:
            # Somewhere in the recording one operation takes up to two seconds, as cards do when they clean up.
            at = len(filesystem.operations) + rng.randrange(12)
            filesystem.stall_at(at, rng.randrange(2 * NS_PER_S), bench.clock)
        bench.run_until(stop_ns + rng.randrange(10, 400) * NS_PER_MS)
        phases.append(Phase(trigger_ns, stop_ns))
    bench.run_until_idle()
    return _check(bench, filesystem, phases, slow_card=slow_card)


def _check(bench: Bench, filesystem: CrashFilesystem, phases: list[Phase], *, slow_card: bool) -> PhaseResult:
    records = journal_records(filesystem, bench.layout)
    opens = of_type(records, "recording-open")
    assert len(opens) == len(phases), f"{len(opens)} recordings for {len(phases)} double presses"
    gop_ns = bench.settings.video.gop_ms * NS_PER_MS
    pre_event_ns = bench.settings.buffer.pre_event_s * NS_PER_S
    frame_ns = NS_PER_S // bench.settings.camera.fps
    frames = 0
    worst_early_ns = 0
    for phase, opened in zip(phases, opens, strict=True):
        assert opened["trigger_boottime_ns"] == phase.trigger_ns
        origin_ns = opened["media_origin_boottime_ns"]
        wanted_ns = phase.trigger_ns - pre_event_ns
        assert origin_ns <= wanted_ns, f"starts {origin_ns - wanted_ns} ns too late"
        if not slow_card:  # time that stands still for two seconds makes a GOP of two seconds
            assert wanted_ns - origin_ns < gop_ns + 2 * frame_ns, "starts more than a GOP too early"
        assert opened["pre_event_short_reason"] is None
        worst_early_ns = max(worst_early_ns, wanted_ns - origin_ns)
        expected = [number for ns, number in bench.frame_counters if origin_ns <= ns <= phase.stop_ns]
        folder = bench.layout.recording(opened["recording_id"])
        playback = play(recording_bytes(filesystem, folder))
        assert playback.counters == expected, _difference(playback.counters, expected)
        times_ns = [ns for ns, _ in bench.frame_counters if origin_ns <= ns <= phase.stop_ns]
        for (time_s, _), ns in zip(playback.frames, times_ns, strict=True):
            assert abs(time_s * NS_PER_S - (ns - origin_ns)) <= 12_000, "a frame's time is not its capture time"
        frames += len(expected)
        (close,) = of_type(records, "recording-close", opened["recording_id"])
        assert close["frames"] == len(expected)
        assert close["gaps"] == 0
    assert slow_card or not of_type(records, "fault")
    assert not of_type(records, "gap")
    return PhaseResult(len(phases), frames, worst_early_ns / NS_PER_MS)


def _difference(got: list[int | None], expected: list[int]) -> str:
    missing = sorted(set(expected) - set(got))[:10]
    extra = [number for number in got if number not in expected][:10]
    return f"missing {missing}, too many {extra}, {len(got)} frames instead of {len(expected)}"
