"""`bodycam doctor`: look at everything the camera needs and say what to do."""

from __future__ import annotations

import json
import sys
from typing import TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from agent.clock import Clock, SystemClock
from agent.doctor.check import Check, State
from agent.doctor.examination import Examination, exit_code
from agent.settings.schema import Settings

_STYLES = {State.OK: "green", State.WARN: "yellow", State.FAIL: "bold red", State.SKIPPED: "dim"}


def doctor(
    settings: Settings,
    *,
    as_json: bool,
    clock: Clock | None = None,
    examination: Examination | None = None,
    out: TextIO | None = None,
) -> int:
    """Examine this device and print one line for each check, with what to do underneath; as_json: one object instead.

    Returns 0 when everything is ok, a warning or skipped, and 1 when anything failed. The JSON is
    {"ok": bool, "checks": [{"name", "state", "found", "advice"}]}.
    """
    out = out or sys.stdout
    checks = list((examination or Examination()).run(settings, clock or SystemClock()))
    code = exit_code(checks)
    if as_json:
        document = {"ok": code == 0, "checks": [_plain(check) for check in checks]}
        out.write(json.dumps(document, indent=2) + "\n")
        return code
    console = Console(file=out, highlight=False)
    console.print(_table(checks))
    console.print(_summary(checks))
    return code


def _plain(check: Check) -> dict[str, str]:
    return {"name": check.name, "state": check.state.value, "found": check.found, "advice": check.advice}


def _table(checks: list[Check]) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for check in checks:
        # Text, not markup: device names and errors may hold square brackets.
        table.add_row(Text(check.state.value, style=_STYLES[check.state]), Text(check.name), Text(check.found))
        if check.advice:
            table.add_row("", "", Text(f"→ {check.advice}", style="italic"))
    return table


def _summary(checks: list[Check]) -> Text:
    counts = {state: sum(check.state is state for check in checks) for state in State}
    if counts[State.FAIL]:
        return Text(f"\n{counts[State.FAIL]} failed: this camera is not fit to record.", style="bold red")
    if counts[State.WARN]:
        return Text(f"\nFit to record, with {counts[State.WARN]} warning(s).", style="yellow")
    return Text("\nFit to record.", style="green")
