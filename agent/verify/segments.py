"""A media file against what was signed of it: read once, in pieces, checking every checkpoint on the way."""

from __future__ import annotations

import hashlib
import io
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from agent.media.mp4 import FragmentInfo, FragmentSpan, Mp4Error, fragment_info, whole_fragments
from agent.verify.evidence_file import open_plain
from agent.verify.finding import Code, Findings
from agent.verify.media_job import Checkpoint, FileSum, MediaJob
from agent.verify.words import Said, SaidPlace, counted, disagreement, media_place

CHUNK_BYTES = 1 << 20
VIDEO_TRACK_ID = 1
AUDIO_TRACK_ID = 2


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
                where = f" with {job.where}" if job.checkpoints else ""
                sentence = f"{job.name}{where} is gone; {job.bytes} bytes of it were signed."
                self._fail(job, Code.SEGMENT_MISSING, sentence, media_90k=job.media_90k)
        except OSError as error:
            code = Code.SEGMENT_MISSING if job.bytes else Code.FILE_UNREADABLE
            where = f" with {job.where}" if job.checkpoints else ""
            sentence = f"{job.name}{where} cannot be read: {error.strerror}."
            self._fail(job, code, sentence, media_90k=job.media_90k)
        return None

    def _fail(
        self,
        job: MediaJob,
        code: Code,
        sentence: str,
        *,
        follows: int | str | None = None,
        lost: bool = False,
        media_90k: tuple[int, int] | None = None,
    ) -> None:
        if job.state == "init":
            code = Code.INIT_HASH
        self._findings.fail(
            code,
            job.subject,
            sentence,
            recording_id=job.recording_id,
            follows=follows,
            lost=lost,
            media_90k=media_90k,
        )

    def _check(self, job: MediaJob, file: io.FileIO) -> FileSum:
        digest = hashlib.sha256()
        position = 0
        intact = True
        doubtful: list[_Mismatch] = []
        for checkpoint in job.checkpoints:
            start = position
            judged = job if intact and not job.encrypted else None
            position, wrong = self._hash_to(file, digest, start, checkpoint, judged)
            if position < checkpoint.bytes:
                self._report(job, doubtful, file_is_good=False)
                self._fail(
                    job,
                    Code.SEGMENT_SIZE,
                    f"{job.name} was cut short: it ends at byte {position} of the {job.bytes} that were signed. The "
                    f"recording is lost from {media_place(checkpoint.first_media_90k)} to the end of that file, "
                    f"at {media_place(job.checkpoints[-1].end_media_90k)}.",
                    lost=True,
                    media_90k=(checkpoint.first_media_90k, job.checkpoints[-1].end_media_90k),
                )
                return FileSum(position, digest.hexdigest())
            if not intact:
                continue  # one wrong byte makes every later running hash wrong too: only the first says where it is
            if digest.copy().hexdigest() == checkpoint.sha256:
                self._report(job, doubtful, file_is_good=True)
                if wrong:
                    self._disagrees(job, checkpoint, wrong, follows=checkpoint.follows)
            elif checkpoint.trusted:
                intact = False
                self._report(job, doubtful, file_is_good=False)
                self._report(job, [_Mismatch(checkpoint, start, wrong)], file_is_good=False)
            else:
                # Either this record was changed or the file: what is signed next over the same bytes tells.
                doubtful.append(_Mismatch(checkpoint, start, wrong))
        checkpointed = position
        position, _ = self._hash_to(file, digest, position, job.bytes)
        vouched = digest.copy().hexdigest()
        good = position == job.bytes and vouched == job.sha256 and job.trusted
        self._report(job, doubtful, file_is_good=good)
        if position < job.bytes:
            last = job.checkpoints[-1] if job.checkpoints else None
            behind = f" What lies behind {media_place(last.end_media_90k)} of the recording is lost." if last else ""
            self._fail(
                job,
                Code.SEGMENT_SIZE,
                f"{job.name} was cut short: it has {position} bytes, and {job.bytes} were signed.{behind}",
                lost=True,
            )
            return FileSum(position, vouched)
        if vouched != job.sha256:
            what = f" ({job.where})" if job.checkpoints else ""
            self._fail(
                job,
                Code.SEGMENT_HASH,
                f"The {job.bytes} bytes of {job.name}{what} are not those that were signed.",
                follows=None if intact else job.subject,
                media_90k=job.media_90k,
            )
        end, _ = self._hash_to(file, digest, position, None)
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
    ) -> tuple[int, str | None]:
        """Hash up to a byte, or to the end of the file (None); returns how far there was something.

        With a checkpoint as the end, what is read first is its fragment's `moof`; if `judged`, what is wrong with it is
        returned, too.
        """
        checkpoint = end if isinstance(end, Checkpoint) else None
        limit = end.bytes if isinstance(end, Checkpoint) else end
        fragment_bytes = 0 if limit is None else limit - position
        first, wrong = True, None
        while limit is None or position < limit:
            wanted = CHUNK_BYTES if limit is None else min(CHUNK_BYTES, limit - position)
            count = file.readinto(self._buffer[:wanted])
            if not count:
                break
            chunk = self._buffer[:count]
            digest.update(chunk)
            if first and checkpoint is not None and judged is not None:
                wrong = _fragment_fault(checkpoint, chunk, fragment_bytes)
            first = False
            position += count
            self._on_bytes(count)
        return position, wrong

    def _report(self, job: MediaJob, mismatches: list[_Mismatch], *, file_is_good: bool) -> None:
        """Say of checkpoints that the file's bytes up to them have another hash, and forget them."""
        for found in mismatches:
            checkpoint = found.checkpoint
            if file_is_good:
                sentence = (
                    f"The checkpoint in record {checkpoint.seq} does not fit {job.name} at {checkpoint.where}, and "
                    "what was signed behind it does: that record was changed, and not the video."
                )
            else:
                sentence = (
                    f"{job.name} was changed between bytes {found.start} and {checkpoint.bytes}, that is at "
                    f"{checkpoint.where} (fragment {checkpoint.fragment}, signed in record {checkpoint.seq})."
                )
                if checkpoint is not job.checkpoints[-1]:
                    end = media_place(job.checkpoints[-1].end_media_90k)
                    sentence += f" From there to the end of that file, at {end}, nothing of it is proved any more."
            follows = checkpoint.follows if file_is_good else None
            hurt = None if file_is_good else (checkpoint.first_media_90k, job.checkpoints[-1].end_media_90k)
            self._fail(job, Code.CHECKPOINT_HASH, sentence, follows=follows, media_90k=hurt)
            if found.wrong:
                self._disagrees(job, checkpoint, found.wrong, follows=follows if file_is_good else job.subject)
        mismatches.clear()

    def _disagrees(self, job: MediaJob, checkpoint: Checkpoint, wrong: str, *, follows: int | str | None) -> None:
        self._fail(
            job,
            Code.FRAGMENT_DISAGREES,
            f"Fragment {checkpoint.fragment} in {job.name} ({checkpoint.where}) does not agree with its checkpoint: "
            f"{wrong}.",
            follows=follows,
        )

    def _judge_rest(self, job: MediaJob, rest_bytes: int) -> None:
        if rest_bytes <= 0:
            return
        where, recording_id = job.subject, job.recording_id
        if job.state == "open":
            self._findings.warn(
                Code.UNSIGNED_BYTES,
                where,
                f"The last {rest_bytes} bytes of {job.name} lie behind its last checkpoint{_until(job)}: nothing "
                "vouches for them.",
                recording_id=recording_id,
            )
        elif rest_bytes <= job.spare_bytes:
            self._findings.note(
                Code.UNSIGNED_BYTES,
                where,
                f"The last {rest_bytes} bytes of {job.name} were left by a failed write and nothing vouches for them; "
                "what they held stands again in the next file. Leave them out when you join the files.",
                recording_id=recording_id,
            )
        else:
            self._fail(
                job,
                Code.SEGMENT_SIZE,
                f"{job.name} was made longer: nothing vouches for its last {rest_bytes} bytes, which lie behind the "
                f"{job.bytes} that were signed{_until(job)}.",
            )

    def _check_recovered(self, job: MediaJob, file: io.FileIO, checkpointed: int) -> None:
        if job.encrypted:
            # Anybody can encrypt to the recipients, whose keys are public.
            self._judge_recovered(job, checkpointed, "What lies there is encrypted, and")
            return
        file.seek(0)
        buffered = io.BufferedReader(file, 4096)
        count = frames = behind = unsigned_frames = 0
        number = job.checkpoints[-1].fragment if job.checkpoints else None
        goes_on = True
        for span in whole_fragments(buffered):  # one by one: a file of the smallest has millions
            count += 1
            found = span.info.tracks[VIDEO_TRACK_ID].sample_count if _has_video(span) else 0
            frames += found
            if span.offset >= checkpointed:
                behind += 1
                unsigned_frames += found
                goes_on &= number is None or span.info.sequence_number == number + behind
        buffered.detach()  # it would else close the file, which is not its own
        if (count, frames) != (job.fragments, job.frames):
            self._fail(
                job,
                Code.FRAGMENT_COUNT,
                f"{job.name} holds {counted(count, 'whole fragment')} with {counted(frames, 'frame')}; its record "
                f"says {job.fragments} with {job.frames}.",
            )
        what = f"They hold {counted(behind, 'whole fragment')} with {counted(unsigned_frames, 'frame')}, and"
        if not goes_on:
            what = f"{what.removesuffix(', and')}, whose numbers do not go on from the checkpoints', and"
        self._judge_recovered(job, checkpointed, what if behind else None)

    def _judge_recovered(self, job: MediaJob, checkpointed: int, what: str | None) -> None:
        """what: begins the sentence on media that can be played; None when there is none behind the checkpoints."""
        if job.bytes <= checkpointed:
            return
        where = (
            f"The last {job.bytes - checkpointed} bytes of {job.name} lie behind its last checkpoint{_until(job)}: the "
            "camera signed them only when it started again, as it found them."
        )
        if what is None:
            self._findings.note(
                Code.UNSIGNED_BYTES,
                job.subject,
                f"{where} They hold no whole fragment.",
                recording_id=job.recording_id,
            )
            return
        self._findings.warn(
            Code.UNSIGNED_MEDIA,
            job.subject,
            f"{where} {what} no signature tells whether they are what was being written when power was lost, or what "
            "somebody who had the card put there before that start. Ask who had it.",
            recording_id=job.recording_id,
        )


