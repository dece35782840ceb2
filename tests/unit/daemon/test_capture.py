"""The capture thread: sessions of camera and encoder, one after another, and what it tells of them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

import agent.daemon.capture
import agent.daemon.sound
from agent.capture.camera import Camera, CameraFrame
from agent.capture.microphone import Microphone
from agent.clock import NS_PER_S, SimulatedClock
from agent.daemon.capture import RING_SLACK_NS, CaptureThread, make_ring, make_tracks
from agent.daemon.signing_watch import SigningWatch
from agent.encode.video import VideoEncoder
from agent.errors import CameraError, EncoderError, MicrophoneError
from agent.media.packets import AudioFormat, VideoPacket
from agent.recorder.plan import Stream
from agent.settings.schema import Settings
from tests.support.bench import bench_settings
from tests.unit.daemon.devices import FPS, RATE, WAIT_S, GatedCamera, GatedMicrophone, LendingCamera


@dataclass
class Desk:
    """A capture thread on gated devices; what it told, in queues to wait at."""

    settings: Settings
    clock: SimulatedClock = field(default_factory=SimulatedClock)
    started: queue.Queue[Stream] = field(default_factory=queue.Queue)
    ended: queue.Queue[tuple[Stream | None, str]] = field(default_factory=queue.Queue)
    sound: queue.Queue[str | None] = field(default_factory=queue.Queue)
    absent: bool = False

    def __post_init__(self) -> None:
        self.camera: GatedCamera = GatedCamera(self.clock)
        self.microphone = GatedMicrophone(self.clock)
        self.thread = CaptureThread(
            self.settings,
            open_camera=self._open_camera,
            open_microphone=self._open_microphone,
            open_signer=lambda: None,
            signing=SigningWatch(lambda _message: None, lambda _gops: None),
            on_progress=lambda: None,
            on_started=self.started.put,
            on_ended=lambda stream, message: self.ended.put((stream, message)),
            on_sound=self.sound.put,
            on_silence=lambda _from_ns, _to_ns: None,
        )

    def _open_camera(self) -> Camera:
        if self.absent:
            raise CameraError("There is no camera; plug one in.")
        return self.camera

    def _open_microphone(self, camera: Camera) -> Microphone | None:
        assert camera is self.camera
        return self.microphone

    def begin(self) -> Stream:
        """Start, with the first frame."""
        self.thread.start()
        self.camera.taken(1)
        self.frames(1)
        return self.started.get(timeout=WAIT_S)

    def frames(self, count: int) -> None:
        """That many more frames of the first session, encoded when this returns."""
        self.camera.give(count)
        self.camera.taken(count)


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """A desk that is cleared away; pauses are short."""
    monkeypatch.setattr(agent.daemon.capture, "FIRST_RETRY_S", 0.001)
    monkeypatch.setattr(agent.daemon.sound, "RETRY_S", 0.001)
    monkeypatch.setattr(agent.daemon.sound, "STOP_S", 0.02)
    desk = Desk(bench_settings(fps=FPS, sound=True, buffer_audio=True))
    yield desk
    desk.microphone.free()
    if desk.thread.alive:
        desk.thread._stopping.set()
        desk.camera.give(100)
        assert desk.thread.stop(WAIT_S)


def video(stream: Stream) -> list[VideoPacket]:
    """Every packet that the ring holds."""
    cursor = stream.ring.open_cursor(start_ns=0, audio_from_ns=0)
    stream.ring.end()
    packets: list[VideoPacket] = []
    while (read := cursor.read()) is not None:
        packets += read.video
        cursor.advance(read)
        if read.final:
            break
    return packets


def test_a_session_is_told_with_its_first_frame_and_not_again(desk: Desk) -> None:
    stream = desk.begin()
    assert stream.camera_name == "synthetic 96x64 at 10/s"
    assert "264" in stream.encoder_name
    assert (stream.tracks.video.width, stream.tracks.video.height, stream.tracks.video.fps) == (96, 64, FPS)
    assert stream.tracks.audio == AudioFormat(RATE, 1)
    desk.frames(20)
    assert desk.started.empty()
    assert stream.ring.buffered_ns >= 19 * NS_PER_S // FPS
    assert desk.thread.alive


def test_an_unplugged_camera_ends_the_session_and_a_plugged_in_one_begins_the_next(desk: Desk) -> None:
    first = desk.begin()
    desk.frames(15)
    desk.camera.unplug()
    desk.camera.give()
    stream, message = desk.ended.get(timeout=WAIT_S)
    assert stream is first
    assert "unplugged" in message
    again, message = desk.ended.get(timeout=WAIT_S)
    assert again is None, "a session that gave no frame has no stream to end"
    assert "plug_in() before" in message
    desk.camera.plug_in()
    desk.camera.give(2)
    second = desk.started.get(timeout=WAIT_S)
    assert second.ring is not first.ring
    assert desk.camera.opened == 2
    assert desk.camera.closed >= 2
    packets = video(first)
    assert len(packets) == 16, "what the encoder still held came into the ring as well"
    assert packets[0].is_keyframe


def test_no_picture_is_held_when_the_camera_closes(desk: Desk) -> None:
    camera = desk.camera = LendingCamera(desk.clock)
    desk.begin()
    desk.frames(3)
    camera.unplug()
    camera.give()
    desk.ended.get(timeout=WAIT_S)
    desk.ended.get(timeout=WAIT_S)
    assert desk.thread.failure is None
    assert camera.freed


def test_an_absent_camera_is_tried_again_with_growing_pauses(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    class Stopping(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            assert timeout is not None
            pauses.append(timeout)
            return len(pauses) == 8

    monkeypatch.setattr(agent.daemon.capture, "FIRST_RETRY_S", 0.5)
    desk.absent = True
    desk.thread._stopping = Stopping()
    desk.thread.start()
    desk.thread._thread.join(WAIT_S)
    assert pauses == [0.5, 1, 2, 4, 8, 10, 10, 10]
    messages = [desk.ended.get_nowait() for _ in range(8)]
    assert set(messages) == {(None, "There is no camera; plug one in.")}
    assert desk.thread.failure is None


def test_after_a_session_that_gave_frames_the_pauses_are_short_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []

    class Stopping(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            assert timeout is not None
            pauses.append(timeout)
            desk.absent = len(pauses) < 3
            desk.camera.plug_in()
            desk.camera.give()
            return len(pauses) == 4

    monkeypatch.setattr(agent.daemon.capture, "FIRST_RETRY_S", 0.5)
    desk.absent = True
    desk.thread._stopping = Stopping()
    desk.camera._unplug_after = 1
    desk.camera.give(1)
    desk.thread.start()
    desk.started.get(timeout=WAIT_S)
    desk.thread._thread.join(WAIT_S)
    assert pauses == [0.5, 1, 2, 0.5]


class FailingEncoder(VideoEncoder):
    """Breaks at its fifth frame."""

    calls = 0

    def encode(self, frame: CameraFrame, *, force_keyframe: bool = False) -> list[VideoPacket]:
        FailingEncoder.calls += 1
        if FailingEncoder.calls == 5:
            raise EncoderError("The encoder broke; it is started anew.")
        return super().encode(frame, force_keyframe=force_keyframe)


def test_an_encoder_that_breaks_ends_the_session_and_a_new_one_begins(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent.daemon.capture, "VideoEncoder", FailingEncoder)
    FailingEncoder.calls = 0
    first = desk.begin()
    desk.camera.give(6)
    assert desk.ended.get(timeout=WAIT_S) == (first, "The encoder broke; it is started anew.")
    second = desk.started.get(timeout=WAIT_S)
    assert second is not first
    assert len(video(first)) == 4


class LateEncoder(VideoEncoder):
    """Keeps the newest packets to itself until it is flushed, as a hardware encoder's queue does."""

    def encode(self, frame: CameraFrame, *, force_keyframe: bool = False) -> list[VideoPacket]:
        self.__dict__.setdefault("kept", []).extend(super().encode(frame, force_keyframe=force_keyframe))
        kept: list[VideoPacket] = self.__dict__["kept"]
        out = kept[:-3]
        del kept[:-3]
        return out

    def flush(self) -> list[VideoPacket]:
        return [*self.__dict__.pop("kept", []), *super().flush()]


