"""Every kind of tampering is found by both verifiers under the codes that are declared; every sound package passes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tamper.bases import SOUND, Bases
from tests.tamper.cells import FILE_KINDS, TAMPERINGS
from tests.tamper.cells import KINDS as CELLS
from tests.tamper.checks import by_script, by_verify
from tests.tamper.kind import Kind
from tests.tamper.matrix import KINDS, NAMED, spread
from tests.tamper.page import PAGE, tables
from tests.tamper.table import FILES, declared_ids, row_of

WHOLE = "WHOLE_MATRIX"
"""Set in the environment, verify.sh is run on every kind: a quarter of an hour in place of a minute."""
CHOSEN = {kind.id for kind in KINDS} if os.environ.get(WHOLE) else spread()
BY_SCRIPT = [kind for kind in KINDS if kind.id in CHOSEN]
LEAST_KINDS = 300


def id_of(kind: Kind) -> str:
    return kind.id


@pytest.fixture
def copy(tmp_path: Path) -> Iterator[Path]:
    """Where a copy goes that may be harmed. It is taken away: the matrix is large."""
    yield tmp_path / "store"
    shutil.rmtree(tmp_path, ignore_errors=True)


def tampered(kind: Kind, bases: Bases, folder: Path) -> Path:
    source = bases.packages[kind.base]
    package = folder / source.parent.name / source.name
    shutil.copytree(source, package)
    kind.commit(package, bases)
    return package


@pytest.mark.parametrize("kind", KINDS, ids=id_of)
def test_verify_finds_it(bases: Bases, copy: Path, kind: Kind) -> None:
    package = tampered(kind, bases, copy)
    found = by_verify(package, bases, kind.base, opened=kind.opened)
    assert row_of(kind).verify.differences(found.fails, found.warns, found.notes) == [], found.said


@pytest.mark.parametrize("kind", BY_SCRIPT, ids=id_of)
def test_the_script_finds_it(bases: Bases, copy: Path, kind: Kind) -> None:
    package = tampered(kind, bases, copy)
    found = by_script(package, bases, kind.base)
    assert row_of(kind).script.differences(found.fails, found.warns, found.notes) == [], found.said
    assert "FORGED" not in found.fails
    assert not list(copy.rglob("pwned"))


@pytest.mark.parametrize("base", SOUND)
def test_every_sound_package_passes_both(bases: Bases, base: str) -> None:
    package = bases.packages[base]
    for found in (by_verify(package, bases, base), by_script(package, bases, base)):
        assert (found.fails, found.warns) == (set(), set()), found.said


def test_every_kind_has_one_row_and_every_row_a_kind() -> None:
    assert len({kind.id for kind in KINDS}) == len(KINDS)
    for kind in KINDS:
        row_of(kind)
    left = {(kind.section, kind.name if kind.sums else f"{kind.name}, sums left") for kind in KINDS}
    assert declared_ids() <= left | {(kind.section, kind.name) for kind in KINDS}
    assert len(NAMED) >= LEAST_KINDS
    assert {kind.base for kind in KINDS} >= {"plain", "power cut", "gap", "encrypted", "stamped", "rotated"}


def test_every_file_of_every_package_is_of_one_kind_and_every_kind_has_every_tampering(bases: Bases) -> None:
    """What fails when a package gets a file that nobody thought of tampering with, or a tampering is left out."""
    for base in SOUND:
        package = bases.packages[base]
        for path in (path for path in package.rglob("*") if path.is_file()):
            name = str(path.relative_to(package))
            patterns = {kind.pattern for kind in FILE_KINDS if kind.matches(name)}
            assert len(patterns) == 1, f"{name} of {base} is of {len(patterns)} kinds in tests/tamper/cells.py"
    cells = {(kind.section, kind.name, kind.sums) for kind in CELLS}
    for file in FILE_KINDS:
        assert file.of(bases.packages[file.base])
        for tampering in TAMPERINGS:
            for sums in (True, False):
                if (file.name, sums) != ("SHA256SUMS", True):
                    assert (f"{FILES}: {file.name}", tampering, sums) in cells


def test_what_is_not_refused_is_said_why() -> None:
    """A kind that a verifier lets pass, or that it judges otherwise than the other, has its reason in words."""
    silent = [
        kind.id
        for kind in KINDS
        if not row_of(kind).why
        and (row_of(kind).verify.outcome == "passes" or row_of(kind).verify.outcome != row_of(kind).script.outcome)
    ]
    assert silent == []


def test_the_page_is_what_the_table_says() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for mark, table in tables().items():
        assert table in text, f"The part {mark!r} of {PAGE.name} is out of date: python -m tests.tamper.page"
