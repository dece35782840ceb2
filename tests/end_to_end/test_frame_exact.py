"""Invariants 1 and 2: every frame from before the press to the stop, once, in order; sound in step."""

from __future__ import annotations

import io
from itertools import pairwise

import av
import numpy as np
import pytest

from agent.capture.image import luma_of
from agent.capture.scene import find_bursts, mark_times_ns, read_flash
from agent.clock import NS_PER_MS, NS_PER_S
from tests.support.bench import VAULT, Bench, bench_settings
from tests.support.crashfs import CrashFilesystem
from tests.support.phases import run_phases
from tests.support.playback import journal_records, of_type, play, recording_bytes


@pytest.mark.parametrize(("seed", "fps"), [(1, 10), (2, 25)])
def test_every_frame_from_before_the_press_to_the_stop_is_there_once(seed: int, fps: int) -> None:
    result = run_phases(100, seed=seed, fps=fps)
    assert result.phases == 100
    assert result.worst_early_ms < 1000 + 2 * 1000 / fps


def test_a_card_that_stalls_for_two_seconds_anywhere_costs_no_frame() -> None:
    run_phases(60, seed=3, slow_card=True)


def test_a_trigger_right_after_a_stop_has_its_full_pre_event_too() -> None:
    filesystem = CrashFilesystem(VAULT)
    bench = Bench(filesystem, bench_settings(hold_ms=1000, double_press_ms=200)).start()
    bench.run_for(5)
    start_ns = bench.clock.boottime_ns() + 500 * NS_PER_MS
    bench.double_press(start_ns)
    bench.hold(start_ns + 2 * NS_PER_S)
    bench.double_press(start_ns + 2 * NS_PER_S + 600 * NS_PER_MS)
    bench.hold(start_ns + 5 * NS_PER_S)
    bench.run_until(start_ns + 6 * NS_PER_S).run_until_idle()
    first, second = of_type(journal_records(filesystem, bench.layout), "recording-open")
    assert second["actual_pre_event_ms"] >= 3000
    a = play(recording_bytes(filesystem, bench.layout.recording(first["recording_id"]))).counters
    b = play(recording_bytes(filesystem, bench.layout.recording(second["recording_id"]))).counters
    assert set(a) & set(b), "the second begins inside the first"


def test_the_whole_pre_event_is_durable_at_once_and_not_at_the_end_of_the_gop() -> None:
    filesystem = CrashFilesystem(VAULT)
    bench = Bench(filesystem).start()
    bench.run_for(5.05)
    now_ns = bench.clock.boottime_ns()
    trigger_ns = now_ns + 350 * NS_PER_MS
    bench.double_press(trigger_ns)
    bench.run_until(trigger_ns + 250 * NS_PER_MS)
    records = journal_records(filesystem, bench.layout)
    (opened,) = of_type(records, "recording-open")
    durable_90k = of_type(records, "checkpoint")[-1]["end_media_90k"]
    assert opened["media_origin_boottime_ns"] + durable_90k * 100_000 // 9 >= trigger_ns


def test_a_stop_holds_from_when_it_is_recognised_even_if_the_recorder_hears_of_it_late() -> None:
    filesystem = CrashFilesystem(VAULT)
    bench = Bench(filesystem, bench_settings(hold_ms=1000)).start()
    bench.run_for(5)
    stop_ns = bench.clock.boottime_ns() + 4 * NS_PER_S
    bench.double_press(bench.clock.boottime_ns() + 500 * NS_PER_MS)
    bench.hold(stop_ns)
    bench.run_until(stop_ns - 100 * NS_PER_MS)
    bench.commands_held = True
    bench.run_until(stop_ns + 3 * NS_PER_S)
    bench.commands_held = False
    bench.run_until_idle()
    (opened,) = of_type(journal_records(filesystem, bench.layout), "recording-open")
    (stop,) = of_type(journal_records(filesystem, bench.layout), "stop")
    assert (stop["stop_boottime_ns"], stop["reason"]) == (stop_ns, "button")
    playback = play(recording_bytes(filesystem, bench.layout.recording(opened["recording_id"])))
    origin_ns = opened["media_origin_boottime_ns"]
    assert playback.counters == [number for ns, number in bench.frame_counters if origin_ns <= ns <= stop_ns]


def test_a_short_pre_event_says_how_short_and_why() -> None:
    filesystem = CrashFilesystem(VAULT)
    bench = Bench(filesystem).start()
    bench.run_for(1.2)
    bench.record(4)
    (opened,) = of_type(journal_records(filesystem, bench.layout), "recording-open")
    assert opened["configured_pre_event_ms"] == 3000
    assert 1200 <= opened["actual_pre_event_ms"] <= 1600
    assert opened["pre_event_short_reason"] == "camera-started"

    filesystem = CrashFilesystem(VAULT)
    bench = Bench(filesystem, bench_settings(max_bytes=25_000)).start()
    bench.run_for(8)
    bench.record(4)
    (opened,) = of_type(journal_records(filesystem, bench.layout), "recording-open")
    assert opened["actual_pre_event_ms"] < 3000
    assert opened["pre_event_short_reason"] == "memory-bound"


