"""What a person who certifies a recording may have to describe, gathered from the signed log: support.json and .txt.

Rules 902(13) and (14) of the US Federal Rules of Evidence let a qualified person certify a record of an electronic
process, and a copy by its hash. This gathers facts for that and claims nothing. It is derived: each fact names the
record that it stands in, and the record counts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from agent.clock import NS_PER_MS
from agent.errors import DeviceKeyError
from agent.trust.certificates import fingerprint_hex, parse_chain
from agent.vault.record import COMMON_FIELDS, Record
from agent.verify.fields import FieldError, Fields
from agent.verify.index import IndexedRecording

MAX_LISTED = 200
NOTE = (
    "Gathered from the signed log for convenience; no evidence itself. Each entry names the record (seq) that it comes "
    "from: what counts is that record, once the log is verified. No claim about the law of any place is made."
)
PROCESS = (
    "The camera encodes video (H.264) and sound (AAC) and keeps the last seconds in memory. From a trigger on it "
    "writes them, and all that follows until the stop, to its own storage in fragments of about a second.",
    "When a fragment is stored, the camera appends a record (a checkpoint) to its log with the number of bytes and the "
    "SHA-256 of the file so far. A finished file gets a record of its own (a segment).",
    "Each record holds the SHA-256 of the record before it and is signed with the camera's key (ECDSA P-256, CMS). "
    'Where the signer did not answer in time the signature column is "-", and the next signed record covers it.',
    "What leaves the camera is copied byte for byte; each file is read back from the store and compared with the "
    "SHA-256 in the log before it gets its name there. Nothing is re-encoded.",
    "The check compares every file with the signed hashes: verify.sh or `bodycam verify`, or by hand as in README.txt.",
)
DERIVED = (
    "recording.json, support.json and support.txt in this package are made from the log and are no evidence.",
    "Joining init.mp4 and the segments with `cat` or `bodycam export` gives the same pictures in one file; that file "
    "is derived, its SHA-256 is not in the log.",
)
# What a run, or the time of a recording, may say that bears on how well the camera worked.
_RUN_TYPES = {"boot": "boot", "config": "configuration", "self-test": "self_test", "ready": "ready"}
_EVENT_TYPES = frozenset({"fault", "fault-cleared", "records-lost", "shutdown"})


class SupportSheet:
    """Takes the records of an extract in order. What it lists is of the time from the start of the recording's run to
    the recording's end, and the timestamps next to it: an extract may reach further, to those.
    """

    def __init__(self, recording: IndexedRecording, certificates: Iterable[dict[str, str]]) -> None:
        """certificates: of the chain in the package, as people read them."""
        self._recording = recording
        self._runs: list[dict[str, Any]] = []
        self._journal_files: list[dict[str, Any]] = []
        self._clock: list[dict[str, Any]] = []
        self._timestamps: list[dict[str, Any]] = []
        self._events: list[dict[str, Any]] = []
        self._own: list[dict[str, Any]] = []
        self._examination: dict[str, Any] | None = None
        self._left_out = 0
        self._closed = False
        self._hashes: dict[str, dict[str, Any]] = {}
        self._signed = self._pending = 0
        self._head: Record | None = None
        self._certificates = list(certificates)

    def take(self, record: Record) -> None:
        """Note the next record."""
        self._head = record
        self._signed += record.signature is not None
        self._pending += record.signature is None
        own = _own_fields(record)
        if record.type == "timestamp":
            if not self._own:
                self._timestamps.clear()  # of those before it only the last one bounds it
            self._add(self._timestamps, {key: value for key, value in own.items() if key != "response"})
        elif not self._closed:
            self._take_of_its_time(record, own)

    def _take_of_its_time(self, record: Record, own: dict[str, Any]) -> None:
        if record.type == "journal-open":
            if own.get("file") == self._recording.run_file:
                for listed in (self._runs, self._journal_files, self._clock, self._events):
                    listed.clear()
                self._left_out = 0
            self._add(self._journal_files, own)
            if own.get("reason") in ("first", "started", "recovered") or not self._runs:
                self._runs.append({"journal_file": own.get("file")})
        elif record.type == "self-test" and own.get("source") == "doctor":
            if not self._own:  # what was found afterwards says nothing of how the recording came about
                self._examination = own | {"utc": record.fields["utc"]}
        elif record.type in _RUN_TYPES and self._runs:
            self._runs[-1].setdefault(_RUN_TYPES[record.type], own)
        elif record.type == "clock":
            self._add(self._clock, own | _clock_state(record))
        elif record.type in _EVENT_TYPES:
            self._add(self._events, own | {"type": record.type, "utc": record.fields["utc"]})
        if record.fields.get("recording_id") == self._recording.recording_id and record.type != "offload":
            self._take_own(record, own)

    def _take_own(self, record: Record, own: dict[str, Any]) -> None:
        own.pop("recording_id", None)
        self._closed = record.type == "recording-close"
        if record.type == "segment" and own.get("bytes"):
            self._hashes[str(own.get("file"))] = {key: own.get(key) for key in ("bytes", "sha256", "record")}
        if own.get("init_file") is not None and "init_sha256" in own:
            self._hashes[str(own["init_file"])] = {
                "bytes": own.get("init_bytes"), "sha256": own["init_sha256"], "record": record.seq,
            }  # fmt: skip
        if record.type not in ("checkpoint", "segment"):
            self._add(self._own, own | {"type": record.type} | _clock_state(record))

    def _add(self, listed: list[dict[str, Any]], entry: dict[str, Any]) -> None:
        if len(listed) < MAX_LISTED:
            listed.append(entry)
        else:
            self._left_out += 1

    def to_document(self) -> dict[str, Any]:
        """Everything, for programs."""
        head = self._head
        return {
            "support_sheet": 1,
            "note": NOTE,
            "recording_id": self._recording.recording_id,
            "device_id": self._recording.device_id,
            "certificates": self._certificates,
            "journal_files": self._journal_files,
            "runs": self._runs,
            "last_examination": self._examination,
            "recording": self._own,
            "clock": self._clock,
            "timestamps": self._timestamps,
            "events": self._events,
            "entries_left_out": self._left_out,
            "log": {
                "records_signed": self._signed,
                "records_pending": self._pending,
                "last_record": head.seq if head else None,
                "last_sha256": head.sha256 if head else None,
            },
            "hashes": [{"file": name, **self._hashes[name]} for name in sorted(self._hashes)],
            "process": list(PROCESS),
            "derived": list(DERIVED),
        }

    def to_json(self) -> bytes:
        """support.json."""
        return json.dumps(self.to_document(), indent=1).encode("ascii") + b"\n"

    def to_text(self) -> bytes:
        """support.txt: the same for people."""
        sheet = self.to_document()
        lines = ["SUPPORT SHEET FOR ONE RECORDING", "", NOTE, ""]
        lines += [f"Recording  {sheet['recording_id']}", f"Camera     {sheet['device_id']}", ""]
        _section(lines, "THE CAMERA'S CERTIFICATES (compare with the department's)", sheet["certificates"])
        _section(lines, "WHERE ITS KEY LIVES, AND ITS LOG'S FILES", sheet["journal_files"])
        _section(lines, "SOFTWARE, CONFIGURATION AND SELF-TESTS, at each start of the camera", sheet["runs"])
        examination = [sheet["last_examination"]] if sheet["last_examination"] else []
        _section(lines, "THE LAST EXAMINATION (bodycam doctor) before the recording, in the same run", examination)
        _section(lines, "THE RECORDING, as the camera logged it", sheet["recording"])
        _section(lines, "THE CAMERA'S CLOCK, whenever it was looked at", sheet["clock"])
        _section(lines, "TIMESTAMPS OF AN AUTHORITY", sheet["timestamps"])
        _section(lines, "FAULTS AND OTHER EVENTS of that time", sheet["events"])
        _section(lines, "THE LOG", [sheet["log"]])
        _section(lines, "HASHES (SHA-256) that the camera signed", sheet["hashes"])
        _section(lines, "HOW IT WORKS", sheet["process"])
        _section(lines, "WHAT IS DERIVED", sheet["derived"])
        if sheet["entries_left_out"]:
            lines.append(f"{sheet['entries_left_out']} entries are not listed here; they stand in the log.")
        return "\n".join(lines).encode("ascii", "backslashreplace") + b"\n"


def _own_fields(record: Record) -> dict[str, Any]:
    own = {key: value for key, value in record.fields.items() if key not in COMMON_FIELDS}
    return {"record": record.seq} | own


def _clock_state(record: Record) -> dict[str, Any]:
    """What the camera believed of the time, and the offset of that from the clock that never jumps."""
    state = {name: record.fields[name] for name in ("utc", "clock_source", "clock_uncertainty_ms")}
    try:
        utc_ns = round(Fields(record.fields).utc().timestamp() * 1_000_000) * 1000
    except (FieldError, OverflowError):
        return state
    return state | {"utc_minus_boottime_ms": (utc_ns - int(record.fields["boottime_ns"])) // NS_PER_MS}


def _section(lines: list[str], title: str, entries: Iterable[Any]) -> None:
    lines.append(title)
    before = len(lines)
    for entry in entries:
        lines.append(f"  - {_words(entry)}")
    if len(lines) == before:
        lines.append("  none")
    lines.append("")


def _words(value: Any) -> str:
    match value:
        case dict():
            return ", ".join(f"{key.replace('_', ' ')}: {_words(item)}" for key, item in value.items())
        case list():
            return "[" + "; ".join(_words(item) for item in value) + "]"
        case None:
            return "none"
        case bool():
            return "yes" if value else "no"
    return str(value)


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
