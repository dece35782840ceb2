"""What a person who certifies a recording may have to describe, gathered from the signed log: support.json and .txt.

Rules 902(13) and (14) of the US Federal Rules of Evidence let a qualified person certify a record of an electronic
process, and a copy by its hash. This gathers facts for that and claims nothing. It is derived: each fact names the
record that it stands in, and the record counts.

Both files follow from the recording's place in the log, the certificates and the records of the extract, and from
nothing else: whoever has a package can make them anew and compare.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from agent import __version__
from agent.errors import DeviceKeyError
from agent.offload.support_entry import BOOTTIME, Entry, Kept, Origin, is_whole
from agent.offload.support_frames import FewerFrames
from agent.offload.support_page import page
from agent.trust.certificates import fingerprint_hex, parse_chain
from agent.vault.record import Record
from agent.verify.index import IndexedRecording

SHEET_VERSION = 2
MAX_LISTED = 200
NOTE = (
    "Gathered from the signed log for convenience; no evidence itself. Each fact names the record that it stands in: "
    "what counts is that record, once the log is verified. No claim about the law of any place is made."
)
_RUN_START_REASONS = ("first", "started", "recovered")
# What a run, or the time of a recording, may say that bears on how well the camera worked.
_RUN_TYPES = {
    "boot": "boot", "config": "configuration", "encryption": "encryption", "self-test": "self_test", "ready": "ready",
}  # fmt: skip
_SINGLE_TYPES = frozenset({"trigger", "recording-open", "stop", "recording-close"})
_EVENT_TYPES = frozenset({"fault", "fault-cleared", "records-lost", "shutdown", "sound-missing", "storage"})


class SupportSheet:
    """Takes the records of an extract in order. What it lists is of the time from the start of the recording's run to
    the recording's end, and the timestamps next to it: an extract may reach further, to those.
    """

    def __init__(self, recording: IndexedRecording, certificates: Iterable[dict[str, str]]) -> None:
        """certificates: of the chains in the package, as people read them. recording: its ids and run_file count."""
        self._recording = recording
        self._certificates = list(certificates)
        self._signed_by: list[dict[str, Any]] = []
        self._runs: list[dict[str, Any]] = []
        self._journal_files = Kept(MAX_LISTED)
        self._clock_before, self._clock_during = Kept(MAX_LISTED, newest=True), Kept(MAX_LISTED)
        # Steps are few and matter; what is looked at every few minutes would crowd them out.
        self._steps_before, self._steps_during = Kept(MAX_LISTED, newest=True), Kept(MAX_LISTED)
        self._events_before, self._events_during = Kept(MAX_LISTED, newest=True), Kept(MAX_LISTED)
        self._faults: dict[str, Entry] = {}
        self._stamped_before: Entry | None = None
        self._timestamps = Kept(MAX_LISTED)
        self._stamped_after: Entry | None = None
        self._copies = Kept(MAX_LISTED)
        self._single: dict[str, Entry] = {}
        self._own = Kept(MAX_LISTED)
        self._begun: Entry | None = None
        self._close: Entry | None = None
        self._examination: Entry | None = None
        self._origin: Origin | None = None
        self._fewer = FewerFrames(MAX_LISTED)
        self._files: dict[str, dict[str, Any]] = {}
        self._covered_by: int | None = None
        self._signed = self._pending = 0
        self._first: int | None = None
        self._head: Record | None = None

    def take(self, record: Record) -> None:
        """Note the next record."""
        self._first = record.seq if self._first is None else self._first
        self._head = record
        self._signed += record.signature is not None
        self._pending += record.signature is None
        ours = record.fields.get("recording_id") == self._recording.recording_id
        if record.type == "checkpoint":  # nearly all records are
            if ours and self._close is None:
                self._fewer.take(record.seq, record.fields)
        else:
            self._take(Entry.of(record), ours=ours)
        if self._signed_by:
            self._signed_by[-1]["last_record"] = record.seq
        if self._close is not None and self._covered_by is None and record.signature is not None:
            self._covered_by = record.seq

    def _take(self, entry: Entry, *, ours: bool) -> None:
        if entry.type == "journal-open":
            self._note_signer(entry)
        if entry.type == "timestamp":
            self._take_timestamp(entry)
        elif entry.type == "offload":
            if ours:
                self._copies.add(entry)
        elif self._close is None:
            self._take_of_its_time(entry)
            if ours:
                self._take_own(entry)

    def _take_timestamp(self, entry: Entry) -> None:
        head_seq = entry.own.get("head_seq")
        if self._begun is None:
            self._stamped_before = entry  # only the last one bounds it
        elif self._close is None or not is_whole(head_seq) or head_seq < self._close.record:
            self._timestamps.add(entry)
        elif self._stamped_after is None:
            self._stamped_after = entry

    def _note_signer(self, entry: Entry) -> None:
        said = {key: entry.own.get(key) for key in ("certificate_sha256", "device_id", "key")}
        before = self._signed_by[-1] if self._signed_by else {}
        if any(before.get(key) != value for key, value in said.items()) or not before:
            self._signed_by.append(said | {"first_record": entry.record, "last_record": entry.record})

    def _take_of_its_time(self, entry: Entry) -> None:
        events, clock, steps = (
            (self._events_before, self._clock_before, self._steps_before)
            if self._begun is None
            else (self._events_during, self._clock_during, self._steps_during)
        )
        if entry.type == "journal-open":
            self._take_file(entry)
        elif entry.type == "self-test" and entry.own.get("source") == "doctor":
            if self._begun is None:  # what was found afterwards says nothing of how the recording came about
                self._examination = entry
        elif entry.type in _RUN_TYPES and self._runs:
            self._runs[-1].setdefault(_RUN_TYPES[entry.type], entry.document())
        elif entry.type == "clock":
            (steps if entry.own.get("reason") == "step" else clock).add(entry)
        elif entry.type in _EVENT_TYPES:
            events.add(entry)
            self._note_fault(entry)

    def _take_file(self, entry: Entry) -> None:
        own = entry.own
        if own.get("file") == self._recording.run_file:
            self._runs.clear()
            for kept in (self._journal_files, self._clock_before, self._steps_before, self._events_before):
                kept.clear()
            self._faults.clear()
            self._examination = None
        self._journal_files.add(entry)
        if own.get("reason") in _RUN_START_REASONS or not self._runs:
            if self._begun is None:
                self._faults.clear()  # a fault that goes on is told anew by each run
            self._runs.append({"journal_file": own.get("file"), "journal_open": entry.document()})

    def _note_fault(self, entry: Entry) -> None:
        component = str(entry.own.get("component"))
        if entry.type == "fault" and self._begun is None and len(self._faults) < MAX_LISTED:
            self._faults[component] = entry
        elif entry.type == "fault-cleared" and self._begun is None:
            self._faults.pop(component, None)

    def _take_own(self, entry: Entry) -> None:
        own = entry.own
        self._begun = self._begun or entry
        if entry.type == "recording-open":
            self._fewer.opened(own.get("video"))
            if is_whole(origin_ns := own.get("media_origin_boottime_ns")):
                self._origin = Origin(entry.boot_id, origin_ns)
        if own.get("init_file") is not None and "init_sha256" in own:
            self._files[str(own["init_file"])] = {
                "record": entry.record, "bytes": own.get("init_bytes"), "sha256": own["init_sha256"],
            }  # fmt: skip
        if entry.type == "segment":
            if own.get("bytes"):
                names = ("bytes", "sha256", "state", "first_media_90k", "first_media_ms", "end_media_90k",
                         "end_media_ms", "frames")  # fmt: skip
                said = entry.document()
                self._files[str(own.get("file"))] = {"record": entry.record} | {
                    name: said[name] for name in names if name in said
                }
            if own.get("state") == "whole":
                return  # all that it says stands among the files
        elif entry.type == "recording-close":
            self._close = entry
        if entry.type in _SINGLE_TYPES:
            self._single.setdefault(entry.type, entry)
        else:
            self._own.add(entry)

    def to_document(self) -> dict[str, Any]:
        """Everything, for programs."""
        head, origin = self._head, self._origin
        kept = (
            self._journal_files, self._clock_before, self._steps_before, self._clock_during, self._steps_during,
            self._events_before, self._events_during, self._timestamps, self._copies, self._own,
        )  # fmt: skip
        return {
            "support_sheet": SHEET_VERSION,
            "note": NOTE,
            "made_by": {"software": "bodycam-agent", "version": __version__},
            "recording_id": self._recording.recording_id,
            "device_id": self._recording.device_id,
            "certificates": self._certificates,
            "signed_by": self._signed_by,
            "journal_files": [entry.document() for entry in self._journal_files.entries],
            "runs": self._runs,
            "last_examination": self._examination.document() if self._examination else None,
            "recording": [_without(self._of_recording(entry), "recording_id") for entry in self._own_entries()],
            "fewer_frames": self._fewer.document(),
            "clock": [
                entry.document(when=when, **entry.clock_state())
                for when, looked, steps in (
                    ("before", self._clock_before, self._steps_before),
                    ("during", self._clock_during, self._steps_during),
                )
                for entry in sorted([*looked.entries, *steps.entries], key=lambda entry: entry.record)
            ],
            "timestamps": [
                _without(entry.document(when=when), "response")
                for when, listed in (
                    ("before", [self._stamped_before]),
                    ("during", self._timestamps.entries),
                    ("after", [self._stamped_after]),
                )
                for entry in listed
                if entry is not None
            ],
            "events": [
                entry.document(origin, when=when)
                for when, listed in (("before", self._events_before), ("during", self._events_during))
                for entry in listed.entries
            ],
            "faults_when_it_began": [entry.document(origin) for entry in self._faults.values()],
            "copies": [_copy(entry) for entry in self._copies.entries],
            "entries_left_out": sum(listed.left_out for listed in kept),
            "log": {
                "first_record": self._first,
                "last_record": head.seq if head else None,
                "last_sha256": head.sha256 if head else None,
                "records_signed": self._signed,
                "records_pending": self._pending,
                "close_covered_by": self._covered_by,
            },
            "files": [{"file": name, **self._files[name]} for name in self._file_names()],
        }

    def _file_names(self) -> list[str]:
        return sorted(self._files, key=lambda name: (name[:1].isdigit(), name))

    def _of_recording(self, entry: Entry) -> dict[str, Any]:
        said = entry.document(self._origin, **entry.clock_state())
        trigger = self._single.get("trigger")
        if entry.type == "recording-open" and trigger is not None and trigger.boot_id == entry.boot_id:
            # It is written seconds later than the trigger, and the clock may have been set in between: then the two
            # would not agree on when the same picture was taken.
            said |= {
                f"{stem}_utc": trigger.wall(entry.own[f"{stem}{BOOTTIME}"])
                for stem in ("media_origin", "trigger")
                if is_whole(entry.own.get(f"{stem}{BOOTTIME}"))
            }
        return said

    def _own_entries(self) -> list[Entry]:
        return sorted([*self._single.values(), *self._own.entries], key=lambda entry: entry.record)

    def to_json(self) -> bytes:
        """support.json."""
        return json.dumps(self.to_document(), indent=1).encode("ascii") + b"\n"

    def to_text(self) -> bytes:
        """support.txt: the same for people, in sentences."""
        return page(self.to_document())


def _without(said: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in said.items() if key != name}


def _copy(entry: Entry) -> dict[str, Any]:
    """A receipt in a line: the list of its objects is that of the package."""
    objects = entry.own.get("objects")
    held = [one for one in objects if isinstance(one, dict)] if isinstance(objects, list) else []
    return {
        "record": entry.record,
        "utc": entry.utc,
        "store": entry.own.get("store"),
        "files": len(held),
        "total_bytes": sum(one["bytes"] for one in held if is_whole(one.get("bytes"))),
        "read_back": sorted({str(one.get("read_back")) for one in held}),
    }


def described_certificates(chains: Iterable[bytes]) -> list[dict[str, str]]:
    """The certificates of chains in PEM as people compare them, each once; `verify` tells which cannot be read."""
    described = [entry for chain in chains for entry in _described_chain(chain)]
    return list({entry["sha256"]: entry for entry in described}.values())


def _described_chain(chain: bytes) -> list[dict[str, str]]:
    try:
        certificates = parse_chain(chain, "device/")
        return [
            {
                "subject": certificate.subject.rfc4514_string(),
                "issuer": certificate.issuer.rfc4514_string(),
                "serial_number": f"{certificate.serial_number:x}",
                "not_before": f"{certificate.not_valid_before_utc:%Y-%m-%dT%H:%M:%SZ}",
                "not_after": f"{certificate.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}",
                "sha256": fingerprint_hex(certificate),
            }
            for certificate in certificates
        ]
    except (DeviceKeyError, ValueError):
        return []
