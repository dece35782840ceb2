"""What a thumbnail says: of real footage by day and, made dark and noisy, by night; of covered and dazzled lenses."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest

from agent.capture.image import wrap_yuv420
from agent.capture.synthetic import SyntheticCamera
from agent.capture.thumbnail import Figures, measure, thumbnail
from agent.clock import SimulatedClock
from agent.controller.events import PictureMeasured
from agent.controller.picture import PictureFault, like

FOOTAGE = sorted((Path(__file__).parents[3] / "build" / "footage").glob("*.mp4"))
Luma = npt.NDArray[np.float64]


def frame_of(luma: Luma, *, full_range: bool = False) -> av.VideoFrame:
    """A frame with this luma on a scale of 0 to 255, and no colour."""
    height, width = luma.shape
    levels = luma if full_range else 16 + luma * 219 / 255
    image = np.full((height * 3 // 2, width), 128, np.uint8)
    image[:height] = np.clip(np.round(levels), 0 if full_range else 16, 255 if full_range else 235)
    return wrap_yuv420(image, "yuv420p", width, height, full_range=full_range)


def figures_of(luma: Luma, **options: bool) -> Figures:
    return measure(thumbnail(frame_of(luma, **options)), None)


def verdict(figures: Figures, before: PictureFault | None = None) -> PictureFault | None:
    seen = PictureMeasured(figures.mean, figures.detail, figures.noise, figures.white, figures.still)
    return like(seen, before)


def noisy(luma: Luma, sigma: float, seed: int = 0) -> Luma:
    """With a sensor's noise: of each pixel, and a tenth of it of each row."""
    chance = np.random.default_rng(seed)
    return luma + chance.normal(0, sigma, luma.shape) + chance.normal(0, sigma / 10, (luma.shape[0], 1))


def dim(height: int, width: int, level: float) -> Luma:
    """What light leaks past a hand: brighter at one side, no edge in it."""
    down, right = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    light: Luma = level * (1 + 0.7 * right + 0.3 * down + 0.2 * right**2)
    return light


def pictures(path: Path, count: int = 4, step: int = 50) -> list[Luma]:
    """Some pictures of a film, luma from 0 to 255."""
    found: list[Luma] = []
    with av.open(str(path)) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index % step == 0:
                found.append(frame.to_ndarray(format="gray").astype(np.float64))
            if len(found) == count:
                break
    return found


def test_there_is_footage() -> None:
    if not FOOTAGE:
        pytest.skip("No footage here; `make demo` fetches it.")


@pytest.mark.parametrize("path", FOOTAGE, ids=lambda path: path.stem)
@pytest.mark.parametrize(
    ("light", "sigma"), [(1.0, 1.0), (0.3, 2.0), (0.1, 1.0), (0.1, 4.0), (0.1, 8.0), (0.04, 1.0), (0.04, 4.0)]
)
def test_real_scenes_by_day_and_night_are_nothing_to_tell(path: Path, light: float, sigma: float) -> None:
    seen = [verdict(figures_of(noisy(picture * light, sigma))) for picture in pictures(path)]
    assert seen == [None] * len(seen)


@pytest.mark.parametrize("path", FOOTAGE, ids=lambda path: path.stem)
def test_real_scenes_far_too_bright_are(path: Path) -> None:
    assert {verdict(figures_of(noisy(picture * 30, 2.0))) for picture in pictures(path)} == {PictureFault.OVEREXPOSED}


def street(height: int = 360, width: int = 640) -> Luma:
    """A road at night: black, a few lamps, a lit wall far off."""
    luma = np.zeros((height, width))
    for x in range(40, width, 150):
        luma[100:112, x : x + 12] = 200
        luma[112:300, x + 4 : x + 8] = 12
    luma[180:240, 500:600] = 25
    return luma


@pytest.mark.parametrize("sigma", [0.0, 1.0, 4.0, 10.0])
def test_a_street_at_night_is_nothing_to_tell(sigma: float) -> None:
    assert verdict(figures_of(noisy(street(), sigma))) is None
    lonely = np.where(np.arange(360 * 640).reshape(360, 640) % 640 > 560, street(), 0.0)
    assert verdict(figures_of(noisy(lonely, sigma))) is None, "one lit corner of it"


@pytest.mark.parametrize("size", [(64, 96), (360, 640), (1080, 1920)], ids=str)
@pytest.mark.parametrize("sigma", [0.0, 1.0, 4.0, 10.0, 20.0])
@pytest.mark.parametrize("level", [0.0, 8.0, 20.0])
def test_a_covered_lens_is_found_whatever_gain_the_sensor_takes(
    size: tuple[int, int], sigma: float, level: float
) -> None:
    if size[0] < 100 and sigma == 20 and level:
        pytest.skip("of so few pixels with so much noise nothing can be said")
    assert verdict(figures_of(noisy(dim(*size, level), sigma, seed=3))) is PictureFault.COVERED


def test_a_wall_is_no_cover() -> None:
    assert verdict(figures_of(noisy(np.full((360, 640), 100.0), 2.0))) is None


def test_white_is_white_in_either_range() -> None:
    luma = np.full((360, 640), 255.0)
    assert figures_of(luma).white == 1.0
    assert figures_of(luma, full_range=True).white == 1.0
    assert figures_of(luma).mean == pytest.approx(255)
    assert figures_of(np.zeros((360, 640))).mean == 0
    half = luma.copy()
    half[:160] = 90
    assert figures_of(half).white == pytest.approx(0.55, abs=0.05)
    assert verdict(figures_of(half)) is None, "the sky"


@pytest.mark.parametrize("format_", ["yuv420p", "nv12", "yuyv422", "rgb24", "yuv420p10le", "gray", "yuvj420p"])
def test_every_pixel_format_says_the_same(format_: str) -> None:
    frame = frame_of(noisy(street() + 40, 2.0))
    given = measure(thumbnail(frame), None)
    other = measure(thumbnail(frame.reformat(format=format_)), None)
    assert other.mean == pytest.approx(given.mean, abs=1.5)
    assert other.detail == pytest.approx(given.detail, abs=1.0)


def test_a_picture_is_still_only_if_every_sample_is() -> None:
    luma = noisy(street(), 2.0)
    first = thumbnail(frame_of(luma))
    assert measure(first, None).still is None
    assert measure(thumbnail(frame_of(luma)), first).still is True
    assert measure(thumbnail(frame_of(noisy(street(), 2.0, seed=1))), first).still is False
    changed = luma.copy()
    changed[::3, ::3] += 4  # one step or two on a ninth of the pixels
    assert measure(thumbnail(frame_of(changed)), first).still is False


def test_the_bench_scene_moves_and_is_nothing_to_tell() -> None:
    for size in ((96, 64), (160, 96), (640, 360), (1280, 720)):
        camera = SyntheticCamera(SimulatedClock(), *size, 10)
        camera.open()
        before = None
        for _ in range(3):
            for _ in range(19):
                camera.read()
            now = thumbnail(camera.read().image)
            assert verdict(measure(now, before)) is None
            before = now


def test_a_thumbnail_outlives_its_frame() -> None:
    image = np.full((96, 96), 100, np.uint8)
    taken = thumbnail(wrap_yuv420(image, "yuv420p", 96, 64))
    image[:] = 0
    assert (taken.samples == 100).all()


def test_a_picture_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="too small"):
        thumbnail(av.VideoFrame(16, 16, "yuv420p"))
