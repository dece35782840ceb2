"""What the README says of commands, exit codes and pages is so."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from agent import errors
from agent.cli.main import EXIT_CODES, build_parser
from agent.demo.demonstration import INTERRUPTED_EXIT_CODE

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
USAGE_ERROR, DONE = 2, 0


def test_it_opens_with_the_two_commands() -> None:
    assert README.startswith("```sh\nmake demo ")
    assert README.splitlines()[2].startswith("make test ")


def test_every_link_leads_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_it_lists_every_command() -> None:
    (subcommands,) = (a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction))
    commands = set(subcommands.choices)
    listed = set(re.findall(r"^\| `bodycam (\w+)", README, re.MULTILINE))
    assert listed == commands - {"version"}


def test_it_lists_every_exit_code_as_the_help_does() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    raised = {kind.exit_code for kind in kinds if issubclass(kind, errors.BodycamError)}
    listed = {int(code) for code in re.findall(r"^\| (\d+) \|", README, re.MULTILINE)}
    assert listed == raised | {DONE, USAGE_ERROR, INTERRUPTED_EXIT_CODE}
    assert {int(code) for code in re.findall(r"(\d+) [a-z]", EXIT_CODES)} == listed
