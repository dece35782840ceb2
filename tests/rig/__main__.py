"""`python -m tests.rig build|shell|powercut`: what make's rig targets run."""

from __future__ import annotations

import argparse
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.console import Console

from tests.rig.build import DEBIAN_12, HOST_PACKAGES, build
from tests.rig.campaign import campaign
from tests.rig.cut_plan import Phase
from tests.rig.layers import BuildError, require_host_packages
from tests.rig.machine import Machine
from tests.rig.power_cut import Bench
from tests.rig.qemu import RigError
from tests.rig.warm import Warm, file_drive, hot, waiting, warm

PIPED_COLUMNS = 150


def main() -> int:
    """Run one command; 1 when it failed, in words."""
    parser = argparse.ArgumentParser(prog="python -m tests.rig", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("build", help="build the virtual device, or what has changed of it")
    commands.add_parser("shell", help="a root shell in the device, on this terminal")
    powercut = commands.add_parser("powercut", help="cut the power many times, and print what it cost")
    powercut.add_argument("--cuts", type=int, default=20, metavar="N")
    powercut.add_argument("--seed", type=int, default=1, help="of the first cut; each has the next")
    powercut.add_argument("--phase", type=Phase, choices=list(Phase), help="only cuts in this phase")
    powercut.add_argument("--jobs", type=int, default=2, metavar="J", help="so many at a time")
    powercut.add_argument("--lie", action="store_true", help="the card answers flushes without obeying")
    arguments = parser.parse_args()
    try:
        if arguments.command == "build":
            everything()
            return 0
        rig = warm(build())
        if arguments.command == "shell":
            shell(rig)
        elif arguments.command == "powercut":
            console = Console(width=None if sys.stdout.isatty() else PIPED_COLUMNS)
            held = campaign(
                Bench(rig, waiting(rig), hot(rig)),
                arguments.cuts,
                first_seed=arguments.seed,
                lie=arguments.lie,
                phase=arguments.phase,
                at_once=arguments.jobs,
                console=console,
            )
            return 0 if held else 1
    except (BuildError, RigError) as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    return 0


def everything() -> None:
    """All that the tests start from, what does not wait for another at the same time. Raises BuildError or RigError."""
    require_host_packages(HOST_PACKAGES)
    with ThreadPoolExecutor(1) as pool:
        debian_12 = pool.submit(build, DEBIAN_12)
        rig = warm(build())
        waiting(rig)
        hot(rig)
        debian_12.result()


def shell(rig: Warm) -> None:
    """A warm start with the console on this terminal, until `poweroff`."""
    with tempfile.TemporaryDirectory(prefix="rig-") as folder:
        drives = rig.drives(file_drive(rig.copy_card(Path(folder) / "card.ext4")))
        print(  # noqa: T201
            "The device is up; press Enter for its prompt. `mount /var/lib/bodycam/card` inserts the card,"
            " `systemctl start bodycam` starts the camera (half a minute); `poweroff` ends. What you do is forgotten.",
            flush=True,
        )
        with Machine(rig.layers, drives, state=rig.folder / "state.zst", terminal=True) as machine:
            machine.wait()


if __name__ == "__main__":
    sys.exit(main())
