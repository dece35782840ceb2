"""The synthetic camera and microphone: paced, counted, in step, and breaking like real ones when told to."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from agent.capture import counter
from agent.capture.microphone import AudioChunk
from agent.capture.pace import DEFAULT_BUFFERS
from agent.capture.scene import find_bursts, read_flash
from agent.capture.synthetic import SyntheticCamera, SyntheticMicrophone
from agent.clock import NS_PER_MS, NS_PER_S, SimulatedClock
from agent.errors import CameraError, CameraLostError, MicrophoneError
from tests.support.scene_codec import luma_copy

PERIOD_NS = NS_PER_S // 10


def camera(clock: SimulatedClock, **options: object) -> SyntheticCamera:
    return SyntheticCamera(clock, 96, 64, 10, **options)  # type: ignore[arg-type]


def test_counts_from_zero_at_the_pace_of_its_frame_rate() -> None:
    clock = SimulatedClock()
    start_ns = clock.boottime_ns()
    synthetic = camera(clock)
    given = synthetic.open()
    assert (given.width, given.height, given.fps, given.pixel_format) == (96, 64, 10, "yuv420p")
    for index in range(25):
        frame = synthetic.read()
        assert counter.read(luma_copy(frame.image)) == index
        assert frame.captured_ns == start_ns + index * PERIOD_NS == clock.boottime_ns()
    assert synthetic.missed == 0


def test_frames_say_their_colour_range() -> None:
    synthetic = camera(SimulatedClock())
    synthetic.open()
    assert synthetic.read().image.color_range == 1  # AVCOL_RANGE_MPEG


def test_a_reader_late_by_a_few_frames_loses_none() -> None:
    clock = SimulatedClock()
    synthetic = camera(clock)
    synthetic.open()
    times = [synthetic.read().captured_ns]
    clock.advance_ns(DEFAULT_BUFFERS * PERIOD_NS)
    times += [synthetic.read().captured_ns for _ in range(8)]
    assert {b - a for a, b in itertools.pairwise(times)} == {PERIOD_NS}
    assert synthetic.missed == 0


def test_a_reader_too_late_loses_frames_in_the_open() -> None:
    clock = SimulatedClock()
    synthetic = camera(clock)
    synthetic.open()
    first = synthetic.read()
    clock.advance_ns(20 * PERIOD_NS)
    second = synthetic.read()
    assert second.captured_ns - first.captured_ns == 16 * PERIOD_NS
    assert synthetic.missed == 15
    # The counter numbers what was delivered: no gap that a test would take for a loss behind the camera.
    assert counter.read(luma_copy(second.image)) == 1


def test_jitter_is_bounded_repeatable_and_keeps_order() -> None:
    def times(seed: int) -> list[int]:
        synthetic = camera(SimulatedClock(), jitter_ns=40 * NS_PER_MS, seed=seed)
        synthetic.open()
        return [synthetic.read().captured_ns for _ in range(50)]

    late = [time - (100 * NS_PER_S + index * PERIOD_NS) for index, time in enumerate(times(1))]
    assert all(0 <= ns <= 40 * NS_PER_MS for ns in late)
    assert len(set(late)) > 40
    assert times(1) == times(1) != times(2)
    with pytest.raises(ValueError, match="half a frame time"):
        camera(SimulatedClock(), jitter_ns=PERIOD_NS)


def test_unplugged_and_plugged_in_again() -> None:
    clock = SimulatedClock()
    synthetic = camera(clock, unplug_after=3)
    synthetic.open()
    for _ in range(3):
        last = synthetic.read()
    with pytest.raises(CameraLostError, match="plug it in"):
        synthetic.read()
    synthetic.close()
    with pytest.raises(CameraError, match="unplugged"):
        synthetic.open()
    synthetic.plug_in()
    clock.advance_ns(1_234_567_890)
    synthetic.open()
    again = synthetic.read()
    assert counter.read(luma_copy(again.image)) == 0
    assert again.captured_ns > last.captured_ns
    # Still on the grid of the first session, so the microphone is still in step.
    assert (again.captured_ns - last.captured_ns) % PERIOD_NS == 0


def test_a_frozen_camera_is_lost_after_the_stall_time_and_not_before() -> None:
    clock = SimulatedClock()
    synthetic = camera(clock, stall_ms=700)
    synthetic.open()
    synthetic.read()
    synthetic.freeze()
    before_ns = clock.boottime_ns()
    with pytest.raises(CameraLostError, match="700 ms"):
        synthetic.read()
    assert clock.boottime_ns() - before_ns == 700 * NS_PER_MS
    synthetic.thaw()
    assert synthetic.read().captured_ns > before_ns


def test_reading_while_closed_and_closing_twice() -> None:
    synthetic = camera(SimulatedClock())
    with pytest.raises(CameraLostError, match="not open"):
        synthetic.read()
    synthetic.open()
    synthetic.close()
    synthetic.close()
    with pytest.raises(CameraLostError, match="not open"):
        synthetic.read()


def test_a_size_that_cannot_be_drawn_is_a_sentence() -> None:
    with pytest.raises(CameraError, match=r"64x48.*Change \[camera\] width and height"):
        SyntheticCamera(SimulatedClock(), 64, 48, 30).open()


def test_flash_and_burst_have_the_same_time_on_the_boot_clock() -> None:
    clock = SimulatedClock()
    synthetic = camera(clock)
    synthetic.open()
    clock.advance_ns(777_777_777)  # the microphone opens later, at no round time
    microphone = SyntheticMicrophone(synthetic.time_base, 16_000, 1)
    assert microphone.open().sample_rate_hz == 16_000
    flashes: list[int] = []
    chunks: list[AudioChunk] = []
    for _ in range(65):
        frame = synthetic.read()
        if read_flash(luma_copy(frame.image)):
            flashes.append(frame.captured_ns)
        while not chunks or chunks[-1].captured_ns < frame.captured_ns:
            chunks.append(microphone.read())
    sound = np.concatenate([chunk.samples[0] for chunk in chunks])
    bursts = [chunks[0].captured_ns / NS_PER_S + onset for onset in find_bursts(sound, 16_000)]
    assert flashes == [(102 + 2 * mark) * NS_PER_S for mark in range(3)]
    assert bursts == pytest.approx([ns / NS_PER_S for ns in flashes], abs=0.001)


def test_microphone_chunks_follow_without_hole_and_are_not_early() -> None:
    clock = SimulatedClock()
    microphone = SyntheticMicrophone(camera(clock).time_base, 48_000, 2)
    microphone.open()
    before = microphone.read()
    for _ in range(100):
        chunk = microphone.read()
        assert chunk.samples.shape == (2, 960)
        assert chunk.captured_ns - before.captured_ns == 20 * NS_PER_MS
        assert clock.boottime_ns() >= chunk.captured_ns + 20 * NS_PER_MS
        before = chunk


def test_a_microphone_reader_too_late_sees_a_jump() -> None:
    clock = SimulatedClock()
    microphone = SyntheticMicrophone(camera(clock).time_base, 16_000, 1)
    microphone.open()
    before = microphone.read()
    clock.advance_ns(3 * NS_PER_S)
    after = microphone.read()
    assert after.captured_ns - before.captured_ns - 20 * NS_PER_MS == 2 * NS_PER_S
    assert microphone.missed_samples == 2 * 16_000


def test_an_unplugged_microphone_is_an_error() -> None:
    microphone = SyntheticMicrophone(camera(SimulatedClock()).time_base, 16_000, 1)
    with pytest.raises(MicrophoneError, match="not open"):
        microphone.read()
    microphone.open()
    microphone.unplug()
    with pytest.raises(MicrophoneError, match="unplugged"):
        microphone.read()
    microphone.close()
    with pytest.raises(MicrophoneError, match="unplugged"):
        microphone.open()
    microphone.plug_in()
    microphone.open()
    assert microphone.read().samples.shape == (1, 320)
