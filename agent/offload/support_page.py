"""support.txt: the facts of support.json in sentences, then the files with their hashes, then the records in short."""

from __future__ import annotations

import json
from collections.abc import Iterator

from agent.offload import support_camera, support_recording
from agent.offload.support_lines import Lines, Said, moment, number, place, ref, size, text

FOREWORD = (
    "What the camera wrote into its signed log about one recording, gathered so that a person can describe how the "
    "recording came about. This sheet is derived from that log and is no evidence itself: what counts is the record "
    'whose number stands behind a sentence, "(record N)", once the log is verified (see VERIFY.txt). No claim about '
    "the law of any place is made."
)
TIMES = (
    "Times of day are those of the camera's own clock as it stood when the record was written, in UTC, unless a "
    "sentence says otherwise. Places in the recording are counted from its first picture, as a player shows them: "
    "01:02.500 is one minute and 2.5 seconds."
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
    "A check compares every file with the signed hashes: verify.sh or `bodycam verify`, or by hand as in README.txt.",
)
ENCRYPTING = (
    "Each file but init.mp4 is encrypted on the camera while it is written; nothing of the recording is stored there "
    "in clear but what init.mp4 holds: codecs, picture size and parameters."
)
DERIVED = "recording.json, support.json and support.txt in this package are made from the log and are no evidence."
JOINED = (
    "The files play as one when init.mp4 and the segments are joined in order (`cat`, or `bodycam export`). That one "
    "file has the same pictures and is derived: its SHA-256 is not in the log."
)
JOINED_ENCRYPTED = (
    "To play it, each NNNNNN.m4s.age is opened with a recipient's private key (`age -d -i KEY.txt`) and what comes out "
    "is joined in order behind init.mp4, or `bodycam export --identity KEY.txt` does both; joining the .age files as "
    "they lie gives nothing that plays. What is made so is derived: its SHA-256 is not in the log."
)
# What stands in the sentences already, or tells a person nothing.
_NOT_REPEATED = frozenset({
    "record", "type", "utc", "recording_id", "pid", "boot_id", "when", "torn_exact", "utc_minus_boottime_ms",
    "sha256", "init_file", "init_bytes", "init_sha256", "certificate_sha256", "software_sha256", "config_sha256",
    "media_origin_media_ms", "device_id", "key", "gesture_boottime_ns",
})  # fmt: skip
_CLOCK = frozenset({"clock_source", "clock_uncertainty_ms"})
_NO_HASH = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
"""SHA-256 of nothing."""


def page(sheet: Said) -> bytes:
    """The text of one sheet, a document as support.json holds it."""
    lines = Lines()
    encrypted = any(str(one["file"]).endswith(".age") for one in sheet["files"])
    lines.heading("SUPPORT SHEET FOR ONE RECORDING")
    lines.gap()
    lines.say(f"Recording  {sheet['recording_id']}", indent="")
    lines.say(f"Camera     {text(sheet, 'device_id')}", indent="")
    for paragraph in (FOREWORD, TIMES):
        lines.gap()
        lines.say(paragraph, indent="")
    lines.gap()
    support_recording.in_short(lines, sheet)
    support_camera.camera(lines, sheet)
    support_camera.starts(lines, sheet)
    support_camera.clock(lines, sheet)
    for section in (
        support_recording.recording,
        support_recording.missing,
        support_recording.events,
        support_recording.timestamps,
        support_recording.encryption,
        support_recording.log,
    ):
        section(lines, sheet)
    lines.heading("10. HOW THE CAMERA WORKS (of this software; the log says nothing about it)")
    for paragraph in (*PROCESS, ENCRYPTING) if encrypted else PROCESS:
        lines.say(paragraph)
    lines.heading("11. WHAT IS DERIVED")
    for paragraph in (DERIVED, JOINED_ENCRYPTED if encrypted else JOINED):
        lines.say(paragraph)
    _files(lines, sheet)
    _appendix(lines, sheet)
    return lines.to_bytes()


def _files(lines: Lines, sheet: Said) -> None:
    lines.heading("12. ITS MEDIA FILES, with the sizes and SHA-256 that the camera signed")
    for one in sheet["files"]:
        span = ""
        if "first_media_ms" in one:
            span = f", {place(number(one, 'first_media_ms'))} to {place(number(one, 'end_media_ms'))}"
        state = "" if one.get("state", "whole") == "whole" else f", {text(one, 'state')}"
        lines.say(f"{one['file']}: {size(one)}{span}{state} {ref(one)}")
        lines.say(text(one, "sha256"), indent="    ")
    if not sheet["files"]:
        lines.say("It has none: nothing of it was stored.")


def _appendix(lines: Lines, sheet: Said) -> None:
    lines.heading("APPENDIX: THE RECORDS THAT THIS RESTS ON, in short; support.json has all of their fields")
    for record, entry in sorted(_entries(sheet).items()):
        own = {key: value for key, value in entry.items() if _is_shown(key, value, entry)}
        said = "; ".join(f"{key} {_value(value)}" for key, value in own.items())
        at = moment(entry["utc"])
        lines.say(f"{record} {entry['type']}, {at}" + (f": {said}" if said else ""), hanging="      ")
    if sheet["entries_left_out"]:
        lines.say(f"{sheet['entries_left_out']} entries are not listed here; they stand in the log.")


def _entries(sheet: Said) -> dict[int, Said]:
    """Each record once."""
    runs = [entry for run in sheet["runs"] for entry in run.values() if isinstance(entry, dict)]
    listed = [sheet["journal_files"], runs, sheet["recording"], sheet["clock"], sheet["timestamps"], sheet["events"]]
    examination = [sheet["last_examination"]] if sheet["last_examination"] else []
    return {entry["record"]: entry for entries in [*listed, examination] for entry in entries}


def _is_shown(key: str, value: object, entry: Said) -> bool:
    if key in _NOT_REPEATED or value is None or value == _NO_HASH:
        return False
    if key in _CLOCK:
        return bool(entry["type"] == "clock")
    stem = key.removesuffix("_boottime_ns").removesuffix("_90k")
    return stem == key or not {f"{stem}_utc", f"{stem}_ms"} & set(entry)


def _value(value: object) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case dict():
            return ", ".join(f"{key} {_value(item)}" for key, item in value.items())
        case list():
            return " | ".join(_items(value)) or "none"
        case str() if len(value) > 400:
            return f"({len(value)} characters)"
    return str(value) if isinstance(value, str | int | float) else json.dumps(value)


def _items(values: list[object]) -> Iterator[str]:
    for item in values:
        if isinstance(item, dict) and {"name", "passed", "found"} <= set(item):
            outcome = item.get("state") or ("passed" if item["passed"] is True else "failed")
            yield f"{item['name']}, {outcome}: {item['found']}"
        else:
            yield _value(item)
