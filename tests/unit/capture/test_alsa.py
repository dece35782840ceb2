"""The ALSA microphone over a stand-in device, and the real library where there is no sound card."""

from __future__ import annotations

import itertools
import os
import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from agent.capture.alsa import AlsaMicrophone, AvAlsa, use_system_alsa
from agent.capture.microphone import AudioChunk
from agent.clock import NS_PER_MS, NS_PER_S, SimulatedClock, SystemClock
from agent.errors import MicrophoneError
from agent.media.packets import AudioFormat

RATE = 16_000
PERIOD = 48  # 3 ms


class FakeDevice:
    """A card that captures on the simulated clock in periods of 3 ms; sample k holds k / 2**24, so that none can be
    lost unseen.

    holes: (sample, ns) lost in front of it. stalls: (sample, ns) that its reader is held up there.
    """

    def __init__(
        self, clock: SimulatedClock, *, holes: dict[int, int] | None = None, stalls: dict[int, int] | None = None
    ) -> None:
        self.clock, self.holes, self.stalls = clock, holes or {}, stalls or {}
        self.start_ns = clock.boottime_ns()
        self.next = 0
        self.closed = self.broken = False

    @property
    def format(self) -> AudioFormat:
        return AudioFormat(RATE, 1)

    def true_ns(self, sample: int) -> int:
        lost = sum(ns for at, ns in self.holes.items() if at <= sample)
        return self.start_ns + sample * NS_PER_S // RATE + lost

    def read(self) -> npt.NDArray[np.float32]:
        if self.broken:
            raise OSError(5, "Input/output error")
        first, self.next = self.next, self.next + PERIOD
        for at, ns in self.stalls.items():
            if first <= at < self.next:
                self.clock.advance_ns(ns)
        self.clock.sleep_until_ns(self.true_ns(first) + PERIOD * NS_PER_S // RATE)
        return np.arange(first, self.next, dtype=np.float32)[None, :] / np.float32(2**24)

    def close(self) -> None:
        self.closed = True


def run(device: FakeDevice, chunks: int) -> tuple[AlsaMicrophone, list[AudioChunk]]:
    microphone = AlsaMicrophone(device.clock, "", RATE, 1, open_device=lambda *_: device)
    assert microphone.open() == AudioFormat(RATE, 1)
    return microphone, [microphone.read() for _ in range(chunks)]


def first_sample(chunk: AudioChunk) -> int:
    return round(float(chunk.samples[0, 0]) * 2**24)


def test_periods_are_gathered_to_chunks_with_their_capture_times() -> None:
    device = FakeDevice(SimulatedClock())
    _, chunks = run(device, 200)
    assert {chunk.samples.shape for chunk in chunks} == {(1, 336)}  # 7 periods of 3 ms
    assert [first_sample(chunk) for chunk in chunks] == [336 * k for k in range(200)]
    for chunk in chunks:
        assert chunk.captured_ns == pytest.approx(device.true_ns(first_sample(chunk)), abs=10_000)


def test_an_overrun_is_a_jump_and_is_counted() -> None:
    device = FakeDevice(SimulatedClock(), holes={336 * 50: 700 * NS_PER_MS})
    microphone, chunks = run(device, 200)
    assert microphone.overruns == 1
    assert [first_sample(chunk) for chunk in chunks] == [336 * k for k in range(200)]
    for chunk in chunks:
        assert chunk.captured_ns == pytest.approx(device.true_ns(first_sample(chunk)), abs=NS_PER_MS)


def test_a_reader_held_up_keeps_the_times() -> None:
    device = FakeDevice(SimulatedClock(), stalls={336 * 50: 600 * NS_PER_MS})
    microphone, chunks = run(device, 200)
    assert microphone.overruns == 0
    for chunk in chunks:
        assert chunk.captured_ns == pytest.approx(device.true_ns(first_sample(chunk)), abs=NS_PER_MS)


def test_times_found_too_late_cost_samples_and_never_go_back() -> None:
    class Loaded(FakeDevice):
        def read(self) -> npt.NDArray[np.float32]:
            samples = super().read()
            if self.next < RATE:  # a second of load: everything 80 ms late
                self.clock.sleep_until_ns(self.true_ns(self.next) + 80 * NS_PER_MS)
            return samples

    device = Loaded(SimulatedClock())
    _, chunks = run(device, 150)
    for before, after in itertools.pairwise(chunks):
        length_ns = before.samples.shape[1] * NS_PER_S // RATE
        assert after.captured_ns >= before.captured_ns + length_ns - 5 * NS_PER_MS
    assert chunks[-1].captured_ns == pytest.approx(device.true_ns(first_sample(chunks[-1])), abs=6 * NS_PER_MS)
    assert sum(chunk.samples.shape[1] for chunk in chunks) < first_sample(chunks[-1]) + 336


def test_a_device_that_breaks_is_a_sentence() -> None:
    device = FakeDevice(SimulatedClock())
    microphone, chunks = run(device, 3)
    device.broken = True
    while len(chunks) < 20:  # what had a time already is still given
        try:
            chunks.append(microphone.read())
        except MicrophoneError as error:
            message = str(error)
            break
    assert re.search(r"default stopped .*plug the microphone in again", message)
    microphone.close()
    microphone.close()
    assert device.closed
    with pytest.raises(MicrophoneError, match="not open"):
        microphone.read()


def test_reopened_it_starts_afresh() -> None:
    clock = SimulatedClock()
    devices = [FakeDevice(clock)]
    microphone = AlsaMicrophone(clock, "hw:1", RATE, 1, open_device=lambda *_: devices[-1])
    microphone.open()
    microphone.read()
    microphone.close()
    clock.advance_ns(60 * NS_PER_S)
    devices.append(FakeDevice(clock))
    microphone.open()
    chunk = microphone.read()
    assert first_sample(chunk) == 0
    assert chunk.captured_ns == pytest.approx(devices[-1].start_ns, abs=NS_PER_MS)


@pytest.mark.parametrize("device", ["hw:7", "nosuch"])
def test_the_real_library_on_an_absent_device_is_a_sentence(device: str) -> None:
    microphone = AlsaMicrophone(SystemClock(), device, 48_000, 1)
    with pytest.raises(MicrophoneError, match=rf"{device} does not open.*`arecord -L`"):
        microphone.open()


def test_the_real_library_writes_nothing_past_the_log(capfd: pytest.CaptureFixture[str]) -> None:
    for device in ("hw:7", "nosuch", "hw:7"):
        with pytest.raises(MicrophoneError):
            AlsaMicrophone(SystemClock(), device, 48_000, 1).open()
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


@pytest.mark.skipif(not Path("/usr/share/alsa/alsa.conf").exists(), reason="needs Debian's libasound2-data")
@pytest.mark.parametrize("channels", [1, 2])
def test_the_real_library_opens_the_null_device(channels: int) -> None:
    """Fails when libasound is not pointed to the system's configuration: then not even `null` is known."""
    source = AvAlsa("null", 48_000, channels)
    assert source.format == AudioFormat(48_000, channels)
    samples = source.read()
    assert samples.shape[0] == channels
    assert samples.dtype == np.float32
    # However short the card's periods are: each costs a turn of Python, which small boards have no time for.
    assert samples.shape[1] >= 0.02 * 48_000
    source.close()


def test_what_the_environment_says_of_alsa_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALSA_CONFIG_DIR", "/somewhere")
    monkeypatch.delenv("ALSA_PLUGIN_DIR", raising=False)
    use_system_alsa()
    assert os.environ["ALSA_CONFIG_DIR"] == "/somewhere"
    # Never the folder in /tmp that the wheel was built with.
    assert os.environ["ALSA_PLUGIN_DIR"].startswith("/usr/lib/")
