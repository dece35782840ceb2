"""Builds what arm64 programs need here: Debian's Python for arm64, and the pinned packages as aarch64 wheels.

Debian's packages are only unpacked, and nothing of them runs while that is done: neither binfmt nor chroot is needed.
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.rig.build import EXTRAS, LEFT_OUT_OF_ROOT
from tests.rig.layers import layer, layer_key, mmdebstrap, require_host_packages, run_logged
from tests.rig.pins import pinned, wheels_for

SUITE = "bookworm"
PYTHON = "3.11"
"""Of SUITE."""

QEMU = "qemu-aarch64-static"
HOST_PACKAGES = {QEMU: "qemu-user-static", "mmdebstrap": "mmdebstrap"}
PACKAGES = ("python3", "libstdc++6")


@dataclass(frozen=True, slots=True)
class Userland:
    """Where it lies. tree: the root of Debian's files. site: the folder of the Python packages."""

    tree: Path
    site: Path

    @property
    def python(self) -> Path:
        """An arm64 program."""
        return self.tree / "usr" / "bin" / f"python{PYTHON}"


def build() -> Userland:
    """Make what is missing. Raises BuildError."""
    require_host_packages(HOST_PACKAGES)
    tree = layer("arm64-debian", layer_key(SUITE, PACKAGES), _tree)
    locks = [pinned("run.lock", python=PYTHON), pinned("dev.lock", *EXTRAS, python=PYTHON)]
    site = layer("arm64-wheels", layer_key(PYTHON, locks), lambda folder: _site(folder, locks))
    return Userland(tree / "root", site / "site")


def _tree(folder: Path) -> None:
    tar = folder / "root.tar"
    excluded = (f"--dpkgopt=path-exclude={pattern}" for pattern in LEFT_OUT_OF_ROOT)
    mmdebstrap(folder, PACKAGES, *excluded, "--architectures=arm64", SUITE, str(tar), variant="extract")
    (folder / "root").mkdir()
    # Unpacked again so that it belongs to whoever builds it, and without device files, which only root can make.
    run_logged(folder, "tar", "-C", str(folder / "root"), "-xf", str(tar), "--no-same-owner", "--exclude=./dev")
    tar.unlink()


def _site(folder: Path, locks: list[str]) -> None:
    files = [folder / f"{number}.lock" for number in range(len(locks))]
    for file, lock in zip(files, locks, strict=True):
        file.write_text(lock)
    run_logged(
        folder, sys.executable, "-m", "pip", "install", "--quiet", *wheels_for(PYTHON, "aarch64"),
        "--target", str(folder / "site"), *(f"--requirement={file}" for file in files),
    )  # fmt: skip
    shutil.rmtree(folder / "site" / "bin", ignore_errors=True)
