"""`bodycam run`: build the parts from the settings, run, take them down again."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from types import FrameType
from typing import Any

from agent.capture.factory import open_camera, open_microphone
from agent.clock import Clock, SystemClock
from agent.control.server import ControlServer, Handler
from agent.controller.controller import CAMERA_HUNG
from agent.controller.events import ButtonEdge, CameraHung, InputActivated, TerminationAsked
from agent.daemon.capture import CaptureThread
from agent.daemon.control_users import allowed_uids
from agent.daemon.daemon import Daemon
from agent.daemon.doctor_results import DoctorResults
from agent.daemon.health import HealthBoard
from agent.daemon.logs import log
from agent.daemon.memory import bound_memory
from agent.daemon.picture_watch import PictureWatch
from agent.daemon.scrub_reports import ScrubReports
from agent.daemon.service_manager import Systemd
from agent.daemon.storage import StorageThread
from agent.daemon.stream_signer import open_stream_signer
from agent.daemon.timestamps import TimestampDesk
from agent.daemon.vault_opening import VaultOpening
from agent.daemon.watchdog import Watchdog
from agent.daemon.watched_camera import watched_camera, watched_microphone, watched_ring
from agent.daemon.watched_storage import WatchedFilesystem, WatchedOpening
from agent.daemon.witness_desk import WITNESS_TIMEOUT_S, WitnessDesk, open_witness
from agent.errors import BodycamError, ControlError, PanelError
from agent.panel.button import ButtonInput, open_trigger_inputs
from agent.panel.fault_light import PanelLock
from agent.panel.panel import Panel
from agent.panel.pin_socket import PinSocketServer
from agent.panel.pins import open_pin_factory
from agent.recorder.places import RecordPlaces
from agent.recorder.receipts import check_receipt, is_written_down
from agent.recorder.recovery import Recovered
from agent.settings.load import LoadedSettings
from agent.vault.filesystem import PosixFilesystem
from agent.vault.layout import VaultLayout
from agent.vault.lock import VaultLock
from agent.witness.keeper import COMPONENT as WITNESS

RESTART_EXIT_CODE = 69
RECEIPT_TIMEOUT_S = 25.0


def run_daemon(loaded: LoadedSettings, clock: Clock | None = None) -> int:
    """Run until SIGTERM or SIGINT; returns the exit code. Raises BodycamError when it cannot start or go on."""
    bound_memory()
    # A press must not wait for the capture thread's turn to end: 5 ms a turn, CPython's default, adds up under load.
    sys.setswitchinterval(0.0005)
    with ExitStack() as stack:
        return _Run(loaded, clock or SystemClock(), stack).run()


class _Run:
    def __init__(self, loaded: LoadedSettings, clock: Clock, stack: ExitStack) -> None:
        settings = loaded.settings
        self._loaded = loaded
        self._layout = VaultLayout(settings.vault.path)
        self._filesystem = PosixFilesystem()
        self._places = RecordPlaces(self._filesystem, self._layout)
        if self._layout.root.is_dir():
            VaultLock(self._layout.root).release()  # said before another run's pins and camera are in anybody's way
        if settings.gpio.factory == "lgpio":
            stack.callback(PanelLock(clock).close)
        factory = open_pin_factory(settings.gpio, settings.profile)
        stack.callback(factory.close)
        self._panel = stack.enter_context(Panel(settings.gpio, settings.panel, factory, clock))
        self._button: ButtonInput | None = None
        self._trigger_inputs: Sequence[ButtonInput] = ()
        self._daemon = Daemon(
            settings,
            clock,
            self._panel,
            force_keyframe=lambda after_ns: self._capture.force_keyframe(after_ns),
            check_parts=self._check_parts,
            read_button=lambda: None if self._button is None else self._button.pressed,
        )
        board = HealthBoard(clock)
        manager = Systemd()
        stack.callback(manager.close)
        self._watchdog = Watchdog(
            manager,
            board,
            clock,
            note_fault=self._daemon.note_fault,
            sound_changed=self._daemon.sound_changed,
            camera_hung=lambda message: self._daemon.post(CameraHung(message)),
        )
        self._pictures = PictureWatch(self._daemon.post)
        self._witness = open_witness(settings, clock)
        desk = None if self._witness is None else WitnessDesk(self._witness, clock, self._daemon.card_forgot)
        self._witness_desk = desk
        self._opening = opening = VaultOpening(
            loaded, WatchedFilesystem(self._filesystem, board), clock, self._daemon, desk
        )
        self._storage = StorageThread(
            WatchedOpening(opening, board),
            clock,
            self._daemon,
            on_opened=self._vault_opened,
            on_fatal=self._daemon.fatal,
        )
        self._capture = CaptureThread(
            settings,
            open_camera=lambda: watched_camera(
                lambda: open_camera(settings.camera, clock), board, settings, self._pictures.saw
            ),
            open_microphone=lambda camera: watched_microphone(open_microphone(settings, clock, camera), board),
            open_signer=lambda: open_stream_signer(settings, clock, opening.device_signer, self._daemon.stream_signing),
            signing=self._daemon.stream_signing,
            on_progress=watched_ring(self._storage.wake, board),
            on_started=self._daemon.stream_started,
            on_ended=self._daemon.stream_ended,
            on_sound=self._daemon.sound_changed,
            on_silence=self._daemon.sound_missing,
        )
        self._open_inputs(stack, factory, clock)
        timestamps = TimestampDesk(self._storage, clock)
        handlers = {
            "status": self._status,
            "receipt": self._of_own_card(self._receipt),
            "timestamp-request": timestamps.request,
            "timestamp-token": timestamps.token,
            "self-test": DoctorResults(self._storage, clock).take,
            "scrub": self._of_own_card(ScrubReports(self._storage, clock, self._daemon.note_fault).take),
        }
        self._control = ControlServer(
            settings.vault.socket_path,
            handlers,
            allowed_uids=allowed_uids(settings.vault),
            owner_commands=frozenset(
                {"self-test", "scrub"}
            ),  # what offload says of the camera must not become evidence of it
        )
        stack.callback(self._control.close)

    def _open_inputs(self, stack: ExitStack, factory: Any, clock: Clock) -> None:
        gpio = self._loaded.settings.gpio
        post = self._daemon.post
        if gpio.record_button_pin >= 0:
            self._button = ButtonInput(
                factory,
                gpio.record_button_pin,
                gpio.button_pull_up,
                lambda pressed, at_ns: post(ButtonEdge(pressed, at_ns)),
                clock,
            )
            stack.callback(self._button.close)
        debounce_ms = self._loaded.settings.gestures.debounce_ms
        self._trigger_inputs = open_trigger_inputs(
            factory, gpio, lambda pin, at_ns: post(InputActivated(pin, at_ns)), clock, debounce_ms
        )
        for pin_input in self._trigger_inputs:
            stack.callback(pin_input.close)
        if gpio.bench_pin_socket_path:
            server = PinSocketServer(gpio, factory, clock)
            stack.callback(server.close)
            server.start()

    def run(self) -> int:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._asked_to_end)
        log("starting", device=self._loaded.settings.device.id, config=self._loaded.sha256)
        self._storage.start()
        self._pictures.start()
        self._capture.start()
        self._control.start()
        end = self._daemon.run(self._storage)
        self._watchdog.ending()
        log("ending", reason=end.reason, clean=end.clean)
        if unfinished := self._daemon.unfinished:
            # What of them is on the card is sealed at the next start there; the rest goes with this process.
            log("unfinished", logging.WARNING, recordings=unfinished)
        self._storage.do(lambda recorder: recorder.end(end.reason))
        stored = self._storage.stop(10.0)
        if self._witness is not None and not self._witness.stop(WITNESS_TIMEOUT_S):
            log("witness-behind", logging.WARNING, fault=self._witness.fault())
        # One that hangs does not come back, and each second waited for it is one that the next start films later.
        captured = self._capture.stop(0.0 if end.reason == CAMERA_HUNG else 6.0)
        self._pictures.stop()
        return 0 if end.clean and stored and captured else RESTART_EXIT_CODE

    def _asked_to_end(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        # Nothing but this, whose queue is made for it: a handler runs in the middle of anything on the main thread, and
        # a log line would wait for ever for a lock that the line it interrupted holds.
        self._daemon.post(TerminationAsked())

    def _check_parts(self) -> None:
        if not self._capture.alive:
            raise self._capture.failure or BodycamError("The capture thread ended; restart the agent.")
        for contact in (*self._trigger_inputs, *((self._button,) if self._button else ())):
            contact.check()  # a camera that cannot be asked to record must be restarted, whatever else works
        try:
            self._panel.check()
        except PanelError as error:
            self._daemon.note_fault("panel", str(error))  # a dead light stops no recording
        else:
            self._daemon.note_fault("panel", None)
        if self._witness is not None:
            self._daemon.note_fault(WITNESS, self._witness.fault())
        self._watchdog.turn(self._daemon.state, self._storage)

    def _vault_opened(self, recovered: Recovered) -> None:
        self._watchdog.vault_opened()
        self._daemon.vault_opened(recovered)

    def _status(self, request: dict[str, Any]) -> dict[str, Any]:
        del request
        free = self._filesystem.free_bytes(self._layout.root) if self._layout.root.is_dir() else None
        witness = None if self._witness_desk is None else self._witness_desk.status()
        return {
            "device": self._loaded.settings.device.id,
            "vault_free_bytes": free,
            "witness": witness,
            **self._daemon.status(),
        }

    def _of_own_card(self, handler: Handler) -> Handler:
        """What was read from another card in this one's place says nothing of this one."""

        def handle(request: dict[str, Any]) -> dict[str, Any]:
            self._opening.require_in_place()
            return handler(request)

        return handle

    def _receipt(self, request: dict[str, Any]) -> dict[str, Any]:
        fields = check_receipt(self._filesystem, self._layout, request.get("receipt"), self._places)
        if is_written_down(self._filesystem, self._layout, fields, self._places):
            return {"recording_id": fields["recording_id"]}
        try:
            self._storage.ask(lambda recorder: recorder.record("offload", **fields)).result(RECEIPT_TIMEOUT_S)
        except TimeoutError as error:
            raise ControlError("The receipt could not be written down in time; hand it in again.") from error
        return {"recording_id": fields["recording_id"]}
