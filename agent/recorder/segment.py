"""One segment file while it grows: its bytes, running hash and media span."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from agent.errors import StorageError
from agent.recorder.fragment import Fragment
from agent.recorder.segment_body import SegmentBody
from agent.vault.filesystem import AppendFile


class OpenSegment:
    """Counts only what a sync has confirmed; an unconfirmed append ends the segment as torn."""

    def __init__(self, name: str, file: AppendFile, body: SegmentBody) -> None:
        self.name = name
        self._file = file
        self._body = body
        self._confirmed = body.empty
        self.complete = False
        """Nothing can be appended any more."""
        self.fragments = 0
        self.frames = 0
        self.audio_frames = 0
        self.first_media_90k: int | None = None
        self.end_media_90k: int | None = None

    @property
    def bytes(self) -> int:
        """What a sync has confirmed."""
        return self._confirmed.bytes

    @property
    def unconfirmed_bytes(self) -> int:
        """What was handed to the file and is not confirmed."""
        return self._body.given_bytes - self._confirmed.bytes

    def append(self, fragments: Sequence[Fragment], *, last: bool = False) -> list[dict[str, Any]]:
        """Write, sync, and return the checkpoint fields of each fragment. Raises StorageError; then call no more.

        last: these are the segment's last fragments.
        """
        extents = self._body.write(self._file, [fragment.data for fragment in fragments], last=last)
        self._file.datasync()
        self.complete = last
        checkpoints = []
        for fragment, extent in zip(fragments, extents, strict=True):
            self._confirmed = extent
            checkpoints.append(self._confirm(fragment))
        return checkpoints

    def finish(self) -> None:
        """End the file, when its last fragments were not known as the last. Raises StorageError; then only seal it."""
        if self.complete or (extent := self._body.finish(self._file)) is None:
            return
        self._file.datasync()
        self._confirmed = extent
        self.complete = True

    def _confirm(self, fragment: Fragment) -> dict[str, Any]:
        self.fragments += 1
        self.frames += fragment.frames
        self.audio_frames += fragment.audio_frames
        if self.first_media_90k is None:
            self.first_media_90k = fragment.first_media_90k
        self.end_media_90k = fragment.end_media_90k
        return {
            "file": self.name,
            **self._confirmed.fields(),
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
            **self._confirmed.fields(),
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

    def seal_unnamed(self) -> dict[str, Any]:
        """Close a file whose name may not last, and return its segment record: it holds nothing of ours."""
        with suppress(StorageError):
            self._file.close()
        return never_created(self.name, self._body)


def never_created(name: str, body: SegmentBody) -> dict[str, Any]:
    """The segment record of a file that may or may not exist, and holds nothing of ours."""
    return OpenSegment(name, _NoFile(), body).seal("torn")


class _NoFile:
    def write(self, data: bytes) -> None:
        raise StorageError(f"There is no file to write {len(data)} bytes to.")

    def datasync(self) -> None:
        raise StorageError("There is no file to sync.")

    def close(self) -> None:
        """Nothing is open."""
