"""The signatures in the video of recordings, as a second view beside the journal.

Each recording's segments are read as one stream, in a thread of its own, so that the check of the files never waits for
it. What is read is what checkpoints vouch for: behind the last one of a recovered segment a power cut may have left
anything, and an honest camera must not fail for that. Memory holds one fragment.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from queue import SimpleQueue
from typing import Self

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from agent.encryption.identity import Identities
from agent.errors import EncryptionError
from agent.media.mp4 import Mp4Error
from agent.media.units import VIDEO_TIMESCALE_90K
from agent.signing.finding import GopFinding
from agent.signing.nal import NalError, split_sample
from agent.signing.reader import StreamReader
from agent.trust.certificates import public_key_der
from agent.vault.layout import is_encrypted
from agent.verify.evidence_file import open_plain
from agent.verify.media_job import MediaJob
from agent.verify.segments import CHUNK_BYTES
from agent.verify.video_fragments import FragmentReader, VideoFragment
from agent.verify.video_report import SeenVideo

_LENGTH_BYTES = 4
"""libavformat writes no other length fields (ff_isom_write_avcc); init.mp4, which says so, is hashed in the journal."""


@dataclass(frozen=True, slots=True)
class _File:
    """A segment, and how many of its bytes are read."""

    name: str
    bytes: int


@dataclass(slots=True)
class _Stream:
    """A recording's video. keys: certificates that the journal names for its time, empty when it names none that is
    known. gaps_90k: where frames follow that come after some that the camera could not keep, by signed records.
    """

    recording_id: str
    folder: Path
    keys: Sequence[x509.Certificate]
    files: list[_File] = field(default_factory=list)
    gaps_90k: set[int] = field(default_factory=set)
    end_90k: int = 0


class VideoCheck:
    """Takes the media of recordings as records name it. Use as a context manager; leaving it waits for the reading."""

    def __init__(self, identities: Identities | None, on_bytes: Callable[[int], None]) -> None:
        """identities: open encrypted segments; without, these recordings are passed over, which NOT_DECRYPTED says.

        on_bytes(count): called in the thread as bytes are read.
        """
        self.seen: list[SeenVideo] = []
        """What was read, of each recording; to be looked at once this was left."""
        self._identities = identities
        self._on_bytes = on_bytes
        self._streams: dict[str, _Stream] = {}
        self._ready: SimpleQueue[_Stream | None] = SimpleQueue()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="verify-video", daemon=True)

    def take(
        self, job: MediaJob, folder: Path, now: x509.Certificate | None, before: Sequence[x509.Certificate]
    ) -> None:
        """The next file of a recording. now: whose key signs the journal here; before: all that signed it so far."""
        stream = self._streams.get(job.recording_id)
        if stream is None:
            # With its init.mp4 a recording is opened, by the run that filmed it. One that begins with anything else was
            # found by a later start, which may have another key.
            keys = before if job.state != "init" else [now] if now is not None else []
            stream = self._streams[job.recording_id] = _Stream(job.recording_id, folder, tuple(keys))
        if job.state == "init":
            return
        for checkpoint in job.checkpoints:
            if checkpoint.first_media_90k > stream.end_90k:
                stream.gaps_90k.add(checkpoint.first_media_90k)
            stream.end_90k = checkpoint.end_media_90k
        checkpointed = job.checkpoints[-1].bytes if job.checkpoints else 0
        stream.files.append(_File(job.name, checkpointed if job.state == "recovered" else job.bytes))

    def complete(self, recording_id: str) -> None:
        """No file of it follows: its video can be read. Nothing happens for one that has none, or the second time."""
        stream = self._streams.pop(recording_id, None)
        if stream is not None and stream.files:
            self._ready.put(stream)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for recording_id in list(self._streams):
            self.complete(recording_id)
        self._ready.put(None)
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        buffer = memoryview(bytearray(CHUNK_BYTES))
        while (stream := self._ready.get()) is not None:
            if self._error is None:
                try:
                    seen = _StreamCheck(stream, self._identities, self._on_bytes, buffer).run()
                    if seen is not None:
                        self.seen.append(seen)
                except Exception as error:  # noqa: BLE001  handed over to the thread that leaves the context
                    self._error = error


class _StreamCheck:
    """Reads one recording's stream. A gap that the journal tells ends one stream, and another begins behind it."""

    def __init__(
        self,
        stream: _Stream,
        identities: Identities | None,
        on_bytes: Callable[[int], None],
        buffer: memoryview,
    ) -> None:
        self._stream = stream
        self._identities = identities
        self._on_bytes = on_bytes
        self._buffer = buffer
        self._seen = SeenVideo(stream.recording_id)
        self._reader = StreamReader()
        self._earlier_gops = 0
        self._end_90k = 0
        self._before_90k = 0

    def run(self) -> SeenVideo | None:
        """What its signatures say; None when it cannot be looked into."""
        for file in sorted(self._stream.files, key=lambda file: file.name):
            if is_encrypted(file.name) and self._identities is None:
                return None
            try:
                self._read(file)
            except EncryptionError:
                return None  # the check of the files says IDENTITY of it
            except OSError:
                continue  # it says that of it, too; here the GOPs in it are missing
        self._end_reader()
        return self._seen

    # -- reading ----------------------------------------------------------------------------------------------

    def _read(self, file: _File) -> None:
        fragments = FragmentReader()
        wrong: Mp4Error | None = None

        def take(data: bytes | memoryview) -> None:
            nonlocal wrong
            if wrong is not None:
                return
            try:
                for fragment in fragments.take(data):
                    self._fragment(fragment)
            except Mp4Error as error:
                wrong = error

        with open_plain(self._stream.folder / file.name) as source:
            if is_encrypted(file.name) and self._identities is not None:
                if file.bytes:
                    self._identities.decrypt((bytes(chunk) for chunk in self._chunks(source, file.bytes)), take)
            else:
                for chunk in self._chunks(source, file.bytes):
                    take(chunk)
        if wrong is None and fragments.in_fragment:
            wrong = Mp4Error("It ends inside a fragment.")
        if wrong is not None:
            self._seen.unreadable(file.name, self._end_90k, str(wrong))

    def _chunks(self, source: io.FileIO, left: int) -> Iterator[memoryview]:
        while left and (count := source.readinto(self._buffer[: min(CHUNK_BYTES, left)])):
            left -= count
            self._on_bytes(count)
            yield self._buffer[:count]

    def _fragment(self, fragment: VideoFragment) -> None:
        begin = fragment.begin_90k
        if begin in self._stream.gaps_90k:
            self._end_reader()
        self._end_90k = fragment.end_90k
        time_s = begin / VIDEO_TIMESCALE_90K
        for sample in fragment.samples:
            try:
                units = split_sample(sample, _LENGTH_BYTES)
            except NalError as error:
                found = self._reader.unreadable(str(error), time_s)
            else:
                found = self._reader.picture(sample, units, time_s)
            for finding in found:
                self._take(finding)

    def _take(self, finding: GopFinding) -> None:
        """It became final with what was read last, so nothing behind that has a part in it."""
        self._seen.take(replace(finding, number=finding.number + self._earlier_gops), self._before_90k, self._end_90k)
        if finding.start_s is not None:
            self._before_90k = round(finding.start_s * VIDEO_TIMESCALE_90K)

    def _end_reader(self) -> None:
        for finding in self._reader.end():
            self._take(finding)
        report = self._reader.report
        self._seen.seis += report.seis
        self._earlier_gops += report.gops
        if report.chain and self._stream.keys and not _is_one_of(report.chain[0], self._stream.keys):
            self._seen.strangers.append(report.chain[0])
        self._reader = StreamReader()


def _is_one_of(certificate: x509.Certificate, named: Sequence[x509.Certificate]) -> bool:
    """By key: a renewed certificate is for the same one."""
    key = _key(certificate)
    return key is not None and any(_key(other) == key for other in named)


def _key(certificate: x509.Certificate) -> bytes | None:
    try:
        return public_key_der(certificate.public_key())
    except (ValueError, UnsupportedAlgorithm):
        return None
