"""The device booted once, its memory saved: a start from there takes seconds instead of a minute."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.rig import build
from tests.rig.build import HERE, Layers, layer, layer_key, run_logged
from tests.rig.camera import CARD, Camera
from tests.rig.machine import COMMAND_LINE, HARDWARE, Machine

CARD_BYTES = 192_000_000


@dataclass(frozen=True, slots=True)
class Warm:
    """A saved machine. card: an enrolled camera's card that has recorded nothing, to be copied."""

    layers: Layers
    folder: Path

    @property
    def card(self) -> Path:
        return self.folder / "card.ext4"

    @property
    def root_drive(self) -> str:
        """The root of the saved moment; what is written to it is forgotten."""
        return f"file={self.folder}/root.qcow2,format=qcow2,snapshot=on"

    def copy_card(self, to: Path) -> Path:
        """A card of one's own."""
        subprocess.run(["cp", "--sparse=always", "--reflink=auto", str(self.card), str(to)], check=True)
        return to

    def start(self, card: str) -> Camera:
        """A camera that is up, with its card not yet inserted and its daemon not started. To be closed by `machine`."""
        machine = Machine(self.layers, root=self.root_drive, card=card, state=self.folder / "state.zst")
        try:
            camera = Camera(machine)
            camera.be_another_boot()
        except BaseException:
            machine.kill()
            raise
        return camera

    def boot(self, card: str) -> Camera:
        """The same after a cold boot: of the saved moment's disk, whose file system is as a power cut leaves it."""
        machine = Machine(self.layers, root=self.root_drive, card=card)
        try:
            camera = Camera(machine)
            camera.fit_out()
        except BaseException:
            machine.kill()
            raise
        return camera


def file_drive(image: Path) -> str:
    """A disk that keeps what is written."""
    return f"file={image},format=raw,cache=writeback"


def warm(layers: Layers) -> Warm:
    """The saved machine of these layers, made unless it is there. Raises BuildError or RigError."""
    qemu = subprocess.run(["qemu-system-x86_64", "--version"], capture_output=True, text=True, check=True).stdout
    key = layer_key(
        layers.kernel.name, layers.device.name, qemu, HARDWARE, COMMAND_LINE, CARD_BYTES,
        *(HERE / name for name in ("camera.py", "machine.py", "warm.py")),
    )  # fmt: skip
    return Warm(layers, layer(f"warm-{layers.release.suite}", key, lambda folder: _make(folder, layers)))


def _make(folder: Path, layers: Layers) -> None:
    card, root = folder / "card.ext4", folder / "root.qcow2"
    with card.open("wb") as file:
        file.truncate(CARD_BYTES)
    # All of it initialised now: the kernel would otherwise do it behind the tests' backs.
    run_logged(folder, "mkfs.ext4", "-q", "-F", "-L", "card", "-E", "lazy_itable_init=0,lazy_journal_init=0", str(card))
    run_logged(folder, "qemu-img", "create", "-f", "qcow2", "-b", str(layers.image), "-F", "raw", str(root))
    with Machine(layers, root=f"file={root},format=qcow2", card=file_drive(card)) as machine:
        camera = Camera(machine)
        machine.run("systemctl is-system-running --wait || true", timeout_s=build.BOOT_SETTLE_S)
        camera.fit_out()
        camera.insert_card()
        # Once through all of it, so that what the daemon loads is in memory; then as if it had never been.
        machine.run(f"chown bodycam:bodycam {CARD}; runuser -u bodycam -- bodycam enroll --bench", timeout_s=120)
        camera.start()
        camera.wait_shows("ready")
        camera.stop()
        machine.run(f"rm -r {CARD}/vault/journal {CARD}/vault/recordings; sync; umount {CARD}")
        machine.save(folder / "state.zst")
    shutil.copy(folder / "log", folder / "made.log")
