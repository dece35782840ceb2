"""Each transition of the controller, one by one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.clock import NS_PER_MS, NS_PER_S
from agent.controller.controller import STOP_TIMEOUT_NS
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
    RecordingClosed,
    ResumeWanted,
    StorageFailed,
    StorageRestored,
    StreamEnded,
    StreamSigned,
    StreamStarted,
    StreamUnsigned,
    TerminationAsked,
    Tick,
)
from agent.controller.signals import Cue, Indication
from agent.controller.silence import HUNG_FACTOR, STOOD_STILL_NS
from tests.unit.controller.drive import SETTINGS, Drive, of, ready


def recording() -> Drive:
    """A controller that records number 1, its first fragment durable."""
    drive = ready()
    drive.double_press()
    drive.run_ms(500)  # a press right behind a double press belongs to it
    drive.send(FragmentDurable(1))
    return drive


def journalled(effects: list[Effect]) -> list[tuple[str, object]]:
    """Type and component of what goes into the journal."""
    return [(record.type, record.fields.get("component")) for record in of(effects, JournalRecord)]


def durable_for_s(drive: Drive, seconds: int) -> list[Effect]:
    """Seconds of recording in which a fragment becomes durable every second."""
    effects: list[Effect] = []
    for _ in range(seconds):
        assert drive.state.active is not None
        effects += drive.run_ms(1000)
        effects += drive.send(FragmentDurable(drive.state.active.number))
    return effects


def test_the_first_step_of_all_shows_starting() -> None:
    drive = Drive()
    assert drive.tick() == [Show(Indication.STARTING)]
    assert drive.tick() == []


def test_frames_make_ready() -> None:
    drive = Drive()
    drive.tick()
    assert drive.send(StreamStarted()) == [AnnounceReady(), Show(Indication.READY)]


def test_a_double_press_is_accepted_in_the_step_that_recognises_it() -> None:
    drive = ready()
    drive.press()
    first_ns = drive.now_ns - 100 * NS_PER_MS
    drive.run_ms(100)
    effects = drive.edge(True)
    (start,) = of(effects, StartRecording)
    assert start.number == 1
    assert start.trigger_ns == drive.now_ns
    assert start.source == "button"
    assert start.gesture_ns == (first_ns, first_ns + 100 * NS_PER_MS, drive.now_ns)
    assert start.linked_from is None
    assert effects == [start, Play(Cue.START), Show(Indication.ACCEPTED)]


def test_recording_is_shown_from_the_first_durable_fragment_on() -> None:
    drive = ready()
    drive.double_press()
    drive.run_ms(500)
    assert drive.shows(Indication.ACCEPTED)
    assert drive.send(FragmentDurable(1)) == [Show(Indication.RECORDING)]
    assert of(durable_for_s(drive, 20), Show) == []


def test_a_fragment_of_another_recording_proves_nothing() -> None:
    drive = recording()
    drive.hold()
    drive.double_press()
    assert drive.shows(Indication.ACCEPTED)
    assert drive.send(FragmentDurable(1)) == []
    assert drive.shows(Indication.ACCEPTED)
    drive.send(FragmentDurable(2))
    assert drive.shows(Indication.RECORDING)


def test_when_nothing_becomes_durable_for_too_long_the_wearer_is_told_and_told_again() -> None:
    drive = recording()
    effects = drive.run_ms(SETTINGS.recording.durable_timeout_ms)
    assert Show(Indication.RECORDING_UNSAFE) not in effects
    effects = drive.run_ms(200)
    assert of(effects, Show) == [Show(Indication.RECORDING_UNSAFE)]
    assert drive.cues(effects) == [Cue.FAULT]
    assert journalled(effects) == [("fault", "recording")]
    assert drive.cues(drive.run_ms(4700)) == []
    assert drive.cues(drive.run_ms(300)) == [Cue.FAULT]
    effects = drive.send(FragmentDurable(1))
    assert of(effects, Show) == [Show(Indication.RECORDING)]
    assert journalled(effects) == [("fault-cleared", "recording")]


def test_a_recording_that_ends_without_having_become_durable_ends_its_fault() -> None:
    drive = recording()
    drive.run_ms(SETTINGS.recording.durable_timeout_ms + 200)
    assert journalled(drive.hold()) == [("fault-cleared", "recording")]


def test_without_a_first_fragment_accepted_does_not_last() -> None:
    drive = ready()
    drive.double_press()
    drive.run_ms(SETTINGS.recording.durable_timeout_ms + 200)
    assert drive.shows(Indication.RECORDING_UNSAFE)


def test_a_hold_stops_at_the_time_it_is_recognised() -> None:
    drive = recording()
    drive.edge(True)
    stop_ns = drive.now_ns + SETTINGS.gestures.hold_ms * NS_PER_MS
    effects = drive.run_ms(SETTINGS.gestures.hold_ms)
    assert effects == [StopRecording(1, stop_ns, "button"), Play(Cue.STOP), Show(Indication.FINISHING)]
    assert drive.now_ns == stop_ns
    drive.edge(False)
    assert drive.run_ms(1000) == []
    assert drive.send(RecordingClosed(1)) == [Show(Indication.READY)]


def test_a_hold_without_a_recording_does_nothing() -> None:
    drive = ready()
    assert drive.hold() == []


@pytest.mark.parametrize("marks", [True, False])
def test_a_single_press_marks_if_so_configured(marks: bool) -> None:
    drive = recording()
    drive.settings = replace(SETTINGS, gestures=replace(SETTINGS.gestures, single_press_marks=marks))
    pressed_ns = drive.now_ns
    effects = drive.press() + drive.run_ms(500)
    assert effects == ([MarkRecording(1, pressed_ns, "button"), Play(Cue.MARKER)] if marks else [])


def test_a_single_press_without_a_recording_does_nothing() -> None:
    drive = ready()
    assert drive.press() + drive.run_ms(1000) == []


def test_a_double_press_while_recording_marks_and_never_stops() -> None:
    drive = recording()
    drive.run_ms(1000)
    effects = drive.double_press()
    assert effects == [MarkRecording(1, drive.now_ns - 100 * NS_PER_MS, "button"), Play(Cue.MARKER)]


def test_a_new_recording_may_start_while_the_last_one_is_finishing() -> None:
    drive = recording()
    drive.hold()
    (start,) = of(drive.double_press(), StartRecording)
    assert start.number == 2
    drive.send(FragmentDurable(2))
    assert drive.shows(Indication.RECORDING)
    assert drive.state.finishing == {1}
    drive.send(RecordingClosed(1))
    assert drive.state.finishing == frozenset()


def test_an_input_triggers_as_a_button_does() -> None:
    drive = ready()
    at_ns = drive.now_ns - 3 * NS_PER_MS
    effects = drive.send(InputActivated(5, at_ns))
    assert effects[0] == StartRecording(1, at_ns, "input:5", (at_ns,), None)
    assert drive.shows(Indication.ACCEPTED)
    assert drive.send(InputActivated(6, drive.now_ns))[0] == MarkRecording(1, drive.now_ns, "input:6")


def test_a_hold_due_before_an_input_does_not_stop_what_the_input_starts() -> None:
    drive = ready()
    drive.edge(True)
    drive.now_ns += (SETTINGS.gestures.hold_ms + 50) * NS_PER_MS
    effects = drive.send(InputActivated(5, drive.now_ns))
    assert of(effects, StartRecording)
    assert of(drive.run_ms(1000), StopRecording) == []


# A slow process


@pytest.mark.parametrize(
    "between", [FragmentDurable(1), RecordingClosed(9), MicrophoneRestored(), StorageRestored()], ids=repr
)
def test_a_short_press_seen_late_is_no_hold(between: Event) -> None:
    """The process stood still for longer than a hold while the edges waited in the queue."""
    drive = recording()
    pressed_ns = drive.now_ns
    drive.edge(True)
    drive.now_ns += 5000 * NS_PER_MS
    effects = drive.send(between)
    effects += drive.send(ButtonEdge(False, pressed_ns + 100 * NS_PER_MS))
    effects += drive.run_ms(1000)
    assert of(effects, StopRecording) == []
    assert of(effects, MarkRecording) == [MarkRecording(1, pressed_ns, "button")]


def test_both_edges_of_a_short_press_seen_late_are_no_hold() -> None:
    drive = recording()
    pressed_ns = drive.now_ns
    drive.now_ns += 5000 * NS_PER_MS
    effects = drive.send(ButtonEdge(True, pressed_ns)) + drive.send(ButtonEdge(False, pressed_ns + 100 * NS_PER_MS))
    effects += drive.run_ms(1000)
    assert of(effects, StopRecording) == []
    assert of(effects, MarkRecording) == [MarkRecording(1, pressed_ns, "button")]


def test_a_double_press_seen_late_starts_from_its_own_time() -> None:
    drive = ready()
    begin_ns = drive.now_ns
    drive.now_ns += 5000 * NS_PER_MS
    effects: list[Effect] = []
    for offset_ms, pressed in ((0, True), (90, False), (180, True), (270, False)):
        effects += drive.send(ButtonEdge(pressed, begin_ns + offset_ms * NS_PER_MS))
    (start,) = of(effects, StartRecording)
    assert start.trigger_ns == begin_ns + 180 * NS_PER_MS


def test_a_hold_seen_late_stops_at_its_own_time() -> None:
    drive = recording()
    pressed_ns = drive.now_ns
    drive.now_ns += 5000 * NS_PER_MS
    effects = drive.send(ButtonEdge(True, pressed_ns)) + drive.send(ButtonEdge(False, pressed_ns + NS_PER_S * 3 // 2))
    (stop,) = of(effects, StopRecording)
    assert stop.stop_ns == pressed_ns + NS_PER_S


def test_a_release_that_the_kernel_dropped_is_no_hold() -> None:
    drive = recording()
    drive.button = True
    drive.edge(True)
    drive.run_ms(100)
    drive.button = False
    assert of(drive.run_ms(3000), StopRecording) == []


def test_after_a_dropped_release_the_next_double_press_still_starts() -> None:
    """The release after a double press is lost, the recording stopped by nobody's hold but a closed camera's end."""
    drive = ready()
    drive.button = True
    drive.press()
    drive.run_ms(100)
    drive.edge(True)
    drive.button = False  # and no edge tells of it
    drive.run_ms(1000)
    drive.send(StreamEnded("gone", None))
    drive.button = None
    drive.hold()
    drive.send(StreamStarted())
    assert drive.state.active is None
    assert of(drive.double_press(), StartRecording)


# Without a picture


def test_a_press_before_the_first_frame_is_kept_and_carried_out_with_it() -> None:
    drive = Drive()
    drive.tick()
    effects = drive.double_press()
    trigger_ns = drive.now_ns - 100 * NS_PER_MS
    assert effects == [
        Play(Cue.START),
        JournalRecord("trigger-pending", {"source": "button", "trigger_boottime_ns": trigger_ns}),
        Show(Indication.ACCEPTED),
    ]
    drive.run_ms(3000)
    assert drive.shows(Indication.ACCEPTED)
    (start,) = of(drive.send(StreamStarted()), StartRecording)
    assert (start.trigger_ns, start.source, len(start.gesture_ns)) == (trigger_ns, "button", 3)
    assert drive.shows(Indication.ACCEPTED)


def test_a_press_during_a_camera_fault_is_refused_aloud_but_kept() -> None:
    drive = ready()
    drive.send(StreamEnded("unplugged", 1))
    effects = drive.double_press()
    trigger_ns = drive.now_ns - 100 * NS_PER_MS
    assert Cue.REFUSED in drive.cues(effects)
    assert Cue.START not in drive.cues(effects)
    assert drive.shows(Indication.FAULT)
    drive.run_ms(1000)
    effects = drive.send(StreamStarted())
    assert of(effects, StartRecording)[0].trigger_ns == trigger_ns
    assert Cue.START in drive.cues(effects), "what was refused aloud must not begin without a word"


def test_of_several_presses_that_wait_the_first_counts_and_each_is_answered() -> None:
    drive = Drive()
    drive.tick()
    drive.double_press()
    trigger_ns = drive.now_ns - 100 * NS_PER_MS
    drive.run_ms(2000)
    effects = drive.double_press()
    assert drive.cues(effects) == [Cue.START]
    assert [record.type for record in of(effects, JournalRecord)] == ["trigger-pending"]
    (start,) = of(drive.send(StreamStarted()), StartRecording)
    assert start.trigger_ns == trigger_ns


def test_a_hold_takes_back_a_start_that_waits() -> None:
    drive = Drive()
    drive.tick()
    drive.double_press()
    drive.run_ms(1000)
    assert drive.cues(drive.hold()) == [Cue.STOP]
    assert of(drive.send(StreamStarted()), StartRecording) == []
    assert drive.shows(Indication.READY)


def test_a_lost_camera_ends_the_recording_and_a_linked_one_goes_on_when_frames_return() -> None:
    drive = recording()
    drive.run_ms(1000)
    lost_ns = drive.now_ns
    effects = drive.send(StreamEnded("unplugged", lost_ns - 1))
    assert effects == [
        StopRecording(1, lost_ns, "camera-lost"),
        JournalRecord("fault", {"component": "camera", "message": "unplugged", "last_frame_boottime_ns": lost_ns - 1}),
        Show(Indication.FAULT),
        Play(Cue.FAULT),
    ]
    drive.run_ms(2000)
    effects = drive.send(StreamStarted())
    assert of(effects, StartRecording) == [StartRecording(2, lost_ns, "resume", (), 1)]
    assert of(effects, JournalRecord)[0].type == "fault-cleared"
    assert Cue.START in drive.cues(effects)


def test_a_lost_camera_without_a_recording_starts_nothing_afterwards() -> None:
    drive = ready()
    drive.send(StreamEnded("unplugged", None))
    assert drive.shows(Indication.FAULT)
    effects = drive.send(StreamStarted())
    assert of(effects, StartRecording) == []
    assert drive.shows(Indication.READY)


def test_one_fault_is_journalled_for_many_tries_and_the_newest_reason_kept() -> None:
    drive = ready()
    assert len(of(drive.send(StreamEnded("unplugged", None)), JournalRecord)) == 1
    assert of(drive.send(StreamEnded("still not there", None)), JournalRecord) == []
    assert drive.state.camera_fault == "still not there"


def test_frames_that_stall_are_no_ready() -> None:
    drive = ready()
    drive.frames = False
    effects = drive.run_ms(SETTINGS.camera.stall_ms + 100)
    assert of(effects, Show) == [Show(Indication.FAULT)]
    assert [record.type for record in of(effects, JournalRecord)] == ["fault"]
    drive.frames = True
    effects = drive.run_ms(200)
    assert of(effects, Show) == [Show(Indication.READY)]
    assert [record.type for record in of(effects, JournalRecord)] == ["fault-cleared"]


def test_frames_that_stall_are_no_recording_either() -> None:
    drive = recording()
    drive.frames = False
    drive.run_ms(SETTINGS.camera.stall_ms + 100)
    drive.send(FragmentDurable(1))
    assert drive.shows(Indication.FAULT)
    assert drive.state.active is not None


def test_a_camera_that_hangs_ends_the_process_once_all_is_sealed() -> None:
    drive = recording()
    drive.frames = False
    effects = drive.run_ms(SETTINGS.camera.stall_ms * HUNG_FACTOR + 200)
    (stop,) = of(effects, StopRecording)
    assert stop.reason == "camera-hung"
    assert len(of(effects, EndStream)) == 1
    assert effects.index(stop) < effects.index(EndStream())
    assert drive.shows(Indication.STOPPING)
    assert drive.send(RecordingClosed(1)) == [Exit("camera-hung", clean=False)]


def test_a_device_that_was_suspended_waits_for_its_camera_anew() -> None:
    drive = recording()
    drive.frames = False
    drive.run_ms(SETTINGS.camera.stall_ms - 200)
    drive.now_ns += 8 * 3600 * NS_PER_S  # CLOCK_BOOTTIME runs on
    effects = drive.tick() + drive.run_ms(SETTINGS.camera.stall_ms - 100)
    assert of(effects, StopRecording) == []
    assert journalled(effects) == [("fault", "recording")]  # nothing of which became durable meanwhile
    effects = drive.run_ms(SETTINGS.camera.stall_ms * HUNG_FACTOR)
    assert [stop.reason for stop in of(effects, StopRecording)] == ["camera-hung"]


def test_a_processor_that_is_always_late_does_not_hide_that_no_frame_comes() -> None:
    drive = ready()
    drive.frames = False
    effects: list[Effect] = []
    for _ in range(6):  # each of them looks like a device that stood still
        drive.now_ns += STOOD_STILL_NS + NS_PER_MS
        effects += drive.tick()
    assert of(effects, Show) == [Show(Indication.FAULT)]
    assert drive.shows(Indication.FAULT)
    assert of(effects, Exit) == []  # but that it hangs is not to be told from a processor that has no time for it
    drive.frames = True
    effects = drive.tick()
    assert drive.shows(Indication.READY)
    drive.frames = False
    drive.now_ns += SETTINGS.camera.stall_ms * NS_PER_MS + STOOD_STILL_NS
    drive.tick()
    assert drive.shows(Indication.READY)  # another silence, which may have been a standstill again


def test_a_late_tick_takes_back_no_fault_while_nothing_comes() -> None:
    drive = ready()
    drive.frames = False
    drive.run_ms(SETTINGS.camera.stall_ms + 200)
    assert drive.shows(Indication.FAULT)
    drive.now_ns += STOOD_STILL_NS + NS_PER_MS
    assert of(drive.tick(), Show) == []
    assert drive.shows(Indication.FAULT)


def test_a_camera_that_is_said_to_hang_ends_the_process_whatever_it_did_before() -> None:
    for drive in (Drive(), ready(), recording()):
        effects = drive.send(CameraHung("The camera hangs: opening, for 20 s."))
        (fault,) = of(effects, JournalRecord)
        assert (fault.type, fault.fields["message"]) == ("fault", "The camera hangs: opening, for 20 s.")
        assert of(effects, EndStream) == [EndStream()]
        effects += drive.send(RecordingClosed(1))
        assert of(effects, Exit) == [Exit("camera-hung", clean=False)]
        assert drive.send(CameraHung("and the encoder, too")) == []


def test_a_camera_that_hangs_while_idle_ends_the_process_at_once() -> None:
    drive = ready()
    drive.frames = False
    effects = drive.run_ms(SETTINGS.camera.stall_ms * HUNG_FACTOR + 200)
    assert of(effects, Exit) == [Exit("camera-hung", clean=False)]


def test_a_camera_that_hangs_lets_a_recording_finish_whose_stop_came_before() -> None:
    """Its stop waits for a frame that will never come: without being told, its last GOP stays in memory."""
    drive = recording()
    drive.frames = False
    drive.hold()
    assert not drive.shows(Indication.STOPPING)
    assert of(drive.run_ms(SETTINGS.camera.stall_ms * HUNG_FACTOR), EndStream) == [EndStream()]
    assert drive.send(RecordingClosed(1)) == [Exit("camera-hung", clean=False)]


def test_a_camera_that_hangs_during_shutdown_lets_it_finish() -> None:
    drive = recording()
    drive.frames = False
    drive.send(TerminationAsked())
    assert of(drive.run_ms(SETTINGS.camera.stall_ms * HUNG_FACTOR + 200), EndStream) == [EndStream()]
    assert drive.send(RecordingClosed(1)) == [Exit("shutdown", clean=True)]


# Storage and sound


def test_storage_that_fails_stops_no_recording_and_is_told_by_its_consequence() -> None:
    drive = recording()
    assert drive.send(StorageFailed("EIO")) == []
    effects = drive.run_ms(60_000)
    assert of(effects, StopRecording) == []
    assert drive.shows(Indication.RECORDING_UNSAFE)
    drive.send(StorageRestored())
    drive.send(FragmentDurable(1))
    assert drive.shows(Indication.RECORDING)


def test_storage_that_fails_while_idle_is_a_fault() -> None:
    drive = ready()
    assert drive.send(StorageFailed("EROFS")) == [Show(Indication.FAULT), Play(Cue.FAULT)]
    assert drive.send(StorageFailed("EROFS")) == []
    assert drive.send(StorageRestored()) == [Show(Indication.READY)]


def test_a_press_while_storage_fails_is_recorded_into_memory() -> None:
    drive = ready()
    drive.send(StorageFailed("EROFS"))
    assert of(drive.double_press(), StartRecording)
    assert drive.shows(Indication.ACCEPTED)
    drive.run_ms(SETTINGS.recording.durable_timeout_ms + 200)
    assert drive.shows(Indication.RECORDING_UNSAFE)


def test_a_microphone_that_fails_is_said_and_stops_nothing() -> None:
    drive = recording()
    effects = drive.send(MicrophoneFailed("no card"))
    assert effects == [JournalRecord("fault", {"component": "microphone", "message": "no card"}), Play(Cue.FAULT)]
    (cleared,) = of(drive.send(MicrophoneRestored()), JournalRecord)
    assert (cleared.type, cleared.fields["component"]) == ("fault-cleared", "microphone")
    assert drive.shows(Indication.RECORDING)


def test_a_card_that_forgot_is_said_and_stops_nothing() -> None:
    drive = recording()
    effects = drive.send(CardForgot("it lost record 7"))
    assert effects == [
        JournalRecord("fault", {"component": "card-forgot", "message": "it lost record 7"}),
        Play(Cue.FAULT),
    ]
    assert drive.shows(Indication.RECORDING)


def test_a_video_that_is_not_signed_is_said_and_stops_nothing() -> None:
    drive = recording()
    effects = drive.send(StreamUnsigned("no answer"))
    fault = {"component": "stream-signer", "message": "no answer"}
    assert effects == [JournalRecord("fault", fault), Play(Cue.FAULT)]
    assert drive.shows(Indication.RECORDING)
    (cleared,) = of(drive.send(StreamSigned(7)), JournalRecord)
    assert (cleared.type, cleared.fields["component"]) == ("fault-cleared", "stream-signer")
    assert cleared.fields["unsigned_gops"] == 7
    assert drive.shows(Indication.RECORDING)


# Reminders and alerts


def test_reminders_come_every_reminder_s_of_a_recording_and_not_after() -> None:
    drive = recording()
    effects = durable_for_s(drive, 100)
    assert drive.cues(effects) == [Cue.REMINDER] * 3
    times_ns = [at_ns for at_ns, effect in drive.history if effect == Play(Cue.REMINDER)]
    started_ns = next(at_ns for at_ns, effect in drive.history if isinstance(effect, StartRecording))
    for count, time_ns in enumerate(times_ns, 1):
        assert 30 * count * NS_PER_S <= time_ns - started_ns < (30 * count + 0.5) * NS_PER_S
    drive.hold()
    drive.send(RecordingClosed(1))
    assert drive.cues(drive.run_ms(100_000)) == []


def test_reminders_can_be_turned_off() -> None:
    drive = recording()
    drive.settings = replace(SETTINGS, panel=replace(SETTINGS.panel, reminder_s=0))
    assert drive.cues(durable_for_s(drive, 100)) == []


def test_a_fault_alerts_at_once_and_every_fault_repeat_s() -> None:
    drive = ready()
    begin_ns = drive.now_ns
    effects = drive.send(StreamEnded("unplugged", None)) + drive.run_ms(20_500)
    assert drive.cues(effects) == [Cue.FAULT] * 5
    times_s = [(at_ns - begin_ns) / NS_PER_S for at_ns, effect in drive.history if effect == Play(Cue.FAULT)]
    assert times_s == pytest.approx([0, 5, 10, 15, 20], abs=0.2)


# The end


@pytest.mark.parametrize(
    "before",
    [
        pytest.param([], id="starting"),
        pytest.param([StreamStarted()], id="ready"),
        pytest.param([StreamStarted(), StreamEnded("gone", None)], id="camera-fault"),
        pytest.param([StorageFailed("EIO")], id="storage-fault"),
        pytest.param([InputActivated(1, 0)], id="pending"),
        pytest.param([StreamStarted(), InputActivated(1, 0), StreamEnded("gone", None), RecordingClosed(1)], id="lost"),
    ],
)
def test_termination_with_nothing_to_finish_ends_at_once(before: list[Event]) -> None:
    drive = Drive()
    for event in before:
        drive.send(event)
    effects = drive.send(TerminationAsked())
    assert effects[-2:] == [Show(Indication.STOPPING), Exit("shutdown", clean=True)]
    assert of(effects, StopRecording) == []


def test_termination_finishes_what_runs_and_what_was_finishing() -> None:
    drive = recording()
    drive.hold()
    drive.double_press()
    effects = drive.send(TerminationAsked())
    assert effects == [StopRecording(2, drive.now_ns, "shutdown"), Show(Indication.STOPPING)]
    assert drive.send(TerminationAsked()) == []
    assert drive.send(RecordingClosed(2)) == []
    assert drive.send(RecordingClosed(1)) == [Exit("shutdown", clean=True)]


def test_termination_does_not_wait_for_ever_for_a_card() -> None:
    drive = recording()
    drive.send(TerminationAsked())
    assert of(drive.run_ms(STOP_TIMEOUT_NS // NS_PER_MS), Exit) == []
    assert of(drive.run_ms(200), Exit) == [Exit("shutdown", clean=False)]


def test_while_stopping_a_press_is_refused_aloud() -> None:
    drive = recording()
    drive.send(TerminationAsked())
    effects = drive.double_press()
    assert effects == [Play(Cue.REFUSED)]
    assert drive.shows(Indication.STOPPING)


def test_a_start_that_waits_is_not_carried_out_while_stopping() -> None:
    drive = recording()
    drive.send(StreamEnded("gone", None))
    drive.send(TerminationAsked())
    assert of(drive.send(StreamStarted()), StartRecording) == []


def test_a_camera_lost_while_stopping_starts_nothing() -> None:
    drive = recording()
    drive.send(TerminationAsked())
    assert of(drive.send(StreamEnded("gone", None)) + drive.send(StreamStarted()), StartRecording) == []


def test_after_exit_nothing_more_is_wanted() -> None:
    drive = ready()
    drive.send(TerminationAsked())
    for event in (
        TerminationAsked(), StreamEnded("x", None), StreamStarted(), InputActivated(1, 0), MicrophoneFailed("x"),
        StreamUnsigned("x"), StreamSigned(1), CardForgot("x"),
        ResumeWanted("id"), StorageFailed("x"), Tick(None, True),
    ):  # fmt: skip
        assert drive.send(event) == []


# What an earlier run left


def test_what_ran_before_a_crash_goes_on_linked() -> None:
    drive = ready()
    effects = drive.send(ResumeWanted("earlier"))
    assert effects[0] == StartRecording(1, drive.now_ns, "resume", (), "earlier")


def test_what_ran_before_a_crash_waits_for_the_camera() -> None:
    drive = Drive()
    drive.send(ResumeWanted("earlier"))
    asked_ns = drive.now_ns
    drive.run_ms(3000)
    (start,) = of(drive.send(StreamStarted()), StartRecording)
    assert (start.trigger_ns, start.source, start.linked_from) == (asked_ns, "resume", "earlier")


def test_a_press_that_waits_keeps_its_time_when_the_vault_asks_for_a_resume() -> None:
    drive = Drive()
    drive.tick()
    drive.double_press()
    trigger_ns = drive.now_ns - 100 * NS_PER_MS
    drive.run_ms(1000)
    drive.send(ResumeWanted("earlier"))
    (start,) = of(drive.send(StreamStarted()), StartRecording)
    assert (start.trigger_ns, start.source, start.linked_from) == (trigger_ns, "button", "earlier")


def test_a_resume_starts_no_second_recording_and_none_while_stopping() -> None:
    drive = recording()
    assert drive.send(ResumeWanted("earlier")) == []
    drive.send(TerminationAsked())
    assert drive.send(ResumeWanted("earlier")) == []


# Orders that cannot be


@pytest.mark.parametrize(
    "event",
    [
        FragmentDurable(99), RecordingClosed(99), StorageRestored(), MicrophoneRestored(), StreamEnded("x", None),
        Tick(None), Tick(10**30), Tick(-1, False), ButtonEdge(False, 0), ButtonEdge(True, 10**30), InputActivated(0, 0),
    ],
    ids=repr,
)  # fmt: skip
@pytest.mark.parametrize("make", [Drive, ready, recording], ids=lambda make: make.__name__)
def test_an_event_out_of_order_is_taken_twice(make: type[Drive], event: Event) -> None:
    drive = make()
    drive.send(event)
    drive.send(event)
    assert drive.shows(drive.truth())
