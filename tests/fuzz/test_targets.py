"""The short run: a few thousand changed inputs, the same changes each time; and what once broke a reader."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from tests.fuzz.artefacts import Artefacts
from tests.fuzz.mutation import mutated
from tests.fuzz.target import Target
from tests.fuzz.targets import TARGETS

CRASHES = Path(__file__).parents[2] / "build" / "fuzz" / "crashes"


@pytest.fixture(scope="module")
def artefacts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Artefacts]:
    made = Artefacts.kept_in(tmp_path_factory.mktemp("fuzz") / "artefacts")
    yield made
    made.close()


def test_names_are_unique() -> None:
    assert len({target.name for target in TARGETS}) == len(TARGETS)


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_real_inputs_are_read(artefacts: Artefacts, target: Target) -> None:
    seeds = target.seeds(artefacts)
    assert seeds
    for seed in seeds:
        assert len(seed) <= target.max_bytes
        target.feed(artefacts, seed)


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_changed_inputs_end_in_an_answer(artefacts: Artefacts, target: Target) -> None:
    seeds = target.seeds(artefacts)
    for number in range(target.tries):
        data = mutated(Random(f"{target.name} {number}"), seeds, target.max_bytes, is_json=target.is_json)
        try:
            target.feed(artefacts, data)
        except BaseException as error:  # noqa: BLE001  also a foreign parser's panic, which is no Exception
            pytest.fail(f"{type(error).__name__}: {error}\n{_kept(artefacts, target, data)}", pytrace=True)


def _kept(artefacts: Artefacts, target: Target, data: bytes) -> str:
    """The input on disk, beside the artefacts that it was made for."""
    folder = CRASHES / f"{target.name}-{hashlib.sha256(data).hexdigest()[:12]}"
    shutil.copytree(artefacts.folder, folder / "artefacts", dirs_exist_ok=True)
    (folder / "input").write_bytes(data)
    return f"Run it again with: make fuzz TARGET={target.name} REPLAY={folder / 'input'}"
