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

from agent.errors import DemoError
from tests.benchmarks.figure import Figure
from tests.soak.judge import Judgement, judge
from tests.soak.live import Live, judge_live

FOLDER = Path("build/soak")
LOG_NAME = "shift.log"
SHOWN_WRONG = 20
SAID_TIMES = 12
PIPED_COLUMNS = 120


def run_shift(folder: Path, hours: float, seed: int, *, syncs: bool, console: Console) -> None:
    """In a process of its own. Raises CalledProcessError when it died of a defect; its log has its last words."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    command = [sys.executable, "-m", "tests.soak.shift", str(folder), str(hours), str(seed), *["sync"] * syncs]
    with (
        (folder / LOG_NAME).open("wb") as log,
        console.status("The shift begins …") as status,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        assert process.stdout is not None
        said = 0
        for line in process.stdout:
            done = float(json.loads(line)["done"])
            status.update(f"{done * hours:.2f} of {hours:g} hours …")
            if not console.is_terminal and int(done * SAID_TIMES) > said:  # a status line is nothing in a log file
                said = int(done * SAID_TIMES)
                console.print(f"{done * hours:.2f} of {hours:g} hours …")
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)


def run_live(folder: Path, minutes: float, seed: int, console: Console) -> tuple[list[Figure], list[str]]:
    """The daemon itself, in real time. A daemon that does not do what it should is one figure that missed its bar."""
    shutil.rmtree(folder, ignore_errors=True)
    live = Live(folder, minutes, seed)
    what = f"`bodycam run` is pressed, unplugged and killed for {minutes:g} min in real time …"
    if not console.is_terminal:
        console.print(what)
    with console.status(what):
        try:
            live.run()
        except DemoError as error:
            return [Figure("live", "came to its end", 0, "", ("==", 1))], [str(error)]
    return judge_live(live)


def main() -> int:
    """Returns 1 when a bar is missed, or when the shift did not come to its end."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--hours", type=float, default=12.0, help="simulated; under 4 more happens in each of them")
    parser.add_argument("--seed", type=int, default=1, help="decides everything that happens")
    parser.add_argument("--live", type=float, default=5.0, help="minutes of the real process in real time; 0 for none")
    parser.add_argument("--sync", action="store_true", help="hand the recorder's syncs to the disk, which takes longer")
    parser.add_argument("--judge", action="store_true", help="only judge again what the last shift left")
    arguments = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else PIPED_COLUMNS)
    repeat = f"make soak HOURS={arguments.hours:g} SEED={arguments.seed} LIVE={arguments.live:g}"
    repeat += " SYNC=1" if arguments.sync else ""
    shift = FOLDER / "shift"
    if not arguments.judge:
        try:
            run_shift(shift, arguments.hours, arguments.seed, syncs=arguments.sync, console=console)
        except subprocess.CalledProcessError as error:
            log = shift / LOG_NAME
            console.print(f"The shift ended with exit code {error.returncode}; the end of {log}:", style="bold red")
            console.print("\n".join(log.read_text(errors="replace").splitlines()[-20:]), markup=False)
            console.print(f"Again: {repeat}")
            return 1
    with console.status("Everything is decoded and verified …"):
        judgement = judge(shift)
    if arguments.live and not arguments.judge:
        figures, wrong = run_live(FOLDER / "live", arguments.live, arguments.seed, console)
        judgement.figures += figures
        judgement.wrong += wrong
    _print(console, judgement)
    _write(judgement, arguments)
    missed = [figure.name for figure in judgement.figures if figure.ok is False]
    barred = sum(figure.ok is not None for figure in judgement.figures)
    console.print(f"{barred - len(missed)} of {barred} bars are held.", style="" if missed else "bold green")
    if missed:
        console.print(f"Missed: {', '.join(missed)}. Again, with the same events: {repeat}", style="bold red")
    return 1 if missed else 0


def _write(judgement: Judgement, arguments: argparse.Namespace) -> None:
    told = {
        "hours": arguments.hours,
        "seed": arguments.seed,
        "python": platform.python_version(),
        "figures": [asdict(figure) | {"ok": figure.ok} for figure in judgement.figures],
        "findings": judgement.findings,
        "wrong": judgement.wrong,
    }
    (FOLDER / "soak.json").write_text(json.dumps(told, indent=2) + "\n")


def _print(console: Console, judgement: Judgement) -> None:
    table = Table()
    for heading in ("of", "figure"):
        table.add_column(heading)
    for heading in ("value", "bar"):
        table.add_column(heading, justify="right")
    table.add_column("ok?")
    table.add_column("note", style="dim")
    for figure in judgement.figures:
        bar = "" if figure.bar is None else f"{figure.bar[0].replace('<=', '≤').replace('>=', '≥')} {figure.bar[1]:.4g}"
        verdict = {None: "", True: "[green]yes[/]", False: "[bold red]NO[/]"}[figure.ok]
        table.add_row(
            figure.benchmark, figure.name, f"{_number(figure)} {figure.unit}".strip(), bar, verdict, figure.note
        )
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
