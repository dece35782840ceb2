"""Everything the controller can want done. Recordings are named by their number in this run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from agent.controller.signals import Cue, Indication


@dataclass(frozen=True, slots=True)
class StartRecording:
    """Snapshot the ring from trigger_ns minus the pre-event on, and record from there.

    linked_from: number of an earlier recording of this run, or id of one of an earlier run, that this one continues.
    """

    number: int
    trigger_ns: int
    source: str
    gesture_ns: tuple[int, ...]
    linked_from: int | str | None


@dataclass(frozen=True, slots=True)
class StopRecording:
    """End with the last frame captured at or before stop_ns."""

    number: int
    stop_ns: int
    reason: str


@dataclass(frozen=True, slots=True)
class MarkRecording:
    """Put a marker into a recording."""

    number: int
    at_ns: int
    source: str


@dataclass(frozen=True, slots=True)
class AnnounceReady:
    """Frames have begun to reach the ring of a new stream."""


@dataclass(frozen=True, slots=True)
class EndStream:
    """No frame will ever come again: let what is being finished take what the ring holds. After every StopRecording."""


@dataclass(frozen=True, slots=True)
class JournalRecord:
    """Write something down that belongs to no recording."""

    type: str
    fields: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Show:
    """Set the lights."""

    indication: Indication


@dataclass(frozen=True, slots=True)
class Play:
    """Give a sound and vibration once."""

    cue: Cue


@dataclass(frozen=True, slots=True)
class Exit:
    """Everything is sealed, or cannot be: end the process. `clean` is False when it must be restarted."""

    reason: str
    clean: bool


Effect = StartRecording | StopRecording | MarkRecording | AnnounceReady | EndStream | JournalRecord | Show | Play | Exit