@pytest.mark.parametrize("lost", [True, False])
def test_what_an_encoder_still_holds_at_the_end_of_a_session_is_kept(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, lost: bool
) -> None:
    monkeypatch.setattr(agent.daemon.capture, "VideoEncoder", LateEncoder)
    desk.thread.start()
    desk.camera.taken(1)
    desk.frames(9)
    stream = desk.started.get(timeout=WAIT_S)
    if lost:
        desk.camera.unplug()
    else:
        desk.thread._stopping.set()
    desk.camera.give()
    assert desk.ended.get(timeout=WAIT_S)[0] is stream
    # Told before or after: the ring is complete when it is said to have ended.
    assert len(video(stream)) == (9 if lost else 10)


def test_a_camera_that_opens_and_gives_nothing_has_no_stream_to_end(desk: Desk) -> None:
    desk.camera._unplug_after = 0
    desk.thread.start()
    desk.camera.give()
    stream, message = desk.ended.get(timeout=WAIT_S)
    assert stream is None
    assert "was unplugged" in message
    assert desk.started.empty()


def test_a_keyframe_comes_when_it_is_asked_for(desk: Desk) -> None:
    stream = desk.begin()
    desk.frames(4)
    desk.thread.force_keyframe(desk.clock.boottime_ns())
    desk.frames(8)
    assert [index for index, packet in enumerate(video(stream)) if packet.is_keyframe] == [0, 5]


