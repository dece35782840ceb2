"""Choosing, among all that a disk may hold after a power cut, the states worth booting."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from tests.support.disk_model import FileNode, NameChange, TailFate


def cut_plans(
    changes: list[NameChange], files: list[FileNode], random: Random
) -> Iterator[tuple[set[NameChange], dict[FileNode, TailFate]]]:
    """Which name changes survive and what becomes of each file: an endless choice that may repeat itself.

    First the smallest and the largest, then by turns one deviation from either and a random mixture.
    """
    smallest = {file: TailFate(0, 0) for file in files}
    largest = {file: file.largest_fate() for file in files}
    yield set(), smallest
    yield set(changes), largest
    # One thing gone wrong, all else as good (or as bad) as can be: what random mixtures reach only by luck.
    deviations: list[tuple[set[NameChange], dict[FileNode, TailFate]]] = []
    for change in changes:
        deviations.append((set(changes) - {change}, largest))
        deviations.append(({change}, smallest))
    for file in files:
        for fate in (TailFate(0, 0), *(file.some_fate(random) for _ in range(4))):
            deviations.append((set(changes), {**largest, file: fate}))
        deviations.append((set(changes), {**smallest, file: file.largest_fate()}))
    random.shuffle(deviations)
    while True:
        if deviations:
            yield deviations.pop()
        odds = random.choice((0.2, 0.5, 0.8))
        survived = {change for change in changes if random.random() < odds}
        yield survived, {file: file.some_fate(random) for file in files}


def in_words(changes: list[NameChange], survived: set[NameChange], fates: dict[FileNode, TailFate]) -> str:
    """A plan for people: what of the unsynced was lost."""
    lost = [change.added or f"removal of {change.removed}" for change in changes if change not in survived]
    tails = [f"of {file.size_bytes} live bytes' tail {fate}" for file, fate in fates.items()]
    return f"names lost: {', '.join(lost) or 'none'}; files: {'; '.join(tails) or 'all synced'}"
