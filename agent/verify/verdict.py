"""From findings to a verdict on each recording."""

from __future__ import annotations

from collections.abc import Sequence

from agent.clock import NS_PER_MS
from agent.media.units import VIDEO_TIMESCALE_90K
from agent.verify.aspect import is_log_wrong, judge
from agent.verify.finding import Code, Finding, Severity
from agent.verify.interval import Interval
from agent.verify.recording import RecordingCheck
from agent.verify.report import RecordingReport, Verdict


def _touches(finding: Finding, check: RecordingCheck) -> bool:
    if finding.recording_id is not None:
        return finding.recording_id == check.recording_id
    if finding.at is None or finding.until is None:
        return True
    # What an unclosed recording still had to come may have been taken out anywhere behind it. Under whose certificate
    # its records stand is also said by the record whose signature covers its end.
    last = check.last_ordinal
    if finding.code.startswith("CERT_") and check.covered_ordinal is not None:
        last = check.covered_ordinal
    ends_before = check.closed and finding.at > last
    return not ends_before and finding.until >= (check.first_ordinal or 0)


def recording_report(
    check: RecordingCheck,
    findings: Sequence[Finding],
    time: Interval | None = None,
    *,
    root_given: bool,
    signed: bool,
    is_package: bool,
) -> RecordingReport:
    """One recording's part of the report. A fault of the journal refutes only recordings whose records it touches.

    time: what timestamps say of it. root_given: the examiner brought a root certificate. signed: there are valid
    signatures in the journal. is_package: it lies in a package, and not in a vault.
    """
    # How the journal goes on behind a closed recording makes no less of it: its log is complete up to its close.
    behind = {Code.RUN_NOT_ENDED} if check.closed else set()
    touching = [finding for finding in findings if _touches(finding, check) and finding.code not in behind]
    failed = any(finding.severity is Severity.FAIL for finding in touching)
    opened = check.opened
    return RecordingReport(
        recording_id=check.recording_id,
        verdict=Verdict.FAILED if failed else Verdict.VERIFIED if check.closed else Verdict.SO_FAR,
        closed=check.closed,
        recovered=check.recovered,
        stop_reason=check.stop_reason,
        frames=check.frames,
        duration_ms=check.end_media_90k * 1000 // VIDEO_TIMESCALE_90K,
        bytes=check.vouched_bytes,
        start_utc_ns=opened.start_utc_ns if opened else None,
        clock_source=opened.clock_source if opened else None,
        configured_pre_event_ms=opened.configured_pre_event_ms if opened else None,
        actual_pre_event_ms=opened.actual_pre_event_ms if opened else None,
        marker_ms=tuple(
            (boottime_ns - opened.origin_boottime_ns) // NS_PER_MS for boottime_ns in check.marker_boottimes_ns
        )
        if opened
        else (),
        gaps=check.totals.gaps,
        linked_from=opened.linked_from if opened else None,
        time=time,
        log_intact=signed and not is_log_wrong(touching),
        aspects=judge(
            touching,
            root_given=root_given,
            signed=signed,
            clock=opened.clock_source[:40] if opened else None,
            holds_completely=f"All {check.fragments} fragments from the first to the last are here, and no record is "
            "missing between trigger and close.",
            time=time,
            pre_event_ms=opened.actual_pre_event_ms if opened else 0,
            is_package=is_package,
        ),
    )
