"""What a journal says there is: recordings, their files, and where their records stand. For export and offload.

Signatures are not checked here: `verify` does that. What is read is what the files hold, so that evidence can leave a
camera whose journal is damaged, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from agent.errors import EvidenceDamagedError
from agent.vault.layout import INIT_NAME, is_encrypted
from agent.vault.record import Record
from agent.verify.evidence import Evidence
from agent.verify.evidence_file import RECORDING_ID, SEGMENT_NAME, is_refused_folder, open_plain
from agent.verify.fields import FieldError, Fields
from agent.verify.finding import Findings
from agent.verify.journal import RUN_START_REASONS, JournalLine, JournalReader
from agent.verify.media_job import FileSum
from agent.verify.plain import said_plain
from agent.verify.segments import CHUNK_BYTES


@dataclass(frozen=True, slots=True)
class Place:
    """A point in the journal: behind a line."""

    file: str
    end_offset: int


@dataclass(frozen=True, slots=True)
class VouchedFile:
    """A media file as far as the journal vouches for it. state: "init", a segment's state, or "open" (not sealed)."""

    name: str
    state: str
    bytes: int
    sha256: str
    frames: int
    plain: FileSum | None = None
    """Of an encrypted file: what its vouched bytes open to."""


@dataclass(slots=True)
class IndexedRecording:
    """One recording. files: in the order of the media, init first; those of 0 bytes and missing ones are left out.

    run_file: the journal file with which the run began that triggered it. covered_at: behind the closing record, or
    the first signed record after it that covers it. stores: whose receipts the journal holds.
    stamped_from: the same as run_file of the run that holds the last timestamp before it, None when there is none.
    stamped_at: the same as covered_at of the first timestamp over its closing record or one behind it.
    """

    recording_id: str
    device_id: str
    run_file: str
    closed_at: Place | None = None
    covered_at: Place | None = None
    closed_seq: int = 0
    stamped_from: str | None = None
    stamped_at: Place | None = None
    files: list[VouchedFile] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    stores: set[str] = field(default_factory=set)
    sealed: str | None = None
    """Fields that identify people, as `recording-open` holds them; None when it has none."""
    unusable: str | None = None
    """Why a record of it could not be used, or None."""

    @property
    def frames(self) -> int:
        """Frames in all its files."""
        return sum(file.frames for file in self.files)

    @property
    def encrypted(self) -> bool:
        """Whether any of its files needs a key to be played."""
        return any(is_encrypted(file.name) for file in self.files)

    @property
    def bytes(self) -> int:
        """Bytes that are vouched for."""
        return sum(file.bytes for file in self.files)


@dataclass(slots=True)
class JournalIndex:
    """Everything that was found, in order of first mention; `findings` holds what is wrong with the journal's lines."""

    recordings: dict[str, IndexedRecording]
    findings: Findings


def read_index(evidence: Evidence) -> JournalIndex:
    """Read the journal of a vault or a package once, from its beginning.

    Raises OSError when it cannot be listed, and EvidenceDamagedError when it is a link: an empty answer would look like
    a camera without recordings.
    """
    if is_refused_folder(evidence.journal):
        raise EvidenceDamagedError(f"{evidence.journal} is a link, or no folder; put the folder itself there.")
    findings = Findings()
    builder = _Builder()
    for line in JournalReader(evidence.journal, findings, extract=evidence.is_package):
        builder.take(line)
    return JournalIndex(builder.finish(), findings)


def vouched_chunks(folder: Path, file: VouchedFile) -> Iterator[bytes]:
    """The bytes of a media file that the journal vouches for. Their hash is for the caller to compare.

    Raises EvidenceDamagedError when the file is gone, too short, or cannot be read.
    """
    left = file.bytes
    try:
        with open_plain(folder / file.name) as source:
            while left and (chunk := source.read(min(CHUNK_BYTES, left))):
                left -= len(chunk)
                yield chunk
    except OSError as error:
        raise EvidenceDamagedError(
            f"{folder / file.name} cannot be read ({error.strerror}); run `bodycam verify` on it."
        ) from error
    if left:
        raise EvidenceDamagedError(
            f"{folder / file.name} is {left} bytes shorter than the journal says; run `bodycam verify` on it."
        )


