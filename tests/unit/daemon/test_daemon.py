"""The decision loop: what it carries out at once, what it hands to storage and in which order, what it tells people."""

from __future__ import annotations

import logging
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from agent.clock import NS_PER_MS, NS_PER_S, SimulatedClock
from agent.controller.events import ButtonEdge, FragmentDurable, InputActivated, RecordingClosed, TerminationAsked
from agent.controller.signals import Cue, Indication
from agent.controller.silence import HUNG_FACTOR
from agent.daemon.clock_watch import CLOCK_RECORD_NS, CLOCK_STEP_NS
from agent.daemon.daemon import TICK_NS, Daemon
from agent.daemon.logs import LOG
from agent.media.packets import VideoFormat, VideoPacket
from agent.recorder.fragment import MediaTracks
from agent.recorder.plan import RecordingPlan, Stream
from agent.recorder.recovery import Recovered
from agent.ring.ring import PacketRing
from agent.settings.schema import Settings
from tests.support.bench import VAULT, Bench, FakePanel, bench_settings
from tests.support.crashfs import CrashFilesystem
from tests.support.playback import journal_records, of_type

FRAME_NS = 100 * NS_PER_MS


class Orders:
    """Stands where storage and recorder are, and remembers what was ordered; nothing is carried out."""

    def __init__(self) -> None:
        self.given: list[tuple[str, dict[str, Any]]] = []
        self.on_order: Callable[[str], None] = lambda _name: None

    def do(self, command: Callable[[Any], object]) -> None:
        command(self)

    def _take(self, name: str, fields: dict[str, Any]) -> None:
        self.given.append((name, fields))
        self.on_order(name)

    def start(self, plan: RecordingPlan, **fields: Any) -> None:
        self._take("start", {"plan": plan, **fields})

    def stop(self, number: int, **fields: Any) -> None:
        self._take("stop", {"number": number, **fields})

    def mark(self, number: int, **fields: Any) -> None:
        self._take("mark", {"number": number, **fields})

    def record(self, type_: str, **fields: Any) -> None:
        self._take(type_, fields)

    def of(self, name: str) -> list[dict[str, Any]]:
        """The orders of one kind."""
        return [fields for kind, fields in self.given if kind == name]

    @property
    def names(self) -> list[str]:
        """The orders without the clock's."""
        return [name for name, _ in self.given if name != "clock"]


