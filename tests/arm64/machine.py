"""Python on this computer and Python on an emulated arm64, by the same handle."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.arm64.build import QEMU, Userland

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 500


@dataclass(frozen=True)
class Machine:
    """name: as `uname -m` says there. command: what starts Python. packages: where that looks for modules."""

    name: str
    command: tuple[str, ...]
    packages: tuple[Path, ...]

    def run(self, module: str, *arguments: object, expect: int | None = 0) -> str:
        """What `python -m module` writes to its standard output. Fails when its exit code is not `expect`."""
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(map(str, self.packages)),
            "PYTHONNOUSERSITE": "1",
            # Both take the same width of a terminal, whatever this one has.
            "COLUMNS": "120",
        }
        done = subprocess.run(
            [*self.command, "-m", module, *map(str, arguments)],
            cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
            timeout=TIMEOUT_S,
        )  # fmt: skip
        if expect is not None:
            said = f"{self.name}: {module} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
            assert done.returncode == expect, said
        return done.stdout


def this_machine() -> Machine:
    """The one that the tests run on."""
    return Machine(os.uname().machine, (sys.executable,), (ROOT,))


def emulated(userland: Userland) -> Machine:
    """arm64, its system calls answered by this kernel."""
    qemu = shutil.which(QEMU)
    assert qemu is not None
    command = (qemu, "-L", str(userland.tree), str(userland.python))
    return Machine("aarch64", command, (ROOT, userland.site))
