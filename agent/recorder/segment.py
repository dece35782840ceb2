"""One segment file while it grows: its bytes, running hash and media span."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from agent.errors import StorageError
from agent.recorder.fragment import Fragment
from agent.vault.filesystem import AppendFile


class OpenSegment:
    """Counts only what a sync has confirmed; an unconfirmed append ends the segment as torn."""

    def __init__(self, name: str, file: AppendFile) -> None:
        self.name = name
        self._file = file
        self._sha256 = hashlib.sha256()
        self.bytes = 0
        self.fragments = 0
        self.frames = 0
        self.audio_frames = 0
        self.first_media_90k: int | None = None
        self.end_media_90k: int | None = None
        self.unconfirmed_bytes = 0

    def append(self, fragments: Sequence[Fragment]) -> list[dict[str, Any]]:
        """Write, sync, and return the checkpoint fields of each fragment. Raises StorageError; then call no more."""
        self.unconfirmed_bytes = sum(len(fragment.data) for fragment in fragments)
        for fragment in fragments:  # not joined: a batch is megabytes that the device does not have to spare
            self._file.write(fragment.data)
        self._file.datasync()
        self.unconfirmed_bytes = 0
        return [self._confirm(fragment) for fragment in fragments]

    def _confirm(self, fragment: Fragment) -> dict[str, Any]:
        self._sha256.update(fragment.data)
        self.bytes += len(fragment.data)
        self.fragments += 1
        self.frames += fragment.frames
        self.audio_frames += fragment.audio_frames
        if self.first_media_90k is None:
            self.first_media_90k = fragment.first_media_90k
        self.end_media_90k = fragment.end_media_90k
        return {
            "file": self.name,
            "bytes": self.bytes,
            "sha256": self._sha256.hexdigest(),
            "first_media_90k": fragment.first_media_90k,
            "end_media_90k": fragment.end_media_90k,
            "frames": fragment.frames,
            "audio_frames": fragment.audio_frames,
        }

    @property
    def duration_90k(self) -> int:
        """Media time in the segment."""
        if self.first_media_90k is None or self.end_media_90k is None:
            return 0
        return self.end_media_90k - self.first_media_90k

    def seal(self, state: str) -> dict[str, Any]:
        """Close the file and return its segment record: state "whole" or "torn"."""
        with suppress(StorageError):  # after a good fdatasync close(2) has nothing left to lose, and no say
            self._file.close()
        fields: dict[str, Any] = {
            "file": self.name,
            "state": state,
            "bytes": self.bytes,
            "sha256": self._sha256.hexdigest(),
            "fragments": self.fragments,
            "first_media_90k": self.first_media_90k,
            "end_media_90k": self.end_media_90k,
            "frames": self.frames,
            "audio_frames": self.audio_frames,
            "audio": "on" if self.audio_frames else "off",
        }
        if state == "torn":
            fields["unconfirmed_bytes"] = self.unconfirmed_bytes
        return fields


def never_created(name: str) -> dict[str, Any]:
    """The segment record of a file whose creation failed: it may or may not exist, and holds nothing of ours."""
    return OpenSegment(name, _NoFile()).seal("torn")


class _NoFile:
    def write(self, data: bytes) -> None:
        raise StorageError(f"There is no file to write {len(data)} bytes to.")

    def datasync(self) -> None:
        raise StorageError("There is no file to sync.")

    def close(self) -> None:
        """Nothing is open."""
