"""A camera's configuration, identity, vault and store in one folder, as either machine makes and uses them."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from agent.clock import NS_PER_S
from agent.vault.layout import VaultLayout
from tests.arm64.machine import ROOT, Machine

CONFIGURATION = """\
extends = "{root}/config/profiles/bench.toml"

[device]
id = "CAM-ARM64"

[vault]
path = "{folder}/vault"
key_path = "{folder}/key/device.key"
socket_path = "{folder}/control.sock"
receipt_queue_path = "{folder}/receipts"
segment_s = 2

[buffer]
pre_event_s = 2
max_bytes = 64_000_000
audio = {sound}

[camera]
width = 160
height = 96
fps = 10

[video]
bitrate_bps = {bitrate_bps}

[audio]
source = "{source}"
sample_rate_hz = 16_000
bitrate_bps = 32_000

[encryption]
recipients = [{recipients}]

[gpio]
bench_pin_socket_path = "{folder}/pins.sock"
"""


def join(recording: Path, video: Path) -> Path:
    """`cat init.mp4 0*.m4s > video`; returns `video`."""
    video.write_bytes(
        b"".join(path.read_bytes() for path in [recording / "init.mp4", *sorted(recording.glob("0*.m4s"))])
    )
    return video


@dataclass(frozen=True)
class CameraFolder:
    """folder: of its own, or to become it."""

    folder: Path

    @property
    def configuration(self) -> Path:
        """Its configuration file."""
        return self.folder / "bodycam.toml"

    @property
    def layout(self) -> VaultLayout:
        """Its vault."""
        return VaultLayout(self.folder / "vault")

    @property
    def root_pem(self) -> Path:
        """Of its bench CA, as an examiner would have it."""
        return self.folder / "root.pem"

    @property
    def recording(self) -> Path:
        """The folder of its one recording in the vault."""
        (found,) = self.layout.recordings.iterdir()
        return found

    @property
    def package(self) -> Path:
        """The evidence package of its one recording."""
        (found,) = (self.folder / "store" / "CAM-ARM64").iterdir()
        return found

    def write(self, *, sound: bool = True, bitrate_bps: int = 200_000, recipient: str | None = None) -> CameraFolder:
        """Write the configuration."""
        self.folder.mkdir(parents=True)
        (self.folder / "store").mkdir()
        text = CONFIGURATION.format(
            root=ROOT,
            folder=self.folder,
            sound=str(sound).lower(),
            source="camera" if sound else "none",
            bitrate_bps=bitrate_bps,
            recipients="" if recipient is None else f'"{recipient}"',
        )
        self.configuration.write_text(text)
        return self

    def enroll(self, machine: Machine) -> None:
        """Key and certificate, made by that machine."""
        machine.run("agent", "enroll", "--bench", "--config", self.configuration)
        shutil.copy(self.layout.root_certificate, self.root_pem)

    def enroll_as(self, other: CameraFolder) -> None:
        """The key and the certificates of another one, where it has no vault of its own yet."""
        shutil.copytree(other.folder / "key", self.folder / "key")
        shutil.copytree(other.layout.device, self.layout.device)
        shutil.copy(other.root_pem, self.root_pem)

    def offload(self, machine: Machine) -> None:
        """The package into the store."""
        machine.run("agent", "offload", "--once", "--to", self.folder / "store", "--config", self.configuration)


def record(machine: Machine, *cameras: CameraFolder, repeatable: bool = False, utc_ns: int | None = None) -> None:
    """One recording of each on that machine. utc_ns: what time it is; by default an hour after now."""
    # Behind the moment from which the certificates hold.
    at_ns = time.time_ns() + 3600 * NS_PER_S if utc_ns is None else utc_ns
    options = ["--repeatable"] if repeatable else []
    configurations = [camera.configuration for camera in cameras]
    machine.run("tests.arm64.programs.record", "--utc-ns", at_ns, *options, *configurations)
