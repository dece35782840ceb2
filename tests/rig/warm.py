"""The device booted once, its memory saved: a start from there takes seconds instead of a minute.

There are three such moments: `Warm`, up but with nothing inserted and no daemon; `Waiting`, the same with a daemon that
has started and waits for its card; and `Hot`, ready to record with a full buffer. What follows a power cut starts from
one of the first two, as nothing of a daemon outlives a cut.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.rig import build
from tests.rig.build import Layers
from tests.rig.camera import CARD, MEMORY, STORE, VAULT, Camera
from tests.rig.layers import HERE, Make, layer, layer_key, run_logged
from tests.rig.machine import COMMAND_LINE, HARDWARE, Drives, Machine

DISKS_BYTES = {"card": 256 << 20, "store": 96 << 20, "memory": 16 << 20}
BUFFER_S = 5.5
"""A little more than guest/bodycam.toml keeps: full."""


def file_drive(image: Path) -> str:
    """A disk that keeps what is written."""
    return f"file={image},format=raw,cache=writeback"


def forgetful_drive(image: Path, form: str = "raw") -> str:
    """A disk whose changes go when the machine goes."""
    return f"file={image},format={form},snapshot=on"


@dataclass(frozen=True, slots=True)
class Moment:
    """A saved machine: its memory, and its disks as they were then. The card is an enrolled camera's."""

    layers: Layers
    folder: Path

    def disk(self, name: str) -> Path:
        """The image of a disk as it was then, to be copied or forgotten."""
        return self.folder / f"{name}.ext4"

    @property
    def card(self) -> Path:
        """The image of the card."""
        return self.disk("card")

    def copy_disk(self, name: str, to: Path) -> Path:
        """A disk of one's own."""
        return copy_image(self.disk(name), to)

    def copy_card(self, to: Path) -> Path:
        """A card of one's own."""
        return self.copy_disk("card", to)

    def drives(self, card: str, store: str | None = None, memory: str | None = None) -> Drives:
        """All disks; those that are not given forget what is written to them, as the root does."""
        return Drives(
            root=forgetful_drive(self.folder / "root.qcow2", "qcow2"),
            card=card,
            store=store or forgetful_drive(self.disk("store")),
            memory=memory or forgetful_drive(self.disk("memory")),
        )

    def resume(self, drives: Drives) -> Machine:
        """The machine as it was then, going on with these disks."""
        return Machine(self.layers, drives, state=self.folder / "state.zst")


@dataclass(frozen=True, slots=True)
class Warm(Moment):
    """The device is up, its daemon has not been started, its card has recorded nothing and is not inserted."""

    def start(
        self, card: str, store: str | None = None, memory: str | None = None, *, utc_s: float | None = None
    ) -> Camera:
        """A camera at that moment, on a boot of its own, at that time of day or this. To be closed by `machine`."""
        machine = self.resume(self.drives(card, store, memory))
        try:
            machine.set_clock(utc_s)
            camera = Camera(machine)
            camera.be_another_boot()
        except BaseException:
            machine.kill()
            raise
        return camera

    def boot(self, card: str, store: str | None = None, memory: str | None = None) -> Camera:
        """The same after a cold boot: of the saved moment's disk, whose file system is as a power cut leaves it."""
        return Camera(Machine(self.layers, self.drives(card, store, memory)))


@dataclass(frozen=True, slots=True)
class Waiting(Moment):
    """The daemon has started and waits for its card. All starts from here have one boot id, which is not Hot's."""

    def start(self, card: str, store: str, memory: str, *, utc_s: float) -> Camera:
        """A camera at that moment, at that time of day, with nothing mounted. To be closed by `machine`."""
        machine = self.resume(self.drives(card, store, memory))
        try:
            machine.set_clock(utc_s)
            camera = Camera(machine)
            camera.watch()
        except BaseException:
            machine.kill()
            raise
        return camera


@dataclass(frozen=True, slots=True)
class Hot(Moment):
    """The daemon shows "ready", its buffer is full, all disks are mounted. All starts from here have one boot id."""

    def start(self, card: str, store: str | None = None, memory: str | None = None) -> Camera:
        """A camera at that moment. The disks must be copies of this moment's. To be closed by `machine`."""
        machine = self.resume(self.drives(card, store, memory))
        try:
            camera = Camera(machine)
            camera.watch()
        except BaseException:
            machine.kill()
            raise
        return camera


def copy_image(image: Path, to: Path) -> Path:
    """A copy that takes no more room than what is in it."""
    subprocess.run(["cp", "--sparse=always", "--reflink=auto", str(image), str(to)], check=True)
    return to


