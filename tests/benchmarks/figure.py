"""What a benchmark says: one figure with its unit, and the bar it has to pass."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass

_RELATIONS = {"<=": operator.le, ">=": operator.ge, "==": operator.eq}


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table.

    benchmark: which one it comes from. bar: (relation, value) with "<=", ">=" or "==", None for a figure that only
    explains another one. note: what a reader must know to judge it.
    """

    benchmark: str
    name: str
    value: float
    unit: str
    bar: tuple[str, float] | None = None
    note: str = ""

    @property
    def ok(self) -> bool | None:
        """Whether the bar is passed; None without one."""
        return None if self.bar is None else bool(_RELATIONS[self.bar[0]](self.value, self.bar[1]))


def percentile(values: Sequence[float], percent: float) -> float:
    """Nearest-rank percentile: with under 100 values the 99th is the largest. Raises ValueError for no values."""
    if not values:
        raise ValueError("A percentile needs at least one value.")
    ordered = sorted(values)
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]
