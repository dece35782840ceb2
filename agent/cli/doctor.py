"""`bodycam doctor`: look at everything the camera needs and say what to do."""

from __future__ import annotations

import json
import sys
from typing import Any, TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from agent.clock import Clock, SystemClock
from agent.control.client import ControlClient
from agent.daemon.doctor_results import MAX_FOUND_CHARS
from agent.doctor.check import Check, State
from agent.doctor.examination import Examination, exit_code
from agent.errors import ControlError
from agent.settings.schema import Settings

_STYLES = {State.OK: "green", State.WARN: "yellow", State.FAIL: "bold red", State.SKIPPED: "dim"}


def doctor(
    settings: Settings,
    *,
    as_json: bool,
    record: bool = False,
    clock: Clock | None = None,
    examination: Examination | None = None,
    out: TextIO | None = None,
) -> int:
    """Examine this device and print one line for each check, with what to do underneath; as_json: one object instead.

    Returns 0 when everything is ok, a warning or skipped, and 1 when anything failed. The JSON is
    {"ok": bool, "checks": [{"name", "state", "found", "advice"}]}; with `record`, which has the running daemon journal
    the results, also "recorded": bool. Raises ControlError, behind the output, when it does not.
    """
    out = out or sys.stdout
    checks = list((examination or Examination()).run(settings, clock or SystemClock()))
    code = exit_code(checks)
    refusal = _record(settings, checks) if record else None
    if as_json:
        document: dict[str, Any] = {"ok": code == 0, "checks": [_plain(check) for check in checks]}
        if record:
            document["recorded"] = refusal is None
        out.write(json.dumps(document, indent=2) + "\n")
    else:
        console = Console(file=out, highlight=False, emoji=False)
        console.print(_table(checks))
        console.print(_summary(checks))
        if record and refusal is None:
            console.print("The camera has journalled this.")
    if refusal is not None:
        raise refusal
    return code


def _record(settings: Settings, checks: list[Check]) -> ControlError | None:
    tests = [{"name": check.name, "state": check.state.value, "found": _short(check.found)} for check in checks]
    try:
        ControlClient(settings.vault.socket_path).request({"command": "self-test", "tests": tests})
    except ControlError as error:
        return error
    return None


def _short(found: str) -> str:
    """As the journal takes it."""
    text = "".join(character if character.isprintable() else " " for character in found)
    return text if len(text) <= MAX_FOUND_CHARS else f"{text[: MAX_FOUND_CHARS - 1]}…"


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
