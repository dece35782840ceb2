"""An installed tree: everything `make install` puts, but for the packages that it takes from the package index."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Tree:
    """A DESTDIR."""

    root: Path

    def make(self, target: str, **environment: str) -> str:
        """`make install` or `make uninstall` into it; what it said."""
        # make's own variables, when the tests run under `make test`, are not for this one.
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))}
        done = subprocess.run(
            ["make", "--no-print-directory", "-C", str(ROOT), target],
            env={**inherited, "DESTDIR": str(self.root), "PACKAGES": "no", **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    def path(self, path: str) -> Path:
        """A path of the device in this tree."""
        return self.root / path.lstrip("/")

    def files(self) -> set[str]:
        """Every file and link, as the device names it."""
        return {
            "/" + str(path.relative_to(self.root))
            for path in self.root.rglob("*")
            if path.is_symlink() or not path.is_dir()
        }


def installed(root: Path) -> Tree:
    tree = Tree(root)
    tree.make("install")
    return tree


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    """Installed once; only looked at. Removed at the end: an environment is large."""
    folder = tmp_path_factory.mktemp("device")
    yield installed(folder)
    shutil.rmtree(folder)
