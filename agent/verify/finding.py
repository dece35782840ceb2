"""What a check can find: codes for machines, sentences for people."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Self, TypedDict, Unpack

MAX_SAME_FINDINGS = 1000
"""Of one kind about one recording; the rest is counted."""
MAX_FINDINGS = 20_000
"""Of all kinds; behind it only the first MAX_SAME_WHEN_MANY of a kind are kept, so that memory stays bounded."""
MAX_SAME_WHEN_MANY = 10
TO_THE_END = 1 << 62
"""As `until`: about every line from `at` on."""


class Severity(StrEnum):
    """fail: the evidence is not what was signed. warn: a person must judge it. note: as designed, and worth knowing."""

    FAIL = "fail"
    WARN = "warn"
    NOTE = "note"


class Code(StrEnum):
    """Every kind of finding. Codes are stable: programs may build on them; `meaning` says what one stands for."""

    meaning: str

    def __new__(cls, value: str, meaning: str) -> Self:
        member = str.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member

    JOURNAL_MISSING = "JOURNAL_MISSING", "There are no journal files, so nothing can be checked."
    JOURNAL_FILE_MISSING = (
        "JOURNAL_FILE_MISSING",
        "A journal file is absent, shorter than the next one says, or renamed.",
    )
    JOURNAL_LINE_BAD = "JOURNAL_LINE_BAD", "A journal line is no record."
    JOURNAL_SEQ = "JOURNAL_SEQ", "Record numbers do not follow on one another."
    JOURNAL_CHAIN_BROKEN = "JOURNAL_CHAIN_BROKEN", "A record does not hold the hash of the one before it."
    JOURNAL_UNFINISHED = "JOURNAL_UNFINISHED", "The newest journal file ends in an unfinished line."
    JOURNAL_LEFTOVER = "JOURNAL_LEFTOVER", "A NAME.partN file of an interrupted write; no part of the journal."
    TORN_TAIL = "TORN_TAIL", "Bytes behind a journal file's chained part, as the next file says."
    TORN_TAIL_MISMATCH = (
        "TORN_TAIL_MISMATCH",
        "Bytes behind a journal file's chained part are not those the next file names.",
    )
    TORN_TAIL_RECORDS = "TORN_TAIL_RECORDS", "The bytes that were declared torn hold whole records."
    RUN_NOT_ENDED = (
        "RUN_NOT_ENDED",
        "A run has no shutdown record at its end: it goes on, was cut or killed, or its last records are gone.",
    )
    RECORD_INVALID = (
        "RECORD_INVALID",
        "A record's own fields are absent, of a wrong type, or contradict another record.",
    )
    RECORD_TYPE_UNKNOWN = "RECORD_TYPE_UNKNOWN", "Records of types that this version does not know."
    RECORDS_LOST = "RECORDS_LOST", "The camera says that it could not keep some records."
    CONFIRMED_LOST = (
        "CONFIRMED_LOST",
        "At a start the card lacked records that it had confirmed, as the camera remembered outside of it.",
    )
    CARD_CHANGED = (
        "CARD_CHANGED",
        "At a start the card was another than the one that the camera remembered outside of it, or had been emptied.",
    )
    SIGNATURE_BAD = "SIGNATURE_BAD", "A signature does not fit its record."
    SIGNATURE_LATE = (
        "SIGNATURE_LATE",
        "Records that still had no signature when the camera was started again; only then was one made over them.",
    )
    SIGNATURE_PENDING = "SIGNATURE_PENDING", "Records without own signature that a later signed record covers."
    SIGNATURE_UNCOVERED = "SIGNATURE_UNCOVERED", "Records that no signature covers."
    CERT_UNKNOWN = "CERT_UNKNOWN", "The certificate that a journal file names has no chain in device/."
    CERT_CHAIN = "CERT_CHAIN", "A device certificate does not lead to a trusted root or is unfit."
    CERT_CHANGED = "CERT_CHANGED", "The journal goes on under another certificate or device name."
    CERT_NOT_INTRODUCED = (
        "CERT_NOT_INTRODUCED",
        "The journal goes on under another key, and no record of the key before introduces it.",
    )
    CERT_NAME = "CERT_NAME", "The certificate is for another device than the journal names."
    ROOT_FROM_EVIDENCE = (
        "ROOT_FROM_EVIDENCE",
        "The root certificate came with the evidence; origin is not proved by it.",
    )
    ROOT_ABSENT = "ROOT_ABSENT", "There is no root certificate to judge the origin by."
    TIME_OUTSIDE_CERTIFICATE = "TIME_OUTSIDE_CERTIFICATE", "Records claim times outside the certificate's validity."
    TIME_BACKWARDS = "TIME_BACKWARDS", "The boot clock goes back between two records of one boot."
    TIME_STEP = "TIME_STEP", "Wall time jumped against the boot clock."
    TIME_UNSYNCHRONISED = "TIME_UNSYNCHRONISED", "A recording's wall time comes from a clock that nothing disciplined."
    TIME_OUTSIDE_TIMESTAMPS = (
        "TIME_OUTSIDE_TIMESTAMPS",
        "A recording's claimed time lies outside what timestamps prove.",
    )
    TIME_RATE = "TIME_RATE", "The boot clock and the time authority disagree on how much time passed."
    TIMESTAMP_ABSENT = "TIMESTAMP_ABSENT", "A recording's time is not bounded by timestamps on both sides."
    TIMESTAMP_UNCHECKED = "TIMESTAMP_UNCHECKED", "Timestamps whose authority was not checked: no root was given for it."
    TIMESTAMP_UNTRUSTED = "TIMESTAMP_UNTRUSTED", "A timestamp of an authority that is not under the given roots."
    TIMESTAMP_EXPIRED = (
        "TIMESTAMP_EXPIRED",
        "A timestamp whose authority's certificate was not valid when it was made.",
    )
    TIMESTAMP_BAD = "TIMESTAMP_BAD", "A timestamp that cannot be read, or whose signature does not verify."
    TIMESTAMP_REPLAYED = "TIMESTAMP_REPLAYED", "A timestamp that is not over the record it stands behind."
    TIMESTAMP_ORDER = "TIMESTAMP_ORDER", "A later timestamp says an earlier time."
    RECORDING_MISSING = "RECORDING_MISSING", "The journal vouches for a recording whose folder is gone."
    RECORDING_UNRECORDED = "RECORDING_UNRECORDED", "A recording's folder is there and no record names it."
    RECORDING_UNCLOSED = "RECORDING_UNCLOSED", "A recording has no closing record: still running, or cut off."
    RECORDING_TOTALS = "RECORDING_TOTALS", "A closing record's totals are not the sums of what it closes."
    RECORDING_JSON_DIFFERS = (
        "RECORDING_JSON_DIFFERS",
        "recording.json, which is derived and no evidence, is not what the journal makes of it, or is absent.",
    )
    RECORDING_EMPTY = "RECORDING_EMPTY", "A recording ended before anything of it was on flash."
    RECOVERED = "RECOVERED", "A recording was cut off and sealed at the next start, as it lay."
    GAP = "GAP", "Frames that the camera could not keep, as it says itself."
    FRAMES_MISSED = "FRAMES_MISSED", "Frames that were never captured or encoded, as the camera says itself."
    PRE_EVENT_SHORT = "PRE_EVENT_SHORT", "Less pre-event than configured, as the camera says itself."
    MEDIA_TIME = "MEDIA_TIME", "A fragment does not begin where the one before it ended, and no gap says why."
    INIT_HASH = "INIT_HASH", "init.mp4 is absent or not the one that was signed."
    SEGMENT_MISSING = "SEGMENT_MISSING", "A segment that the journal vouches for is absent or not a plain file."
    SEGMENT_SIZE = "SEGMENT_SIZE", "A segment is shorter or longer than its record says."
    SEGMENT_HASH = "SEGMENT_HASH", "A segment's bytes are not those that were sealed."
    CHECKPOINT_HASH = "CHECKPOINT_HASH", "A segment's bytes up to a checkpoint are not those that were signed."
    FRAGMENT_DISAGREES = "FRAGMENT_DISAGREES", "A fragment says other times or counts than its checkpoint."
    FRAGMENT_COUNT = "FRAGMENT_COUNT", "A segment record's counts are not those of its checkpoints or fragments."
    UNSIGNED_MEDIA = (
        "UNSIGNED_MEDIA",
        "Whole fragments behind the last checkpoint, signed only when the camera was started again, as they lay there.",
    )
    UNSIGNED_BYTES = "UNSIGNED_BYTES", "Bytes behind the last checkpoint: not signed, or signed only at recovery."
    NOT_DECRYPTED = (
        "NOT_DECRYPTED",
        "Segments are encrypted and were checked as they are; what they hold was not looked into.",
    )
    IDENTITY = "IDENTITY", "An encrypted segment, or a sealed field, does not open with the identity given."
    PLAIN_HASH = "PLAIN_HASH", "What an encrypted segment holds is not what was signed."
    SEALED = "SEALED", "Fields that were sealed to the evidence system's key, opened with the identity given."
    VIDEO_SIGNED = "VIDEO_SIGNED", "The signatures in a recording's video fit it; how many GOPs they cover."
    VIDEO_GOP = "VIDEO_GOP", "A GOP of the video is not what the signatures in the video say, or not where they say."
    VIDEO_KEY = "VIDEO_KEY", "The signatures in the video are of another key than the journal's at that time."
    VIDEO_UNSIGNED = (
        "VIDEO_UNSIGNED",
        "Video, or some GOPs of it, without signatures in itself; the journal alone vouches for it.",
    )
    ENCRYPTION_CHANGED = (
        "ENCRYPTION_CHANGED",
        "The camera encrypts to other keys than before, or no longer, as its journal says.",
    )
    FOLDER_NOT_PLAIN = (
        "FOLDER_NOT_PLAIN",
        "journal, recordings or device is a link or no folder; nothing in it was looked at.",
    )
    FILE_NAME = "FILE_NAME", "A record names a file in a way that could lead elsewhere; it was not opened."
    FILE_UNKNOWN = "FILE_UNKNOWN", "A file that no record names."
    FILE_UNREADABLE = "FILE_UNREADABLE", "A file could not be read to its end."
    PACKAGE_INCOMPLETE = "PACKAGE_INCOMPLETE", "An evidence package lacks a part that every package has."
    PACKAGE_VERSION = "PACKAGE_VERSION", "An evidence package of another version than this software knows."
    PACKAGE_KIT = "PACKAGE_KIT", "The verify.sh in a package is not the one that this version of the software ships."
    PACKAGE_DEVICE = "PACKAGE_DEVICE", "PACKAGE.txt names another camera than the one whose journal is in the package."
    SUPPORT_DIFFERS = (
        "SUPPORT_DIFFERS",
        "support.json or support.txt, which are derived and no evidence, are not what this version makes of the log.",
    )
    PACKAGE_SUM = "PACKAGE_SUM", "A file of a package is not the one in its SHA256SUMS."
    EXTRACT = "EXTRACT", "A package holds a part of the journal: what lies outside of it is not proved by it."


@dataclass(frozen=True, slots=True)
class RecordSaid:
    """Of a record that is not what was signed: its number, its type, and of a checkpoint the media time it names."""

    seq: int
    type: str
    media_90k: tuple[int, int] | None = None


class About(TypedDict, total=False):
    """What a finding is about; see Finding."""

    recording_id: str | None
    at: int | None
    until: int | None
    follows: int | str | None
    lost: bool
    around: bool
    media_90k: tuple[int, int] | None
    record: RecordSaid | None


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found. subject: the file or record it is about. recording_id: whose verdict it touches, if one's.

    at, until: which journal lines (counted through all files) it is about, None when it is about no particular ones.
    follows: what must lead to it, None when it stands for itself: the journal line (counted in the same way) at which
    the journal is broken or a signature wrong, or the subject of a media file that was changed. lost: it says that a
    part of the media is not there. around: it is about what is no evidence, such as a package's pages. media_90k: from
    when to when of the recording nothing proves the media any more because of it. record: the record it is about.
    """

    code: Code
    severity: Severity
    subject: str
    sentence: str
    recording_id: str | None = None
    at: int | None = None
    until: int | None = None
    follows: int | str | None = None
    lost: bool = False
    around: bool = False
    media_90k: tuple[int, int] | None = None
    record: RecordSaid | None = None

    def to_json(self) -> dict[str, str | None]:
        """For programs."""
        return {
            "code": self.code.value,
            "severity": self.severity.value,
            "subject": self.subject,
            "sentence": self.sentence,
            "recording_id": self.recording_id,
        }


