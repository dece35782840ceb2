"""Feeds the service manager's watchdog: at each turn of the decision loop, while each part works or says why not."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

from agent.clock import NS_PER_S, Clock
from agent.controller.state import ControllerState
from agent.daemon.health import Hang, HealthBoard, Part, Report, judge, needs_restart
from agent.daemon.logs import log
from agent.daemon.service_manager import ServiceManager, seconds_as_us
from agent.daemon.watched_storage import BETWEEN, OPENING, PAUSE, TURN_NS
from agent.recorder.recorder import Recorder

TURN_LIMIT_NS = 2 * NS_PER_S
"""The controller turns ten times a second."""
TELL_NS = 2 * NS_PER_S
START_EXTENSION_S = 30
"""Before READY=1 systemd keeps no watchdog: what is asked for instead is more time, as long as there is a reason."""
STALL_SHOWN_NS = 2 * NS_PER_S
"""A healthy card answers within a tenth of this."""
PING_NS = NS_PER_S
BRINGS_PICTURES = frozenset({Part.CAMERA, Part.ENCODER, Part.RING})
STOPPING = "STOPPING=1"
"""From here on TimeoutStopSec= counts, also for an end that nobody asked for."""


class Storage(Protocol):
    """What the watchdog needs of the storage thread."""

    def do(self, command: Callable[[Recorder], object]) -> None: ...


class Watchdog:
    """Used from the decision thread, except for `vault_opened` and what the parts write on the board."""

    def __init__(
        self,
        manager: ServiceManager,
        board: HealthBoard,
        clock: Clock,
        *,
        note_fault: Callable[[str, str | None], None],
        sound_changed: Callable[[str | None], None],
        camera_hung: Callable[[str], None],
    ) -> None:
        """note_fault, sound_changed: as the daemon has them, for what is declared here.

        camera_hung(message): what brings pictures hangs. An end in order then comes before the service manager's, which
        would cost the wearer half a minute and the journal the reason; that is left for an end that hangs as well.
        """
        self._manager = manager
        self._board = board
        self._clock = clock
        self._note_fault = note_fault
        self._sound_changed = sound_changed
        self._camera_hung = camera_hung
        self._every_ns = TELL_NS if manager.watchdog_ns is None else min(TELL_NS, manager.watchdog_ns // 4)
        self._told_ns: int | None = None
        self._turned_ns: int | None = None
        self._status = ""
        self._open = False
        self._ready = False
        self._stopping = False
        self._hung: frozenset[Part] = frozenset()
        self._stall: Report | None = None
        self._pinged_ns: int | None = None
        self._ping_out = False

    def vault_opened(self) -> None:
        """The storage thread takes commands from now on. Called on that thread."""
        self._open = True

    def turn(self, state: ControllerState, storage: Storage) -> None:
        """The controller turned, with this state."""
        now_ns = self._clock.boottime_ns()
        if self._turned_ns is not None and now_ns - self._turned_ns > TURN_LIMIT_NS:
            self._board.excuse(self._turned_ns, now_ns)
        self._turned_ns = now_ns
        self._board.says(Part.CONTROLLER, "deciding", TURN_LIMIT_NS)
        self._ping(storage, now_ns)
        hangs = judge(self._board.reports(), now_ns)
        self._declare_stall(storage, now_ns)
        self._declare(hangs)
        if self._told_ns is None or now_ns - self._told_ns >= self._every_ns or self._news(state):
            self._told_ns = now_ns
            self._tell(state, hangs)

    def ending(self) -> None:
        """The controller has decided its last: an end with nothing to finish comes without another turn."""
        if not self._stopping:
            self._stopping = True
            self._manager.tell(STOPPING)

    def _news(self, state: ControllerState) -> bool:
        return (self._open and not self._ready) or (state.stopping is not None and not self._stopping)

    def _ping(self, storage: Storage, now_ns: int) -> None:
        """Have the storage thread say that it turns; one at a time, or a stalled card would gather them in memory."""
        if not self._open or self._ping_out or (self._pinged_ns is not None and now_ns - self._pinged_ns < PING_NS):
            return
        self._ping_out = True
        self._pinged_ns = now_ns
        storage.do(self._pong)

    def _pong(self, recorder: Recorder) -> None:
        del recorder
        self._board.says(Part.STORAGE, BETWEEN, TURN_NS)
        self._ping_out = False

    def _declare_stall(self, storage: Storage, now_ns: int) -> None:
        """Show a card that stalls; have it journalled when it answers again, for before nothing can be written."""
        report = self._board.reports().get(Part.STORAGE)
        told = None
        if (
            report is not None
            and report.doing not in (BETWEEN, PAUSE, OPENING)
            and now_ns - report.since_ns > STALL_SHOWN_NS
        ):
            told = f"The card does not answer ({report.doing}); what is recorded waits in memory. Check the card."
            self._stall = report  # the newest: what a suspend took is no longer in it
        elif self._stall is not None:
            self._journal_stall(storage, self._stall, now_ns)
            self._stall = None
        self._note_fault("card", told)

    def _journal_stall(self, storage: Storage, stall: Report, end_ns: int) -> None:
        seconds = (end_ns - stall.since_ns) / NS_PER_S
        message = f"The card did not answer for {seconds:.1f} s ({stall.doing}); what was recorded waited in memory."

        def record(recorder: Recorder) -> None:
            recorder.record("fault", component="card", message=message)
            recorder.record("fault-cleared", component="card", message="The card answers again.")

        # Before the vault is open the storage thread takes nothing; its start says what it waited for.
        if self._open:
            storage.do(record)

    def _declare(self, hangs: tuple[Hang, ...]) -> None:
        hung = frozenset(hang.part for hang in hangs)
        for hang in hangs:
            if hang.part not in self._hung:
                log("hung", logging.ERROR, part=hang.part.value, doing=hang.doing, message=hang.sentence)
                if hang.part is Part.SOUND:
                    self._sound_changed(f"{hang.sentence} Plug the microphone in again, or restart the camera.")
                else:
                    self._note_fault(f"{hang.part.value}-hung", hang.sentence)
                if hang.part in BRINGS_PICTURES:
                    self._camera_hung(hang.sentence)
        for part in self._hung - hung:
            log("hung-no-more", part=part.value)
            if part is Part.SOUND:
                self._sound_changed(None)
            else:
                self._note_fault(f"{part.value}-hung", None)
        self._hung = hung

    def _tell(self, state: ControllerState, hangs: tuple[Hang, ...]) -> None:
        lines = []
        if self._open and not self._ready and not needs_restart(hangs):
            self._ready = True
            lines.append("READY=1")
        if state.stopping is not None and not self._stopping:
            self._stopping = True
            lines.append(STOPPING)
        if (status := self._status_text(state, hangs)) != self._status:
            self._status = status
            lines.append(f"STATUS={status}")
        # An end in order is limited by the controller and by TimeoutStopSec=, and must not be cut short from here.
        if self._stopping or not needs_restart(hangs):
            lines.append("WATCHDOG=1" if self._ready else f"EXTEND_TIMEOUT_USEC={seconds_as_us(START_EXTENSION_S)}")
        if lines:
            self._manager.tell(*lines)

    def _status_text(self, state: ControllerState, hangs: tuple[Hang, ...]) -> str:
        shown = "starting" if state.shown is None else state.shown.value
        reasons = [hang.sentence for hang in hangs]
        if not self._open:
            reasons.append(state.storage_fault or "The vault is being opened.")
        elif state.storage_fault is not None:
            reasons.append(state.storage_fault)
        if state.camera_fault is not None:
            reasons.append(state.camera_fault)
        return " ".join([f"{shown}.", *reasons]).replace("\n", " ")
