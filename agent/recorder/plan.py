"""What the recorder is told when a recording starts."""

from __future__ import annotations

from dataclasses import dataclass

from agent.recorder.fragment import MediaTracks
from agent.ring.ring import Cursor, PacketRing


@dataclass(frozen=True, slots=True)
class Stream:
    """One session of one camera with one encoder: its ring, and what its packets are."""

    ring: PacketRing
    tracks: MediaTracks
    camera_name: str
    encoder_name: str


@dataclass(frozen=True, slots=True)
class RecordingPlan:
    """One recording, from its trigger on. The cursor already holds everything it starts with."""

    recording_id: str
    number: int
    linked_from: str | None
    trigger_ns: int
    pre_event_ns: int
    pre_event_audio: bool
    stream: Stream
    cursor: Cursor

    @property
    def actual_pre_event_ns(self) -> int:
        """How much media lies before the trigger."""
        return 0 if self.cursor.origin_ns is None else max(0, self.trigger_ns - self.cursor.origin_ns)

    @property
    def short_reason(self) -> str | None:
        """Why the pre-event is shorter than configured, or None when it is not."""
        if self.actual_pre_event_ns >= self.pre_event_ns:
            return None
        return "memory-bound" if self.stream.ring.evicted_by_bytes else "camera-started"
