"""What the wearer can be told. The controller chooses, the panel shows; names are keys of [panel.patterns]."""

from __future__ import annotations

from enum import Enum


class Indication(Enum):
    """A lasting state of the lights. Exactly one holds at a time, and each looks different."""

    STARTING = "starting"
    READY = "ready"
    """Frames reach the pre-event buffer; a press would be kept. Nothing is being recorded."""
    ACCEPTED = "accepted"
    """A start was recognised; nothing of it is durable yet."""
    RECORDING = "recording"
    """The first fragment is durable and fragments go on becoming so."""
    RECORDING_UNSAFE = "recording-unsafe"
    """A recording runs, but nothing has become durable for too long: it lives in memory only."""
    FINISHING = "finishing"
    """Stopped; the last fragments are being made durable and sealed."""
    FAULT = "fault"
    """Pressing record would not work: no frames, or nowhere to write."""
    STOPPING = "stopping"
    """The daemon is going down and finishes what runs."""


class Cue(Enum):
    """A short sound and vibration, played once."""

    START = "start"
    STOP = "stop"
    MARKER = "marker"
    REMINDER = "reminder"
    """Still recording; every [panel] reminder_s."""
    FAULT = "fault-alert"
    """Repeated every [panel] fault_repeat_s while FAULT or RECORDING_UNSAFE holds."""
    REFUSED = "refused"
    """A start was asked for that cannot be carried out."""
    CLOCK_UNSET = "clock-unset"
    """Wall time is unknown; recording works, the record says so."""
    STORAGE_LOW = "storage-low"
    """Room for an hour of recording, and again for half an hour."""
    STORAGE_FULL = "storage-full"
    """No room: what ran was stopped, and a press is refused."""
