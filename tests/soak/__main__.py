"""`python -m tests.soak [--hours 12] [--seed 1] [--sync]`: a shift and its judgement, also in build/soak/soak.json."""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.benchmarks.figure import Figure
from tests.soak.judge import Judgement, judge

FOLDER = Path("build/soak")
SHOWN_WRONG = 20


def run_shift(folder: Path, hours: float, seed: int, *, syncs: bool, console: Console) -> None:
    """In a process of its own. Raises CalledProcessError when it died of a defect; shift.log has its last words."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    command = [sys.executable, "-m", "tests.soak.shift", str(folder), str(hours), str(seed), *["sync"] * syncs]
    with (
        (folder / "shift.log").open("wb") as log,
        console.status("The shift begins …") as status,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            done = float(json.loads(line)["done"])
            status.update(f"{done * hours:.1f} of {hours:g} hours …")
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)


def main() -> int:
    """Returns 1 when a bar is missed, or when the shift did not come to its end."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--hours", type=float, default=12.0, help="simulated; under 4 more happens in each of them")
    parser.add_argument("--seed", type=int, default=1, help="decides everything that happens")
    parser.add_argument("--sync", action="store_true", help="hand the recorder's syncs to the disk, which takes longer")
    arguments = parser.parse_args()
    console = Console(width=max(150, shutil.get_terminal_size().columns))
    repeat = f"make soak HOURS={arguments.hours:g} SEED={arguments.seed}"
    try:
        run_shift(FOLDER / "shift", arguments.hours, arguments.seed, syncs=arguments.sync, console=console)
    except subprocess.CalledProcessError as error:
        log = FOLDER / "shift" / "shift.log"
        console.print(f"The shift ended with exit code {error.returncode}; the end of {log}:", style="bold red")
        console.print("\n".join(log.read_text(errors="replace").splitlines()[-20:]), markup=False)
        console.print(f"Again: {repeat}")
        return 1
    with console.status("Everything is decoded and verified …"):
        judgement = judge(FOLDER / "shift")
    _print(console, judgement)
    missed = [figure.name for figure in judgement.figures if figure.ok is False]
    (FOLDER / "soak.json").write_text(
        json.dumps(
            {
                "hours": arguments.hours,
                "seed": arguments.seed,
                "python": platform.python_version(),
                "figures": [asdict(figure) | {"ok": figure.ok} for figure in judgement.figures],
                "findings": judgement.findings,
                "wrong": judgement.wrong,
            },
            indent=2,
        )
        + "\n"
    )
    if missed:
        console.print(f"Missed: {', '.join(missed)}. Again, with the same events: {repeat}", style="bold red")
    return 1 if missed else 0


def _print(console: Console, judgement: Judgement) -> None:
    table = Table()
    table.add_column("figure")
    for heading in ("value", "bar"):
        table.add_column(heading, justify="right")
    table.add_column("ok?")
    table.add_column("note", style="dim")
    for figure in judgement.figures:
        bar = "" if figure.bar is None else f"{figure.bar[0].replace('<=', '≤').replace('>=', '≥')} {figure.bar[1]:.4g}"
        verdict = {None: "", True: "[green]yes[/]", False: "[bold red]NO[/]"}[figure.ok]
        table.add_row(figure.name, f"{_number(figure)} {figure.unit}".strip(), bar, verdict, figure.note)
    console.print(table)
    console.print(
        "verify: " + ", ".join(f"{name} {number}" for name, number in judgement.findings.items()), style="dim"
    )
    for sentence in judgement.wrong[:SHOWN_WRONG]:
        console.print(f"- {sentence}", style="red", markup=False)
    if (more := len(judgement.wrong) - SHOWN_WRONG) > 0:
        console.print(f"- and {more} more; all of them are in {FOLDER / 'soak.json'}", style="red")


def _number(figure: Figure) -> str:
    return f"{figure.value:,.0f}" if float(figure.value).is_integer() else f"{figure.value:,.3g}"


if __name__ == "__main__":
    sys.exit(main())
