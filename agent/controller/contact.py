"""One mechanical contact, without its bounce: raw edges in, presses and releases out. Pure; time is passed in.

A press counts at its first edge: nobody may wait for a debounce timer before the camera answers. Edges within
`debounce_ns` after it are bounce. A release counts only when the contact is found open `debounce_ns` after it first
opened, and is then dated back to the edge that opened it. The asymmetry is on purpose: no decision hangs on a release
being known early, while a contact that chatters under a gloved thumb must not cut a hold short or turn one long press
into two.

What follows for two presses: a press of at least `debounce_ns`, and a gap of at least `debounce_ns`, are always seen,
whatever the contact does in the `debounce_ns` after each of its edges.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum


class Settling(Enum):
    """What the end of the running window decides."""

    PRESS = "press"
    """The bounce of a press that already counted."""
    RELEASE = "release"
    """Whether a contact that opened stays open."""
    LATE_PRESS = "late-press"
    """Whether an edge that belongs to a release already judged was its bounce, delivered late, or a press after all."""


@dataclass(frozen=True, slots=True)
class Change:
    """An accepted press or release and the boot time of the raw edge that made it."""

    pressed: bool
    at_ns: int


@dataclass(frozen=True, slots=True)
class ContactState:
    """pressed: what counts. raw: what the last edge said, at raw_edge_ns. settle_ns: when `settle` is due, or None.

    Invariant: while `raw` differs from `pressed`, a window runs, so the difference is always decided.
    """

    pressed: bool = False
    raw: bool = False
    raw_edge_ns: int = 0
    settling: Settling | None = None
    settle_ns: int | None = None
    released_window_end_ns: int = 0


def feel(
    state: ContactState, debounce_ns: int, now_ns: int, pressed: bool, edge_ns: int
) -> tuple[ContactState, Change | None]:
    """Take one raw edge. An edge dated before the last one is clamped to it; a repeated level changes nothing."""
    if pressed == state.raw:
        return state, None
    at_ns = max(edge_ns, state.raw_edge_ns)
    state = replace(state, raw=pressed, raw_edge_ns=at_ns)
    if state.settling is not None or pressed == state.pressed:
        return state, None
    if not pressed:
        return replace(state, settling=Settling.RELEASE, settle_ns=at_ns + debounce_ns), None
    if at_ns < state.released_window_end_ns:
        # By its own time this edge is bounce of the last release, only delivered after that was judged. Its
        # successor may be just behind it, so the level is looked at once more instead of being believed.
        return replace(state, settling=Settling.LATE_PRESS, settle_ns=now_ns + debounce_ns), None
    return _press(state, debounce_ns)


def settle(state: ContactState, debounce_ns: int) -> tuple[ContactState, Change | None]:
    """Decide the window that ended; to be called once `settle_ns` is reached."""
    was, end_ns = state.settling, state.settle_ns
    state = replace(state, settling=None, settle_ns=None)
    if end_ns is None or state.raw == state.pressed:
        return state, None
    if was is Settling.PRESS:
        # Opened within the bounce of the press: a very short press, or bounce still. The last edge gets a full window.
        return replace(state, settling=Settling.RELEASE, settle_ns=state.raw_edge_ns + debounce_ns), None
    if was is Settling.RELEASE:
        return replace(state, pressed=False, released_window_end_ns=end_ns), Change(False, state.raw_edge_ns)
    return _press(state, debounce_ns)


def _press(state: ContactState, debounce_ns: int) -> tuple[ContactState, Change]:
    at_ns = state.raw_edge_ns
    return (
        replace(state, pressed=True, settling=Settling.PRESS, settle_ns=at_ns + debounce_ns),
        Change(True, at_ns),
    )
