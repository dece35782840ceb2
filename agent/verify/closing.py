"""How a recording begins and ends in the journal."""

from __future__ import annotations

from agent.verify.evidence import Evidence
from agent.verify.finding import Code, Findings, Severity
from agent.verify.recording import RecordingCheck
from agent.verify.words import media_place


def check_closed(evidence: Evidence, recording: RecordingCheck, findings: Findings) -> None:
    """Report a recording that does not begin with its trigger, has no end, or a clock that nobody had set."""
    recording_id = recording.recording_id
    # Power may go when something of it is on flash and nothing in the journal yet.
    begins_late = recording.opened is None and recording.recovered and not recording.trigger_journalled
    if not recording.triggered and not begins_late:
        findings.fail(
            Code.PACKAGE_INCOMPLETE if evidence.is_package else Code.RECORD_INVALID,
            recording_id,
            "Its records do not begin with its trigger: the beginning of its journal is missing.",
            recording_id=recording_id,
            follows=recording.breaks.before_first,
        )
    if recording.opened is not None and recording.opened.clock_source != "ntp":
        findings.note(
            Code.TIME_UNSYNCHRONISED,
            recording_id,
            "No time server had set the camera's clock when it began (the camera calls its clock "
            f'"{recording.opened.clock_source[:40]}"): take its time of day for approximate.',
            recording_id=recording_id,
        )
    if not recording.closed:
        findings.add(
            Code.RECORDING_UNCLOSED,
            Severity.FAIL if evidence.is_package else Severity.WARN,
            recording_id,
            _unclosed(evidence, recording),
            recording_id=recording_id,
        )


def _unclosed(evidence: Evidence, recording: RecordingCheck) -> str:
    covered = "Nothing of its video is signed"
    if recording.end_media_90k:
        covered = f"Up to its last checkpoint at {media_place(recording.end_media_90k)} it is signed"
    if evidence.is_package:
        return (
            "The record that closes the recording is not in this package, and none is made without it: the end of "
            f"its journal was taken out or not copied. {covered}; how it went on cannot be said from here. Ask for "
            "the whole package."
        )
    return f"It has no end yet: the camera still records it, or was cut off and closes it at its next start. {covered}."
