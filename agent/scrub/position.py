"""How far a pass over the vault has come, kept outside the vault so that a restart goes on where it was."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from agent.errors import StorageError
from agent.trust import durable
from agent.vault.record import MAX_INTEGER

MAX_DIFFERENCES = 100
_MAX_FILE_BYTES = 1 << 17
_COUNTS = ("recordings", "files", "bytes", "differing")


@dataclass(frozen=True, slots=True)
class Difference:
    """A file whose vouched bytes are not what was signed: their hash now, or why there is none."""

    recording: str
    file: str
    found_sha256: str | None
    error: str | None


@dataclass(slots=True)
class Position:
    """A pass that began at from_utc (RFC 3339) has checked so much; `last` is the last file of it, none at first."""

    from_utc: str
    last: tuple[str, str] | None = None
    recordings: int = 0
    files: int = 0
    bytes: int = 0
    differing: int = 0
    differences: list[Difference] = field(default_factory=list)

    def checked(self, key: tuple[str, str], count: int, difference: Difference | None) -> None:
        """`key` is recording and file name; `count` bytes of it were read."""
        if self.last is None or self.last[0] != key[0]:
            self.recordings += 1
        self.last = key
        self.files += 1
        self.bytes += count
        if difference is not None:
            self.differing += 1
            if len(self.differences) < MAX_DIFFERENCES:
                self.differences.append(difference)

    def report(self, to_utc: str, *, finished: bool) -> dict[str, Any]:
        """As the control command `scrub` takes it."""
        return {
            "from_utc": self.from_utc,
            "to_utc": to_utc,
            "finished": finished,
            **{name: getattr(self, name) for name in _COUNTS},
            "differences": [asdict(difference) for difference in self.differences],
        }


class PositionFile:
    """Where a position is kept; None keeps none."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def load(self) -> Position | None:
        """What was kept; None when there is nothing of use, and a pass begins anew."""
        if self._path is None:
            return None
        try:
            with self._path.open("rb") as file:
                return _position(json.loads(file.read(_MAX_FILE_BYTES)))
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            return None

    def keep(self, position: Position) -> None:
        """Raises StorageError."""
        if self._path is None:
            return
        try:
            durable.make_folder(self._path.parent, 0o750)
        except FileExistsError as error:
            raise StorageError(error.errno, "Something stands in the folder's place", str(self._path.parent)) from error
        durable.replace(self._path, json.dumps(asdict(position)).encode() + b"\n", 0o640)

    def drop(self) -> None:
        """The pass is over."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)


def _position(document: dict[str, Any]) -> Position:
    """Raises ValueError, TypeError, KeyError for what this class did not write."""
    counts = {name: document[name] for name in _COUNTS}
    if not all(type(count) is int and 0 <= count <= MAX_INTEGER for count in counts.values()):
        raise ValueError("A count is none.")
    last = document["last"]
    if last is not None and (len(last) != 2 or not all(isinstance(part, str) for part in last)):
        raise ValueError("The last file is none.")
    differences = [Difference(**entry) for entry in document["differences"]]
    if not isinstance(document["from_utc"], str) or len(differences) > MAX_DIFFERENCES:
        raise ValueError("The time or the list is none.")
    return Position(
        document["from_utc"], None if last is None else (last[0], last[1]), **counts, differences=differences
    )
