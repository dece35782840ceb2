"""Which recording a start has to go on with, when the one before ended with its camera and not by anybody's wish.

A camera that hangs in the kernel ends the process, in order: its recording was stopped and sealed, so nothing of it
looks interrupted. That it was to go on is read out of the journal's last records.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from agent.clock import NS_PER_S, Clock
from agent.vault.record import Record

CAMERA_HUNG = "camera-hung"
CAMERA_LOST = "camera-lost"


def is_moments_ago(record: Record, clock: Clock, within_s: int) -> bool:
    """Whether a record was written less than within_s ago, as far as the clocks can tell.

    Across a reboot only wall time can; when that went backwards it tells nothing, and a camera must not start to film
    on its own on such grounds.
    """
    fields, now = record.fields, clock.observe()
    if fields["boot_id"] == clock.boot_id:
        age_ns = now.boottime_ns - int(fields["boottime_ns"])
    else:
        try:
            then = datetime.fromisoformat(str(fields["utc"]))
            age_ns = now.utc_ns - int(then.timestamp() * NS_PER_S)
        except (ValueError, OverflowError):
            return False  # no camera writes such a time
    return 0 <= age_ns <= within_s * NS_PER_S


def to_go_on(newest_first: Iterable[Record], clock: Clock, within_s: int) -> str | None:
    """Id of the recording that lost its camera moments ago and has not gone on since; None when there is none.

    newest_first: the records of earlier runs; no more of them are taken than say something.
    """
    for record in newest_first:
        if not is_moments_ago(record, clock, within_s):
            return None
        match record.type:
            case "shutdown" if record.fields.get("reason") != CAMERA_HUNG:
                return None  # the end was asked for
            case "trigger" | "trigger-dropped":
                return None  # it went on, or somebody took that back
            case "stop":
                ended = record.fields.get("reason") in (CAMERA_HUNG, CAMERA_LOST)
                return str(record.fields.get("recording_id")) if ended else None
    return None
