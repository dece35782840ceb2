"""One recording's records against each other: what was said of it is complete, in order, and adds up."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from agent.media.units import VIDEO_TIMESCALE_90K, ns_to_90k
from agent.vault.layout import INIT_NAME, is_encrypted
from agent.vault.record import Record
from agent.verify.derived import DerivedJson
from agent.verify.evidence_file import RECORDING_ID, SEGMENT_NAME
from agent.verify.fields import FieldError, Fields
from agent.verify.finding import Code, Findings, Severity
from agent.verify.plain import NOTHING, said_plain
from agent.verify.segments import Checkpoint, MediaJob

_EMPTY_SHA256 = hashlib.sha256().hexdigest()
_STATES = frozenset({"whole", "torn", "recovered", "missing"})


class UnsafeNameError(FieldError):
    """A record names a file or recording in a way that is never used, and that could lead out of its folder."""


@dataclass(slots=True)
class Opened:
    """What `recording-open` says, as far as reports need it. start_utc_ns: claimed wall time of media time 0."""

    origin_boottime_ns: int
    start_utc_ns: int
    clock_source: str
    configured_pre_event_ms: int
    actual_pre_event_ms: int
    pre_event_short_reason: str | None
    linked_from: str | None


@dataclass(slots=True)
class Totals:
    """Sums over the segment records, as `recording-close` must repeat them."""

    segments: int = 0
    fragments: int = 0
    frames: int = 0
    bytes: int = 0
    end_media_90k: int = 0
    gaps: int = 0


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
        self.triggered = False
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

    def take(self, record: Record, ordinal: int) -> None:
        """Check the next record. Raises FieldError when its fields cannot be used."""
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

    def _fail(self, code: Code, sentence: str, subject: str | None = None) -> None:
        self._findings.fail(code, subject or self.recording_id, sentence, recording_id=self.recording_id)

    def _trigger(self, _record: Record, _fields: Fields) -> None:
        if self.triggered:
            raise FieldError("its recording was triggered before")
        self.triggered = True

    def _open(self, record: Record, fields: Fields) -> None:
        if self.opened is not None:
            raise FieldError("its recording was opened before")
        origin = fields.integer("media_origin_boottime_ns")
        self.opened = Opened(
            origin,
            round(fields.utc().timestamp() * 1_000_000) * 1000 - (fields.integer("boottime_ns") - origin),
            str(record.fields["clock_source"]),
            fields.count("configured_pre_event_ms"),
            fields.count("actual_pre_event_ms"),
            fields.optional_text("pre_event_short_reason"),
            fields.optional_text("linked_from"),
        )
        self._init_file(fields)
        if self.opened.actual_pre_event_ms < self.opened.configured_pre_event_ms:
            why = self.opened.pre_event_short_reason
            self._findings.add(
                Code.PRE_EVENT_SHORT,
                Severity.NOTE if why else Severity.WARN,
                self.recording_id,
                f"It begins {self.opened.actual_pre_event_ms / 1000:.1f} s before its trigger; "
                f"{self.opened.configured_pre_event_ms / 1000:.1f} s were configured (reason given: {why or 'none'}).",
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
            raise FieldError("its recording was not opened before")
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
        )
        before = self._open_checkpoints.setdefault(name, [])
        if before and checkpoint.bytes <= before[-1].bytes:
            raise FieldError(f"its bytes do not go on behind those of fragment {before[-1].fragment}")
        if before and checkpoint.plain and before[-1].plain and checkpoint.plain.bytes <= before[-1].plain.bytes:
            raise FieldError(f"its plain_bytes do not go on behind those of fragment {before[-1].fragment}")
        if checkpoint.fragment != self.fragments + 1:
            self._fail(
                Code.FRAGMENT_COUNT,
                f"Fragment {checkpoint.fragment} follows on fragment {self.fragments}.",
                f"record {record.seq}",
            )
        self._check_time(record, checkpoint)
        before.append(checkpoint)
        self.files.add(name)
        self.fragments = checkpoint.fragment
        self.end_media_90k = checkpoint.end_media_90k
        self.frames += checkpoint.frames
        self._gap_before_next = False

    def _check_time(self, record: Record, checkpoint: Checkpoint) -> None:
        begin, expected = checkpoint.first_media_90k, self.end_media_90k
        if checkpoint.end_media_90k <= begin or begin < expected or (begin > expected and not self._gap_before_next):
            self._fail(
                Code.MEDIA_TIME,
                f"Fragment {checkpoint.fragment} runs from {_seconds(begin)} to {_seconds(checkpoint.end_media_90k)}; "
                f"the one before it ended at {_seconds(expected)}, and no gap record says why.",
                f"record {record.seq}",
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
                f"{name} was gone when the camera started again, though {len(checkpoints)} fragments of it had been "
                "signed.",
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
        said = (
            size,
            sha256,
            fields.count("fragments"),
            fields.optional_integer("first_media_90k"),
            fields.optional_integer("end_media_90k"),
            fields.count("frames"),
            fields.count("audio_frames"),
        )
        found = (
            last.bytes if last else 0,
            last.sha256 if last else _EMPTY_SHA256,
            len(checkpoints),
            checkpoints[0].first_media_90k if last else None,
            last.end_media_90k if last else None,
            sum(checkpoint.frames for checkpoint in checkpoints),
            sum(checkpoint.audio_frames for checkpoint in checkpoints),
        )
        if said != found:
            self._fail(Code.FRAGMENT_COUNT, f"The record of {name} says {said}; its checkpoints add up to {found}.")

    def _check_recovered(self, name: str, fields: Fields, checkpoints: list[Checkpoint]) -> None:
        last = checkpoints[-1] if checkpoints else None
        said = (fields.count("checkpointed_bytes"), fields.sha256("checkpointed_sha256"))
        if said != ((last.bytes, last.sha256) if last else (0, _EMPTY_SHA256)):
            self._fail(Code.FRAGMENT_COUNT, f"The record of {name} names another last checkpoint than there is.")
        if is_encrypted(name):
            self._check_plain(name, fields, last)
        if not fields.flag("checkpoint_intact"):
            self._fail(
                Code.CHECKPOINT_HASH,
                f"When the camera started again, the signed {said[0]} bytes of {name} were no longer what was signed.",
            )

    def _check_plain(self, name: str, fields: Fields, last: Checkpoint | None) -> None:
        if said_plain(fields) != (last.plain if last else NOTHING):
            self._fail(Code.FRAGMENT_COUNT, f"The record of {name} says it opens to other bytes than its checkpoints.")

    def _gap(self, _record: Record, fields: Fields) -> None:
        self.totals.gaps += 1
        self._gap_before_next = True
        begin, end = fields.integer("from_boottime_ns"), fields.integer("to_boottime_ns")
        frames = fields.count("frames")
        where = ""
        if self.opened is not None:
            origin = self.opened.origin_boottime_ns
            where = f" from {_seconds(ns_to_90k(begin - origin))} to {_seconds(ns_to_90k(end - origin))}"
        self._findings.note(
            Code.GAP,
            self.recording_id,
            f"The camera could not keep {frames} frames{where} and says so ({fields.text('reason')}).",
            recording_id=self.recording_id,
        )

    def _marker(self, _record: Record, fields: Fields) -> None:
        self.marker_boottimes_ns.append(fields.integer("at_boottime_ns"))

    def _stop(self, _record: Record, fields: Fields) -> None:
        self.stop_reason = fields.text("reason")

    def _close(self, _record: Record, fields: Fields) -> None:
        self.closed = True
        self.recovered = fields.flag("recovered")
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
        if said != self.totals or self._open_checkpoints:
            self._fail(
                Code.RECORDING_TOTALS,
                f"Its closing record says {said}; its segment records add up to {self.totals}"
                + (f", and {len(self._open_checkpoints)} segments have none." if self._open_checkpoints else "."),
            )
        if not self.recovered and (missed := fields.count("missed_frames")):
            self._findings.warn(
                Code.FRAMES_MISSED,
                self.recording_id,
                f"{missed} frames are missing in its picture: the camera or the encoder did not keep up, and says so.",
                recording_id=self.recording_id,
            )
        if self.recovered:
            self._findings.note(
                Code.RECOVERED,
                self.recording_id,
                "It was cut off and was sealed as it lay when the camera started again."
                + ("" if self.opened else " Nothing of it had been signed before that."),
                recording_id=self.recording_id,
            )
        elif not self.totals.fragments:
            self._findings.note(
                Code.RECORDING_EMPTY,
                self.recording_id,
                "It was stopped before anything of it was on flash.",
                recording_id=self.recording_id,
            )


def _seconds(ticks_90k: int) -> str:
    return f"{ticks_90k / VIDEO_TIMESCALE_90K:.3f} s"
