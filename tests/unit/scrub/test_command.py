"""`bodycam scrub` as a person and the service meet it, over a real control socket."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from agent.cli.main import build_parser
from agent.cli.scrub import LOWEST_PRIORITY, scrub
from agent.control.server import ControlServer
from agent.daemon.scrub_reports import ScrubReports
from agent.settings.schema import Settings, VaultSettings
from agent.vault.record import parse_line
from tests.support.vault_builder import VaultBuilder
from tests.unit.daemon.test_doctor_results import Storage


@dataclass
class Device:
    vault: VaultBuilder
    settings: Settings
    shown: dict[str, str | None]


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Device]:
    """A vault with one recording, and of `run` the socket and what answers at it."""
    given: list[tuple[int, ...]] = []
    monkeypatch.setattr(os, "setpriority", lambda *arguments: given.append(arguments))
    vault = VaultBuilder(tmp_path / "vault")
    vault.record(3)
    shown: dict[str, str | None] = {}
    reports = ScrubReports(Storage(vault), vault.clock, shown.__setitem__)
    status: dict[str, Any] = {"shows": "ready", "recording": None, "finishing": []}
    server = ControlServer(
        tmp_path / "control.sock",
        {"status": lambda _: status, "scrub": reports.take},
        allowed_uids=(),
        owner_commands=frozenset({"scrub"}),
    )
    server.start()
    settings = Settings(vault=replace(VaultSettings(), path=vault.root, socket_path=tmp_path / "control.sock"))
    yield Device(vault, settings, shown)
    server.close()
    assert given == [(os.PRIO_PROCESS, 0, LOWEST_PRIORITY)], "it gives way to everything else"


def types(device: Device) -> list[str]:
    (path,) = device.vault.layout.journal.glob("*.journal")
    return [parse_line(line).type for line in path.read_bytes().splitlines()]


def test_a_good_card(device: Device, capsys: pytest.CaptureFixture[str]) -> None:
    assert scrub(device.settings, mb_per_s=1000, state=None) == 0
    said = capsys.readouterr().out
    assert "3 sealed files of 1 recordings" in said
    assert "none differ" in said
    assert types(device)[-1] == "scrub"
    assert device.shown == {"bit-rot": None}


def test_a_flipped_bit_is_printed_journalled_and_shown(
    device: Device, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder,) = device.vault.layout.recordings.iterdir()
    data = bytearray((folder / "000001.m4s").read_bytes())
    data[100] ^= 0x10
    (folder / "000001.m4s").write_bytes(data)
    # Told when it was found, and at the end of the pass, for which a real camera has to be waited for.
    monkeypatch.setattr("agent.daemon.scrub_reports.PAUSE_NS", 0)
    assert scrub(device.settings, mb_per_s=1000, state=None) == 1
    said = capsys.readouterr().out
    assert f"{folder.name}/000001.m4s is not what was signed" in said
    assert types(device)[-3:] == ["scrub", "fault", "scrub"]
    assert device.shown["bit-rot"] is not None


def test_without_a_camera(device: Device, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vault = replace(device.settings.vault, socket_path=tmp_path / "nothing.sock")
    assert scrub(Settings(vault=vault), mb_per_s=1000, state=None) == 0
    assert "printed and not journalled" in capsys.readouterr().out
    assert "scrub" not in types(device)


def test_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    parser = build_parser()
    given = parser.parse_args(["scrub", "--rate", "0.5", "--state", "x/y.json"])
    assert (given.rate, given.state) == (0.5, Path("x/y.json"))
    assert parser.parse_args(["scrub"]).rate == 4.0
    for rate in ("0", "1001", "nan", "fast", "-1"):
        with pytest.raises(SystemExit):
            parser.parse_args(["scrub", "--rate", rate])
    assert "megabytes a second" in capsys.readouterr().err
