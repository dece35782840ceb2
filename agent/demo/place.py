"""The folder of a demonstration: made anew each time, and only ever emptied when it is one."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from agent.demo.source import Source
from agent.errors import DemoError
from agent.settings.files import find_profile
from agent.trust.identity import IdentityPaths
from agent.vault.layout import VaultLayout
from agent.vault.lock import VaultLock

PRE_EVENT_S = 5
_STALL_MS = 2000
# A camera that is software does not hang: on a busy computer it waits for its turn.
_SOFTWARE_STALL_MS = 10_000
_MARK = "# Written by `bodycam demo`, which empties this folder each time."

_CONFIG = """\
{mark}
# The same camera again, from a shell: bodycam run --config {name}

extends = {profile}

[vault]
path = "vault"
key_path = "key/device.key"
socket_path = "control.sock"
receipt_queue_path = "receipts"

[buffer]
# Nobody wants to wait half a minute for a demonstration.
pre_event_s = {pre_event_s}
audio = {pre_event_audio}

[camera]
backend = {backend}
device = {device}
width = {width}
height = {height}
stall_ms = {stall_ms}

[video]
bitrate_bps = 3_000_000
preset = "superfast"

[audio]
source = {audio}

[gpio]
bench_pin_socket_path = "pins.sock"
"""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the files of a demonstration lie."""

    folder: Path

    @property
    def config(self) -> Path:
        return self.folder / "bodycam.toml"

    @property
    def layout(self) -> VaultLayout:
        return VaultLayout(self.folder / "vault")

    @property
    def identity(self) -> IdentityPaths:
        return IdentityPaths(self.folder / "key" / "device.key", self.layout.chain, self.layout.root_certificate)

    @property
    def pin_socket(self) -> Path:
        return self.folder / "pins.sock"

    @property
    def log(self) -> Path:
        return self.folder / "daemon.log"

    @property
    def store(self) -> Path:
        return self.folder / "store"

    @property
    def check_script(self) -> Path:
        return self.folder / "check.sh"

    @property
    def film(self) -> Path:
        return self.folder / "demo.mp4"

    def make(self, source: Source) -> None:
        """Empty the folder, if an earlier demonstration made it, and write the configuration.

        Raises DemoError when it holds anything else, VaultLockedError when a daemon still runs in it.
        """
        if self.folder.exists() and (not self.folder.is_dir() or any(self.folder.iterdir())):
            if not self._is_ours():
                raise DemoError(
                    f"{self.folder} is not empty and no earlier demonstration made it, so nothing in it was touched; "
                    "name another with --folder."
                )
            if self.layout.root.is_dir():
                VaultLock(self.layout.root).release()
            shutil.rmtree(self.folder)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.config.write_text(_config(self.config.name, source), encoding="utf-8")
        except OSError as error:
            raise DemoError(
                f"The folder {self.folder} cannot be made ({error.strerror}); name one that you may write to with "
                "--folder."
            ) from error

    def _is_ours(self) -> bool:
        try:
            return self.config.read_text(encoding="utf-8").startswith(_MARK)
        except (OSError, UnicodeDecodeError):
            return False


def _config(name: str, source: Source) -> str:
    # A JSON string without escapes above ASCII is a TOML basic string.
    quoted = {
        "profile": json.dumps(str(find_profile("bench", None)), ensure_ascii=False),
        "backend": json.dumps(source.backend),
        "device": json.dumps(source.device, ensure_ascii=False),
        "pre_event_audio": json.dumps(source.no_sound is None),
        "audio": json.dumps("none" if source.no_sound else "camera"),
    }
    stall_ms = _STALL_MS if source.backend == "webcam" else _SOFTWARE_STALL_MS
    numbers = {"pre_event_s": PRE_EVENT_S, "width": source.width, "height": source.height, "stall_ms": stall_ms}
    return _CONFIG.format(mark=_MARK, name=name, **numbers, **quoted)
