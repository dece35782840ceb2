"""The controller: `(state, event, now) -> (state, effects)`. No I/O, no threads, no clock; see docs/design.md.

Each handler answers one event with a new state and what is to be done at once; `step` then derives from the new state
what the lights must show and which reminders are due, so that no handler can forget to.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from agent.clock import NS_PER_MS, NS_PER_S
from agent.controller import gestures
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
    ButtonEdge,
    CameraHung,
    CardForgot,
    Event,
    FragmentDurable,
    InputActivated,
    MicrophoneFailed,
    MicrophoneRestored,
    PictureMeasured,
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
    TerminationAsked,
    Tick,
)
from agent.controller.gestures import Gesture, GestureKind, GestureState
from agent.controller.picture import look
from agent.controller.room import StorageLevel, judge_room
from agent.controller.signals import Cue, Indication
from agent.controller.silence import HUNG_FACTOR, tick
from agent.controller.state import ActiveRecording, ControllerState, PendingStart, indication, is_full
from agent.settings.schema import Settings

_ALARMING = (Indication.FAULT, Indication.RECORDING_UNSAFE)

STOP_TIMEOUT_NS = 20 * NS_PER_S
"""How long the end waits for flash; below the service manager's own timeout."""

PRESS_KEPT_S = 120
"""How long a press waits for a camera that is not there."""

CAMERA_HUNG = "camera-hung"
"""Why a recording was stopped, and the process ended."""


