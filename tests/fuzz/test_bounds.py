"""What reading costs: steps that grow with the input and not with its square, and memory in proportion to it.

Steps are lines of Python, which are the same on any machine. What a library does in C is not counted there: of a square
in it the time limit of the tests is the only witness, and the inputs of a mebibyte are long enough for that. Nor is the
memory of age, FFmpeg and OpenSSL, which take what they are given in pieces.
"""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable, Iterator
from functools import partial
from types import FrameType
from typing import Any

import pytest

from tests.fuzz.artefacts import Artefacts
from tests.fuzz.floods import FLOODS, Flood
from tests.fuzz.targets import target

SHORT_BYTES = 4 << 10
GROWTH = 4
SLACK_STEPS = 3000
"""What does not grow: setting up, the sentence of a refusal, a certificate read once."""
BASE_MEMORY_BYTES = 1 << 20


@pytest.fixture(scope="module")
def artefacts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Artefacts]:
    made = Artefacts.kept_in(tmp_path_factory.mktemp("bounds") / "artefacts")
    yield made
    made.close()


def steps(read: Callable[[], None]) -> int:
    """How many lines of Python ran."""
    count = 0

    def trace(_frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        read()
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize("flood", FLOODS, ids=lambda flood: f"{flood.target}: {flood.name}")
def test_steps_grow_with_the_input(artefacts: Artefacts, flood: Flood) -> None:
    found = target(flood.target)
    found.feed(artefacts, flood.make(SHORT_BYTES))  # what is made once is not counted
    inputs = (flood.make(size) for size in (SHORT_BYTES, GROWTH * SHORT_BYTES))
    short, long = (steps(partial(found.feed, artefacts, data)) for data in inputs)
    assert long <= 1.25 * GROWTH * short + SLACK_STEPS, f"{short} steps, and {long} for {GROWTH} times the bytes"


@pytest.mark.parametrize("flood", FLOODS, ids=lambda flood: f"{flood.target}: {flood.name}")
def test_memory_is_in_proportion(artefacts: Artefacts, flood: Flood) -> None:
    found, data = target(flood.target), flood.make(flood.bytes)
    found.feed(artefacts, flood.make(SHORT_BYTES))
    tracemalloc.start()
    try:
        found.feed(artefacts, data)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes <= flood.memory_factor * len(data) + BASE_MEMORY_BYTES, f"{peak_bytes / len(data):.1f} a byte"


def test_a_square_would_be_seen() -> None:
    """The counter itself: a reader that goes over everything before each of its bytes."""

    def squared(data: bytes) -> None:
        total = 0
        for end in range(len(data)):
            for byte in data[:end]:
                total += byte

    short, long = (steps(partial(squared, bytes(size))) for size in (100, 100 * GROWTH))
    assert long > 1.25 * GROWTH * short + SLACK_STEPS
