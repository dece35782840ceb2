"""`bodycam verify` on a vault against `sha256sum` on the same bytes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from agent.vault.filesystem import PosixFilesystem
from agent.vault.layout import VaultLayout
from tests.benchmarks import frames
from tests.benchmarks.figure import Figure
from tests.benchmarks.process import environment

WANTED_BYTES = 300_000_000
_ROUNDS = 5


@dataclass(frozen=True, slots=True)
class _Cost:
    wall_s: float
    cpu_s: float


def run(folder: Path, *, quick: bool) -> list[Figure]:
    """The vault of the benchmark `frames`, recorded first if it is not there."""
    vault = folder / frames.VAULT / "vault"
    wanted = 0 if quick else WANTED_BYTES
    if not vault.is_dir() or _size_bytes(vault) < wanted:
        frames.run(folder, quick=quick)
    files = sorted(str(path) for path in vault.rglob("*") if path.is_file())
    size_bytes = _size_bytes(vault)
    root = VaultLayout(vault).root_certificate
    ours = [sys.executable, "-m", "agent", "verify", str(vault), "--root", str(root)]
    _cost(["sha256sum", *files])  # reads everything into the page cache
    rounds = [(_cost(ours), _cost(["sha256sum", *files])) for _ in range(_ROUNDS)]
    verify_s, sha_s = (min(pair[side].wall_s for pair in rounds) for side in (0, 1))
    verify_cpu_s, sha_cpu_s = (min(pair[side].cpu_s for pair in rounds) for side in (0, 1))
    start_s = min(_cost([sys.executable, "-m", "agent", "version"]).cpu_s for _ in range(3))
    return [
        Figure("verify", "throughput ÷ sha256sum", sha_s / verify_s, "", None if quick else (">=", 0.8),
               f"{size_bytes / 1e6:.0f} MB, page cache warm, best of {_ROUNDS} in turns, start-up included"),
        Figure("verify", "throughput ÷ sha256sum, by CPU time", sha_cpu_s / verify_cpu_s, ""),
        Figure("verify", "bodycam verify", size_bytes / verify_s / 1e6, "MB/s",
               note=f"{start_s:.2f} s CPU of it for the interpreter and imports"),
        Figure("verify", "sha256sum", size_bytes / sha_s / 1e6, "MB/s"),
    ]  # fmt: skip


def _size_bytes(vault: Path) -> int:
    filesystem = PosixFilesystem()
    return sum(filesystem.size_bytes(path) or 0 for path in vault.rglob("*") if path.is_file())


def _cost(command: list[str]) -> _Cost:
    before_s = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment())
    _, status, usage = os.wait4(process.pid, 0)
    wall_s = time.perf_counter() - before_s
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{command[0]} ended with exit code {process.returncode}; its message is above.")
    return _Cost(wall_s, usage.ru_utime + usage.ru_stime)
