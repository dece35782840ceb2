"""The layers that the virtual device, and arm64's userland, are built in.

Each lies in a folder named by a hash of all that goes into it, so that only what changed is made again: in build/rig,
or where RIG_CACHE says, which several checkouts may share. Debian's packages are whatever its mirror holds on the day a
layer is made.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
FOLDER = ROOT / "build" / "rig"
"""Where cases and logs go."""
CACHE = Path(os.environ.get("RIG_CACHE") or FOLDER)
"""Where layers go."""
KEPT_LAYERS = 12
"""Of each name: those that were used last."""

APT_OPTIONS = ('Acquire::Languages "none"', 'APT::Install-Recommends "false"')

Make = Callable[[Path], None]
"""Fills a layer's folder."""


class BuildError(Exception):
    """A step of the build failed; the message says which, and where its log is."""


def layer_key(*inputs: object) -> str:
    """A short hash of values, and of names and contents of files."""
    digest = hashlib.sha256()
    for value in inputs:
        if isinstance(value, Path):
            digest.update(f"{value.relative_to(ROOT)} {hashlib.sha256(value.read_bytes()).hexdigest()}\n".encode())
        else:
            digest.update(f"{value!r}\n".encode())
    return digest.hexdigest()[:16]


def layer(name: str, key: str, make: Make) -> Path:
    """The folder of a layer, made unless it is there whole; the least used ones go. Raises what `make` raises."""
    layers = CACHE / name
    layers.mkdir(parents=True, exist_ok=True)
    folder = layers / key
    # Another checkout may be making the same one.
    with (layers / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            with step(f"Making the rig's {name}"):
                # Made under another name: a folder that has the right one is whole.
                making = layers / f"{key}.making"
                shutil.rmtree(making, ignore_errors=True)
                making.mkdir()
                make(making)
                making.rename(folder)
        os.utime(folder)
        made = sorted((path for path in layers.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime_ns)
        for old in made[:-KEPT_LAYERS]:
            shutil.rmtree(old)
    return folder


@contextmanager
def step(what: str) -> Iterator[None]:
    """Say that something that takes time begins, and how long it took. Several may be under way."""
    started_s = time.monotonic()
    print(f"{what} …", flush=True)  # noqa: T201
    try:
        yield
    except BaseException:
        print(f"{what} failed.", flush=True)  # noqa: T201
        raise
    print(f"{what} took {time.monotonic() - started_s:.0f} s.", flush=True)  # noqa: T201


def run_logged(folder: Path, *command: str) -> None:
    """Run a program; what it says goes to the folder's log. Raises BuildError with the end of that."""
    log = folder / "log"
    with log.open("ab") as output:
        done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False)
    if done.returncode != 0:
        kept = FOLDER / "failed.log"
        shutil.copy(log, kept)
        last = "\n".join(kept.read_text(errors="replace").splitlines()[-25:])
        raise BuildError(f"{command[0]} failed with exit code {done.returncode}; all it said is in {kept}:\n{last}")


def as_root() -> list[str]:
    return [] if os.geteuid() == 0 else ["sudo"]


def require_host_packages(tools: Mapping[str, str]) -> None:
    """Install the packages whose programs are missing, as tools/setup.sh does. Raises BuildError where it cannot be."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    # Workers of one test run come here together, and apt's own lock of its lists waits for nobody.
    with (FOLDER / "packages.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        missing = sorted({package for tool, package in tools.items() if _which(tool) is None})
        if not missing:
            return
        if shutil.which("apt-get") is None:
            raise BuildError(f"The rig needs {', '.join(missing)}. Install them with this machine's package manager.")
        with step(f"Installing Debian packages {' '.join(missing)}"):
            apt = [
                *as_root(),
                "env",
                "DEBIAN_FRONTEND=noninteractive",
                "apt-get",
                "-qq",
                "-o",
                "DPkg::Lock::Timeout=300",
            ]
            run_logged(FOLDER, *apt, "update")
            run_logged(FOLDER, *apt, "install", "--yes", "--no-install-recommends", *missing)


def _which(tool: str) -> str | None:
    # mkfs is in a folder that only root has on its path.
    return shutil.which(tool, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def mmdebstrap(folder: Path, packages: tuple[str, ...], *arguments: str, variant: str = "minbase") -> None:
    """Debian as the last arguments say, with these packages; `folder` is for the log. Raises BuildError."""
    run_logged(
        folder, *as_root(), "mmdebstrap", f"--variant={variant}", *(f"--aptopt={option}" for option in APT_OPTIONS),
        f"--include={','.join(packages)}", *arguments,
    )  # fmt: skip
