"""A verifier written from docs/evidence-format.md alone agrees with `bodycam verify`, so the page suffices."""

from __future__ import annotations

import ast
import shutil
from pathlib import Path

import pytest

from tests.support import second_verifier
from tests.support.identity import BENCH_IDENTITY, make_identity
from tests.support.packages import renew_sums
from tests.support.second_verifier import Refused, verify_package
from tests.unit.verify.tampering import check, flip
from tests.unit.verify.test_verify_script import CASES, KINDS, made

__all__ = ["made"]


@pytest.fixture
def package(made: dict[str, Path], tmp_path: Path) -> Path:
    target = tmp_path / made["plain"].name
    shutil.copytree(made["plain"], target)
    return target


def test_it_knows_nothing_of_the_project() -> None:
    tree = ast.parse(Path(second_verifier.__file__).read_text())
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    modules |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert {str(module).partition(".")[0] for module in modules} <= {
        "__future__", "base64", "collections", "cryptography", "dataclasses", "datetime", "hashlib", "json", "pathlib",
        "re", "struct", "typing",
    }  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_sound_packages_pass(made: dict[str, Path], kind: str) -> None:
    verify_package(made[kind], [BENCH_IDENTITY.root])


@pytest.mark.parametrize("name", CASES)
def test_what_is_wrong_is_refused(package: Path, name: str) -> None:
    CASES[name][0](package)
    renew_sums(package)
    with pytest.raises(Refused):
        verify_package(package, [BENCH_IDENTITY.root])


def test_another_root_is_refused(package: Path) -> None:
    with pytest.raises(Refused, match="leads to the root"):
        verify_package(package, [make_identity().root])


def test_any_flipped_byte_is_judged_alike(package: Path) -> None:
    """Also where nothing signed lies: derived files and pages, whose sums were made anew."""
    files = sorted(path for path in package.rglob("*") if path.is_file() and path.name != "SHA256SUMS")
    for path in files:
        size = path.stat().st_size
        for offset in {0, size // 3, size // 2, size - 1}:
            flip(path, offset)
            renew_sums(package)
            try:
                verify_package(package, [BENCH_IDENTITY.root])
                refused = None
            except Refused as error:
                refused = str(error)
            assert (refused is None) == check(package).ok, (path.name, offset, refused, check(package).findings)
            flip(path, offset)