class Desk:
    """A daemon on its own: no camera, no flash, time when told."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or bench_settings(pre_event_s=3, hold_ms=1000)
        self.clock = SimulatedClock()
        self.panel = FakePanel(self.clock)
        self.keyframes = 0
        self.button: bool | None = None
        self.part_error: Exception | None = None
        self.daemon = Daemon(
            self.settings,
            self.clock,
            self.panel,
            force_keyframe=self._force_keyframe,
            check_parts=self._check_parts,
            read_button=lambda: self.button,
        )
        self.orders = Orders()
        self.daemon.attach(self.orders)
        self.ring = self.new_ring()
        self.stream = Stream(self.ring, MediaTracks(VideoFormat(96, 64, 10.0), None, b""), "camera 1", "encoder 1")

    def new_ring(self) -> PacketRing:
        """A ring that keeps five seconds."""
        return PacketRing(keep_ns=5 * NS_PER_S, max_bytes=1 << 20, frame_ns=FRAME_NS, audio_before_trigger=False)

    def _force_keyframe(self, *_after_ns: int) -> None:
        self.keyframes += 1

    def _check_parts(self) -> None:
        if self.part_error is not None:
            raise self.part_error

    def frames(self, seconds: float) -> None:
        """Time passes with frames, a keyframe every second, and ticks."""
        for _ in range(round(seconds * 10)):
            self.clock.advance_ns(FRAME_NS)
            now_ns = self.clock.boottime_ns()
            self.ring.push_video(VideoPacket(bytes(100), now_ns, is_keyframe=now_ns % NS_PER_S == 0))
            self.daemon.tick()
            self.daemon.drain()

    def ready(self) -> Desk:
        """A stream with four seconds in it."""
        now_ns = self.clock.boottime_ns()
        self.ring.push_video(VideoPacket(bytes(100), now_ns, is_keyframe=True))
        self.daemon.stream_started(self.stream)
        self.daemon.drain()
        self.frames(4)
        return self

    def recording(self) -> Desk:
        """Recording number 1."""
        self.ready()
        self.daemon.post(InputActivated(4, self.clock.boottime_ns()))
        self.daemon.drain()
        return self


# Starting and stopping


def test_a_start_forces_a_keyframe_and_pins_the_buffer_before_storage_hears_of_it() -> None:
    desk = Desk().ready()
    trigger_ns = desk.clock.boottime_ns()
    desk.daemon.post(InputActivated(4, trigger_ns))
    desk.daemon.drain()
    (order,) = desk.orders.of("start")
    plan: RecordingPlan = order["plan"]
    assert desk.keyframes == 1
    assert (order["source"], order["gesture_ns"]) == ("input:4", (trigger_ns,))
    assert (plan.number, plan.trigger_ns, plan.pre_event_ns, plan.linked_from) == (1, trigger_ns, 3 * NS_PER_S, None)
    assert plan.cursor.origin_ns is not None
    assert plan.cursor.origin_ns <= trigger_ns - 3 * NS_PER_S
    assert plan.short_reason is None
    # Storage does nothing for a long time; all the same nothing goes.
    desk.frames(30)
    read = plan.cursor.read()
    assert read is not None
    assert read.video[0].pts_ns == plan.cursor.origin_ns
    assert plan.cursor.take_gaps() == []


def test_a_stop_takes_effect_at_once_and_not_when_storage_gets_to_it() -> None:
    desk = Desk().recording()
    (order,) = desk.orders.of("start")
    seen: list[int | None] = []
    desk.orders.on_order = lambda name: seen.append(order["plan"].cursor.stop_ns) if name == "stop" else None
    desk.daemon.post(TerminationAsked())
    desk.daemon.drain()
    assert seen == [desk.clock.boottime_ns()]
    assert desk.orders.of("stop") == [{"number": 1, "stop_ns": desk.clock.boottime_ns(), "reason": "shutdown"}]


def test_when_a_session_ends_storage_hears_of_the_stop_before_the_ring_says_that_nothing_follows() -> None:
    """Otherwise the recorder could close a recording without a word of why it ended."""
    desk = Desk().recording()
    ended: list[bool] = []
    desk.orders.on_order = lambda name: ended.append(desk.ring.ended) if name == "stop" else None
    desk.daemon.stream_ended(desk.stream, "unplugged")
    desk.daemon.drain()
    assert ended == [False]
    assert desk.ring.ended
    assert desk.orders.of("stop")[0]["reason"] == "camera-lost"
    assert desk.orders.of("fault")[0]["last_frame_boottime_ns"] == desk.ring.newest_video_ns


def test_a_recording_that_goes_on_after_a_lost_camera_is_linked_by_its_id() -> None:
    desk = Desk().recording()
    (first,) = desk.orders.of("start")
    desk.daemon.stream_ended(desk.stream, "unplugged")
    desk.daemon.drain()
    again = Desk()
    again.clock, again.daemon, again.orders = desk.clock, desk.daemon, desk.orders
    again.clock.advance_ns(NS_PER_S)
    again.ready()
    second = desk.orders.of("start")[1]
    assert second["plan"].linked_from == first["plan"].recording_id
    assert second["plan"].stream is again.stream
    assert second["plan"].recording_id > first["plan"].recording_id, "ids sort by time"


def test_a_recording_of_an_earlier_run_is_linked_by_its_id() -> None:
    desk = Desk().ready()
    desk.daemon.vault_opened(Recovered(("earlier", "older"), "earlier"))
    desk.daemon.drain()
    (order,) = desk.orders.of("start")
    assert (order["plan"].linked_from, order["source"]) == ("earlier", "resume")


def test_an_ordinary_start_of_the_vault_resumes_nothing() -> None:
    desk = Desk().ready()
    desk.daemon.vault_opened(Recovered(("older",), None))
    desk.daemon.drain()
    assert desk.orders.of("start") == []


def test_a_camera_that_hangs_ends_the_ring_after_the_stop_was_ordered() -> None:
    desk = Desk().recording()
    ended: list[bool] = []
    desk.orders.on_order = lambda name: ended.append(desk.ring.ended) if name == "stop" else None
    for _ in range(desk.settings.camera.stall_ms * HUNG_FACTOR // 100 + 2):
        desk.clock.advance_ns(TICK_NS)
        desk.daemon.tick()
    assert desk.orders.of("stop")[0]["reason"] == "camera-hung"
    assert ended == [False]
    assert desk.ring.ended
    desk.daemon.recording_closed(1)
    desk.daemon.drain()
    assert desk.daemon.exit is not None
    assert (desk.daemon.exit.reason, desk.daemon.exit.clean) == ("camera-hung", False)


def test_a_camera_that_hangs_lets_what_is_being_finished_be_sealed_with_its_last_frames() -> None:
    """With the real recorder: the stop waits for a frame behind it, which a hanging camera never gives."""
    filesystem = CrashFilesystem(VAULT)
    bench = Bench(filesystem, bench_settings(hold_ms=1000)).start()
    bench.run_for(5)
    now_ns = bench.clock.boottime_ns()
    bench.double_press(now_ns + NS_PER_S)
    bench.run_until(now_ns + 4 * NS_PER_S)
    newest_ns = bench.frame_counters[-1][0]
    bench._next_frame_ns = 1 << 62  # its thread is blocked in the kernel
    bench.hold(now_ns + 6 * NS_PER_S)
    bench.run_for(2 * HUNG_FACTOR + 2)
    (close,) = of_type(journal_records(filesystem, bench.layout), "recording-close")
    (opened,) = of_type(journal_records(filesystem, bench.layout), "recording-open")
    frames = round((newest_ns - opened["media_origin_boottime_ns"]) / FRAME_NS) + 1
    assert (close["frames"], close["recovered"]) == (frames, False)
    assert bench.daemon.exit is not None
    assert not bench.daemon.exit.clean


def test_the_wearer_sees_and_hears_what_was_decided() -> None:
    desk = Desk().recording()
    desk.daemon.fragment_durable(1, 1)
    desk.daemon.drain()
    desk.daemon.post(InputActivated(5, desk.clock.boottime_ns()))
    desk.daemon.drain()
    assert [shown for _, shown in desk.panel.shown] == [Indication.READY, Indication.ACCEPTED, Indication.RECORDING]
    assert [cue for _, cue in desk.panel.played] == [Cue.START, Cue.MARKER]
    assert desk.orders.of("mark") == [{"number": 1, "at_ns": desk.clock.boottime_ns(), "source": "input:5"}]


def test_ready_is_written_down_with_what_made_the_pictures() -> None:
    desk = Desk().ready()
    (fields,) = desk.orders.of("ready")
    assert fields == {
        "buffered_ms": 0, "camera": "camera 1", "encoder": "encoder 1", "width": 96, "height": 64, "fps": 10.0,
    }  # fmt: skip


# The clock


def clock_orders(desk: Desk) -> list[tuple[str, int | None]]:
    """Reason and step of each record of the clock."""
    return [(fields["reason"], fields["step_ms"]) for fields in desk.orders.of("clock")]


def test_the_clock_is_written_down_at_the_start_and_every_few_minutes() -> None:
    desk = Desk()
    times_ns: list[int] = []
    desk.orders.on_order = lambda name: times_ns.append(desk.clock.boottime_ns()) if name == "clock" else None
    for _ in range(3 * CLOCK_RECORD_NS // TICK_NS + 5):
        desk.daemon.tick()
        desk.clock.advance_ns(TICK_NS)
    assert clock_orders(desk) == [("start", None)] + [("periodic", 0)] * 3
    assert all(b - a == CLOCK_RECORD_NS for a, b in pairwise(times_ns))


@pytest.mark.parametrize("step_ms", [501, 3_600_000, -501, -365 * 86_400_000])
def test_a_step_of_the_wall_clock_is_written_down_when_it_is_seen(step_ms: int) -> None:
    desk = Desk()
    desk.daemon.tick()
    desk.clock.step_wall_ns(step_ms * NS_PER_MS)
    desk.daemon.tick()
    desk.daemon.tick()
    assert clock_orders(desk) == [("start", None), ("step", step_ms)]


def test_a_wall_clock_that_is_slewed_is_no_step_and_its_sum_is_told_in_time() -> None:
    desk = Desk()
    for _ in range(CLOCK_RECORD_NS // TICK_NS + 1):
        desk.daemon.tick()
        desk.clock.advance_ns(TICK_NS)
        desk.clock.step_wall_ns(NS_PER_MS)
    assert clock_orders(desk) == [("start", None), ("periodic", CLOCK_RECORD_NS // TICK_NS)]
    desk.daemon.tick()
    desk.clock.step_wall_ns(CLOCK_STEP_NS)
    desk.daemon.tick()
    assert clock_orders(desk)[2:] == [], "half a second at once is not more than half a second"


# For people


def test_status_before_anything_is_there() -> None:
    known = {key: value for key, value in Desk().daemon.status().items() if value is not None}
    assert known == {"finishing": [], "pre_event_configured_s": 3, "buffer_max_bytes": 64_000_000, "faults": {}}


def test_status_while_ready_recording_and_finishing() -> None:
    desk = Desk().ready()
    status = desk.daemon.status()
    assert (status["shows"], status["camera"], status["encoder"]) == ("ready", "camera 1", "encoder 1")
    assert status["buffered_s"] == 4.0
    assert status["buffer_bytes"] == desk.ring.payload_bytes
    assert status["dropped_frames"] == 0
    desk = Desk().recording()
    (order,) = desk.orders.of("start")
    assert desk.daemon.status()["durable_fragments"] == 0
    for fragment in (1, 2, 3):
        desk.daemon.fragment_durable(1, fragment)
    desk.daemon.drain()
    status = desk.daemon.status()
    assert (status["shows"], status["recording"]) == ("recording", order["plan"].recording_id)
    assert status["durable_fragments"] == 3
    desk.daemon.post(TerminationAsked())
    desk.daemon.drain()
    status = desk.daemon.status()
    assert (status["shows"], status["recording"]) == ("stopping", None)
    assert status["finishing"] == [order["plan"].recording_id]
    assert status["durable_fragments"] is None


def test_status_names_every_fault_and_only_while_it_lasts() -> None:
    desk = Desk().ready()
    desk.daemon.storage_fault("EROFS")
    desk.daemon.sound_changed("No card.")
    desk.daemon.signer_state("It sleeps.")
    desk.daemon.note_fault("panel", "A light is dead.")
    desk.daemon.stream_ended(desk.stream, "Unplugged.")
    desk.daemon.drain()
    assert desk.daemon.status()["camera"] is None
    assert desk.daemon.status()["faults"] == {
        "storage": "EROFS", "microphone": "No card.", "signer": "It sleeps.", "panel": "A light is dead.",
        "camera": "Unplugged.",
    }  # fmt: skip
    desk.daemon.storage_restored()
    desk.daemon.sound_changed(None)
    desk.daemon.signer_state(None)
    desk.daemon.note_fault("panel", None)
    desk.daemon.stream_started(desk.stream)
    desk.daemon.drain()
    assert desk.daemon.status()["faults"] == {}


def test_a_fault_is_logged_when_it_changes_and_not_at_every_look(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LOG, "propagate", True)
    caplog.set_level(logging.INFO, logger=LOG.name)
    desk = Desk()
    for message in (None, "Dead.", "Dead.", "Dead.", "Burnt.", None, None):
        desk.daemon.note_fault("panel", message)
    assert [record.__dict__["fields"]["fault"] for record in caplog.records] == ["Dead.", "Burnt.", None]
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING", "INFO"]


def test_a_camera_that_stays_away_is_logged_once_and_again_when_the_reason_changes(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LOG, "propagate", True)
    desk = Desk().ready()
    caplog.set_level(logging.INFO, logger=LOG.name)
    desk.daemon.stream_ended(desk.stream, "Unplugged.")
    for message in ("Unplugged.", "Unplugged.", "In use.", "In use."):
        desk.daemon.stream_ended(None, message)
    desk.daemon.drain()
    desk.daemon.stream_started(desk.stream)
    desk.daemon.stream_ended(desk.stream, "In use.")
    desk.daemon.drain()
    lost = [record for record in caplog.records if record.getMessage() == "camera-lost"]
    assert [record.__dict__["fields"]["message"] for record in lost] == ["Unplugged.", "In use.", "In use."]
    faults = [record for record in caplog.records if record.getMessage() == "fault"]
    assert {record.levelname for record in lost + faults} == {"WARNING"}
    assert len(faults) == 2


# The loop


class RunningClock(SimulatedClock):
    """Passes by 10 ms whenever it is looked at, so that waiting costs no real time."""

    def boottime_ns(self) -> int:
        self.advance_ns(10 * NS_PER_MS)
        return super().boottime_ns()


def test_the_loop_ends_with_what_the_controller_says() -> None:
    desk = Desk()
    desk.daemon._clock = RunningClock()
    desk.daemon.post(TerminationAsked())
    end = desk.daemon.run(desk.orders)
    assert (end.reason, end.clean) == ("shutdown", True)


def test_what_a_part_died_of_comes_out_of_the_loop() -> None:
    desk = Desk()
    desk.part_error = ZeroDivisionError("capture")
    with pytest.raises(ZeroDivisionError, match="capture"):
        desk.daemon.run(desk.orders)
    desk = Desk()
    desk.daemon.fatal(ZeroDivisionError("storage"))
    with pytest.raises(ZeroDivisionError, match="storage"):
        desk.daemon.run(desk.orders)


def test_what_waits_in_the_queue_is_looked_at_before_time_is_said_to_have_passed() -> None:
    """The loop stood still for five seconds after a press; the release waits in the queue, the pin is not read."""
    desk = Desk().recording()
    desk.frames(2)
    pressed_ns = desk.clock.boottime_ns()
    desk.daemon.post(ButtonEdge(True, pressed_ns))
    desk.daemon.drain()
    desk.clock.advance_ns(5 * NS_PER_S)
    for event in (
        FragmentDurable(1), ButtonEdge(False, pressed_ns + 100 * NS_PER_MS), TerminationAsked(), RecordingClosed(1),
    ):  # fmt: skip
        desk.daemon.post(event)
    desk.daemon.run(desk.orders)
    assert [order["reason"] for order in desk.orders.of("stop")] == ["shutdown"]


def test_events_that_come_too_thick_do_not_keep_time_from_passing() -> None:
    """Each event brings the next, and still there are ticks, and with them the end of a hold."""
    desk = Desk().recording()
    clock = RunningClock(desk.clock.boottime_ns())
    desk.daemon._clock = clock
    ticks = 0

    def check() -> None:
        nonlocal ticks
        ticks += 1
        if ticks == 5:
            desk.daemon.post(TerminationAsked())
            desk.daemon.post(RecordingClosed(1))

    desk.daemon._check_parts = check
    decide = desk.daemon._decide

    def decide_and_ask_again(event: Any) -> None:
        decide(event)
        if isinstance(event, FragmentDurable):
            desk.daemon.post(FragmentDurable(1))

    desk.daemon._decide = decide_and_ask_again  # type: ignore[method-assign]
    desk.daemon.post(FragmentDurable(1))
    assert desk.daemon.run(desk.orders).reason == "shutdown"
    assert ticks >= 5


def test_the_pin_is_read_with_every_tick() -> None:
    desk = Desk().recording()
    desk.button = True
    desk.daemon.post(ButtonEdge(True, desk.clock.boottime_ns()))
    desk.daemon.drain()
    desk.frames(0.5)
    desk.button = False  # and no edge tells of it
    desk.frames(3)
    assert desk.orders.of("stop") == []
