"""One recording's records against each other: what was said of it is complete, in order, and adds up."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from agent.media.units import ns_to_90k
from agent.vault.layout import INIT_NAME, is_encrypted
from agent.vault.record import Record
from agent.verify.breaks import JournalBreaks
from agent.verify.derived import DerivedJson
from agent.verify.evidence_file import RECORDING_ID, SEGMENT_NAME
from agent.verify.fields import FieldError, Fields
from agent.verify.finding import Code, Findings, Severity
from agent.verify.media_job import Checkpoint, FileSum, MediaJob
from agent.verify.missed_frames import MissedFrames
from agent.verify.opened import Opened
from agent.verify.plain import NOTHING, said_plain
from agent.verify.sums import EMPTY_SHA256, Totals, segment_difference
from agent.verify.words import counted, media_place

_STATES = frozenset({"whole", "torn", "recovered", "missing"})


class UnsafeNameError(FieldError):
    """A record names a file or recording in a way that is never used, and that could lead out of its folder."""


class AbsentRecordError(FieldError):
    """A record needs an earlier one of its recording that is not there."""


class RecordingCheck:
    """Takes the records of one recording in order, and passes files on to be checked as soon as they are complete.

    Keeps checkpoints only until their segment is sealed.
    """

    def __init__(self, recording_id: str, findings: Findings, media: Callable[[MediaJob], None]) -> None:
        """media(job): what to check of which file. Raises UnsafeNameError for an id that is no UUID."""
        if not RECORDING_ID.fullmatch(recording_id):
            raise UnsafeNameError(f"its recording_id {recording_id[:80]!r} is no UUID")
        self.recording_id = recording_id
        self._findings = findings
        self._media = media
        self.first_ordinal: int | None = None
        self.last_ordinal = 0
        self.covered_ordinal: int | None = None
        """The line whose signature covers its end, once it is closed; None while there is none."""
        self.triggered = False
        self.trigger_journalled = False
        """The record that closes a recovered recording says that its trigger stood in the journal."""
        self.opened: Opened | None = None
        self.closed = False
        self.recovered = False
        self.stop_reason: str | None = None
        self.marker_boottimes_ns: list[int] = []
        self.totals = Totals()
        self.files: set[str] = set()
        """Names that records vouch for, or declare to be there perhaps."""
        self.vouched_bytes = 0
        self.frames = 0
        self.end_media_90k = 0
        self.derived = DerivedJson(recording_id)
        """What `recording.json` must say."""
        self._open_checkpoints: dict[str, list[Checkpoint]] = {}
        self._sealed: set[str] = set()
        self.fragments = 0
        """Number of the last one that a checkpoint vouches for."""
        self._gap_before_next = False
        self._missed_frames = MissedFrames()
        self._sealed_at_start = False
        self._trusted = True
        """The signature of the record that is being taken does not speak against it."""
        self.breaks = JournalBreaks()

    def take(self, record: Record, ordinal: int, *, broken_at: int | None = None, trusted: bool = True) -> None:
        """Check the next record. Raises FieldError when its fields cannot be used.

        broken_at: the last line up to this one whose signature is wrong, or that does not follow on the one before it.
        trusted: False when this record's own signature is wrong.
        """
        previous = None if self.first_ordinal is None else self.last_ordinal
        counted_in = self.opened is not None or record.type not in ("trigger", "recording-open")
        self.breaks.take(ordinal, previous, broken_at, self._open_checkpoints, counted=counted_in)
        if self.first_ordinal is None:
            self.first_ordinal = ordinal
        handle = {
            "trigger": self._trigger,
            "recording-open": self._open,
            "checkpoint": self._checkpoint,
            "segment": self._segment,
            "gap": self._gap,
            "marker": self._marker,
            "stop": self._stop,
            "recording-close": self._close,
        }.get(record.type)
        if handle is None:
            return  # such as `offload`: about the recording, and no part of it
        if self.closed:
            raise FieldError("it follows on the record that closed its recording")
        self.last_ordinal = ordinal
        self._trusted = trusted
        self.derived.take(record)
        handle(record, Fields(record.fields))

    def finish(self) -> None:
        """Pass on what was never sealed, once the journal is at its end."""
        for name, checkpoints in self._open_checkpoints.items():
            last = checkpoints[-1]
            self._media(
                MediaJob(self.recording_id, name, "open", last.bytes, last.sha256, checkpoints, plain=last.plain)
            )
        self._open_checkpoints.clear()

    def _fail(self, code: Code, sentence: str, subject: str | None = None, *, follows: int | None = None) -> None:
        self._findings.fail(
            code, subject or self.recording_id, sentence, recording_id=self.recording_id, follows=follows
        )

    def _trigger(self, _record: Record, _fields: Fields) -> None:
        if self.triggered:
            raise FieldError("its recording was triggered before")
        self.triggered = True

    def _open(self, record: Record, fields: Fields) -> None:
        if self.opened is not None:
            raise FieldError("its recording was opened before")
        self.opened = Opened.of(record, fields)
        self._init_file(fields)
        if self.opened.actual_pre_event_ms < self.opened.configured_pre_event_ms:
            why = self.opened.pre_event_short_reason
            self._findings.add(
                Code.PRE_EVENT_SHORT,
                Severity.NOTE if why else Severity.WARN,
                self.recording_id,
                f"It begins {self.opened.actual_pre_event_ms / 1000:.1f} s before its trigger, and the camera was set "
                f"to keep {self.opened.configured_pre_event_ms / 1000:.1f} s. "
                + (f"The reason that the camera gives: {why[:80]}." if why else "The camera gives no reason."),
                recording_id=self.recording_id,
            )

    def _init_file(self, fields: Fields) -> None:
        name = fields.text("init_file")
        if name != INIT_NAME:
            raise UnsafeNameError(f"its init_file is {name[:80]!r} and not {INIT_NAME}")
        size = fields.count("init_bytes")
        self.files.add(name)
        self.vouched_bytes += size
        self._media(MediaJob(self.recording_id, name, "init", size, fields.sha256("init_sha256")))

    def _file(self, fields: Fields) -> str:
        name = fields.text("file")
        if not SEGMENT_NAME.fullmatch(name):
            raise UnsafeNameError(f"its file {name[:80]!r} is not named like a segment")
        if name in self._sealed:
            raise FieldError(f"it is about {name}, which was sealed before")
        return name

    def _checkpoint(self, record: Record, fields: Fields) -> None:
        name = self._file(fields)
        if self.opened is None:
            raise AbsentRecordError("its recording was not opened before")
        checkpoint = Checkpoint(
            record.seq,
            fields.count("fragment"),
            fields.count("bytes"),
            fields.sha256("sha256"),
            fields.count("first_media_90k"),
            fields.count("end_media_90k"),
            fields.count("frames"),
            fields.count("audio_frames"),
            said_plain(fields) if is_encrypted(name) else None,
            self.breaks.before_next,
            self._trusted,
        )
        before = self._open_checkpoints.setdefault(name, [])
        if before and checkpoint.bytes <= before[-1].bytes:
            raise FieldError(f"its bytes do not go on behind those of fragment {before[-1].fragment}")
        if before and checkpoint.plain and before[-1].plain and checkpoint.plain.bytes <= before[-1].plain.bytes:
            raise FieldError(f"its plain_bytes do not go on behind those of fragment {before[-1].fragment}")
        if checkpoint.fragment != self.fragments + 1:
            self._fail(
                Code.FRAGMENT_COUNT,
                f"In the journal fragment {checkpoint.fragment} (at {media_place(checkpoint.first_media_90k)}) follows "
                + (f"on fragment {self.fragments}" if self.fragments else "on nothing")
                + ": records of fragments were removed, added or moved.",
                f"record {record.seq}",
                follows=checkpoint.follows,
            )
        self._check_time(record, checkpoint)
        self._missed_frames.take(checkpoint, self.opened.fps)
        before.append(checkpoint)
        self.files.add(name)
        self.fragments = checkpoint.fragment
        self.end_media_90k = checkpoint.end_media_90k
        self.frames += checkpoint.frames
        self._gap_before_next = False
        self.breaks.checkpoint(name)

    def _check_time(self, record: Record, checkpoint: Checkpoint) -> None:
        begin, expected = checkpoint.first_media_90k, self.end_media_90k
        if checkpoint.end_media_90k <= begin or begin < expected or (begin > expected and not self._gap_before_next):
            self._fail(
                Code.MEDIA_TIME,
                f"Fragment {checkpoint.fragment} runs from {media_place(begin)} to "
                f"{media_place(checkpoint.end_media_90k)} of the recording, but the one before it ended at "
                f"{media_place(expected)}, and the camera names no gap there.",
                f"record {record.seq}",
                follows=checkpoint.follows,
            )

    def _segment(self, _record: Record, fields: Fields) -> None:
        name, state = self._file(fields), fields.text("state")
        if state not in _STATES:
            raise FieldError(f"its state {state[:40]!r} is not one there is")
        size, sha256 = fields.count("bytes"), fields.sha256("sha256")
        checkpoints = self._open_checkpoints.pop(name, [])
        self._sealed.add(name)
        self.totals.segments += 1
        self.totals.bytes += size
        if state == "missing":
            self._fail(
                Code.SEGMENT_MISSING,
                f"{name}{_span(checkpoints)} was gone when the camera started again, though it had signed "
                f"{counted(len(checkpoints), 'fragment')} of it.",
            )
            return
        fragments, frames = fields.count("fragments"), fields.count("frames")
        end = fields.optional_integer("end_media_90k")
        self.totals.fragments += fragments
        self.totals.frames += frames
        self.totals.end_media_90k = max(self.totals.end_media_90k, end or 0)
        self.vouched_bytes += size
        self.files.add(name)
        spare = fields.count("unconfirmed_bytes") if state == "torn" else 0
        if state == "recovered":
            self._sealed_at_start = True
            self._check_recovered(name, fields, checkpoints)
            self.frames += frames - sum(checkpoint.frames for checkpoint in checkpoints)
            self.end_media_90k = max(self.end_media_90k, end or 0)
        else:
            self._check_sealed(name, fields, checkpoints)
        self._media(
            MediaJob(
                self.recording_id,
                name,
                state,
                size,
                sha256,
                checkpoints,
                spare,
                fragments,
                frames,
                said_plain(fields) if is_encrypted(name) else None,
                self._trusted,
            ),
        )

    def _check_sealed(self, name: str, fields: Fields, checkpoints: list[Checkpoint]) -> None:
        last = checkpoints[-1] if checkpoints else None
        size, sha256 = fields.count("bytes"), fields.sha256("sha256")
        if is_encrypted(name):
            # Where nothing followed after all, a box and the mark of the end stand behind the last checkpoint.
            if last is not None and size > last.bytes and fields.text("state") == "whole":
                size, sha256 = last.bytes, last.sha256
            else:
                self._check_plain(name, fields, last)
        if differing := segment_difference(fields, FileSum(size, sha256), checkpoints):
            self._fail(
                Code.FRAGMENT_COUNT,
                f"The record that closes {name} says {differing[0]}; its checkpoints add up to {differing[1]}.",
                follows=self.breaks.in_file(name),
            )

    def _check_recovered(self, name: str, fields: Fields, checkpoints: list[Checkpoint]) -> None:
        last = checkpoints[-1] if checkpoints else None
        said = (fields.count("checkpointed_bytes"), fields.sha256("checkpointed_sha256"))
        if said != ((last.bytes, last.sha256) if last else (0, EMPTY_SHA256)):
            self._fail(
                Code.FRAGMENT_COUNT,
                f"The record that closes {name} says that its checkpoints end at byte {said[0]}; the last one there is "
                f"ends at byte {last.bytes if last else 0}"
                + (" and has another hash." if last and said[0] == last.bytes else "."),
                follows=self.breaks.in_file(name),
            )
        if is_encrypted(name):
            self._check_plain(name, fields, last)
        if not fields.flag("checkpoint_intact"):
            self._fail(
                Code.CHECKPOINT_HASH,
                f"When the camera started again, the first {said[0]} bytes of {name} were not what it had signed.",
            )

    def _check_plain(self, name: str, fields: Fields, last: Checkpoint | None) -> None:
        if said_plain(fields) != (last.plain if last else NOTHING):
            self._fail(
                Code.FRAGMENT_COUNT,
                f"The record that closes {name} says that it opens to other bytes than its checkpoints say.",
                follows=self.breaks.in_file(name),
            )

    def _gap(self, _record: Record, fields: Fields) -> None:
        self.totals.gaps += 1
        self._gap_before_next = True
        begin, end = fields.integer("from_boottime_ns"), fields.integer("to_boottime_ns")
        frames = fields.count("frames")
        where = ""
        if self.opened is not None:
            origin = self.opened.origin_boottime_ns
            where = f" from {media_place(ns_to_90k(begin - origin))} to {media_place(ns_to_90k(end - origin))}"
        self._findings.note(
            Code.GAP,
            self.recording_id,
            f"The camera could not keep {counted(frames, 'frame')}{where} and says so itself (its reason: "
            f"{fields.text('reason')[:80]}).",
            recording_id=self.recording_id,
        )

    def _marker(self, _record: Record, fields: Fields) -> None:
        self.marker_boottimes_ns.append(fields.integer("at_boottime_ns"))

    def _stop(self, _record: Record, fields: Fields) -> None:
        self.stop_reason = fields.text("reason")

    def _close(self, _record: Record, fields: Fields) -> None:
        self.closed = True
        self.recovered = fields.flag("recovered")
        if "triggered" in _record.fields:
            self.trigger_journalled = fields.flag("triggered")
        if self._sealed_at_start and not self.recovered:
            self._fail(Code.RECORD_INVALID, "The record that closes it hides that it was cut off: a segment says so.")
        if self.recovered and "init_file" in _record.fields and fields.optional_text("init_file") is not None:
            self._init_file(fields)
        said = Totals(
            fields.count("segments"),
            fields.count("fragments"),
            fields.count("frames"),
            fields.count("bytes"),
            fields.count("end_media_90k"),
            fields.count("gaps"),
        )
        differing = said.difference(self.totals)
        if said != self.totals or self._open_checkpoints:
            unclosed = [f"{name} was never closed in the journal" for name in sorted(self._open_checkpoints)[:3]]
            wrong = "comes too early"
            if differing:
                wrong = f"says {differing[0]}; those before it add up to {differing[1]}"
            self._fail(
                Code.RECORDING_TOTALS,
                f"The record that closes the recording {wrong}{''.join(f'; {text}' for text in unclosed)}.",
                follows=self.breaks.in_sums,
            )
        if not self.recovered and (missed := fields.count("missed_frames")):
            self._findings.warn(
                Code.FRAMES_MISSED,
                self.recording_id,
                self._missed_frames.sentence(missed),
                recording_id=self.recording_id,
            )
        if self.recovered:
            self._findings.note(
                Code.RECOVERED,
                self.recording_id,
                "It was cut off, by a loss of power for example. When the camera started again it signed what it found."
                + ("" if self.opened else " Nothing of it had been signed before that."),
                recording_id=self.recording_id,
            )
        elif not self.totals.fragments:
            self._findings.note(
                Code.RECORDING_EMPTY,
                self.recording_id,
                "It was stopped before anything of it was stored: there is no video.",
                recording_id=self.recording_id,
            )


def _span(checkpoints: Sequence[Checkpoint]) -> str:
    if not checkpoints:
        return ""
    begin, end = checkpoints[0].first_media_90k, checkpoints[-1].end_media_90k
    return f" with {media_place(begin)} to {media_place(end)} of the recording"
