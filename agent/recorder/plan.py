"""What the recorder is told when a recording starts."""

from __future__ import annotations

from dataclasses import dataclass

from agent.clock import NS_PER_S
from agent.recorder.fragment import MediaTracks
from agent.ring.ring import Cursor, PacketRing

MEASURED_NS = 2 * NS_PER_S
"""Less of a stream is mostly its first keyframe."""


@dataclass(frozen=True, slots=True)
class Stream:
    """One session of one camera with one encoder: its ring, and what its packets are."""

    ring: PacketRing
    tracks: MediaTracks
    camera_name: str
    encoder_name: str

    @property
    def bytes_per_s(self) -> int | None:
        """What the buffer holds for each of its seconds: a recording writes the same. None while it holds too little.

        May be called from any thread.
        """
        buffered_ns = self.ring.buffered_ns
        return None if buffered_ns < MEASURED_NS else self.ring.payload_bytes * NS_PER_S // buffered_ns


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
