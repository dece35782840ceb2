"""`python -m tests.benchmarks [NAME...] [--quick]`: a table, and build/benchmark.json."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.benchmarks import cpu, frames, latency, memory, phases, scale, start, verify
from tests.benchmarks.figure import Figure

BENCHMARKS: dict[str, Callable[..., list[Figure]]] = {
    "cpu": cpu.run,
    "memory": memory.run,
    "latency": latency.run,
    "start": start.run,
    "scale": scale.run,
    "frames": frames.run,
    "verify": verify.run,  # after frames: it checks the vault that frames recorded
    "phases": phases.run,
}
FOLDER = Path("build/benchmark")
JSON = Path("build/benchmark.json")


def main() -> int:
    """Run those named, or all. Returns 1 when a bar is missed or a benchmark could not be carried out."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which to run, of: {', '.join(BENCHMARKS)}")
    parser.add_argument("--quick", action="store_true", help="short runs while developing; no figures to publish")
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.names if name not in BENCHMARKS]:
        parser.error(f"there is no benchmark {unknown[0]!r}; there are {', '.join(BENCHMARKS)}")
    FOLDER.mkdir(parents=True, exist_ok=True)
    console = Console(width=max(150, shutil.get_terminal_size().columns))
    figures: list[Figure] = []
    failed: dict[str, str] = {}
    for name in arguments.names or BENCHMARKS:
        before_s = time.monotonic()
        with console.status(f"{name} …"):
            try:
                figures += BENCHMARKS[name](FOLDER, quick=arguments.quick)
            except Exception as error:  # noqa: BLE001 the others still have something to say
                traceback.print_exc()
                failed[name] = f"{type(error).__name__}: {error}"
        console.print(f"{name}: {time.monotonic() - before_s:.0f} s, load {os.getloadavg()[0]:.1f}", style="dim")
    _print(console, figures, failed)
    JSON.write_text(
        json.dumps(
            {
                "quick": arguments.quick,
                "machine": {"cpus": os.cpu_count(), "architecture": platform.machine(), "system": platform.system()},
                "python": platform.python_version(),
                "figures": [asdict(figure) | {"ok": figure.ok} for figure in figures],
                "failed": failed,
            },
            indent=2,
        )
        + "\n"
    )
    return 1 if failed or any(figure.ok is False for figure in figures) else 0


def _print(console: Console, figures: list[Figure], failed: dict[str, str]) -> None:
    table = Table()
    for heading in ("benchmark", "figure"):
        table.add_column(heading)
    for heading in ("value", "bar"):
        table.add_column(heading, justify="right")
    table.add_column("ok?")
    table.add_column("note", style="dim")
    for figure in figures:
        bar = "" if figure.bar is None else f"{figure.bar[0].replace('<=', '≤').replace('>=', '≥')} {figure.bar[1]:.4g}"
        verdict = {None: "", True: "[green]yes[/]", False: "[bold red]NO[/]"}[figure.ok]
        value = f"{figure.value:,.0f}" if float(figure.value).is_integer() else f"{figure.value:,.3g}"
        if abs(figure.value) >= 1000:
            value = f"{figure.value:,.0f}"
        table.add_row(figure.benchmark, figure.name, f"{value} {figure.unit}".strip(), bar, verdict, figure.note)
    for name, message in failed.items():
        table.add_row(name, "could not be carried out", "", "", "[bold red]NO[/]", message)
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
