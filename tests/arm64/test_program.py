"""That the program is there on arm64 at all: every module, the commands, the checks of the doctor."""

from __future__ import annotations

import json
from pathlib import Path

from agent import __version__
from tests.arm64.camera import CameraFolder
from tests.arm64.machine import ROOT, Machine

AGENT = ROOT / "agent"


def test_every_module_and_compiled_library_imports(arm64: Machine) -> None:
    said = json.loads(arm64.run("tests.arm64.programs.imports"))
    assert said["machine"] == "aarch64"
    assert {name: error for name, error in said["imports"].items() if error is not None} == {}
    paths = {path.relative_to(ROOT).with_suffix("") for path in AGENT.rglob("*.py")} - {Path("agent/__init__")}
    assert {".".join(path.parts).removesuffix(".__init__") for path in paths} <= said["imports"].keys()


def test_it_says_its_version(arm64: Machine) -> None:
    assert __version__ in arm64.run("agent", "version")


def test_the_doctor_looks_at_everything(machines: tuple[Machine, ...], tmp_path: Path) -> None:
    """What it finds differs with speed and machine; that it gets to look does not."""
    looked: list[list[str]] = []
    for number, machine in enumerate(machines):
        camera = CameraFolder(tmp_path / str(number)).write()
        checks = json.loads(machine.run("agent", "doctor", "--json", "--config", camera.configuration, expect=None))
        assert "The check itself broke" not in json.dumps(checks)
        looked.append(sorted(check["name"] for check in checks["checks"]))
    assert looked[0] == looked[1]
