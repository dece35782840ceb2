"""A media file of a recording, and everything that records say of its bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from agent.vault.layout import is_encrypted
from agent.verify.words import media_place


@dataclass(frozen=True, slots=True)
class FileSum:
    """What a file holds, or is said to hold."""

    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What one checkpoint record says; see docs/evidence-format.md."""

    seq: int
    fragment: int
    bytes: int
    sha256: str
    first_media_90k: int
    end_media_90k: int
    frames: int
    audio_frames: int
    plain: FileSum | None = None
    """Of an encrypted file: what its bytes up to here open to."""
    follows: int | None = None
    """The journal line at which the journal is broken, when that may be why this does not fit its fragment."""
    trusted: bool = True
    """False when the record's own signature does not fit it."""

    @property
    def where(self) -> str:
        """For sentences: the part of the recording that it vouches for."""
        return f"{media_place(self.first_media_90k)} to {media_place(self.end_media_90k)} of the recording"


@dataclass(frozen=True, slots=True)
class MediaJob:
    """One file of a recording and everything that was signed about its bytes.

    state: "init", a segment record's state, or "open" for a segment without a record. bytes, sha256: what the last
    record vouches for. spare_bytes: how many more may follow without being a fault. fragments, frames: of the record,
    for what was recovered behind the last checkpoint.
    """

    recording_id: str
    name: str
    state: str
    bytes: int
    sha256: str
    checkpoints: Sequence[Checkpoint] = field(default=())
    spare_bytes: int = 0
    fragments: int = 0
    frames: int = 0
    plain: FileSum | None = None
    """Of an encrypted file: what the vouched bytes open to, as its segment record says."""
    trusted: bool = True
    """False when the signature of the record that says `sha256` does not fit it."""

    @property
    def where(self) -> str:
        """For sentences: the part of the recording that its checkpoints vouch for. It must have some."""
        begin, end = self.checkpoints[0].first_media_90k, self.checkpoints[-1].end_media_90k
        return f"{media_place(begin)} to {media_place(end)} of the recording"

    @property
    def media_90k(self) -> tuple[int, int] | None:
        """From when to when of the recording that is; None when it has no checkpoints."""
        return (self.checkpoints[0].first_media_90k, self.checkpoints[-1].end_media_90k) if self.checkpoints else None

    @property
    def encrypted(self) -> bool:
        """Whether it is an age file, of which only the ciphertext can be checked without a key."""
        return is_encrypted(self.name)

    @property
    def subject(self) -> str:
        """For findings."""
        return f"{self.recording_id}/{self.name}"
