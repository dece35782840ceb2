"""Whether memory, descriptors and threads stay what they are."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from itertools import combinations

from tests.soak.vitals import Vitals

MB = 1e6
MOST_MB_PER_H = 1.0
NOISE_MB = 1.5
"""An allocator takes and keeps a page here and there: a shift of minutes may grow by so much without a slope."""
BLOCKS = 48


def slope_per_h(points: Sequence[tuple[float, float]]) -> float:
    """Theil-Sen: the median of the slopes between any two (seconds, value), an hour; 0 for less than two points.

    Of a long series, medians of blocks are taken first.
    """
    blocks = _medians(points)
    slopes = [(after - before) / (to_s - from_s) for (from_s, before), (to_s, after) in combinations(blocks, 2)]
    return statistics.median(slopes) * 3600 if slopes else 0.0


def _medians(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    size = max(1, len(points) // BLOCKS)
    cut = [points[start : start + size] for start in range(0, len(points), size)]
    return [(statistics.median(at for at, _ in part), statistics.median(value for _, value in part)) for part in cut]


def longest_life(vitals: Sequence[Vitals]) -> list[Vitals]:
    """What was measured of the process that was measured most often."""
    lives = {one.life for one in vitals}
    longest = max(lives, key=lambda life: sum(one.life == life for one in vitals))
    return [one for one in vitals if one.life == longest]


def memory_slope_mb_per_h(vitals: Sequence[Vitals]) -> float:
    """Of resident memory."""
    return slope_per_h([(one.at_s, one.rss_bytes / MB) for one in vitals])


def allowed_mb_per_h(vitals: Sequence[Vitals]) -> float:
    """The bar for these: 1 MB an hour, and for little time what noise may be."""
    hours = (vitals[-1].at_s - vitals[0].at_s) / 3600
    return max(MOST_MB_PER_H, NOISE_MB / hours)


def spread(values: Sequence[int]) -> int:
    """How far apart the highest and the lowest are."""
    return max(values) - min(values)
