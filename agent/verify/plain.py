"""Inside encrypted segments: whether what they open to is what was signed. Needs the evidence system's identity.

The plaintext is looked at as it comes and is kept nowhere.
"""

from __future__ import annotations

import hashlib
import io
import struct
from collections import deque
from collections.abc import Iterator

from agent.encryption.identity import Identities
from agent.errors import EncryptionError
from agent.media.mp4 import MAX_MOOF_BYTES, FragmentInfo, Mp4Error, fragment_info
from agent.verify.fields import Fields
from agent.verify.finding import Code, Findings
from agent.verify.media_job import Checkpoint, FileSum, MediaJob
from agent.verify.segments import CHUNK_BYTES, fragment_difference, said_by

NOTHING = FileSum(0, hashlib.sha256().hexdigest())


def said_plain(fields: Fields) -> FileSum:
    """What a record says an encrypted file opens to. Raises FieldError."""
    return FileSum(fields.count("plain_bytes"), fields.sha256("plain_sha256"))


class PlainChecker:
    """Checks files one after another. Used from one thread."""

    def __init__(self, identities: Identities, findings: Findings) -> None:
        self._identities = identities
        self._findings = findings

    def __call__(self, job: MediaJob, file: io.FileIO) -> None:
        """Report how the file's vouched bytes, opened, differ from what was signed. Raises OSError from reading."""
        if not job.bytes:
            return
        reader = _PlainReader(job)
        try:
            why = self._identities.decrypt(_vouched(file, job.bytes), reader.take)
        except EncryptionError as error:
            # Its ciphertext is what was signed. That the identity is another's, or the camera erred, changes no byte.
            self._findings.note(
                Code.IDENTITY,
                job.subject,
                f"The identity given does not open {job.name}, so nobody looked into it: {error}",
                recording_id=job.recording_id,
            )
            return
        wrong = reader.finish()
        if wrong is None and why is not None and job.state == "whole":
            wrong = f"it does not open to its end ({why})"
        if wrong is not None:
            self._findings.fail(
                Code.PLAIN_HASH,
                job.subject,
                f"What {job.name} holds is not what was signed: {wrong}.",
                recording_id=job.recording_id,
                follows=job.subject,
            )


def _vouched(file: io.FileIO, left: int) -> Iterator[bytes]:
    while left and (chunk := file.read(min(CHUNK_BYTES, left))):
        left -= len(chunk)
        yield chunk


class _PlainReader:
    """Hashes plaintext up to each checkpoint and reads its boxes on the way."""

    def __init__(self, job: MediaJob) -> None:
        self._borders: deque[tuple[FileSum, Checkpoint | None]] = deque(
            (checkpoint.plain, checkpoint) for checkpoint in job.checkpoints if checkpoint.plain is not None
        )
        if job.plain is not None and (not self._borders or job.plain.bytes > self._borders[-1][0].bytes):
            self._borders.append((job.plain, None))
        self._sha256 = hashlib.sha256()
        self._boxes = _Boxes()
        self._bytes = 0
        self._wrong: str | None = None
        # What the camera was writing when power went lies behind the last checkpoint of a recovered file only.
        self._may_go_on = job.state == "recovered"

    def take(self, data: bytes) -> None:
        """The next plaintext."""
        view = memoryview(data)
        while view and self._borders and self._wrong is None:
            plain, checkpoint = self._borders[0]
            piece = view[: plain.bytes - self._bytes]
            view = view[len(piece) :]
            self._bytes += len(piece)
            self._sha256.update(piece)
            self._boxes.take(piece)
            if self._bytes == plain.bytes:
                self._borders.popleft()
                self._wrong = self._judged(plain, checkpoint)
        if view and self._wrong is None and not self._may_go_on:
            self._wrong = f"it goes on behind the {self._bytes} bytes that were signed"

    def _judged(self, plain: FileSum, checkpoint: Checkpoint | None) -> str | None:
        if self._sha256.hexdigest() != plain.sha256:
            where = f"up to fragment {checkpoint.fragment} " if checkpoint is not None else ""
            return f"{where}its {plain.bytes} bytes have another hash"
        if checkpoint is None:
            return None
        try:
            said = [said_by(info) for info in self._boxes.taken()]
        except Mp4Error as error:
            return f"fragment {checkpoint.fragment} is none ({str(error).rstrip('.')})"
        if len(said) != 1:
            return f"there are {len(said)} fragments where fragment {checkpoint.fragment} alone was signed"
        difference = fragment_difference(checkpoint, said[0])
        return f"of fragment {checkpoint.fragment}, {difference}" if difference else None

    def finish(self) -> str | None:
        """What is wrong, as the end of a sentence, or None."""
        if self._wrong is None and self._borders and self._borders[-1][0].bytes:
            return f"it opens only up to byte {self._bytes}"
        return self._wrong


class _Boxes:
    """The fragments in boxes that come in pieces; `free` boxes are passed over."""

    def __init__(self) -> None:
        self._head = bytearray()
        self._skip_bytes = 0
        self._moof: FragmentInfo | None = None
        self._taken: list[FragmentInfo] = []
        self._wrong: Mp4Error | None = None

    def take(self, data: memoryview) -> None:
        """The next bytes."""
        while data and self._wrong is None:
            if self._skip_bytes:
                skipped = min(self._skip_bytes, len(data))
                self._skip_bytes -= skipped
                data = data[skipped:]
                continue
            wanted = 8 if len(self._head) < 8 else struct.unpack_from(">I", self._head)[0]
            piece = data[: wanted - len(self._head)]
            data = data[len(piece) :]
            self._head += piece
            try:
                self._box()
            except Mp4Error as error:
                self._wrong = error

    def _box(self) -> None:
        """Act on what is in the head: a header, and of a `moof` all of it."""
        if len(self._head) < 8:
            return
        size, type_ = struct.unpack_from(">I4s", self._head)
        if type_ == b"moof" and 8 <= size <= MAX_MOOF_BYTES and self._moof is None:
            if len(self._head) < size:
                return
            self._moof = fragment_info(bytes(self._head))
        elif type_ == b"mdat" and size >= 8 and self._moof is not None:
            self._taken.append(self._moof)
            self._moof = None
            self._skip_bytes = size - 8
        elif type_ == b"free" and size >= 8 and self._moof is None:
            self._skip_bytes = size - 8
        else:
            raise Mp4Error(f"There is a box {bytes(type_)!r} of {size} bytes where none is expected.")
        self._head.clear()

    def taken(self) -> list[FragmentInfo]:
        """The fragments that ended since the last call. Raises Mp4Error when something else came, or one goes on."""
        if self._wrong is not None:
            raise self._wrong
        if self._skip_bytes or self._head or self._moof is not None:
            raise Mp4Error("It goes on behind its checkpoint.")
        taken, self._taken = self._taken, []
        return taken
