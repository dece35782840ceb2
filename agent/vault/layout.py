"""Where things lie in a vault. The one place that knows names; see docs/evidence-format.md."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

INIT_NAME = "init.mp4"
RECORDING_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""A UUID as recordings are named (RFC 9562, section 4)."""
RECORDING_JSON_NAME = "recording.json"
CHAIN_NAME = "chain.pem"
NEXT_CHAIN_NAME = "next.pem"
ROOT_NAME = "root.pem"


SEGMENT_SUFFIX = ".m4s"
ENCRYPTED_SUFFIX = ".m4s.age"


def segment_name(number: int, *, encrypted: bool = False) -> str:
    """Name of the n-th segment of a recording, from 1: "000001.m4s", encrypted "000001.m4s.age"."""
    return f"{number:06d}{ENCRYPTED_SUFFIX if encrypted else SEGMENT_SUFFIX}"


def is_encrypted(name: str) -> bool:
    """Whether a segment of this name is an age file."""
    return name.endswith(ENCRYPTED_SUFFIX)


def journal_name(number: int) -> str:
    """Name of the n-th journal file, from 1: "000001.journal"."""
    return f"{number:06d}.journal"


def kept_chain_name(certificate_sha256: str) -> str:
    """Name under which the chain of a device certificate, present or past, stays: "chain-<64 hex digits>.pem"."""
    return f"chain-{certificate_sha256}.pem"


def link_refused(folder: Path) -> str:
    """Why a vault in which this is a symbolic link is not used, and what to do."""
    return (
        f"{folder} is a symbolic link, which no camera makes. Take it away and put the real folder in its place, if it "
        "was moved elsewhere; to keep a vault on another disk, mount that or set vault.path."
    )


@dataclass(frozen=True, slots=True)
class VaultLayout:
    """The folders of one vault."""

    root: Path

    @property
    def device(self) -> Path:
        """Certificate chain and public identity."""
        return self.root / "device"

    @property
    def journal(self) -> Path:
        """The journal's files."""
        return self.root / "journal"

    @property
    def recordings(self) -> Path:
        """One folder a recording."""
        return self.root / "recordings"

    @property
    def folders(self) -> tuple[Path, ...]:
        """Those that must be folders themselves: a link in place of one leads evidence to where nobody looks."""
        return self.device, self.journal, self.recordings

    @property
    def chain(self) -> Path:
        """PEM: device certificate first, then intermediates, without the root."""
        return self.device / CHAIN_NAME

    @property
    def next_chain(self) -> Path:
        """PEM: the chain that takes over at the next start, once the key before it has introduced it."""
        return self.device / NEXT_CHAIN_NAME

    @property
    def root_certificate(self) -> Path:
        """PEM: the roots the device was enrolled under, for convenience; an examiner brings their own."""
        return self.device / ROOT_NAME

    def recording(self, recording_id: str) -> Path:
        """The folder of one recording."""
        return self.recordings / recording_id
