"""A media file against what was signed of it: read once, in pieces, checking every checkpoint on the way."""

from __future__ import annotations

import hashlib
import io
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from agent.media.mp4 import FragmentInfo, FragmentSpan, Mp4Error, fragment_info, whole_fragments
from agent.media.units import VIDEO_TIMESCALE_90K
from agent.vault.layout import is_encrypted
from agent.verify.evidence_file import open_plain
from agent.verify.finding import Code, Findings

CHUNK_BYTES = 1 << 20
VIDEO_TRACK_ID = 1
AUDIO_TRACK_ID = 2


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

    @property
    def said(self) -> tuple[int, int, int, int, int]:
        """Number, begin, end, frames, audio frames: what the fragment's `moof` has to say, too."""
        return self.fragment, self.first_media_90k, self.end_media_90k, self.frames, self.audio_frames


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

    @property
    def encrypted(self) -> bool:
        """Whether it is an age file, of which only the ciphertext can be checked without a key."""
        return is_encrypted(self.name)

    @property
    def subject(self) -> str:
        """For findings."""
        return f"{self.recording_id}/{self.name}"


PlainCheck = Callable[[MediaJob, io.FileIO], None]


class MediaChecker:
    """Checks files one after another with one buffer. Used from one thread."""

    def __init__(self, findings: Findings, on_bytes: Callable[[int], None], plain: PlainCheck | None = None) -> None:
        """on_bytes(count): called as bytes are hashed. plain: looks into encrypted files; None leaves them closed."""
        self._plain = plain
        self._findings = findings
        self._on_bytes = on_bytes
        self._buffer = memoryview(bytearray(CHUNK_BYTES))

    def check(self, job: MediaJob, path: Path) -> FileSum | None:
        """Report what is wrong with a file; returns what it holds, None when it could not be read to its end."""
        try:
            with open_plain(path) as file:
                found = self._check(job, file)
                if self._plain is not None and job.encrypted and found.bytes >= job.bytes:
                    file.seek(0)
                    self._plain(job, file)
                return found
        except FileNotFoundError:
            if job.bytes or job.state == "open":
                self._fail(job, Code.SEGMENT_MISSING, f"{job.name} is gone; {job.bytes} bytes of it were signed.")
        except OSError as error:
            code = Code.SEGMENT_MISSING if job.bytes else Code.FILE_UNREADABLE
            self._fail(job, code, f"{job.name} cannot be read: {error.strerror}.")
        return None

    def _fail(self, job: MediaJob, code: Code, sentence: str) -> None:
        if job.state == "init":
            code = Code.INIT_HASH
        self._findings.fail(code, job.subject, sentence, recording_id=job.recording_id)

    def _check(self, job: MediaJob, file: io.FileIO) -> FileSum:
        digest = hashlib.sha256()
        position = 0
        intact = True
        for checkpoint in job.checkpoints:
            start = position
            judged = job if intact and not job.encrypted else None
            position = self._hash_to(file, digest, start, checkpoint, judged)
            if position < checkpoint.bytes:
                self._fail(
                    job,
                    Code.SEGMENT_SIZE,
                    f"{job.name} ends at byte {position}; {job.bytes} were signed. From {_media_time(checkpoint)} on "
                    "it is lost.",
                )
                return FileSum(position, digest.hexdigest())
            # One wrong byte makes every later running hash wrong too: only the first says where it is.
            if intact and digest.copy().hexdigest() != checkpoint.sha256:
                intact = False
                self._fail(
                    job,
                    Code.CHECKPOINT_HASH,
                    f"{job.name} was changed between bytes {start} and {checkpoint.bytes}, that is at "
                    f"{_media_time(checkpoint)} (fragment {checkpoint.fragment}, signed in record {checkpoint.seq}).",
                )
        checkpointed = position
        position = self._hash_to(file, digest, position, job.bytes)
        vouched = digest.copy().hexdigest()
        if position < job.bytes:
            self._fail(job, Code.SEGMENT_SIZE, f"{job.name} has {position} bytes; its record says {job.bytes}.")
            return FileSum(position, vouched)
        if vouched != job.sha256:
            self._fail(job, Code.SEGMENT_HASH, f"The {job.bytes} bytes of {job.name} are not those that were signed.")
        end = self._hash_to(file, digest, position, None)
        self._judge_rest(job, end - job.bytes)
        if job.state == "recovered":
            self._check_recovered(job, file, checkpointed)
        return FileSum(end, digest.hexdigest())

    def _hash_to(
        self,
        file: io.FileIO,
        digest: hashlib._Hash,
        position: int,
        end: Checkpoint | int | None,
        judged: MediaJob | None = None,
    ) -> int:
        """Hash up to a byte, or to the end of the file (None); returns how far there was something.

        With a checkpoint as the end, what is read first is its fragment's `moof`, which is looked at if `judged`.
        """
        checkpoint = end if isinstance(end, Checkpoint) else None
        limit = end.bytes if isinstance(end, Checkpoint) else end
        fragment_bytes = 0 if limit is None else limit - position
        first = True
        while limit is None or position < limit:
            wanted = CHUNK_BYTES if limit is None else min(CHUNK_BYTES, limit - position)
            count = file.readinto(self._buffer[:wanted])
            if not count:
                break
            chunk = self._buffer[:count]
            digest.update(chunk)
            if first and checkpoint is not None and judged is not None:
                self._check_fragment(judged, checkpoint, chunk, fragment_bytes)
            first = False
            position += count
            self._on_bytes(count)
        return position

    def _check_fragment(self, job: MediaJob, checkpoint: Checkpoint, head: memoryview, fragment_bytes: int) -> None:
        try:
            found = said_by(_fragment_at(head, fragment_bytes))
        except Mp4Error as error:
            wrong = str(error).rstrip(".")
        else:
            if found == checkpoint.said:
                return
            wrong = f"it says (number, begin, end, frames, audio frames) {found}, its checkpoint {checkpoint.said}"
        self._fail(
            job,
            Code.FRAGMENT_DISAGREES,
            f"Fragment {checkpoint.fragment} in {job.name} does not agree with its checkpoint: {wrong}.",
        )

    def _judge_rest(self, job: MediaJob, rest_bytes: int) -> None:
        if rest_bytes <= 0:
            return
        where, recording_id = job.subject, job.recording_id
        if job.state == "open":
            self._findings.warn(
                Code.UNSIGNED_BYTES,
                where,
                f"The last {rest_bytes} bytes of {job.name} lie behind its last checkpoint: nothing vouches for them.",
                recording_id=recording_id,
            )
        elif rest_bytes <= job.spare_bytes:
            self._findings.note(
                Code.UNSIGNED_BYTES,
                where,
                f"The last {rest_bytes} bytes of {job.name} were left by a failed write and are not vouched for; what "
                "they held stands again in the next segment. Leave them out when you join the files.",
                recording_id=recording_id,
            )
        else:
            self._fail(job, Code.SEGMENT_SIZE, f"{job.name} has {rest_bytes} bytes more than its record vouches for.")

    def _check_recovered(self, job: MediaJob, file: io.FileIO, checkpointed: int) -> None:
        if job.encrypted:
            self._note_recovered(job, checkpointed, "")
            return
        file.seek(0)
        buffered = io.BufferedReader(file, 4096)
        count = frames = behind = 0
        for span in whole_fragments(buffered):  # one by one: a file of the smallest has millions
            count += 1
            frames += span.info.tracks[VIDEO_TRACK_ID].sample_count if _has_video(span) else 0
            behind += span.offset >= checkpointed
        buffered.detach()  # it would else close the file, which is not its own
        if (count, frames) != (job.fragments, job.frames):
            self._fail(
                job,
                Code.FRAGMENT_COUNT,
                f"{job.name} holds {count} whole fragments with {frames} frames; its record says {job.fragments} "
                f"with {job.frames}.",
            )
        self._note_recovered(job, checkpointed, f" ({behind} whole fragments)")

    def _note_recovered(self, job: MediaJob, checkpointed: int, what: str) -> None:
        if job.bytes > checkpointed:
            self._findings.note(
                Code.UNSIGNED_BYTES,
                job.subject,
                f"The last {job.bytes - checkpointed} bytes of {job.name}{what} lie behind its last checkpoint: they "
                "were signed only when the camera started again, as it found them.",
                recording_id=job.recording_id,
            )


