"""The sound thread: sound into the ring while there is any, and a word when there is none."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from itertools import pairwise

import pytest

import agent.daemon.sound
from agent.capture.microphone import AudioChunk, Microphone
from agent.capture.pace import TimeBase
from agent.capture.synthetic import SyntheticMicrophone
from agent.clock import NS_PER_MS, NS_PER_S, SimulatedClock
from agent.daemon.logs import LOG
from agent.daemon.sound import SoundThread
from agent.encode.audio import AudioEncoder
from agent.errors import MicrophoneError
from agent.media.packets import AudioFormat, AudioPacket
from agent.ring.ring import PacketRing
from tests.support.bench import bench_settings
from tests.unit.daemon.devices import RATE, WAIT_S, GatedMicrophone


class Desk:
    """A sound thread on a gated microphone; what it told, in a queue to wait at."""

    def __init__(self) -> None:
        self.clock = SimulatedClock()
        self.microphone: GatedMicrophone | None = GatedMicrophone(self.clock)
        self.told: queue.Queue[str | None] = queue.Queue()
        self.tries = 0
        self.silence: list[tuple[int, int]] = []
        self.ring = PacketRing(keep_ns=NS_PER_S, max_bytes=1 << 20, frame_ns=1, audio_before_trigger=True)
        self.thread = SoundThread(
            bench_settings(sound=True), self._open, AudioFormat(RATE, 1), self.ring, self.told.put, self.note_silence
        )

    def note_silence(self, from_ns: int, to_ns: int) -> None:
        self.silence.append((from_ns, to_ns))

    def _open(self) -> Microphone | None:
        self.tries += 1
        return self.microphone


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """A desk that is cleared away; pauses are short."""
    monkeypatch.setattr(agent.daemon.sound, "RETRY_S", 0.001)
    desk = Desk()
    yield desk
    desk.thread._stopping.set()
    if desk.microphone is not None:
        desk.microphone.free()
    desk.thread._thread.join(WAIT_S)
    assert not desk.thread._thread.is_alive()


def told(desk: Desk) -> str | None:
    """The next thing told."""
    return desk.told.get(timeout=WAIT_S)


def gated(desk: Desk) -> GatedMicrophone:
    """The microphone, which there is."""
    assert desk.microphone is not None
    return desk.microphone


def test_sound_that_comes_is_told_once_when_it_is_in_the_ring(desk: Desk) -> None:
    in_ring: list[int | None] = []
    put = desk.told.put

    def on_sound(message: str | None) -> None:
        in_ring.append(desk.ring.newest_audio_end_ns)
        put(message)

    desk.thread._on_sound = on_sound
    desk.thread.start()
    gated(desk).give(50)
    assert told(desk) is None
    assert in_ring[0] is not None
    gated(desk).error = MicrophoneError("The card is gone.")
    gated(desk).give()
    assert told(desk) == "The card is gone."


def test_a_microphone_that_fails_is_told_once_and_its_return_too(desk: Desk) -> None:
    gated(desk).unplug()
    desk.thread.start()
    first = told(desk)
    assert first is not None
    assert "plug_in() before" in first
    tries = desk.tries
    while desk.tries < tries + 5:
        threading.Event().wait(0.001)
    assert desk.told.empty(), "a fault is told when it begins, and not with each try"
    gated(desk).plug_in()
    gated(desk).give(50)
    assert told(desk) is None
    assert gated(desk).closed >= 5


def test_another_format_than_the_recording_was_promised_is_a_sentence(desk: Desk) -> None:
    desk.microphone = GatedMicrophone(desk.clock, rate=8_000, channels=2)
    desk.thread.start()
    assert told(desk) == (
        "synthetic tone 8000 Hz gives 2 channels at 8000 Hz; set audio.channels and audio.sample_rate_hz to that."
    )
    assert desk.ring.newest_audio_end_ns is None


def test_a_source_without_sound_is_a_sentence(desk: Desk) -> None:
    desk.microphone = None
    desk.thread.start()
    assert told(desk) == (
        'This source has no sound; set audio.source = "none" and buffer.audio = false to record without it.'
    )


def test_a_defect_in_sound_is_told_and_tried_again_and_not_silence(
    desk: Desk, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LOG, "propagate", True)
    gated(desk).error = ZeroDivisionError("a defect")
    desk.thread.start()
    gated(desk).give()
    message = told(desk)
    assert message is not None
    assert "ZeroDivisionError('a defect')" in message
    assert "sound-failed" in caplog.text
    gated(desk).error = None
    gated(desk).give(50)
    assert told(desk) is None


def test_what_fails_because_it_is_stopping_is_no_fault(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    reading = threading.Event()

    def fails_at_the_end() -> AudioChunk:
        reading.set()
        assert desk.thread._stopping.wait(WAIT_S)
        raise MicrophoneError("The device was closed.")

    monkeypatch.setattr(desk.microphone, "read", fails_at_the_end)
    monkeypatch.setattr(agent.daemon.sound, "STOP_S", WAIT_S)
    desk.thread.start()
    assert reading.wait(WAIT_S)
    desk.thread.stop()
    assert desk.told.empty()
    assert not desk.thread._thread.is_alive()
    assert gated(desk).closed == 1


def test_a_device_that_blocks_is_left_behind(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent.daemon.sound, "STOP_S", 0.01)
    reading = threading.Event()
    read = gated(desk).read

    def blocking() -> AudioChunk:
        reading.set()
        return read()

    monkeypatch.setattr(desk.microphone, "read", blocking)
    desk.thread.start()
    assert reading.wait(WAIT_S)
    desk.thread.stop()
    assert desk.thread._thread.is_alive()


def test_a_microphone_that_was_away_leaves_named_silence_and_not_a_jump(monkeypatch: pytest.MonkeyPatch) -> None:
    """From one session to the next: the sound goes on without a hole in its times, and the hole is told."""
    clock = SimulatedClock()
    base = TimeBase(clock)
    told: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    holes: list[tuple[int, int]] = []
    ring = PacketRing(keep_ns=60 * NS_PER_S, max_bytes=1 << 20, frame_ns=NS_PER_S // 30, audio_before_trigger=True)
    pushed: list[AudioPacket] = []
    monkeypatch.setattr(ring, "push_audio", pushed.append)
    thread = SoundThread(
        bench_settings(sound=True),
        lambda: SyntheticMicrophone(base, RATE, 1),
        AudioFormat(RATE, 1),
        ring,
        told.put,
        lambda from_ns, to_ns: holes.append((from_ns, to_ns)),
    )
    encoder = AudioEncoder(bench_settings(sound=True).audio, AudioFormat(RATE, 1))
    microphone = SyntheticMicrophone(base, RATE, 1)
    microphone.open()
    for _ in range(30):
        thread._encode(encoder, microphone.read())
    microphone.close()
    clock.advance_ns(3 * NS_PER_S)
    microphone.open()
    for _ in range(30):
        thread._encode(encoder, microphone.read())
    ((from_ns, to_ns),) = holes
    assert abs(to_ns - from_ns - 3 * NS_PER_S) < 40 * NS_PER_MS
    longest_ns = max(after.pts_ns - before.pts_ns for before, after in pairwise(pushed))
    assert longest_ns < 2 * pushed[0].duration_ns
