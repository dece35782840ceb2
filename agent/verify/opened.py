"""What the record says that opens a recording, as far as reports need it."""

from __future__ import annotations

from dataclasses import dataclass

from agent.vault.record import Record
from agent.verify.fields import Fields


@dataclass(slots=True)
class Opened:
    """What `recording-open` says. start_utc_ns: claimed wall time of media time 0.

    fps: frames a second of its picture, None when it does not say.
    """

    origin_boottime_ns: int
    start_utc_ns: int
    clock_source: str
    configured_pre_event_ms: int
    actual_pre_event_ms: int
    pre_event_short_reason: str | None
    linked_from: str | None
    fps: float | None

    @classmethod
    def of(cls, record: Record, fields: Fields) -> Opened:
        """Raises FieldError."""
        origin = fields.integer("media_origin_boottime_ns")
        video = record.fields.get("video")
        fps = video.get("fps") if isinstance(video, dict) else None
        return cls(
            origin,
            fields.utc_ns() - (fields.integer("boottime_ns") - origin),
            str(record.fields["clock_source"]),
            fields.count("configured_pre_event_ms"),
            fields.count("actual_pre_event_ms"),
            fields.optional_text("pre_event_short_reason"),
            fields.optional_text("linked_from"),
            float(fps) if isinstance(fps, int | float) and 0 < fps < 1000 else None,
        )
