"""The painted counter: what was painted is read, what was damaged is refused, and H.264 does not damage it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.capture import counter
from agent.capture.image import luma_of, wrap_yuv420
from agent.capture.scene import Scene
from tests.support.scene_codec import h264_round_trip

SIZES = [(96, 64), (160, 90), (176, 144), (320, 240), (640, 360), (1280, 720), (1920, 1080)]
COUNTS = st.integers(0, counter.COUNTER_MODULO - 1)


def test_crc24_check_value() -> None:
    # The check value that catalogues give for CRC-24/OPENPGP.
    assert counter.crc24(b"123456789") == 0x21CF02


@given(count=COUNTS, size=st.sampled_from(SIZES), noise=st.integers(0, 2**32 - 1))
def test_reads_what_was_painted_whatever_was_there(count: int, size: tuple[int, int], noise: int) -> None:
    width, height = size
    luma = np.random.default_rng(noise).integers(0, 256, (height, width), dtype=np.uint8)
    counter.paint(luma, count)
    assert counter.read(luma) == count


@given(count=COUNTS, flips=st.sets(st.integers(0, 47), min_size=1, max_size=24))
def test_flipped_cells_never_read_as_another_number(count: int, flips: set[int]) -> None:
    luma = np.zeros((64, 96), np.uint8)
    counter.paint(luma, count)
    for cell in flips:
        row, column = divmod(cell, 12)
        view = luma[row * 8 : row * 8 + 8, column * 8 : column * 8 + 8]
        view[:] = 251 - view  # 16 <-> 235
    assert counter.read(luma) != count
    if max(flips) - min(flips) < 24:  # a burst: a CRC of 24 bits catches every one
        assert counter.read(luma) is None


@given(count=COUNTS, cell=st.integers(0, 47), grey=st.integers(80, 170))
def test_a_doubtful_cell_refuses_the_frame(count: int, cell: int, grey: int) -> None:
    luma = np.zeros((64, 96), np.uint8)
    counter.paint(luma, count)
    row, column = divmod(cell, 12)
    luma[row * 8 : row * 8 + 8, column * 8 : column * 8 + 8] = grey
    assert counter.read(luma) is None


@pytest.mark.parametrize("level", [0, 16, 128, 235, 255])
def test_flat_pictures_hold_no_counter(level: int) -> None:
    assert counter.read(np.full((144, 176), level, np.uint8)) is None


def test_a_mix_of_two_counters_is_refused() -> None:
    # What a decoder shows after a lost packet: the top of one frame, the bottom of another.
    first, second = np.zeros((64, 96), np.uint8), np.zeros((64, 96), np.uint8)
    refused = 0
    for count in range(500):
        counter.paint(first, count)
        counter.paint(second, count + 1)
        mixed = first.copy()
        mixed[16:] = second[16:]
        refused += counter.read(mixed) is None
    assert refused == 500


def test_limits_are_sentences() -> None:
    with pytest.raises(ValueError, match="does not fit in 24 bits"):
        counter.paint(np.zeros((64, 96), np.uint8), counter.COUNTER_MODULO)
    with pytest.raises(ValueError, match="at least 96x64"):
        counter.paint(np.zeros((48, 96), np.uint8), 1)


@pytest.mark.parametrize("size", SIZES)
def test_cells_are_whole_blocks(size: tuple[int, int]) -> None:
    width, height = size
    cell = counter.cell_size(width, height)
    assert cell == {96: 8, 160: 8, 176: 8, 320: 16, 640: 16, 1280: 32, 1920: 48}[width]
    wide, high = counter.painted_size(width, height)
    assert wide <= width
    assert high <= height // 2


@settings(max_examples=5, deadline=None)
@given(first=COUNTS, seed=st.integers(0, 1000))
def test_starved_h264_gives_the_number_or_nothing(first: int, seed: int) -> None:
    # Noise that changes in every pixel of every frame: at 250 kbit/s all but the counter is mush, at 60 kbit/s (a
    # quantiser of 51 throughout) some cells go too. Then the reader must say so and never give a wrong number.
    random = np.random.default_rng(seed)
    counts = [(first + step) % counter.COUNTER_MODULO for step in range(30)]
    images = random.integers(16, 236, (len(counts), 144 * 3 // 2, 176), dtype=np.uint8)
    for image, count in zip(images, counts, strict=True):
        counter.paint(image[:144], count)

    def read_at(bitrate_bps: int) -> list[int | None]:
        frames = (wrap_yuv420(image, "yuv420p", 176, 144) for image in images)
        return [counter.read(luma_of(f)) for f in h264_round_trip(frames, 176, 144, 30, bitrate_bps)]

    assert read_at(250_000) == counts
    starved = read_at(60_000)
    assert all(got in (count, None) for got, count in zip(starved, counts, strict=True))
    assert sum(got is not None for got in starved) > 15


@pytest.mark.parametrize(
    ("width", "height", "frames", "bitrate_bps"),
    [
        (96, 64, 150, 50_000),
        (160, 90, 90, 50_000),
        (320, 240, 90, 80_000),
        (640, 360, 60, 150_000),
        (1280, 720, 30, 300_000),
        (1920, 1080, 20, 400_000),
    ],
)
def test_scene_survives_h264(width: int, height: int, frames: int, bitrate_bps: int) -> None:
    scene = Scene(width, height, 30)
    pictures = (
        wrap_yuv420(scene.draw(slot, 0xABC000 + slot).copy(), "yuv420p", width, height) for slot in range(frames)
    )
    read = [counter.read(luma_of(f)) for f in h264_round_trip(pictures, width, height, 30, bitrate_bps)]
    assert read == [0xABC000 + slot for slot in range(frames)]