class Findings:
    """Collects findings; of many alike it keeps the first few and counts the rest, so that memory stays bounded."""

    def __init__(self) -> None:
        self._found: list[Finding] = []
        self._counts: dict[tuple[Code, Severity, str | None], int] = {}
        self._left_out: dict[tuple[Code, Severity, str | None], int] = {}

    def add(self, code: Code, severity: Severity, subject: str, sentence: str, **about: Unpack[About]) -> None:
        """Take one finding; `until` defaults to `at`."""
        key = (code, severity, about.get("recording_id"))
        seen = self._counts[key] = self._counts.get(key, 0) + 1
        if seen <= (MAX_SAME_FINDINGS if len(self._found) < MAX_FINDINGS else MAX_SAME_WHEN_MANY):
            if about.get("until") is None:
                about["until"] = about.get("at")
            self._found.append(Finding(code, severity, subject, sentence, **about))
        else:
            self._left_out[key] = self._left_out.get(key, 0) + 1

    def fail(self, code: Code, subject: str, sentence: str, **about: Unpack[About]) -> None:
        """Take one that refutes the evidence."""
        self.add(code, Severity.FAIL, subject, sentence, **about)

    def warn(self, code: Code, subject: str, sentence: str, **about: Unpack[About]) -> None:
        """Take one that a person must judge."""
        self.add(code, Severity.WARN, subject, sentence, **about)

    def note(self, code: Code, subject: str, sentence: str, **about: Unpack[About]) -> None:
        """Take one that is as designed."""
        self.add(code, Severity.NOTE, subject, sentence, **about)

    def all(self) -> list[Finding]:
        """What was found, in order; where findings were only counted, one more says how many."""
        found = list(self._found)
        for (code, severity, recording_id), more in self._left_out.items():
            sentence = f"{more} more of this kind were found and are not listed."
            # A counted one may lie anywhere, so it touches the verdict of everything.
            found.append(Finding(code, severity, "more", sentence, recording_id))
        return found
