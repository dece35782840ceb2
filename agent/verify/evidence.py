"""What was handed over: a whole vault, or an evidence package of one recording."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from agent.errors import EvidenceNotFound
from agent.vault.layout import INIT_NAME, RECORDING_JSON_NAME
from agent.verify.evidence_file import RECORDING_ID, is_plain_folder, is_refused_folder, read_plain

PACKAGE_VERSION = 1
PACKAGE_NAME = "PACKAGE.txt"
SUMS_NAME = "SHA256SUMS"
README_NAME = "README.txt"
VERIFY_NAME = "VERIFY.txt"
SCRIPT_NAME = "verify.sh"
SUPPORT_JSON_NAME = "support.json"
SUPPORT_TEXT_NAME = "support.txt"
PACKAGE_FILES = (
    PACKAGE_NAME, README_NAME, VERIFY_NAME, SCRIPT_NAME, SUPPORT_JSON_NAME, SUPPORT_TEXT_NAME, RECORDING_JSON_NAME,
)  # fmt: skip
"""What every package has beside media, certificates, journal and SHA256SUMS."""
_PACKAGE_TEXT = re.compile(
    rb"Evidence-Package: ([0-9]{1,9})\nDevice: ([A-Za-z0-9][A-Za-z0-9._-]{0,63})\nRecording: ([0-9a-f-]{36})\n"
)
_MAX_PACKAGE_TEXT_BYTES = 300
_DEVICE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def device_name(device_id: str) -> str:
    """What a package calls a camera: its id where that can be a folder's name."""
    return device_id if _DEVICE_NAME.fullmatch(device_id) else "unnamed-camera"


@dataclass(frozen=True, slots=True)
class Evidence:
    """Where things lie. packaged_id: the recording that a package says it holds; None for a vault, or if it does not.

    package_version: of the package's format; packaged_device: the camera that it says it is of; None when it does not.
    """

    root: Path
    is_package: bool
    packaged_id: str | None = None
    package_version: int | None = None
    packaged_device: str | None = None

    @property
    def journal(self) -> Path:
        """Folder of the journal or its extract."""
        return self.root / "journal"

    @property
    def device(self) -> Path:
        """Folder of the certificates."""
        return self.root / "device"

    @property
    def recordings(self) -> Path:
        """A vault's folder of recordings."""
        return self.root / "recordings"

    def recording(self, recording_id: str) -> Path:
        """Folder of one recording's media."""
        return self.root if self.is_package else self.recordings / recording_id

    def has_recording(self, recording_id: str) -> bool:
        """Whether that folder is there, and neither it nor `recordings` is a link."""
        return self.is_package or (is_plain_folder(self.recordings) and is_plain_folder(self.recording(recording_id)))

    @property
    def refused_folders(self) -> list[Path]:
        """Those of the folders above that are links, or no folders."""
        folders = [self.journal, self.device] if self.is_package else [self.journal, self.recordings, self.device]
        return [folder for folder in folders if is_refused_folder(folder)]


def is_package(path: Path) -> bool:
    """Whether a folder looks like an evidence package, whole or not.

    A link in place of its journal counts: a package must not go unchecked, and so unmentioned, for that.
    """
    if (path / PACKAGE_NAME).exists():
        return True
    return (path / "journal").is_dir() and any(
        (path / name).exists() for name in (SUMS_NAME, INIT_NAME, *PACKAGE_FILES)
    )


def locate(path: Path) -> Evidence:
    """What lies at a path. Raises EvidenceNotFound."""
    if not path.exists():
        raise EvidenceNotFound(f"There is nothing at {path}; name a vault or an evidence package.")
    if (path / "recordings").is_dir() or ((path / "journal").is_dir() and not is_package(path)):
        return Evidence(path, is_package=False)
    if is_package(path):
        version, device, packaged_id = _package_text(path)
        return Evidence(path, True, packaged_id, version, device)
    if path.parent.name == "recordings":
        raise EvidenceNotFound(
            f"{path} is one recording inside a vault, which only the vault's journal vouches for; name the vault: "
            f"{path.parent.parent}."
        )
    raise EvidenceNotFound(
        f"{path} is neither a vault (journal/, recordings/, device/) nor an evidence package (init.mp4, journal/, "
        "device/, SHA256SUMS)."
    )


def _package_text(path: Path) -> tuple[int | None, str | None, str | None]:
    """Version, camera and recording as PACKAGE.txt says. Only a claim: the files must then be that recording's."""
    try:
        match = _PACKAGE_TEXT.fullmatch(read_plain(path / PACKAGE_NAME, _MAX_PACKAGE_TEXT_BYTES))
    except OSError:
        return None, None, None
    if match is None:
        return None, None, None
    recording_id = match[3].decode()
    return int(match[1]), match[2].decode(), recording_id if RECORDING_ID.fullmatch(recording_id) else None
