"""What the controller remembers, and what the lights must say of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from agent.clock import NS_PER_MS
from agent.controller.gestures import GestureState
from agent.controller.picture import PictureState
from agent.controller.room import Room, StorageLevel
from agent.controller.signals import Indication
from agent.controller.silence import Silence
from agent.settings.schema import Settings


@dataclass(frozen=True, slots=True)
class PendingStart:
    """A start that was recognised while no frames came: it is kept and carried out with the first frame."""

    trigger_ns: int
    source: str
    gesture_ns: tuple[int, ...]
    linked_from: int | str | None


@dataclass(frozen=True, slots=True)
class ActiveRecording:
    """The recording that runs. durable_ns: when a fragment of it last became durable, None before the first."""

    number: int
    started_ns: int
    durable_ns: int | None
    reminded_ns: int


@dataclass(frozen=True, slots=True)
class ControllerState:
    """Everything, in one value. `shown` is what the lights show; it changes only with a Show effect.

    stream_given_up: the camera hangs, and recordings have been told to make do with what the ring holds.
    unsafe_told: the journal says that nothing of the running recording becomes durable.
    """

    gesture: GestureState = field(default_factory=GestureState)
    streaming: bool = False
    frames_fresh: bool = False
    ever_ready: bool = False
    storage_fault: str | None = None
    room: Room | None = None
    camera_fault: str | None = None
    stream_given_up: bool = False
    silence: Silence = field(default_factory=Silence)
    unsafe_told: bool = False
    picture: PictureState = field(default_factory=PictureState)
    active: ActiveRecording | None = None
    pending: PendingStart | None = None
    finishing: frozenset[int] = frozenset()
    next_number: int = 1
    stopping: str | None = None
    stopping_ns: int = 0
    stop_clean: bool = True
    exited: bool = False
    shown: Indication | None = None
    alerted_ns: int | None = None


def is_durable(active: ActiveRecording, settings: Settings, now_ns: int) -> bool:
    """Whether fragments of the running recording go on becoming durable, or have had no time yet to do so."""
    since_ns = active.started_ns if active.durable_ns is None else active.durable_ns
    return now_ns - since_ns <= settings.recording.durable_timeout_ms * NS_PER_MS


def is_full(state: ControllerState) -> bool:
    """Whether there is no room for a recording."""
    return state.room is not None and state.room.level is StorageLevel.FULL


def indication(state: ControllerState, settings: Settings, now_ns: int) -> Indication:
    """What holds now. The wearer is never told more than is true (invariant 8)."""
    if state.stopping is not None:
        return Indication.STOPPING
    if state.active is not None:
        if not is_durable(state.active, settings, now_ns):
            return Indication.RECORDING_UNSAFE
        if not state.frames_fresh:
            return Indication.FAULT
        return Indication.ACCEPTED if state.active.durable_ns is None else Indication.RECORDING
    if state.storage_fault is not None or is_full(state) or state.camera_fault is not None:
        return Indication.FAULT
    if state.pending is not None:
        return Indication.ACCEPTED
    if not state.frames_fresh:
        return Indication.FAULT if state.ever_ready else Indication.STARTING
    return Indication.FINISHING if state.finishing else Indication.READY
