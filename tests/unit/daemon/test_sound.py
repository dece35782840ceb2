"""The sound thread: sound into the ring while there is any, and a word when there is none."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator

import pytest

import agent.daemon.sound
from agent.capture.microphone import AudioChunk, Microphone
from agent.clock import NS_PER_S, SimulatedClock
from agent.daemon.logs import LOG
from agent.daemon.sound import SoundThread
from agent.errors import MicrophoneError
from agent.media.packets import AudioFormat
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
        self.ring = PacketRing(keep_ns=NS_PER_S, max_bytes=1 << 20, frame_ns=1, audio_before_trigger=True)
        self.thread = SoundThread(
            bench_settings(sound=True), self._open, AudioFormat(RATE, 1), self.ring, self.told.put
        )

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
    assert told(desk) == 'This source has no sound; set audio.source to "none" to record without it.'


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
