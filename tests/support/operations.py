"""The operations that change what is on flash, as a CrashFilesystem records them."""

from __future__ import annotations

import sys
from collections.abc import Collection
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

_REPOSITORY = Path(__file__).resolve().parents[2]


class OpKind(StrEnum):
    """The operations that change what is on flash."""

    CREATE = "create"
    WRITE = "write"
    DATASYNC = "datasync"
    SYNC_FILE = "sync_file"
    MAKE_DIR = "make_dir"
    SYNC_DIR = "sync_dir"
    RENAME = "rename"


SYNC_KINDS = frozenset({OpKind.DATASYNC, OpKind.SYNC_FILE, OpKind.SYNC_DIR})
DOING = {
    OpKind.CREATE: "Creating the file",
    OpKind.WRITE: "Writing",
    OpKind.DATASYNC: "fdatasync",
    OpKind.SYNC_FILE: "fsync",
    OpKind.MAKE_DIR: "Creating the folder",
    OpKind.SYNC_DIR: "fsync of the folder",
    OpKind.RENAME: "Renaming",
}


class Outcome(StrEnum):
    """How an operation ended."""

    DONE = "done"
    FAILED = "failed"
    CUT = "cut"


@dataclass(frozen=True, slots=True)
class CallSite:
    """The line of code, outside the seam, that called an operation. `file` is relative to the repository."""

    file: str
    function: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.function}:{self.line}"


@dataclass(frozen=True, slots=True)
class SyncSite:
    """A line of code that makes something durable, by one kind of sync."""

    kind: OpKind
    site: CallSite

    def __str__(self) -> str:
        return f"{self.kind} at {self.site}"


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation as it was asked for, and how it ended.

    index: from 0. data: what a write was to append, of which `written_bytes` were. handle: for a write or datasync, the
    index of the create that opened the file. pages_dropped: a failed sync that lost the dirty pages.
    """

    index: int
    kind: OpKind
    path: Path
    site: CallSite
    target: Path | None = None
    data: bytes = field(default=b"", repr=False)
    handle: int | None = None
    outcome: Outcome = Outcome.DONE
    errno: int | None = None
    written_bytes: int = 0
    pages_dropped: bool = False

    @property
    def label(self) -> str:
        """For people: number, what, where, from which line, and how it ended."""
        what = f" to {self.target}" if self.target else f" of {len(self.data)} bytes" if self.data else ""
        ending = "" if self.outcome is Outcome.DONE else f" [{self.outcome}]"
        return f"#{self.index} {self.kind} {self.path}{what} at {self.site}{ending}"


def call_site(seam_files: Collection[str]) -> CallSite:
    """Where the code outside `seam_files` is that led here."""
    frame = sys._getframe(1)
    while frame.f_code.co_filename in seam_files and frame.f_back is not None:
        frame = frame.f_back
    file = Path(frame.f_code.co_filename)
    name = file.relative_to(_REPOSITORY).as_posix() if file.is_relative_to(_REPOSITORY) else file.name
    return CallSite(name, frame.f_code.co_qualname, frame.f_lineno)
