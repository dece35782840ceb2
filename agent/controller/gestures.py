"""What the wearer meant with the record button: single press, double press, hold. Pure; time is passed in.

    DOUBLE  known at the second press edge, if that is less than `double_press_ms` after the first press edge.
    HOLD    known `hold_ms` after the press edge, while the button is still down; once a press.
    SINGLE  known when the button is up and no second press can follow any more: at first press + `double_press_ms`,
            or at the release if that is later (and earlier than `hold_ms`).

Rules where mistakes would cost evidence:

- A press that took part in a DOUBLE never becomes a HOLD: a frightened wearer who double-presses and keeps holding on
  must not stop what they just started.
- Presses less than `double_press_ms` after a DOUBLE, or after another such press, are swallowed whole: a run of quick
  presses is one start, not a start and a marker, and holding the third of three presses stops nothing.
- An edge counts by its own time, not by when it was delivered. If the process was slow and a first press has already
  been called SINGLE, a second press edge that lies within the window still makes the DOUBLE: a marker too many does
  no harm, a start that is lost does.

Start = DOUBLE and stop = HOLD stay different gestures; a toggle loses footage.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum

from agent.clock import NS_PER_MS
from agent.controller.contact import Change, ContactState, feel, settle
from agent.settings.schema import GestureSettings


class GestureKind(Enum):
    SINGLE = "single"
    DOUBLE = "double"
    HOLD = "hold"


@dataclass(frozen=True, slots=True)
class Gesture:
    """A recognised gesture.

    at_ns: the boot time it counts from: SINGLE its press edge, DOUBLE its second press edge, HOLD press + `hold_ms`.
    edges_ns: the accepted edges it was read from, for the record: press, release, press … in turn.
    """

    kind: GestureKind
    at_ns: int
    edges_ns: tuple[int, ...]


class Phase(Enum):
    IDLE = "idle"
    DOWN = "down"
    """Pressed, and still to become anything."""
    WAITING = "waiting"
    """Released, and a second press may still follow."""
    SPENT = "spent"
    """Pressed, but this press has had its meaning: it was part of a DOUBLE, a HOLD, or swallowed."""


@dataclass(frozen=True, slots=True)
class GestureState:
    """Everything the recogniser remembers between steps.

    edges_ns: accepted edges of the candidate, its first press first. Kept after a SINGLE, for a late second edge.
    run_ns: press edge of the last press that belonged to a DOUBLE or was swallowed after one.
    """

    contact: ContactState = field(default_factory=ContactState)
    phase: Phase = Phase.IDLE
    edges_ns: tuple[int, ...] = ()
    run_ns: int | None = None


def step(
    state: GestureState,
    settings: GestureSettings,
    now_ns: int,
    pressed: bool | None,
    edge_ns: int | None = None,
) -> tuple[GestureState, tuple[Gesture, ...]]:
    """Take one raw edge (`pressed` is the level after it), or with pressed=None only the passing of time.

    edge_ns: the edge's own boot time, if known better than `now_ns`. Earlier than the last edge it is clamped to that,
    later than `now_ns` to now. Everything due before the edge is decided before it, everything due by now after it, so
    it does not matter how many steps time is cut into.
    """
    found: list[Gesture] = []
    if pressed is not None:
        at_ns = max(min(now_ns, now_ns if edge_ns is None else edge_ns), state.contact.raw_edge_ns)
        state = _pass_time(state, settings, at_ns, found)
        contact, change = feel(state.contact, settings.debounce_ms * NS_PER_MS, now_ns, pressed, at_ns)
        state = _apply(replace(state, contact=contact), settings, change, found)
    state = _pass_time(state, settings, now_ns, found)
    return state, tuple(found)


def resync(
    state: GestureState, settings: GestureSettings, now_ns: int, pressed: bool
) -> tuple[GestureState, tuple[Gesture, ...]]:
    """Like `step` with only time passing, but with the level read from the pin now.

    For use at deadlines: the kernel keeps few edges per line and drops the rest in an edge storm, and a lost release
    would otherwise become a HOLD, which stops a recording. A release found this way is dated before anything that is
    still undecided; a press found this way is dated now.
    """
    if pressed == state.contact.raw:
        return step(state, settings, now_ns, None)
    due_ns = next_deadline_ns(state, settings)
    if pressed or due_ns is None:
        return step(state, settings, now_ns, pressed)
    return step(state, settings, now_ns, pressed, edge_ns=due_ns - 1)


def next_deadline_ns(state: GestureState, settings: GestureSettings) -> int | None:
    """Boot time at which `step` must be called again even if no edge comes, or None. May lie in the past."""
    due = [t for t in (state.contact.settle_ns, _gesture_deadline_ns(state, settings)) if t is not None]
    return min(due, default=None)


def _gesture_deadline_ns(state: GestureState, settings: GestureSettings) -> int | None:
    if state.phase is Phase.WAITING:
        return state.edges_ns[0] + settings.double_press_ms * NS_PER_MS
    # While the contact is open but not yet known to be released, the hold is undecided: the contact's own deadline
    # comes first, and what it says is dated back.
    if state.phase is Phase.DOWN and state.contact.raw:
        return state.edges_ns[0] + settings.hold_ms * NS_PER_MS
    return None


def _pass_time(state: GestureState, settings: GestureSettings, until_ns: int, found: list[Gesture]) -> GestureState:
    while (due_ns := next_deadline_ns(state, settings)) is not None and due_ns <= until_ns:
        if state.contact.settle_ns == due_ns:
            contact, change = settle(state.contact, settings.debounce_ms * NS_PER_MS)
            state = _apply(replace(state, contact=contact), settings, change, found)
        elif state.phase is Phase.WAITING:
            found.append(Gesture(GestureKind.SINGLE, state.edges_ns[0], state.edges_ns))
            state = replace(state, phase=Phase.IDLE)
        else:
            found.append(Gesture(GestureKind.HOLD, due_ns, state.edges_ns))
            state = replace(state, phase=Phase.SPENT, edges_ns=())
    return state


def _apply(state: GestureState, settings: GestureSettings, change: Change | None, found: list[Gesture]) -> GestureState:
    if change is None:
        return state
    if not change.pressed:
        if state.phase is Phase.DOWN:
            return replace(state, phase=Phase.WAITING, edges_ns=(*state.edges_ns, change.at_ns))
        return replace(state, phase=Phase.IDLE)
    window_ns = settings.double_press_ms * NS_PER_MS
    if state.run_ns is not None and change.at_ns - state.run_ns < window_ns:
        return replace(state, phase=Phase.SPENT, edges_ns=(), run_ns=change.at_ns)
    if state.edges_ns and change.at_ns - state.edges_ns[0] < window_ns:
        found.append(Gesture(GestureKind.DOUBLE, change.at_ns, (*state.edges_ns, change.at_ns)))
        return replace(state, phase=Phase.SPENT, edges_ns=(), run_ns=change.at_ns)
    return replace(state, phase=Phase.DOWN, edges_ns=(change.at_ns,), run_ns=None)
