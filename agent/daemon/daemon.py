"""`bodycam run`: one queue of events, one controller, and the parts that carry out its effects.

The main thread does nothing but decide: it never touches flash, camera or network, so a press is answered at once
whatever a card or a driver is doing.
"""

from __future__ import annotations

import logging
import queue
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from agent.clock import NS_PER_MS, NS_PER_S, Clock
from agent.controller import controller
from agent.controller.effects import (
    AnnounceReady,
    Effect,
    EndStream,
    Exit,
    JournalRecord,
    MarkRecording,
    Play,
    Show,
    StartRecording,
    StopRecording,
)
from agent.controller.events import (
    CardForgot,
    Event,
    FragmentDurable,
    MicrophoneFailed,
    MicrophoneRestored,
    RecordingClosed,
    ResumeWanted,
    SoundMissing,
    StorageFailed,
    StorageMeasured,
    StorageRestored,
    StreamEnded,
    StreamSigned,
    StreamStarted,
    StreamUnsigned,
    Tick,
)
from agent.controller.signals import Cue, Indication
from agent.controller.state import ControllerState
from agent.daemon.clock_watch import ClockWatch
from agent.daemon.identifiers import uuid7
from agent.daemon.logs import log
from agent.daemon.signing_watch import STREAM_SIGNER, SigningWatch
from agent.daemon.status import faults_of, of_state, of_stream
from agent.recorder.plan import RecordingPlan, Stream
from agent.recorder.recorder import Recorder
from agent.recorder.recovery import Recovered
from agent.settings.schema import Settings

KEPT_IDS = 100
"""A recording is linked to the one before, and finishing ones are few; what is longer past is in the journal."""
TICK_NS = 100 * NS_PER_MS


class PanelLike(Protocol):
    """What the daemon needs of the panel; both return at once."""

    def show(self, indication: Indication) -> None: ...

    def play(self, cue: Cue) -> None: ...


class Storage(Protocol):
    """What the daemon needs of the storage thread."""

    def do(self, command: Callable[[Recorder], object]) -> None: ...


@dataclass(frozen=True, slots=True)
class _StreamStart:
    stream: Stream


@dataclass(frozen=True, slots=True)
class _StreamEnd:
    stream: Stream | None
    message: str


@dataclass(frozen=True, slots=True)
class _Fatal:
    error: BaseException


