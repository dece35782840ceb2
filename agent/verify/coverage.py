"""Which records signatures cover, seen from the recordings that they are about."""

from __future__ import annotations

from collections.abc import Collection

from agent.verify.finding import Code, Findings
from agent.verify.recording import RecordingCheck
from agent.verify.signatures import SignatureCheck
from agent.verify.words import counted


def check_coverage(
    signatures: SignatureCheck, recordings: Collection[RecordingCheck], findings: Findings, *, is_package: bool
) -> None:
    """Say what of each recording no signature covers, and what one covers only since the camera was started again.

    After all lines were taken. is_package: no camera goes on writing it.
    """
    for recording in recordings:
        own = (recording.first_ordinal or 0, recording.last_ordinal)
        if any(begin <= own[1] and own[0] <= end for begin, end in signatures.late):
            findings.warn(
                Code.SIGNATURE_LATE,
                recording.recording_id,
                "Records of it, or between them, still had no signature when the camera was started again. What "
                "they say is what the camera found on its card then, which somebody who had the card may have put "
                "there. Ask whether the camera's signer failed at that time, and who had it.",
                recording_id=recording.recording_id,
            )
    start = signatures.uncovered_from
    if start is None:
        return
    findings.warn(
        Code.SIGNATURE_UNCOVERED,
        "journal",
        f"The last {counted(signatures.uncovered, 'record has', 'records have')} no valid signature, nor is "
        "there a signed record behind.",
        at=start,
        follows=signatures.uncovered_for,
    )
    again = "" if is_package else " If the camera still runs, check again in a moment."
    for recording in recordings:
        first, last = recording.first_ordinal or 0, recording.last_ordinal
        if last < start:
            continue
        if recording.closed or first >= start:
            findings.fail(
                Code.SIGNATURE_UNCOVERED,
                recording.recording_id,
                "No signature covers its records" + ("." if first >= start else " to the end.") + again,
                recording_id=recording.recording_id,
                follows=signatures.uncovered_for,
            )
        else:
            findings.warn(
                Code.SIGNATURE_UNCOVERED,
                recording.recording_id,
                "No signature covers its last records."
                if is_package
                else "Its newest records are not covered by a signature yet.",
                recording_id=recording.recording_id,
            )
