"""The files that lie there against the files that records name: nothing gone, nothing slipped in."""

from __future__ import annotations

from collections.abc import Sequence

from agent.vault.layout import INIT_NAME, RECORDING_JSON_NAME
from agent.verify.evidence import PACKAGE_FILES, SUMS_NAME, Evidence
from agent.verify.evidence_file import LEFTOVER_NAME, RECORDING_ID, SEGMENT_NAME, names_in
from agent.verify.finding import Code, Findings, Severity
from agent.verify.recording import RecordingCheck
from agent.verify.words import counted, media_place

_PACKAGE_NAMES = frozenset({"journal", "device", SUMS_NAME, *PACKAGE_FILES})


def check_refused(evidence: Evidence, findings: Findings) -> None:
    """Report links in place of the folders that everything lies in."""
    for folder in evidence.refused_folders:
        findings.fail(
            Code.FOLDER_NOT_PLAIN,
            folder.name,
            f"{folder.name} is a link, or no folder: nothing behind it was looked at. Put the folder itself there.",
        )


def check_folder(evidence: Evidence, recording: RecordingCheck, findings: Findings, *, writing: bool) -> None:
    """Report a folder that is gone, files in it that no record names, and a `recording.json` that is not derived.

    writing: the camera wrote its journal meanwhile.
    """
    recording_id = recording.recording_id
    folder = evidence.recording(recording_id)
    if not evidence.has_recording(recording_id):
        if recording.vouched_bytes or recording.frames:
            findings.fail(
                Code.RECORDING_MISSING,
                f"recordings/{recording_id}",
                f"Its folder is gone: {media_place(recording.end_media_90k)} of video with "
                f"{counted(recording.frames, 'frame')}, which the journal vouches for.",
                recording_id=recording_id,
            )
        return
    recording.derived.check(
        folder, recording_id, findings, closed=recording.closed, writing=writing, is_package=evidence.is_package
    )
    known = recording.files | {RECORDING_JSON_NAME} | (_PACKAGE_NAMES if evidence.is_package else set())
    for name in names_in(folder):
        subject = f"{recording_id}/{name}"
        if name in known or (evidence.is_package and name.startswith(".")):
            continue  # check_sums has a look at names that begin with a dot
        if LEFTOVER_NAME.fullmatch(name) and not evidence.is_package:
            findings.note(
                Code.FILE_UNKNOWN,
                subject,
                f"{name} is left over from an interrupted write and is no part of it.",
                recording_id=recording_id,
            )
        elif not recording.closed and (SEGMENT_NAME.fullmatch(name) or name == INIT_NAME):
            findings.warn(
                Code.UNSIGNED_BYTES,
                subject,
                f"No record names {name}{'' if evidence.is_package else ' yet'}: nothing vouches for it.",
                recording_id=recording_id,
            )
        else:
            findings.fail(
                Code.FILE_UNKNOWN, subject, f"No record names {name}: it does not belong here.",
                recording_id=recording_id, around=True,
            )  # fmt: skip


def check_unrecorded(names: Sequence[str], findings: Findings, *, writing: bool) -> None:
    """Report folders that no record names. writing: the camera wrote its journal meanwhile, so they may be new."""
    for name in names:
        if not RECORDING_ID.fullmatch(name):
            findings.fail(
                Code.FILE_UNKNOWN, f"recordings/{name}", f"{name} is no recording's folder.", recording_id=name
            )
        else:
            findings.add(
                Code.RECORDING_UNRECORDED,
                Severity.WARN if writing else Severity.FAIL,
                f"recordings/{name}",
                "The journal does not know this recording: nothing vouches for a byte of it."
                + (
                    " The camera was writing meanwhile; check again."
                    if writing
                    else " If the camera lost power in the very second it began, its next start signs it as found."
                ),
                recording_id=name,
            )