@pytest.mark.parametrize("minutes", [0.2, 10])
def test_sound_and_picture_are_in_step_at_the_start_and_after_ten_minutes(minutes: float) -> None:
    filesystem = CrashFilesystem(VAULT)
    bench = Bench(filesystem, bench_settings(sound=True, buffer_audio=True, segment_s=10), jitter_ns=30_000_000).start()
    bench.run_for(5)
    bench.record(minutes * 60)
    (opened,) = of_type(journal_records(filesystem, bench.layout), "recording-open")
    data = recording_bytes(filesystem, bench.layout.recording(opened["recording_id"]))
    flashes, bursts = _marks(data)
    flashes = [flash_s for flash_s in flashes if flash_s > 0.5]  # a burst cut off by the beginning has no onset
    assert len(flashes) >= minutes * 60 / 2
    for flash_s in (flashes[0], flashes[len(flashes) // 2], flashes[-1]):
        offset_s = min((burst_s - flash_s for burst_s in bursts), key=abs)
        # A flash is seen in the first frame at or after the burst: its jitter is the picture's, not the muxer's.
        assert abs(offset_s) <= 0.040, f"{offset_s * 1000:.1f} ms at {flash_s:.1f} s"


def _marks(data: bytes) -> tuple[list[float], list[float]]:
    flashes: list[float] = []
    pieces: list[np.ndarray[tuple[int, ...], np.dtype[np.float32]]] = []
    start_s: float | None = None
    rate = 0
    with av.open(io.BytesIO(data), "r") as container:
        for frame in container.decode(video=0, audio=0):
            if isinstance(frame, av.VideoFrame) and frame.time is not None:
                if read_flash(luma_of(frame)):
                    flashes.append(frame.time)
            elif isinstance(frame, av.AudioFrame):
                start_s = frame.time if start_s is None else start_s
                rate = frame.sample_rate
                pieces.append(frame.to_ndarray()[0].astype(np.float32))
    assert start_s is not None
    return flashes, [start_s + burst_s for burst_s in find_bursts(np.concatenate(pieces), rate)]


def test_before_the_press_there_is_no_sound_unless_configured() -> None:
    for buffer_audio in (False, True):
        filesystem = CrashFilesystem(VAULT)
        bench = Bench(filesystem, bench_settings(sound=True, buffer_audio=buffer_audio)).start()
        bench.run_for(5)
        bench.record(4)
        (opened,) = of_type(journal_records(filesystem, bench.layout), "recording-open")
        playback = play(recording_bytes(filesystem, bench.layout.recording(opened["recording_id"])))
        trigger_s = (opened["trigger_boottime_ns"] - opened["media_origin_boottime_ns"]) / NS_PER_S
        first_s = playback.audio_starts_s[0]
        assert opened["pre_event_audio"] is buffer_audio
        if buffer_audio:
            assert first_s < 0.1
        else:
            assert trigger_s - 0.001 <= first_s < trigger_s + 0.1
        end_s = playback.frames[-1][0]
        assert playback.audio_starts_s[-1] > end_s - 0.1, "sound reaches to the stop"


def test_wall_time_jumps_change_no_media_time() -> None:
    assert mark_times_ns(0, NS_PER_S)  # the scene has a mark at its origin, which the marks below count from
    filesystem = CrashFilesystem(VAULT)
    bench = Bench(filesystem, bench_settings(hold_ms=1000)).start()
    bench.run_for(5)
    now_ns = bench.clock.boottime_ns()
    bench.double_press(now_ns + NS_PER_S)
    bench.at(now_ns + 2 * NS_PER_S, lambda: bench.clock.step_wall_ns(-365 * 86_400 * NS_PER_S))
    bench.at(now_ns + 3 * NS_PER_S, lambda: bench.clock.step_wall_ns(2 * 365 * 86_400 * NS_PER_S))
    bench.hold(now_ns + 5 * NS_PER_S)
    bench.run_until(now_ns + 6 * NS_PER_S).run_until_idle()
    records = journal_records(filesystem, bench.layout)
    (opened,) = of_type(records, "recording-open")
    playback = play(recording_bytes(filesystem, bench.layout.recording(opened["recording_id"])))
    times_s = [time_s for time_s, _ in playback.frames]
    assert all(0.09 < b - a < 0.11 for a, b in pairwise(times_s))
    steps = [fields["step_ms"] for fields in of_type(records, "clock") if fields["reason"] == "step"]
    assert steps == [-365 * 86_400_000, 2 * 365 * 86_400_000]