class Daemon:
    """The decision loop. `run` returns when everything is sealed; callbacks may come on any thread."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        panel: PanelLike,
        *,
        force_keyframe: Callable[[int], None],
        check_parts: Callable[[], None],
        read_button: Callable[[], bool | None],
    ) -> None:
        """check_parts: raises when a part has died, which only a defect makes it do.

        read_button: the contact's level now, None without a button.
        """
        self._settings = settings
        self._clock = clock
        self._panel = panel
        self._force_keyframe = force_keyframe
        self._check_parts = check_parts
        self._read_button = read_button
        self._storage: Storage | None = None
        self._queue: queue.SimpleQueue[Event | _StreamStart | _StreamEnd | _Fatal] = queue.SimpleQueue()
        self._state = ControllerState()
        self._stream: Stream | None = None
        self._plans: dict[int, RecordingPlan] = {}
        self._ids: dict[int, str] = {}
        self._durable_fragments: dict[int, int] = {}
        self._clock_watch = ClockWatch(clock)
        self._faults: dict[str, str] = {}
        self.stream_signing = SigningWatch(
            lambda message: self._queue.put(StreamUnsigned(message)),
            lambda unsigned_gops: self._queue.put(StreamSigned(unsigned_gops)),
        )
        self.exit: Exit | None = None

    # -- what other threads call ------------------------------------------------------------------------------

    def post(self, event: Event) -> None:
        """Something happened."""
        self._queue.put(event)

    def stream_started(self, stream: Stream) -> None:
        """A camera session gave its first frame."""
        self._queue.put(_StreamStart(stream))

    def stream_ended(self, stream: Stream | None, message: str) -> None:
        """A camera session is over (or never gave a frame: None)."""
        self._queue.put(_StreamEnd(stream, message))

    def sound_changed(self, message: str | None) -> None:
        """The microphone failed, or works again (None)."""
        self.note_fault("microphone", message)
        self._queue.put(MicrophoneRestored() if message is None else MicrophoneFailed(message))

    def sound_missing(self, from_ns: int, to_ns: int) -> None:
        """Silence stands in the sound where none was captured."""
        self._queue.put(SoundMissing(from_ns, to_ns))

    def vault_opened(self, recovered: Recovered) -> None:
        """Start-up recovery is done."""
        for recording_id in recovered.recording_ids:
            log("recovered", recording=recording_id)
        if recovered.ignored:
            log("not-ours", level=logging.WARNING, names=list(recovered.ignored[:20]))
        if recovered.resume_from is not None:
            self._queue.put(ResumeWanted(recovered.resume_from))

    def fatal(self, error: BaseException) -> None:
        """A part cannot go on; the process ends with this error."""
        self._queue.put(_Fatal(error))

    def fragment_durable(self, number: int, fragment: int) -> None:
        """RecorderListener."""
        self._durable_fragments[number] = fragment
        self._queue.put(FragmentDurable(number))

    def recording_closed(self, number: int) -> None:
        """RecorderListener."""
        self._queue.put(RecordingClosed(number))

    def storage_fault(self, message: str) -> None:
        """RecorderListener."""
        log("storage-fault", logging.WARNING, message=message)
        self._queue.put(StorageFailed(message))

    def storage_restored(self) -> None:
        """RecorderListener."""
        log("storage-restored")
        self._queue.put(StorageRestored())

    def storage_room(self, spare_bytes: int) -> None:
        """RecorderListener."""
        stream = self._stream
        self._queue.put(StorageMeasured(spare_bytes, None if stream is None else stream.bytes_per_s))

    def card_forgot(self, message: str, told: bool) -> None:
        """The card lacks records that it had confirmed. told: an earlier start has journalled that already."""
        self.note_fault("card-forgot", message)
        if not told:
            self._queue.put(CardForgot(message))

    def signer_state(self, fault: str | None) -> None:
        """RecorderListener."""
        self.note_fault("signer", fault)

    def note_fault(self, component: str, message: str | None) -> None:
        """A fault that stops nothing, for status and log; None when it is over."""
        if self._faults.get(component) == message:
            return
        log("component", logging.INFO if message is None else logging.WARNING, part=component, fault=message)
        if message is None:
            self._faults.pop(component, None)
        else:
            self._faults[component] = message

    # -- the loop ---------------------------------------------------------------------------------------------

    def run(self, storage: Storage) -> Exit:
        """Decide until the controller says that all is done. Raises what a part died of."""
        self.attach(storage)
        deadline_ns = regular_ns = 0
        while self.exit is None:
            left_ns = deadline_ns - self._clock.boottime_ns()
            if left_ns > 0:
                try:
                    self.handle(self._queue.get(timeout=left_ns / NS_PER_S))
                except queue.Empty:
                    left_ns = 0
            if left_ns <= 0:  # also when events come so thick that the queue is never empty
                for _ in range(self._queue.qsize()):
                    self.handle(self._queue.get_nowait())  # what waits happened before the time that a tick tells of
                self.tick()
                regular_ns = self._clock.boottime_ns() + TICK_NS
            gesture_ns = controller.next_deadline_ns(self._state, self._settings)
            deadline_ns = regular_ns if gesture_ns is None else min(regular_ns, gesture_ns)
        return self.exit

    def attach(self, storage: Storage) -> None:
        """Say who carries out what concerns flash."""
        self._storage = storage

    @property
    def state(self) -> ControllerState:
        """What the controller knows at present."""
        return self._state

    def drain(self) -> None:
        """Handle what is queued, without waiting for more."""
        while not self._queue.empty():
            self.handle(self._queue.get_nowait())

    def tick(self) -> None:
        """Time passed: look at what nobody reports."""
        self._check_parts()
        self._observe_clock()
        newest_ns = None if self._stream is None else self._stream.ring.newest_video_ns
        self.handle(Tick(newest_ns, self._read_button()))

    def handle(self, item: Event | _StreamStart | _StreamEnd | _Fatal) -> None:
        """One event, its decision, and its effects."""
        match item:
            case _Fatal(error):
                raise error
            case _StreamStart(stream):
                self._stream = stream
                self._decide(StreamStarted())
            case _StreamEnd(stream, message):
                newest_ns = None if stream is None else stream.ring.newest_video_ns
                if message != self._state.camera_fault:  # and not at each of the tries that follow
                    log("camera-lost", logging.WARNING, message=message)
                self._decide(StreamEnded(message, newest_ns))
                # Only now may the recorder take the last unfinished GOP: its stop is already on the way to it.
                if stream is not None:
                    stream.ring.end()
                self._stream = None
            case event:
                self._decide(event)

    def _decide(self, event: Event) -> None:
        self._state, effects = controller.step(self._state, self._settings, event, self._clock.boottime_ns())
        for effect in effects:
            self._carry_out(effect)

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case Show(indication):
                self._panel.show(indication)
                log("state", shows=indication.value)
            case Play(cue):
                self._panel.play(cue)
                log("cue", plays=cue.value)
            case StartRecording():
                self._start(effect)
            case StopRecording(number, stop_ns, reason):
                self._stop(number, stop_ns, reason)
            case MarkRecording(number, at_ns, source):
                log("marker", recording=self._ids[number], source=source)
                self._do(lambda recorder: recorder.mark(number, at_ns=at_ns, source=source))
            case AnnounceReady():
                self._announce()
            case EndStream():
                if self._stream is not None:
                    self._stream.ring.end()
            case JournalRecord(type_, fields):
                log(type_, logging.WARNING if type_ == "fault" else logging.INFO, **fields)
                self._do(lambda recorder: recorder.record(type_, **fields))
            case Exit():
                if (left := self.stream_signing.unfinished()) is not None:
                    self._do(lambda recorder: recorder.record("fault", **left))
                self.exit = effect

    def _do(self, command: Callable[[Recorder], object]) -> None:
        assert self._storage is not None
        self._storage.do(command)

    def _start(self, effect: StartRecording) -> None:
        stream = self._stream
        assert stream is not None
        # The keyframe ends the GOP in flight, so that all of the pre-event can become durable at once.
        self._force_keyframe(effect.trigger_ns)
        pre_event_ns = self._settings.buffer.pre_event_s * NS_PER_S
        cursor = stream.ring.open_cursor(
            start_ns=effect.trigger_ns - pre_event_ns,
            audio_from_ns=0 if self._settings.buffer.audio else effect.trigger_ns,
        )
        linked = effect.linked_from
        plan = RecordingPlan(
            recording_id=uuid7(self._clock.utc_ns()),
            number=effect.number,
            linked_from=self._ids.get(linked) if isinstance(linked, int) else linked,
            trigger_ns=effect.trigger_ns,
            pre_event_ns=pre_event_ns,
            pre_event_audio=self._settings.buffer.audio,
            stream=stream,
            cursor=cursor,
        )
        self._plans[effect.number] = plan
        self._ids[effect.number] = plan.recording_id
        self._ids.pop(effect.number - KEPT_IDS, None)
        self._durable_fragments.pop(effect.number - KEPT_IDS, None)
        log(
            "recording",
            recording=plan.recording_id,
            source=effect.source,
            pre_event_ms=plan.actual_pre_event_ns // NS_PER_MS,
            short=plan.short_reason,
        )
        self._do(lambda recorder: recorder.start(plan, source=effect.source, gesture_ns=effect.gesture_ns))

    def _stop(self, number: int, stop_ns: int, reason: str) -> None:
        plan = self._plans.pop(number)
        # At once, and not when the storage thread gets to it: what is captured later must not get in.
        plan.cursor.stop_ns = stop_ns
        log("stop", recording=plan.recording_id, reason=reason)
        self._do(lambda recorder: recorder.stop(number, stop_ns=stop_ns, reason=reason))

    def _announce(self) -> None:
        stream = self._stream
        assert stream is not None
        fields: dict[str, Any] = {
            "buffered_ms": stream.ring.buffered_ns // NS_PER_MS,
            "camera": stream.camera_name,
            "encoder": stream.encoder_name,
            "width": stream.tracks.video.width,
            "height": stream.tracks.video.height,
            "fps": stream.tracks.video.fps,
        }
        log("ready", **fields)
        self._do(lambda recorder: recorder.record("ready", **fields))

    def _observe_clock(self) -> None:
        due = self._clock_watch.due()
        if due is None:
            return
        reason, step_ms = due
        if reason == "step":
            log("clock-step", step_ms=step_ms)
        self._do(lambda recorder: recorder.record("clock", reason=reason, step_ms=step_ms))

    @property
    def unfinished(self) -> list[str]:
        """Ids of recordings that are not sealed; after `run` these are what it could not finish."""
        return [self._ids[number] for number in sorted(self._state.finishing)]

    # -- for people -------------------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """A snapshot for `bodycam status`; read on another thread, so each value is read once."""
        faults = dict(self._faults)
        if (unsigned := self.stream_signing.fault) is not None:
            faults[STREAM_SIGNER] = unsigned
        return {
            "pre_event_configured_s": self._settings.buffer.pre_event_s,
            "buffer_max_bytes": self._settings.buffer.max_bytes,
            **of_state(self._state, self._ids, self._durable_fragments),
            **of_stream(self._stream),
            "faults": faults | faults_of(self._state),
        }
