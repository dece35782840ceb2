"""The scene's marks: exactly one flashing frame each, the burst at the same instant, both readable after the codecs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.capture import counter
from agent.capture.image import luma_of, wrap_yuv420
from agent.capture.scene import BURST_S, Scene, Tone, find_bursts, mark_times_ns, read_flash
from agent.clock import NS_PER_S
from tests.support.scene_codec import aac_round_trip, h264_round_trip


@pytest.mark.parametrize("fps", [7, 10, 25, 30, 30000 / 1001])
def test_each_mark_flashes_in_exactly_one_frame_the_first_not_before_it(fps: float) -> None:
    scene = Scene(96, 64, fps)
    slots = int(fps * 12)
    flashed = [slot for slot in range(slots) if read_flash(scene.draw(slot, slot)[:64])]
    times_s = [slot / fps for slot in flashed]
    marks_s = [mark / NS_PER_S for mark in mark_times_ns(0, int(slots / fps * NS_PER_S))]
    assert len(times_s) == len(marks_s) == 6
    assert all(-1e-6 <= time - mark < 1 / fps for time, mark in zip(times_s, marks_s, strict=True))


def test_mark_times_are_half_open_and_never_negative() -> None:
    assert mark_times_ns(-NS_PER_S, 4 * NS_PER_S) == [0, 2 * NS_PER_S]
    assert mark_times_ns(1, 4 * NS_PER_S + 1) == [2 * NS_PER_S, 4 * NS_PER_S]
    assert mark_times_ns(2 * NS_PER_S, 2 * NS_PER_S) == []


@pytest.mark.parametrize("size", [(96, 64), (160, 90), (320, 240), (1920, 1080)])
def test_incremental_drawing_equals_drawing_afresh(size: tuple[int, int]) -> None:
    # Only what changed is drawn; a forgotten rectangle would leave a trail.
    width, height = size
    used = Scene(width, height, 30)
    for slot in range(70):
        used.draw(slot, slot)
    assert np.array_equal(used.draw(70, 70), Scene(width, height, 30).draw(70, 70))


def test_something_moves_outside_counter_and_flash() -> None:
    scene = Scene(320, 240, 30)
    before = scene.draw(5, 0).copy()
    after = scene.draw(6, 0)
    assert (before != after).sum() > 50


@pytest.mark.parametrize("size", [(97, 64), (96, 65), (64, 48)])
def test_impossible_sizes_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"even width|at least 96x64"):
        Scene(*size, 30)


@pytest.mark.parametrize(("size", "bitrate_bps"), [((96, 64), 50_000), ((320, 240), 100_000), ((1280, 720), 400_000)])
def test_flash_is_read_back_through_h264(size: tuple[int, int], bitrate_bps: int) -> None:
    width, height = size
    scene = Scene(width, height, 10)
    pictures = (wrap_yuv420(scene.draw(s, s).copy(), "yuv420p", width, height) for s in range(45))
    decoded = [luma_of(frame).copy() for frame in h264_round_trip(pictures, width, height, 10, bitrate_bps)]
    assert [slot for slot, luma in enumerate(decoded) if read_flash(luma)] == [0, 20, 40]
    assert [counter.read(luma) for luma in decoded] == list(range(45))


@given(first=st.integers(0, 10_000_000), rate=st.sampled_from([8_000, 16_000, 44_100, 48_000]))
def test_bursts_are_found_where_the_marks_are(first: int, rate: int) -> None:
    samples = Tone(rate, 1).samples(first, 5 * rate)[0]
    marks = [m / NS_PER_S - first / rate for m in mark_times_ns(0, (first // rate + 6) * NS_PER_S)]
    whole = [mark for mark in marks if 0.002 < mark < 5 - BURST_S]
    found = [burst for burst in find_bursts(samples, rate) if 0.002 < burst < 5 - BURST_S]
    assert found == pytest.approx(whole, abs=0.0005)


@pytest.mark.parametrize("rate", [16_000, 48_000])
@pytest.mark.parametrize("bitrate_bps", [24_000, 64_000])
def test_bursts_are_found_through_aac(rate: int, bitrate_bps: int) -> None:
    first = 31_337
    decoded = aac_round_trip(Tone(rate, 1).samples(first, 9 * rate)[0], rate, bitrate_bps)
    marks = [m / NS_PER_S - first / rate for m in mark_times_ns(0, 20 * NS_PER_S)]
    whole = [mark for mark in marks if 0 < mark < 8.8]
    assert find_bursts(decoded, rate) == pytest.approx(whole, abs=0.001)


def test_long_sound_is_searched_in_pieces_without_losing_a_burst_at_their_borders() -> None:
    # 10 s pieces; marks at 2 s put one burst exactly on every border.
    found = find_bursts(Tone(8_000, 1).samples(8_000, 8_000 * 45)[0], 8_000)
    assert found == pytest.approx([1 + 2 * k for k in range(22)], abs=0.0005)


def test_silence_and_a_cut_burst_hold_no_onset() -> None:
    assert find_bursts(np.zeros(16_000, np.float32), 16_000) == []
    assert find_bursts(np.zeros(3, np.float32), 16_000) == []
    cut = Tone(16_000, 1).samples(480, 16_000)[0]  # begins 30 ms into the burst at 0
    assert find_bursts(cut, 16_000) == []


def test_channels_are_alike() -> None:
    stereo = Tone(16_000, 2).samples(5, 100)
    assert stereo.shape == (2, 100)
    assert stereo.dtype == np.float32
    assert np.array_equal(stereo[0], stereo[1])