def warm(layers: Layers) -> Warm:
    """The saved machine of these layers, made unless it is there. Raises BuildError or RigError."""
    return Warm(layers, _layer(layers, "warm", (), lambda folder: _make(folder, layers)))


def waiting(rig: Warm) -> Waiting:
    """The same with a daemon, made unless it is there. Raises BuildError or RigError."""
    key = (rig.folder.name,)
    return Waiting(
        rig.layers, _layer(rig.layers, "waiting", key, lambda folder: _make_running(folder, rig, inserted=False))
    )


def hot(rig: Warm) -> Hot:
    """The same a minute later, made unless it is there. Raises BuildError or RigError."""
    return Hot(
        rig.layers,
        _layer(rig.layers, "hot", (rig.folder.name,), lambda folder: _make_running(folder, rig, inserted=True)),
    )


def _layer(layers: Layers, name: str, more: tuple[str, ...], make: Make) -> Path:
    qemu = subprocess.run(["qemu-system-x86_64", "--version"], capture_output=True, text=True, check=True).stdout
    key = layer_key(
        layers.kernel.name, layers.device.name, qemu, HARDWARE, COMMAND_LINE, DISKS_BYTES, BUFFER_S, *more,
        *(HERE / file for file in ("camera.py", "machine.py", "warm.py")),
    )  # fmt: skip
    return layer(f"{name}-{layers.release.suite}", key, make)


def new_device(layers: Layers, folder: Path) -> Drives:
    """The disks of a device that was just flashed, made in `folder`; they keep what is written."""
    root = folder / "root.qcow2"
    run_logged(folder, "qemu-img", "create", "-f", "qcow2", "-b", str(layers.image), "-F", "raw", str(root))
    for name, size_bytes in DISKS_BYTES.items():
        image = folder / f"{name}.ext4"
        with image.open("wb") as file:
            file.truncate(size_bytes)
        # All of it initialised now: the kernel would otherwise do it behind the tests' backs.
        lazily = "lazy_itable_init=0,lazy_journal_init=0"
        # Blocks of the size that a card of more than half a gigabyte gets.
        run_logged(folder, "mkfs.ext4", "-q", "-F", "-b", "4096", "-L", name, "-E", lazily, str(image))
    disks = {name: file_drive(folder / f"{name}.ext4") for name in DISKS_BYTES}
    return Drives(f"file={root},format=qcow2", **disks)


def enrol(camera: Camera) -> None:
    """What a person does at a first start: the card and the other disks inserted, a key and a certificate made."""
    machine = camera.machine
    machine.run("systemctl is-system-running --wait || true", timeout_s=build.BOOT_SETTLE_S)
    camera.insert_card()
    camera.mount_store()
    machine.run(f"chown bodycam:bodycam {CARD} {MEMORY}; chown bodycam-offload:bodycam-offload {STORE}")
    machine.run("runuser -u bodycam -- bodycam enroll --bench", timeout_s=120)


def _make(folder: Path, layers: Layers) -> None:
    with Machine(layers, new_device(layers, folder)) as machine:
        camera = Camera(machine)
        enrol(camera)
        # Once through all of it, so that what the daemon loads is in memory; then as if it had never been.
        camera.start()
        camera.wait_shows("ready")
        camera.stop()
        machine.run(f"rm -rf {VAULT}/journal {VAULT}/recordings {MEMORY}/*; sync; umount {CARD} {MEMORY} {STORE}")
        machine.save(folder / "state.zst")
    shutil.copy(folder / "log", folder / "made.log")


def _make_running(folder: Path, rig: Warm, *, inserted: bool) -> None:
    """The daemon has run for as long as its buffer is long. inserted: with card and dock, so that it is ready."""
    with rig.resume(_later(folder, rig)) as machine:
        machine.set_clock()
        camera = Camera(machine)
        camera.be_another_boot()
        if inserted:
            camera.insert_card()
            camera.mount_store()
        camera.start()
        camera.wait_shows("ready" if inserted else "fault")
        camera.let_pass(BUFFER_S)
        machine.save(folder / "state.zst")


def _later(folder: Path, rig: Warm) -> Drives:
    """Disks that go on from those of `rig`, and keep what is written."""
    disks = {name: file_drive(rig.copy_disk(name, folder / f"{name}.ext4")) for name in DISKS_BYTES}
    root, backing = folder / "root.qcow2", rig.folder / "root.qcow2"
    run_logged(folder, "qemu-img", "create", "-f", "qcow2", "-b", str(backing), "-F", "qcow2", str(root))
    return Drives(f"file={root},format=qcow2", **disks)
