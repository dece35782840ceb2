"""What records say that others add up to, against those others."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from agent.verify.fields import Fields
from agent.verify.media_job import Checkpoint, FileSum
from agent.verify.words import Said, SaidPlace, disagreement, short_sha256

EMPTY_SHA256 = hashlib.sha256().hexdigest()


@dataclass(slots=True)
class Totals:
    """Sums over the segment records, as `recording-close` must repeat them."""

    segments: int = 0
    fragments: int = 0
    frames: int = 0
    bytes: int = 0
    end_media_90k: int = 0
    gaps: int = 0

    def difference(self, found: Totals) -> tuple[str, str] | None:
        """What these say and what was found, in words, where they differ; None when they are the same."""
        return disagreement(
            (
                Said("segments", self.segments, found.segments),
                Said("fragments", self.fragments, found.fragments),
                Said("frames", self.frames, found.frames),
                Said("bytes", self.bytes, found.bytes),
                SaidPlace("an end at {}", self.end_media_90k, found.end_media_90k),
                Said("gaps", self.gaps, found.gaps),
            )
        )


def segment_difference(fields: Fields, said: FileSum, checkpoints: Sequence[Checkpoint]) -> tuple[str, str] | None:
    """What the record of a whole or torn segment says and what its checkpoints add up to, in words; None if the same.

    said: its bytes and hash as they are to be compared. Raises FieldError.
    """
    first, last = (checkpoints[0], checkpoints[-1]) if checkpoints else (None, None)
    sha256 = last.sha256 if last else EMPTY_SHA256
    return disagreement(
        (
            Said("bytes", said.bytes, last.bytes if last else 0),
            Said("{}", _Sha256(said.sha256), _Sha256(sha256)),
            Said("fragments", fields.count("fragments"), len(checkpoints)),
            SaidPlace(
                "a beginning at {}",
                fields.optional_integer("first_media_90k"),
                first.first_media_90k if first else None,
            ),
            SaidPlace("an end at {}", fields.optional_integer("end_media_90k"), last.end_media_90k if last else None),
            Said("frames", fields.count("frames"), sum(checkpoint.frames for checkpoint in checkpoints)),
            Said(
                "sound frames",
                fields.count("audio_frames"),
                sum(checkpoint.audio_frames for checkpoint in checkpoints),
            ),
        )
    )


class _Sha256(str):
    """Compared whole and shown short."""

    __slots__ = ()

    def __str__(self) -> str:
        return short_sha256(self[:])