class _Step:
    """One step in the making: the state so far and the effects so far."""

    def __init__(self, state: ControllerState, settings: Settings, now_ns: int) -> None:
        self.state = state
        self.settings = settings
        self.now_ns = now_ns
        self.effects: list[Effect] = []

    def take(self, event: Event) -> None:
        match event:
            case Tick(newest_frame_ns, button_pressed):
                self._read_button(button_pressed)
                self._pass_gesture_time(self.now_ns)
                self._note_frames(newest_frame_ns)
            case ButtonEdge(pressed, edge_ns):
                self._feel_button(pressed, min(edge_ns, self.now_ns))
            case InputActivated(pin, at_ns):
                # What the button meant before it is decided before it: a hold must not stop what begins after it.
                self._pass_gesture_time(min(at_ns, self.now_ns))
                self._trigger(at_ns, f"input:{pin}", (at_ns,))
            case StreamStarted():
                self._stream_started()
            case StreamEnded(message, last_frame_ns):
                self._stream_ended(message, last_frame_ns)
            case FragmentDurable(number):
                if self.state.active is not None and self.state.active.number == number:
                    self._update(active=replace(self.state.active, durable_ns=self.now_ns))
            case RecordingClosed(number):
                self._update(finishing=self.state.finishing - {number})
            case StorageFailed(message):
                self._update(storage_fault=message)
            case StorageRestored():
                self._update(storage_fault=None)
            case StorageMeasured(spare_bytes, bytes_per_s):
                self._measured(spare_bytes, bytes_per_s)
            case CardForgot(message):
                self._fault("card-forgot", message, cue=True)
            case MicrophoneFailed(message):
                self._fault("microphone", message, cue=True)
            case MicrophoneRestored():
                self._over("microphone", "Sound reaches the encoder again.")
            case StreamUnsigned(message):
                self._fault("stream-signer", message, cue=True)
            case StreamSigned(unsigned_gops):
                self._over("stream-signer", "The video is signed in itself again.", unsigned_gops=unsigned_gops)
            case SoundMissing(from_ns, to_ns):
                span = {"from_boottime_ns": from_ns, "to_boottime_ns": to_ns}
                self.effects.append(JournalRecord("sound-missing", span))
            case PictureMeasured():
                self._looked(event)
            case CameraHung(message):
                self._camera_hung(message)
            case ResumeWanted(linked_from):
                self._start(self.now_ns, "resume", (), linked_from)
            case TerminationAsked():
                self._stop_all("shutdown", clean=True)

    def finish(self) -> tuple[ControllerState, tuple[Effect, ...]]:
        """Lights, reminders, exit: what follows from state and time alone."""
        self._remind()
        shown = indication(self.state, self.settings, self.now_ns)
        if shown is not self.state.shown:
            self._update(shown=shown, alerted_ns=None)
            self.effects.append(Show(shown))
            self._tell_unsafe(shown)
        self._alert(shown)
        stopping, idle = self.state.stopping, self.state.active is None and not self.state.finishing
        if stopping is not None and not self.state.exited:
            late = self.now_ns - self.state.stopping_ns > STOP_TIMEOUT_NS
            if idle or late:
                # Late: flash takes nothing. What is not sealed now is sealed at the next start, as it lies.
                self._update(exited=True)
                self.effects.append(Exit(stopping, self.state.stop_clean and idle))
        return self.state, tuple(self.effects)

    def _update(self, **changes: object) -> None:
        self.state = replace(self.state, **changes)  # type: ignore[arg-type]

    def _feel_button(self, pressed: bool, edge_ns: int) -> None:
        # Time passes for the button only as far as its edges are known. If it passed to now, a process that was slow
        # would call a short press a hold before it looks at the release that waits in the queue behind it.
        self._found(*gestures.step(self.state.gesture, self.settings.gestures, edge_ns, pressed, edge_ns))

    def _pass_gesture_time(self, until_ns: int) -> None:
        self._found(*gestures.step(self.state.gesture, self.settings.gestures, until_ns, None))

    def _read_button(self, pressed: bool | None) -> None:
        due_ns = gestures.next_deadline_ns(self.state.gesture, self.settings.gestures)
        if pressed is not None and (due_ns is None or due_ns <= self.now_ns):
            # The kernel drops edges in a storm. A lost release would become a hold, and a hold stops a recording; a
            # release lost after a double press would make the next press of the button none.
            self._found(*gestures.resync(self.state.gesture, self.settings.gestures, self.now_ns, pressed))

    def _found(self, state: GestureState, found: tuple[Gesture, ...]) -> None:
        self._update(gesture=state)
        for gesture in found:
            self._gesture(gesture)

    def _gesture(self, gesture: Gesture) -> None:
        active = self.state.active
        match gesture.kind:
            case GestureKind.DOUBLE:
                self._trigger(gesture.at_ns, "button", gesture.edges_ns)
            case GestureKind.HOLD:
                if active is not None:
                    self._stop("button", gesture.at_ns)
                    self.effects.append(Play(Cue.STOP))
                elif self.state.pending is not None:
                    self._drop(self.state.pending)
                    self.effects.append(Play(Cue.STOP))
            case GestureKind.SINGLE:
                if active is not None and self.settings.gestures.single_press_marks:
                    self._mark(gesture.at_ns, "button")

    def _trigger(self, at_ns: int, source: str, edges_ns: tuple[int, ...]) -> None:
        if self.state.active is not None:
            # Somebody who asks for a start while it runs wants to be sure: it is noted, and nothing is stopped.
            self._mark(at_ns, source)
        elif self.state.stopping is not None:
            self.effects.append(Play(Cue.REFUSED))
        else:
            self._start(at_ns, source, edges_ns, None)

    def _mark(self, at_ns: int, source: str) -> None:
        assert self.state.active is not None
        self.effects.append(MarkRecording(self.state.active.number, at_ns, source))
        self.effects.append(Play(Cue.MARKER))

    def _start(self, trigger_ns: int, source: str, edges_ns: tuple[int, ...], linked_from: int | str | None) -> None:
        if self.state.stopping is not None or self.state.active is not None:
            return
        start = PendingStart(trigger_ns, source, edges_ns, linked_from)
        if is_full(self.state):
            self._refuse(start)
            return
        if self.state.streaming:
            self._begin(start)
            return
        # No picture yet: the press is not lost. It is carried out with the first frame, and said to be waiting. The
        # first of several counts, for its time is the earliest; a link to what ran before is kept with it.
        waiting = self.state.pending
        if waiting is not None:
            link = waiting.linked_from if waiting.linked_from is not None else linked_from
            start = replace(waiting, linked_from=link)
        self._update(pending=start)
        self.effects.append(Play(Cue.REFUSED if self.state.camera_fault else Cue.START))
        self.effects.append(JournalRecord("trigger-pending", {"source": source, "trigger_boottime_ns": trigger_ns}))

    def _begin(self, start: PendingStart) -> None:
        number = self.state.next_number
        active = ActiveRecording(number, self.now_ns, durable_ns=None, reminded_ns=self.now_ns)
        self._update(active=active, pending=None, next_number=number + 1)
        self.effects.append(StartRecording(number, start.trigger_ns, start.source, start.gesture_ns, start.linked_from))
        # Also when the press was long ago: the wearer was told "refused" then, or has seen the recording break off.
        self.effects.append(Play(Cue.START))

    def _stop(self, reason: str, stop_ns: int) -> None:
        active = self.state.active
        assert active is not None
        self._update(active=None, finishing=self.state.finishing | {active.number})
        self.effects.append(StopRecording(active.number, stop_ns, reason))

    def _stop_all(self, reason: str, *, clean: bool) -> None:
        if self.state.stopping is not None:
            return
        if self.state.active is not None:
            self._stop(reason, self.now_ns)
        self._update(stopping=reason, stopping_ns=self.now_ns, stop_clean=clean, pending=None)

    def _stream_started(self) -> None:
        if self.state.camera_fault is not None:
            self._over("camera", "Frames reach the buffer again.")
        self._update(streaming=True, frames_fresh=True, ever_ready=True, camera_fault=None)
        self.effects.append(AnnounceReady())
        pending = self.state.pending
        if pending is None:
            return
        if is_full(self.state):
            self._refuse(pending)
            return
        age_ns = self.now_ns - pending.trigger_ns
        limit_s = self.settings.recording.resume_within_s
        if pending.source != "resume":
            limit_s = max(limit_s, PRESS_KEPT_S)
        if age_ns <= limit_s * NS_PER_S:
            self._begin(pending)
        else:
            self._drop(pending)  # hours later nobody expects a camera to begin filming by itself

    def _measured(self, spare_bytes: int, bytes_per_s: int | None) -> None:
        before = self.state.room
        room = judge_room(self.settings, spare_bytes, bytes_per_s, before)
        self._update(room=room)
        if room.level is (StorageLevel.PLENTY if before is None else before.level):
            return
        said = {"room": room.level.value, "minutes_left": room.minutes_left}
        measured = {"spare_bytes": room.spare_bytes, "bytes_per_s": room.bytes_per_s}
        self.effects.append(JournalRecord("storage", said | measured))
        if room.level is StorageLevel.FULL:
            # Before the card refuses: what waits in memory, the seal and the stop itself still fit.
            if self.state.active is not None:
                self._stop("storage-full", self.now_ns)
            self.effects.append(Play(Cue.STORAGE_FULL))
        elif room.is_worse_than(before):
            self.effects.append(Play(Cue.STORAGE_LOW))

    def _refuse(self, start: PendingStart) -> None:
        """Nothing can be kept, so nothing is begun that would look like it."""
        self._drop(start, reason="storage-full")
        self.effects.append(Play(Cue.STORAGE_FULL))

    def _drop(self, pending: PendingStart, **more: str) -> None:
        self._update(pending=None)
        fields = {"source": pending.source, "trigger_boottime_ns": pending.trigger_ns, **more}
        self.effects.append(JournalRecord("trigger-dropped", fields))

    def _stream_ended(self, message: str, last_frame_ns: int | None) -> None:
        active = self.state.active
        if active is not None:
            self._stop("camera-lost", self.now_ns)
            self._update(pending=PendingStart(self.now_ns, "resume", (), active.number))
        if self.state.camera_fault is None:
            self._fault("camera", message, last_frame_boottime_ns=last_frame_ns)
        self._update(
            streaming=False, frames_fresh=False, camera_fault=message, picture=self.state.picture.interrupted()
        )

    def _looked(self, seen: PictureMeasured) -> None:
        before, now = self.state.picture.fault, look(seen, self.state.picture)
        self._update(picture=now)
        if now.fault is before:
            return
        figures = {
            "mean_luma": round(seen.mean, 1),
            "detail_luma": round(seen.detail, 2),
            "noise_luma": round(seen.noise, 2),
            "white_share": round(seen.white, 3),
        }
        if before is not None:
            self._over(before.component, before.over, kind=before.value, **figures)
        if now.fault is not None:
            self._fault(now.fault.component, now.fault.message, cue=True, kind=now.fault.value, **figures)

    def _note_frames(self, newest_frame_ns: int | None) -> None:
        silence = tick(self.state.silence, self.now_ns, newest_frame_ns, told=not self.state.frames_fresh)
        self._update(silence=silence)
        if not self.state.streaming or newest_frame_ns is None:
            return
        silent_ns = silence.told_ns(self.now_ns, newest_frame_ns)
        stall_ns = self.settings.camera.stall_ms * NS_PER_MS
        fresh = silent_ns <= stall_ns
        if fresh != self.state.frames_fresh:
            if fresh:
                self._over("camera", "Frames come again.")
            else:
                self._fault("camera", f"No frame for {silent_ns // NS_PER_MS} ms.")
            self._update(frames_fresh=fresh)
        if silence.hung_ns(self.now_ns, newest_frame_ns) > HUNG_FACTOR * stall_ns:
            self._give_camera_up()

    def _camera_hung(self, message: str) -> None:
        if self.state.stopping is None:
            self._fault("camera", message)
        self._give_camera_up()

    def _give_camera_up(self) -> None:
        """Blocked in the kernel: no timeout reaches it. Seal what there is; a new process is the only cure."""
        self._stop_all(CAMERA_HUNG, clean=False)
        if not self.state.stream_given_up:
            # Also when the end was asked for before: what is being finished waits for a frame behind its stop.
            self._update(stream_given_up=True)
            self.effects.append(EndStream())

    def _remind(self) -> None:
        active = self.state.active
        every_ns = self.settings.panel.reminder_s * NS_PER_S
        if active is not None and every_ns and self.now_ns - active.reminded_ns >= every_ns:
            self._update(active=replace(active, reminded_ns=self.now_ns))
            self.effects.append(Play(Cue.REMINDER))

    def _tell_unsafe(self, shown: Indication) -> None:
        """A fault of storage is journalled by who met it; a recorder that is only too slow meets none."""
        unsafe = shown is Indication.RECORDING_UNSAFE
        if unsafe == self.state.unsafe_told:
            return
        self._update(unsafe_told=unsafe)
        if unsafe:
            timeout_ms = self.settings.recording.durable_timeout_ms
            self._fault("recording", f"Nothing of the running recording has become durable for {timeout_ms} ms.")
        elif self.state.active is not None:
            self._over("recording", "What is recorded becomes durable again.")
        else:
            self._over("recording", "The recording has ended; what of it waits is written when the card takes it.")

    def _fault(self, component: str, message: str, *, cue: bool = False, **more: Any) -> None:
        self.effects.append(JournalRecord("fault", {"component": component, "message": message} | more))
        self.effects += [Play(Cue.FAULT)] * cue

    def _over(self, component: str, message: str, **more: Any) -> None:
        self.effects.append(JournalRecord("fault-cleared", {"component": component, "message": message} | more))

    def _alert(self, shown: Indication) -> None:
        if shown not in _ALARMING:
            return
        every_ns = self.settings.panel.fault_repeat_s * NS_PER_S
        if self.state.alerted_ns is None or self.now_ns - self.state.alerted_ns >= every_ns:
            self._update(alerted_ns=self.now_ns)
            self.effects.append(Play(Cue.FAULT))


def step(
    state: ControllerState, settings: Settings, event: Event, now_ns: int
) -> tuple[ControllerState, tuple[Effect, ...]]:
    """One event in, the new state and what is to be done out. Pure."""
    if state.exited:
        return state, ()
    work = _Step(state, settings, now_ns)
    work.take(event)
    return work.finish()


def next_deadline_ns(state: ControllerState, settings: Settings) -> int | None:
    """When a Tick is due for a gesture, besides the regular ones; None when no gesture waits for time to pass."""
    return gestures.next_deadline_ns(state.gesture, settings.gestures)