def _has_video(span: FragmentSpan) -> bool:
    return VIDEO_TRACK_ID in span.info.tracks


def _until(job: MediaJob) -> str:
    return f" at {media_place(job.checkpoints[-1].end_media_90k)}" if job.checkpoints else ""


@dataclass(frozen=True, slots=True)
class _Mismatch:
    """A checkpoint whose hash is not that of the file's bytes. wrong: what else is wrong with its fragment."""

    checkpoint: Checkpoint
    start: int
    wrong: str | None


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


def fragment_difference(checkpoint: Checkpoint, found: tuple[int, int, int, int, int]) -> str | None:
    """How what a fragment says (see said_by) differs from its checkpoint, as the end of a sentence, or None."""
    fragment, begin, end, frames, audio_frames = found
    differing = disagreement(
        (
            Said("the number {}", fragment, checkpoint.fragment),
            SaidPlace("a beginning at {}", begin, checkpoint.first_media_90k),
            SaidPlace("an end at {}", end, checkpoint.end_media_90k),
            Said("frames", frames, checkpoint.frames),
            Said("sound frames", audio_frames, checkpoint.audio_frames),
        )
    )
    return None if differing is None else f"it says {differing[0]}, its checkpoint {differing[1]}"


def _fragment_fault(checkpoint: Checkpoint, head: memoryview, fragment_bytes: int) -> str | None:
    """What is wrong with the fragment that begins here, as the end of a sentence, or None."""
    try:
        return fragment_difference(checkpoint, said_by(_fragment_at(head, fragment_bytes)))
    except Mp4Error as error:
        return str(error).rstrip(".")


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
        raise Mp4Error("it is not as long as what its checkpoint vouches for.")
    return info
