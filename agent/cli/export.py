"""`bodycam export`: one MP4 out of a recording's files, byte for byte, without what nothing vouches for."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from agent.cli.decrypted import append_decrypted
from agent.cli.output import say
from agent.encryption.identity import Identities
from agent.errors import (
    EncryptionError,
    EvidenceDamagedError,
    EvidenceNotFound,
    StorageError,
    UsageError,
    VerificationFailed,
)
from agent.media.mp4 import Mp4Error, walk, whole_fragments, whole_fragments_bytes
from agent.settings.schema import Settings
from agent.vault.layout import is_encrypted
from agent.verify.evidence import Evidence, locate
from agent.verify.evidence_file import open_plain
from agent.verify.index import IndexedRecording, VouchedFile, read_index, vouched_chunks

VIDEO_TRACK_ID = 1
LATEST = "latest"


def export(settings_or_vault: Settings | Path, recording: str, output: Path, *, identity: Path | None = None) -> int:
    """Write `output` from the vault or package, say what it is, and return 0.

    recording: an id, the beginning of one, or "latest". Every byte is compared with the journal on the way; of a
    segment that a failed write tore only what was confirmed is taken, of a recovered one only whole fragments.
    identity: an age identity file, for recordings that are encrypted.
    Raises UsageError when there is such a file already, EvidenceNotFound, EvidenceDamagedError, EncryptionError,
    VerificationFailed, StorageError; then no output is left.
    """
    path = settings_or_vault if isinstance(settings_or_vault, Path) else settings_or_vault.vault.path
    evidence = locate(path)
    chosen = _choose(list(read_index(evidence).recordings.values()), recording, evidence)
    if chosen.unusable:
        raise EvidenceDamagedError(
            f"{chosen.recording_id} cannot be exported: {chosen.unusable}; run `bodycam verify`."
        )
    identities = Identities.load(identity) if identity is not None else None
    if chosen.encrypted and identities is None:
        raise EncryptionError(
            f"{chosen.recording_id} is encrypted to the evidence system's key; name that key's file with --identity."
        )
    # Read first: a name that does not open is no reason to leave a video behind that nobody asked for.
    personal = identities.open_sealed(chosen.sealed) if identities is not None and chosen.sealed is not None else {}
    try:
        sha256 = _write(evidence.recording(chosen.recording_id), chosen.files, output, identities)
    except OSError as error:
        if isinstance(error, FileExistsError):
            raise UsageError(f"There is already a file {output}; name another with -o, or move it away.") from error
        raise
    frames = _count_frames(output)
    unseen = any(is_encrypted(file.name) and file.state == "recovered" for file in chosen.files)
    if frames < chosen.frames or (frames > chosen.frames and not unseen):
        output.unlink()
        raise VerificationFailed(
            f"The joined file holds {frames} frames and the journal says {chosen.frames}; it was removed. "
            f"Run `bodycam verify {path}`."
        )
    say(f"{output}: {output.stat().st_size} bytes, {chosen.frames} frames, as the journal says")
    if frames > chosen.frames:
        say(
            f"{frames - chosen.frames} frames more stand behind the last checkpoint: the camera signed their bytes "
            "only when it started again, unable to look into them."
        )
    say(f"SHA-256 {sha256}")
    for name, value in sorted(personal.items()):
        say(f"Sealed with it: {name} = {value}")
    for name in chosen.missing:
        say(f"{name} was gone when the camera started again: its time is a hole in the video.")
    if chosen.closed_at is None:
        say("The recording is not closed: this is what its checkpoints vouch for so far.")
    say("The hashes of the journal were compared; for signatures and origin run `bodycam verify`.")
    say(f"Look at it with: ffprobe -hide_banner {output}   or   ffplay {output}")
    return 0


def _choose(recordings: list[IndexedRecording], wanted: str, evidence: Evidence) -> IndexedRecording:
    if evidence.is_package:  # its journal extract names recordings whose files are elsewhere
        recordings = [recording for recording in recordings if recording.recording_id == evidence.packaged_id]
    there = [recording for recording in recordings if recording.frames or recording.encrypted]
    found = there[-1:] if wanted == LATEST else [r for r in there if wanted and r.recording_id.startswith(wanted)]
    if len(found) == 1:
        return found[0]
    listed = ", ".join(recording.recording_id for recording in (found or there)[-10:]) or "none"
    if found:
        raise EvidenceNotFound(f"{len(found)} recordings begin with {wanted}: {listed}; name more of the id.")
    raise EvidenceNotFound(
        f"There is no recording {wanted} with anything in it at {evidence.root}; there are: {listed}."
    )


def _write(folder: Path, files: list[VouchedFile], output: Path, identities: Identities | None) -> str:
    try:
        target = output.open("x+b")
    except FileExistsError:
        raise
    except OSError as error:
        raise StorageError(error.errno, f"The file cannot be made: {error.strerror}", str(output)) from error
    try:
        with target:
            for file in files:
                if identities is not None and is_encrypted(file.name):
                    append_decrypted(target, folder, file, identities)
                    continue
                wanted = _playable_bytes(folder, file)
                found = hashlib.sha256()
                for chunk in vouched_chunks(folder, file):
                    found.update(chunk)
                    playable = chunk[: max(0, wanted)]
                    wanted -= len(playable)
                    target.write(playable)
                if found.hexdigest() != file.sha256:
                    raise EvidenceDamagedError(
                        f"{folder / file.name} is not what the journal vouches for, so nothing was exported; run "
                        "`bodycam verify` to see where."
                    )
            target.flush()
            os.fsync(target.fileno())
            target.seek(0)
            sha256 = hashlib.file_digest(target, "sha256").hexdigest()
        descriptor = os.open(output.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except BaseException as error:
        output.unlink()
        if isinstance(error, OSError) and not isinstance(error, StorageError):
            raise StorageError(error.errno, f"Writing failed: {error.strerror}", str(output)) from error
        raise
    return sha256


def _playable_bytes(folder: Path, file: VouchedFile) -> int:
    if file.state != "recovered":
        return file.bytes
    try:
        with open_plain(folder / file.name) as source:
            return min(file.bytes, whole_fragments_bytes(source))
    except OSError as error:
        raise EvidenceDamagedError(
            f"{folder / file.name} cannot be read ({error.strerror}); run `bodycam verify` on it."
        ) from error


def _count_frames(path: Path) -> int:
    """Video frames in the fragments behind the `moov`."""
    with path.open("rb") as file:
        try:
            start = next((box.offset for box in walk(file) if box.type == b"moof"), 0)
        except Mp4Error:
            return 0
        file.seek(start)
        spans = whole_fragments(file)
        return sum(
            span.info.tracks[VIDEO_TRACK_ID].sample_count for span in spans if VIDEO_TRACK_ID in span.info.tracks
        )