def _has_video(span: FragmentSpan) -> bool:
    return VIDEO_TRACK_ID in span.info.tracks


def _media_time(checkpoint: Checkpoint) -> str:
    begin, end = (ticks / VIDEO_TIMESCALE_90K for ticks in (checkpoint.first_media_90k, checkpoint.end_media_90k))
    return f"{begin:.3f} to {end:.3f} s of the recording"


def said_by(info: FragmentInfo) -> tuple[int, int, int, int, int]:
    """Number, begin, end, frames and audio frames, as a fragment's `moof` says. Raises Mp4Error without video."""
    video, audio = info.tracks.get(VIDEO_TRACK_ID), info.tracks.get(AUDIO_TRACK_ID)
    if video is None:
        raise Mp4Error("it has no video.")
    begin = video.base_media_decode_time
    return (
        info.sequence_number,
        begin,
        begin + video.duration,
        video.sample_count,
        audio.sample_count if audio is not None else 0,
    )


def _fragment_at(head: memoryview, fragment_bytes: int) -> FragmentInfo:
    """The `moof` at the start of a fragment; checks that an `mdat` fills the rest of its bytes. Raises Mp4Error."""
    if len(head) < 8:
        raise Mp4Error("it is too short for one.")
    size, type_ = struct.unpack_from(">I4s", head)
    if type_ != b"moof" or size + 8 > len(head):
        raise Mp4Error("it does not begin with a moof box and its mdat.")
    info = fragment_info(bytes(head[:size]))
    rest, type_ = struct.unpack_from(">I4s", head, size)
    if type_ != b"mdat" or size + rest != fragment_bytes:
        raise Mp4Error("its mdat box does not fill what its checkpoint vouches for.")
    return info