def test_stopping_ends_the_session_with_all_its_frames(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = desk.begin()
    desk.frames(12)
    desk.thread._stopping.set()
    desk.camera.give()
    monkeypatch.setattr(agent.daemon.sound, "STOP_S", WAIT_S)
    desk.microphone.free()
    assert desk.thread.stop(WAIT_S)
    assert desk.ended.get_nowait() == (stream, "The agent is stopping.")
    assert desk.camera.closed == 1
    assert desk.microphone.closed == desk.microphone.opened
    assert len(video(stream)) == 14
    assert not desk.thread.alive


def test_a_camera_that_hangs_in_the_kernel_is_left_behind(desk: Desk) -> None:
    desk.begin()
    assert not desk.thread.stop(0.01)
    assert desk.thread.alive


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_defect_ends_the_thread_and_can_be_told_why(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_self: GatedCamera) -> CameraFrame:
        raise ZeroDivisionError

    monkeypatch.setattr(GatedCamera, "read", broken)
    desk.thread.start()
    desk.thread._thread.join(WAIT_S)
    assert not desk.thread.alive
    assert isinstance(desk.thread.failure, ZeroDivisionError)
    assert desk.camera.closed == 1
    assert desk.ended.empty(), "a defect is no end of a session that may be tried again"


def test_what_was_told_of_the_sound_outlives_the_camera_session(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """It fails in one session and works in the next: both are told; it works again and again: nothing is."""
    monkeypatch.setattr(agent.daemon.sound, "STOP_S", WAIT_S)
    opened: list[GatedMicrophone] = []
    error: MicrophoneError | None = MicrophoneError("The card is gone.")

    def open_microphone(_camera: Camera) -> Microphone:
        microphone = GatedMicrophone(desk.clock)
        microphone.error = error
        microphone.free()
        opened.append(microphone)
        return microphone

    def next_session() -> Stream:
        desk.camera.unplug()
        desk.camera.give()
        assert desk.ended.get(timeout=WAIT_S)[0] is not None
        desk.camera.plug_in()
        desk.camera.give(2)
        return desk.started.get(timeout=WAIT_S)

    desk.thread._open_microphone = open_microphone
    desk.begin()
    assert desk.sound.get(timeout=WAIT_S) == "The card is gone."
    error = None
    next_session()
    assert desk.sound.get(timeout=WAIT_S) is None
    third = next_session()
    while third.ring.newest_audio_end_ns is None:
        threading.Event().wait(0.001)
    opened[-1].error = MicrophoneError("Gone again.")
    assert desk.sound.get(timeout=WAIT_S) == "Gone again."


def test_without_a_microphone_no_recording_has_a_sound_track() -> None:
    settings = bench_settings(sound=False)
    clock = SimulatedClock()
    encoder = VideoEncoder(settings.video, GatedCamera(clock).open())
    tracks = make_tracks(settings, encoder)
    assert tracks.audio is None
    assert make_tracks(bench_settings(sound=True), encoder).audio_config != b""
    encoder.close()


def test_the_ring_keeps_the_pre_event_and_a_little_more() -> None:
    settings = bench_settings(pre_event_s=3)
    ring = make_ring(settings, 10.0, None)
    for number in range(200):
        ring.push_video(VideoPacket(b"x", number * NS_PER_S // 10, is_keyframe=number % 10 == 0))
    assert 3 * NS_PER_S + RING_SLACK_NS <= ring.buffered_ns < 4 * NS_PER_S + RING_SLACK_NS
    assert ring._max_bytes == settings.buffer.max_bytes
