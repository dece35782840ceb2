"""A device that was just flashed, on Debian 12, as the other tests have Debian 13: from its first boot to ready by
itself, what it knows of the time without a clock, its serial line, and how bodycam is taken off it again.
"""

from __future__ import annotations

import json
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from agent.clock import NS_PER_S
from agent.trust.certificates import load_chain
from agent.vault.filesystem import PosixFilesystem
from agent.vault.layout import VaultLayout
from agent.verify.finding import Code
from agent.verify.verify import verify_path
from tests.rig.build import DEBIAN_12, SOURCES, Layers, build, tracked
from tests.rig.camera import CARD, Camera
from tests.rig.layers import FOLDER, ROOT
from tests.rig.machine import Machine
from tests.rig.power_cut import CAUGHT_UP_FRAGMENTS
from tests.rig.warm import enrol, new_device
from tests.support.playback import journal_records, of_type

NO_CLOCK = "1970-01-01"
"""What a board without a clock of its own has after its power was off."""
LINES = 20


@pytest.fixture(scope="module")
def debian_12(pytestconfig: pytest.Config) -> Layers:
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        return build(DEBIAN_12)


def test_from_the_first_boot_to_taking_it_off_again(debian_12: Layers, tmp_path: Path) -> None:
    drives = new_device(debian_12, tmp_path)
    with Machine(debian_12, drives) as machine:
        enrol(Camera(machine))
        # As docs/operations.md has it, but that the card is found by its place.
        machine.run(
            r"sed -i 's,^\(/dev/vdb .*\)noauto,\1nofail,; s,^\(/dev/vdd .*\)noauto,\1nofail,' /etc/fstab;"
            " systemctl enable bodycam.service"
        )
        exchange_lines(machine)
        machine.power_off()
    with Machine(debian_12, drives, rtc=NO_CLOCK) as machine:
        camera = Camera(machine)
        camera.watch()
        ready = camera.wait_shows("ready", timeout_s=180)
        note_boot(ready["boottime_ns"], camera)
        camera.double_press()
        camera.wait_status(
            lambda status: (status["durable_fragments"] or 0) >= CAUGHT_UP_FRAGMENTS, "it recorded", timeout_s=90
        )
        camera.end_recording()
        camera.stop()
        camera.copy_vault(tmp_path / "vault")
        judge(VaultLayout(tmp_path / "vault"))
        take_it_off(machine)


def exchange_lines(machine: Machine) -> None:
    """Over the serial line with the microcontroller's side of it, as the camera's user, at its speed."""
    with socket.socket(socket.AF_UNIX) as microcontroller:
        microcontroller.connect(str(machine.bridge))
        microcontroller.settimeout(60)
        answering = threading.Thread(target=echo, args=(microcontroller,), daemon=True)
        answering.start()
        machine.put(
            b"import serial, sys\n"
            b"line = serial.Serial('/dev/ttyS1', 115200, timeout=30, exclusive=True)\n"
            b"for number in range(%d):\n"
            b"    line.write(b'ping %%d\\n' %% number)\n"
            b"    assert line.readline() == b'pong %%d\\n' %% number\n" % LINES,
            "/run/exchange.py",
        )
        # In a console's mode a line discipline would echo and translate; pyserial makes it raw.
        machine.run("runuser -u bodycam -- /opt/bodycam/bin/python /run/exchange.py", timeout_s=90)
        answering.join(10)


def echo(microcontroller: socket.socket) -> None:
    with microcontroller.makefile("rwb") as lines:
        for _ in range(LINES):
            lines.write(lines.readline().replace(b"ping", b"pong"))
            lines.flush()


def note_boot(ready_ns: int, camera: Camera) -> None:
    """Keep how long it took, for people: seconds since the kernel began. It says nothing of a Pi."""
    asked = {
        "systemd_s": "systemctl show -P UserspaceTimestampMonotonic",
        "agent_started_s": "systemctl show -P ExecMainStartTimestampMonotonic bodycam.service",
    }
    times = {name: round(int(camera.machine.run(shell)) / 1e6, 1) for name, shell in asked.items()}
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "boot.json").write_text(json.dumps({**times, "ready_s": round(ready_ns / NS_PER_S, 1)}, indent=1) + "\n")


def judge(layout: VaultLayout) -> None:
    """One verified recording, of a time that nobody knew and that the records do not pretend to know."""
    report = verify_path(layout.root, roots=load_chain(layout.root_certificate))
    assert report.ok, report.findings
    assert Code.TIME_UNSYNCHRONISED in {finding.code for finding in report.findings}
    records = journal_records(PosixFilesystem(), layout)
    boot = of_type(records, "boot")[-1]
    assert "Debian GNU/Linux 12" in boot["os_name"]
    assert boot["python_version"].startswith("3.11.")
    (trigger,) = of_type(records, "trigger")
    assert trigger["clock_source"] == "unsynchronised"


def take_it_off(machine: Machine) -> None:
    """`make uninstall` and `make install` on a running system: nothing that is not its own goes, and it comes back."""
    sources = [str(path.relative_to(ROOT)) for path in tracked(*SOURCES)]
    tar = subprocess.run(["tar", "-C", str(ROOT), "-czf", "-", *sources], capture_output=True, check=True).stdout
    machine.put(tar, "/run/source.tgz")
    machine.run("mkdir -p /run/source && tar -C /run/source -xzf /run/source.tgz && make -C /run/source uninstall")
    assert machine.run("ls /opt/bodycam /usr/local/bin/bodycam 2>/dev/null || true") == ""
    assert machine.run("systemctl list-unit-files --no-legend 'bodycam*' || true").strip() == ""
    assert machine.run("ls /usr/local/lib/udev/rules.d 2>/dev/null || true") == ""
    # Evidence, key and settings are none of the program's.
    kept = f"/etc/bodycam/bodycam.toml /var/lib/bodycam/key/device.key {CARD}/vault/journal"
    machine.run(f"ls -d {kept}; id bodycam")
    # The packages themselves are what the image's making has tried.
    machine.run("make -C /run/source install PACKAGES=no", timeout_s=300)
    assert machine.run("systemctl is-enabled bodycam.service || true").strip() == "disabled"
    assert "bodycam" in machine.run("systemctl cat bodycam.service")
    assert machine.run("stat -c %G /dev/video0 2>/dev/null || echo video").strip() == "video"
    machine.run(f"ls -d {kept}")
