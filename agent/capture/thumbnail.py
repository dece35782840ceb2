"""A small grey thumbnail of a frame, and what can be said of a picture from it. No OpenCV: numpy on the luma plane.

144 blocks (16 by 9), each of up to 16 by 16 single pixels taken at even distances: single, because their noise then
shows, and with it whether a sensor is alive; in blocks, because noise goes out of their means, and what remains is what
there is to see. Of that a smooth part (a surface of second order) is taken off: light that leaks past a hand, or a
vignette, is no detail. Costs 0.2 ms for 1080p on a desktop core, once every few seconds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import av
import numpy as np
import numpy.typing as npt
from av.video.reformatter import ColorRange

from agent.capture.image import luma_of

ROWS, COLUMNS = 9, 16
_PER_BLOCK = 16
_WHITE = 250
_SURFACE_TERMS = 6
# Of the variance of the blocks' means. Three would do for noise of single pixels; sensors have some of whole rows, too.
_STANDARD_ERRORS = 5
# Formats whose first plane is 8-bit luma; of others swscale makes one.
_LUMA_FIRST = frozenset(
    {"yuv420p", "yuvj420p", "nv12", "nv21", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p", "yuv411p", "gray"}
)

Samples = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """samples: shape (9, n, 16, n), luma as the camera gave it. full_range: black is 0, white 255, and not 16, 235."""

    samples: Samples
    full_range: bool


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one thumbnail; luma on a scale of 0 (black) to 255 (white).

    mean: of all. detail: standard deviation of the blocks' means without the smooth part and without what noise alone
    makes of it. noise: how much detail noise could pretend. white: share of
    samples that are as good as white. still: whether each sample is as in the thumbnail before; None without one.
    """

    mean: float
    detail: float
    noise: float
    white: float
    still: bool | None


def thumbnail(image: av.VideoFrame) -> Thumbnail:
    """A copy: the frame's memory is the camera's again afterwards. Raises ValueError below 32 by 18 pixels."""
    size = min(_PER_BLOCK, image.height // ROWS, image.width // COLUMNS)
    if size < 2:
        raise ValueError(f"A picture of {image.width}x{image.height} is too small for a thumbnail.")
    if image.format.name not in _LUMA_FIRST:
        image = image.reformat(format="gray")
    # Grey is full range, whatever the frame says: so swscale makes it, and cameras give it.
    full_range = image.format.name.startswith(("yuvj", "gray")) or image.color_range == ColorRange.JPEG
    rows, columns = _places(image.height, ROWS * size), _places(image.width, COLUMNS * size)
    samples = luma_of(image)[rows].take(columns, axis=1)
    return Thumbnail(samples.reshape(ROWS, size, COLUMNS, size), full_range)


def measure(now: Thumbnail, before: Thumbnail | None) -> Figures:
    """What there is to say of a thumbnail, beside the one before it of the same camera."""
    per_block = now.samples.shape[1] * now.samples.shape[3]
    samples = now.samples.transpose(0, 2, 1, 3).reshape(ROWS * COLUMNS, per_block).astype(np.float32)
    if not now.full_range:
        samples = np.clip((samples - 16) * np.float32(255 / 219), 0, 255)
    means = samples.mean(axis=1, dtype=np.float64)
    # The variance that a block's mean has by noise; real texture inside a block counts as noise as well, which only
    # makes the estimate of detail more careful where there is a lot of it.
    by_noise = float(samples.var(axis=1, ddof=1).mean()) / per_block
    surface, inverse = _surface()
    free = means.size - _SURFACE_TERMS
    spread = float(np.square(means - surface @ (inverse @ means)).sum()) / free
    same = None if before is None else bool(np.array_equal(now.samples, before.samples))
    return Figures(
        mean=float(means.mean()),
        detail=math.sqrt(max(0.0, spread - by_noise)),
        noise=math.sqrt(_STANDARD_ERRORS * by_noise * math.sqrt(2 / free)),
        white=float((samples >= _WHITE).mean()),
        still=same,
    )


def _places(size: int, count: int) -> npt.NDArray[np.intp]:
    """`count` places at even distances among `size`, each in the middle of its part."""
    return ((2 * np.arange(count) + 1) * size // (2 * count)).astype(np.intp)


@cache
def _surface() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Terms of second order at each block, shape (144, 6), and their pseudo-inverse."""
    down, right = (place.ravel() for place in np.mgrid[-1 : 1 : ROWS * 1j, -1 : 1 : COLUMNS * 1j])
    terms = np.stack([np.ones_like(down), down, right, down * right, down**2, right**2], axis=1)
    return terms, np.linalg.pinv(terms)