class _Builder:
    def __init__(self) -> None:
        self._recordings: dict[str, IndexedRecording] = {}
        self._open: dict[str, dict[str, VouchedFile]] = {}
        self._uncovered: list[IndexedRecording] = []
        self._unstamped: list[IndexedRecording] = []
        self._stamped: list[IndexedRecording] = []
        self._device_id = ""
        self._run_file = ""
        self._timestamp_run_file: str | None = None

    def take(self, line: JournalLine) -> None:
        record = line.record
        if record.type == "journal-open":
            if not self._run_file or record.fields.get("reason") in RUN_START_REASONS:
                self._run_file = line.file
            self._device_id = str(record.fields.get("device_id"))
        if not line.unbroken:
            # Across a broken chain no timestamp says anything about what is on the other side.
            self._timestamp_run_file = None
            self._unstamped.clear()
        recording_id = record.fields.get("recording_id")
        if isinstance(recording_id, str) and RECORDING_ID.fullmatch(recording_id):
            recording = self._recordings.setdefault(
                recording_id,
                IndexedRecording(recording_id, self._device_id, self._run_file, stamped_from=self._timestamp_run_file),
            )
            try:
                self._take(recording, record, line)
            except FieldError as error:
                recording.unusable = f"its record {record.seq} ({record.type[:40]}) cannot be used: {error}"
        if record.type == "timestamp":
            self._timestamp(record)
        if record.signature is not None:
            here = Place(line.file, line.end_offset)
            for recording in self._uncovered:
                recording.covered_at = here
            self._uncovered.clear()
            for recording in self._stamped:
                recording.stamped_at = here
            self._stamped.clear()

    def _timestamp(self, record: Record) -> None:
        self._timestamp_run_file = self._run_file
        head_seq = record.fields.get("head_seq")
        if isinstance(head_seq, int):
            self._stamped += [recording for recording in self._unstamped if recording.closed_seq <= head_seq]
            self._unstamped = [recording for recording in self._unstamped if recording.closed_seq > head_seq]

    def finish(self) -> dict[str, IndexedRecording]:
        for recording_id, files in self._open.items():
            self._recordings[recording_id].files += files.values()
        for recording in self._recordings.values():
            recording.files.sort(key=lambda file: (file.name != INIT_NAME, file.name))
        return self._recordings

    def _take(self, recording: IndexedRecording, record: Record, line: JournalLine) -> None:
        fields = Fields(record.fields)
        if record.type == "recording-open":
            self._init(recording, fields)
            recording.sealed = fields.text("sealed") if "sealed" in record.fields else None
        elif record.type == "checkpoint":
            name = _segment_name(fields)
            files = self._open.setdefault(recording.recording_id, {})
            frames = fields.count("frames") + (files[name].frames if name in files else 0)
            files[name] = VouchedFile(
                name, "open", fields.count("bytes"), fields.sha256("sha256"), frames, _plain(fields, name)
            )
        elif record.type == "segment":
            self._segment(recording, fields)
        elif record.type == "recording-close":
            if record.fields.get("init_file") is not None:
                self._init(recording, fields)
            recording.closed_at = Place(line.file, line.end_offset)
            recording.closed_seq = record.seq
            self._uncovered.append(recording)
            self._unstamped.append(recording)
        elif record.type == "offload":
            recording.stores.add(fields.text("store"))

    def _init(self, recording: IndexedRecording, fields: Fields) -> None:
        if fields.text("init_file") != INIT_NAME:
            raise FieldError(f"its init_file is not {INIT_NAME}")
        recording.files.append(
            VouchedFile(INIT_NAME, "init", fields.count("init_bytes"), fields.sha256("init_sha256"), 0)
        )

    def _segment(self, recording: IndexedRecording, fields: Fields) -> None:
        name, state, size = _segment_name(fields), fields.text("state"), fields.count("bytes")
        self._open.get(recording.recording_id, {}).pop(name, None)
        if state == "missing":
            recording.missing.append(name)
        elif size:
            recording.files.append(
                VouchedFile(name, state, size, fields.sha256("sha256"), fields.count("frames"), _plain(fields, name))
            )


def _plain(fields: Fields, name: str) -> FileSum | None:
    return said_plain(fields) if is_encrypted(name) else None


def _segment_name(fields: Fields) -> str:
    name = fields.text("file")
    if not SEGMENT_NAME.fullmatch(name):
        raise FieldError("its file is not named like a segment")
    return name
