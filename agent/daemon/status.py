"""What `bodycam status` says, out of what the daemon knows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent.clock import NS_PER_S
from agent.controller.state import ControllerState, is_full
from agent.recorder.plan import Stream


def of_state(state: ControllerState, ids: Mapping[int, str], durable_fragments: Mapping[int, int]) -> dict[str, Any]:
    """What is shown, recorded and left. ids, durable_fragments: of recordings by their number in this run."""
    active, room = state.active, state.room
    return {
        "shows": None if state.shown is None else state.shown.value,
        "recording": None if active is None else ids.get(active.number),
        "durable_fragments": None if active is None else durable_fragments.get(active.number, 0),
        "finishing": [ids.get(number) for number in sorted(state.finishing)],
        "storage_level": None if room is None else room.level.value,
        "minutes_left": None if room is None else room.minutes_left,
    }


def of_stream(stream: Stream | None) -> dict[str, Any]:
    """What the camera gives and the buffer holds; None while there is no stream."""
    return {
        "buffered_s": None if stream is None else round(stream.ring.buffered_ns / NS_PER_S, 3),
        "buffer_bytes": None if stream is None else stream.ring.payload_bytes,
        "dropped_frames": None if stream is None else stream.ring.dropped_frames,
        "missed_frames": None if stream is None else stream.ring.missed_frames,
        "camera": None if stream is None else stream.camera_name,
        "encoder": None if stream is None else stream.encoder_name,
    }


def faults_of(state: ControllerState) -> dict[str, str]:
    """A sentence for each component of which the controller knows that something is wrong."""
    faults: dict[str, str] = {}
    if state.camera_fault is not None:
        faults["camera"] = state.camera_fault
    elif state.streaming and not state.frames_fresh:
        faults["camera"] = "The camera gives no frames; it is tried again."
    if state.picture.fault is not None:
        faults[state.picture.fault.component] = state.picture.fault.message
    if state.storage_fault is not None:
        faults["storage"] = state.storage_fault
    elif is_full(state):
        faults["storage"] = "There is no room for a recording; offload this camera to make room."
    return faults
