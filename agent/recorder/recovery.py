"""Start-up is recovery: every recording that was not closed is sealed as it lies, and nothing of it is edited.

A recording is unfinished when its folder has no `recording.json`, which is written last of all. What the journal
already vouches for stays vouched for; what lies behind the last checkpoint is named, hashed and signed as found, so
that nobody can pass it off later as something else.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.clock import Clock
from agent.errors import JournalError, StorageError
from agent.media.mp4 import TrackFragment, whole_fragments
from agent.recorder.continuation import is_moments_ago, to_go_on
from agent.vault.filesystem import Filesystem
from agent.vault.journal import Journal, chained_files
from agent.vault.layout import (
    ENCRYPTED_SUFFIX,
    INIT_NAME,
    RECORDING_ID,
    RECORDING_JSON_NAME,
    SEGMENT_SUFFIX,
    VaultLayout,
    is_encrypted,
)
from agent.vault.record import MAX_INTEGER, Record
from agent.vault.summary import summarise
from agent.vault.whole import write_whole


@dataclass(frozen=True, slots=True)
class Recovered:
    """What start-up found. resume_from: id of a recording that ran moments ago and should go on as a linked one.

    ignored: names among the recordings that are none.
    """

    recording_ids: tuple[str, ...]
    resume_from: str | None
    ignored: tuple[str, ...] = ()


_NEEDED: dict[str, dict[str, type]] = {
    "checkpoint": {
        "file": str, "bytes": int, "sha256": str, "first_media_90k": int, "end_media_90k": int, "frames": int,
        "audio_frames": int,
    },
    "segment": {"file": str, "bytes": int},
}  # fmt: skip
_OPTIONAL = frozenset({"end_media_90k", "fragments", "frames"})
_VIDEO_TRACK_ID = 1
_AUDIO_TRACK_ID = 2


def recover(
    filesystem: Filesystem, layout: VaultLayout, journal: Journal, clock: Clock, *, resume_within_s: int
) -> Recovered:
    """Seal every unfinished recording. Safe to be cut and run again at any point. Raises StorageError."""
    names = filesystem.list_dir(layout.recordings)
    # What a file manager leaves on a card is nobody's recording, and must not keep the camera from starting. A link
    # that somebody put there would have its `recording.json` written where it leads to.
    ours = [name for name in names if RECORDING_ID.fullmatch(name) and _is_folder(filesystem, layout.recording(name))]
    unfinished = [name for name in ours if filesystem.size_bytes(layout.recording(name) / RECORDING_JSON_NAME) is None]
    resume_from = to_go_on(reversed(journal.last_records), clock, resume_within_s)
    for recording_id in unfinished:
        records = records_of(filesystem, layout, recording_id)
        if not any(record.type == "recording-close" for record in records):
            if _ran_moments_ago(journal, records, clock, resume_within_s):
                resume_from = recording_id
            try:
                _check_usable(records)
                sealed = _seal(filesystem, layout, recording_id, records)
            except (StorageError, JournalError) as error:
                # One that cannot be read must not keep the camera from recording; the next start tries it again.
                journal.append("fault", component="recovery", message=f"Recording {recording_id}: {error}")
                journal.commit()
                continue
            for type_, fields in sealed:
                journal.append(type_, recording_id=recording_id, **fields)
            journal.commit()
        else:
            sealed = []
        summary = summarise(recording_id, [*((r.type, r.fields) for r in records), *sealed])
        write_whole(filesystem, layout.recording(recording_id) / RECORDING_JSON_NAME, summary.to_json())
    return Recovered(tuple(unfinished), resume_from, tuple(sorted(set(names) - set(ours))))


def _is_folder(filesystem: Filesystem, path: Path) -> bool:
    return filesystem.size_bytes(path) is None and not filesystem.is_link(path)


def records_of(filesystem: Filesystem, layout: VaultLayout, recording_id: str) -> list[Record]:
    """The records of one recording, oldest first, from the newest journal files back to its trigger."""
    found: list[Record] = []
    for _, records in chained_files(filesystem, layout.journal):
        found = [record for record in records if record.fields.get("recording_id") == recording_id] + found
        if found and found[0].type == "trigger":
            break
    return found


def _ran_moments_ago(journal: Journal, records: list[Record], clock: Clock, within_s: int) -> bool:
    """Whether a recording was interrupted, not stopped, less than within_s ago as far as the clocks can tell."""
    if not records or any(record.type == "stop" for record in records) or not journal.last_records:
        return False
    return is_moments_ago(journal.last_records[-1], clock, within_s)


def _check_usable(records: list[Record]) -> None:
    """Raises JournalError for a record without what sealing rests on: lines on flash chain for whoever edits them."""
    for record in records:
        needed = _NEEDED.get(record.type, {})
        if record.type == "checkpoint" and is_encrypted(str(record.fields.get("file"))):
            needed = {**needed, "plain_bytes": int, "plain_sha256": str}
        if record.type == "segment":
            needed = {
                **needed,
                **dict.fromkeys(_OPTIONAL - {n for n in _OPTIONAL if record.fields.get(n) is None}, int),
            }
        for name, kind in needed.items():
            value = record.fields.get(name)
            fits = isinstance(value, kind) and not isinstance(value, bool)
            if not fits or (isinstance(value, int) and not 0 <= value <= MAX_INTEGER):
                raise JournalError(f"Record {record.seq} ({record.type}) has no usable {name!r}; have it examined.")


def _seal(
    filesystem: Filesystem, layout: VaultLayout, recording_id: str, records: list[Record]
) -> list[tuple[str, dict[str, Any]]]:
    """The segment records that are missing, and the closing one."""
    folder = layout.recording(recording_id)
    segments = {str(record.fields["file"]): record.fields for record in records if record.type == "segment"}
    checkpoints: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        if record.type == "checkpoint":
            checkpoints.setdefault(str(record.fields["file"]), []).append(record.fields)
    present = [name for name in filesystem.list_dir(folder) if name.endswith((SEGMENT_SUFFIX, ENCRYPTED_SUFFIX))]
    new: list[tuple[str, dict[str, Any]]] = []
    for name in sorted({*present, *checkpoints} - set(segments)):
        fields = (
            _seal_segment(filesystem, folder / name, checkpoints.get(name, []))
            if name in present
            else {"file": name, "state": "missing", "bytes": 0, "sha256": hashlib.sha256().hexdigest()}
        )
        segments[name] = fields
        new.append(("segment", fields))
    # Names must outlive the next power cut before a signed record says that they are there.
    filesystem.sync_dir(folder)
    filesystem.sync_dir(layout.recordings)
    close: dict[str, Any] = {
        "recovered": True,
        "interrupted": not any(record.type == "stop" for record in records),
        "triggered": any(record.type == "trigger" for record in records),
        "end_media_90k": max((segment.get("end_media_90k") or 0 for segment in segments.values()), default=0),
        "segments": len(segments),
        "fragments": sum(segment.get("fragments", 0) for segment in segments.values()),
        "frames": sum(segment.get("frames", 0) for segment in segments.values()),
        "bytes": sum(segment["bytes"] for segment in segments.values()),
        "gaps": sum(record.type == "gap" for record in records),
    }
    if not any(record.type == "recording-open" for record in records):
        # Cut before the first checkpoint: nothing vouched for these files until now.
        close["never_opened"] = True
        close |= _init_fields(filesystem, folder / INIT_NAME)
    new.append(("recording-close", close))
    return new


def _init_fields(filesystem: Filesystem, path: Path) -> dict[str, Any]:
    if filesystem.size_bytes(path) is None:
        return {"init_file": None}
    data = filesystem.read(path)  # it got its name only when it was synced
    return {"init_file": INIT_NAME, "init_bytes": len(data), "init_sha256": hashlib.sha256(data).hexdigest()}


def _seal_segment(filesystem: Filesystem, path: Path, checkpoints: list[dict[str, Any]]) -> dict[str, Any]:
    """The record of a segment as it lies, from its bytes and the checkpoints that name it."""
    filesystem.sync_file(path)  # a killed process leaves bytes that are only in the page cache
    last = checkpoints[-1] if checkpoints else None
    checkpointed_bytes = int(last["bytes"]) if last else 0
    checkpointed = hashlib.sha256()
    whole = hashlib.sha256()
    size = 0
    for chunk in filesystem.read_chunks(path):
        whole.update(chunk)
        checkpointed.update(chunk[: max(0, checkpointed_bytes - size)])
        size += len(chunk)
    expected = str(last["sha256"]) if last else hashlib.sha256().hexdigest()
    return {
        "file": path.name,
        "state": "recovered",
        "bytes": size,
        "sha256": whole.hexdigest(),
        **(
            _said_by_checkpoints(checkpoints, size - checkpointed_bytes)
            if is_encrypted(path.name)
            else _found_in_fragments(filesystem, path, size)
        ),
        "checkpointed_bytes": checkpointed_bytes,
        "checkpointed_sha256": expected,
        "checkpoint_intact": size >= checkpointed_bytes and checkpointed.hexdigest() == expected,
    }


def _found_in_fragments(filesystem: Filesystem, path: Path, size: int) -> dict[str, Any]:
    fragments = frames = audio_frames = end = 0
    first: TrackFragment | None = None
    last: TrackFragment | None = None
    with filesystem.open_read(path) as stream:
        for span in whole_fragments(stream):  # one by one: a file of the smallest has millions
            fragments, end = fragments + 1, span.end
            if (video := span.info.tracks.get(_VIDEO_TRACK_ID)) is not None:
                first, last, frames = first or video, video, frames + video.sample_count
            if (audio := span.info.tracks.get(_AUDIO_TRACK_ID)) is not None:
                audio_frames += audio.sample_count
    return {
        "fragments": fragments,
        "first_media_90k": first.base_media_decode_time if first else None,
        "end_media_90k": last.base_media_decode_time + last.duration if last else None,
        "frames": frames,
        "audio_frames": audio_frames,
        "audio": "on" if audio_frames else "off",
        "torn_bytes": size - end,
    }


def _said_by_checkpoints(checkpoints: list[dict[str, Any]], torn_bytes: int) -> dict[str, Any]:
    """Of an encrypted segment, which the camera cannot look into: what it knew of it when it was made."""
    audio_frames = sum(int(fields["audio_frames"]) for fields in checkpoints)
    return {
        "plain_bytes": int(checkpoints[-1]["plain_bytes"]) if checkpoints else 0,
        "plain_sha256": str(checkpoints[-1]["plain_sha256"]) if checkpoints else hashlib.sha256().hexdigest(),
        "fragments": len(checkpoints),
        "first_media_90k": checkpoints[0]["first_media_90k"] if checkpoints else None,
        "end_media_90k": checkpoints[-1]["end_media_90k"] if checkpoints else None,
        "frames": sum(int(fields["frames"]) for fields in checkpoints),
        "audio_frames": audio_frames,
        "audio": "on" if audio_frames else "off",
        "torn_bytes": torn_bytes,
    }
