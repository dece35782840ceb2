"""What the README says of commands, exit codes and pages is so."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from agent import errors
from agent.cli.main import EXIT_CODES, build_parser
from agent.controller.signals import Indication
from agent.demo.demonstration import INTERRUPTED_EXIT_CODE
from agent.panel.patterns import BUILT_IN
from agent.settings.load import load_settings

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
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
    assert listed == commands


def test_it_lists_every_exit_code_as_the_help_does() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    raised = {kind.exit_code for kind in kinds if issubclass(kind, errors.BodycamError)}
    listed = {int(code) for code in re.findall(r"^\| (\d+) \|", README, re.MULTILINE)}
    assert listed == raised | {DONE, USAGE_ERROR, INTERRUPTED_EXIT_CODE}
    assert {int(code) for code in re.findall(r"(\d+) [a-z]", EXIT_CODES)} == listed


def test_the_page_on_operations_has_the_lights_as_they_are_built_in() -> None:
    rows = re.findall(r"^\| ([a-z-]+) \| ((?:red|green|blue|amber) [^|]*) \|", OPERATIONS, re.MULTILINE)
    assert dict(rows) == {indication.value: BUILT_IN[indication.value].light for indication in Indication}


def test_the_section_on_a_desk_makes_configurations_that_load(tmp_path: Path) -> None:
    section = README.partition("## On a desk")[2].partition("\n## ")[0]
    first, addition = re.findall(r"```toml\n(.*?)```", section, re.DOTALL)
    first = first.replace("../config", str(ROOT / "config"))
    path = tmp_path / "desk.toml"
    loaded = []
    for text in (first, first + addition, (first + addition).replace('source = "none"', 'source = "alsa"')):
        path.write_text(text)
        loaded.append(load_settings(path).settings)
    assert [(s.camera.backend, s.audio.source) for s in loaded] == [
        ("synthetic", "camera"), ("webcam", "none"), ("webcam", "alsa"),
    ]  # fmt: skip


def test_every_command_of_the_section_on_a_desk_is_one_that_is_understood() -> None:
    section = README.partition("## On a desk")[2].partition("\n## ")[0]
    commands = re.findall(r"^bodycam (.*?)(?: +#.*)?$", section, re.MULTILINE)
    assert len(commands) > 8
    for command in commands:
        assert callable(build_parser().parse_args(command.split()).command)
