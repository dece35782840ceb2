"""Camera, encoder, microphone, pins and serial line: what is said of good ones and of each kind of bad one."""

from __future__ import annotations

import errno
import os
import pty
import struct
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from agent.capture.camera import CameraFormat, CameraFrame
from agent.capture.microphone import AudioChunk, Microphone
from agent.capture.pace import TimeBase
from agent.capture.synthetic import SyntheticCamera, SyntheticMicrophone
from agent.clock import NS_PER_S, Clock, SimulatedClock, SystemClock
from agent.doctor import camera as camera_file
from agent.doctor import encoder as encoder_file
from agent.doctor.camera import CameraFacts, check_camera, judge_camera, probe_camera
from agent.doctor.check import Check, State
from agent.doctor.encoder import EncoderFacts, check_encoder, judge_encoder, probe_encoder
from agent.doctor.gpio import Chip, GpioFacts, check_gpio, judge_gpio, probe_gpio
from agent.doctor.microphone import MicrophoneFacts, check_microphone, judge_microphone
from agent.doctor.serial_line import check_serial
from agent.errors import CameraError, CameraLostError, EncoderError, MicrophoneError
from agent.media.packets import AudioFormat, VideoPacket
from agent.settings.load import load_settings
from agent.settings.schema import AudioSettings, BridgeSettings, CameraSettings, GpioSettings, Settings, VideoSettings

SMALL = CameraSettings(backend="webcam", width=320, height=240, fps=30)
SETTINGS = Settings(camera=SMALL)
FORMAT = CameraFormat(320, 240, 30, "yuv420p")
THIRTIETH = NS_PER_S // 30


def says(check: Check, state: State, *words: str) -> None:
    """The state and what must be said; whoever is to act is told what to do, in sentences."""
    assert check.state is state, check
    for word in words:
        assert word in f"{check.found} {check.advice}", check
    assert check.found.endswith("."), check
    if state in {State.WARN, State.FAIL}:
        assert check.advice.endswith("."), check
        assert check.advice[0].isupper(), check
    else:
        assert check.advice == ""


# Camera


def synthetic(unplug_after: int | None = None) -> Callable[[CameraSettings, Clock], SyntheticCamera]:
    return lambda asked, clock: SyntheticCamera(clock, asked.width, asked.height, asked.fps, unplug_after=unplug_after)


def test_a_camera_that_does_what_was_asked() -> None:
    check, given = check_camera(SETTINGS, SimulatedClock(), synthetic())
    says(check, State.OK, "320x240 yuv420p at 30.0 frames/s")
    assert given == FORMAT


def test_a_camera_that_films_nothing_is_no_camera_to_wear() -> None:
    unreal = replace(SETTINGS, camera=replace(SMALL, backend="synthetic"))
    says(check_camera(unreal, SimulatedClock(), synthetic())[0], State.WARN, "films nothing")
    bench = replace(unreal, profile="bench")
    says(check_camera(bench, SimulatedClock(), synthetic())[0], State.OK)


def test_a_camera_that_is_lost_after_a_frame() -> None:
    check, given = check_camera(SETTINGS, SimulatedClock(), synthetic(unplug_after=1))
    says(check, State.FAIL, "unplugged")
    assert given is None


class Broken(SyntheticCamera):
    """A camera that fails to open, and notes whether it was closed all the same."""

    closed = False

    def open(self) -> CameraFormat:
        raise CameraError("There is no camera; plug one in.")

    def close(self) -> None:
        self.closed = True


def test_a_camera_that_is_not_there_is_closed_and_named() -> None:
    broken = Broken(SimulatedClock(), 320, 240, 30)
    says(
        check_camera(SETTINGS, SimulatedClock(), lambda _, __: broken)[0], State.FAIL, "There is no camera.", "Plug one"
    )
    assert broken.closed


def test_a_camera_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()

    class Frozen(SyntheticCamera):
        def read(self) -> CameraFrame:
            release.wait()
            raise CameraLostError("released by the test")

    monkeypatch.setattr(camera_file, "START_S", 0.05)
    frozen = replace(SETTINGS, camera=replace(SMALL, stall_ms=1))
    try:
        check, _ = check_camera(frozen, SimulatedClock(), lambda _, clock: Frozen(clock, 320, 240, 30))
    finally:
        release.set()
    says(check, State.FAIL, "hangs")


def camera_facts(*captured_ns: int, read_ns: int | None = None, camera: CameraFormat = FORMAT) -> CameraFacts:
    return CameraFacts("webcam /dev/video0", camera, captured_ns, captured_ns[-1] if read_ns is None else read_ns)


def test_loading_a_camera_has_a_limit_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    limits_s: list[float] = []
    loaded_within_s: list[float] = []

    class Loaded(SyntheticCamera):
        def load(self) -> None:
            loaded_within_s.extend(limits_s)

    def within(limit_s: float, do: Callable[[], object]) -> object:
        limits_s.append(limit_s)
        return do()

    monkeypatch.setattr(camera_file, "within", within)
    probe_camera(SMALL, SimulatedClock(), lambda _, clock: Loaded(clock, 320, 240, 30))
    assert loaded_within_s == [camera_file.LOAD_S]
    assert len(limits_s) == 2


@pytest.mark.parametrize(
    ("facts", "state", "word"),
    [
        (camera_facts(0, THIRTIETH, 2 * THIRTIETH), State.OK, "at 30.0"),
        (camera_facts(0, 2 * THIRTIETH, 4 * THIRTIETH), State.WARN, "at 15.0 frames/s; 30 was asked for"),
        (camera_facts(0, THIRTIETH // 2, THIRTIETH), State.WARN, "at 60.0 frames/s; 30 was asked for"),
        (camera_facts(0, THIRTIETH, THIRTIETH), State.FAIL, "do not increase"),
        (camera_facts(0, THIRTIETH, 2 * THIRTIETH, read_ns=9 * NS_PER_S), State.FAIL, "8.9 s away from the boot clock"),
        (camera_facts(0, THIRTIETH, 2 * THIRTIETH, read_ns=THIRTIETH), State.FAIL, "away from the boot clock"),
        (
            camera_facts(0, THIRTIETH, 2 * THIRTIETH, camera=replace(FORMAT, width=640, height=480)),
            State.WARN,
            "320x240 was asked for",
        ),
    ],
)
def test_what_is_said_of_a_camera(facts: CameraFacts, state: State, word: str) -> None:
    says(judge_camera(facts, SMALL), state, word)


def test_the_real_clock_and_a_paced_camera() -> None:
    facts = probe_camera(SMALL, SystemClock(), synthetic())
    assert len(facts.captured_ns) == 3
    says(judge_camera(facts, SMALL), State.OK)


def test_the_bench_profile_with_the_cameras_and_microphones_of_the_daemon(tmp_path: Path) -> None:
    bench = load_settings(None, profile="bench").settings
    says(check_camera(bench, SimulatedClock())[0], State.OK, "synthetic", "640x360")
    says(check_microphone(bench, SimulatedClock()), State.OK, "48000 Hz")
    images = replace(bench, camera=replace(bench.camera, backend="file", device=str(tmp_path)))
    says(check_camera(images, SimulatedClock())[0], State.FAIL)
    says(check_microphone(images, SimulatedClock()), State.FAIL)


# Encoder


@pytest.mark.parametrize(
    ("facts", "state", "word"),
    [
        (EncoderFacts("libx264", 30, 30, NS_PER_S // 2), State.OK, "at 60 frames/s; the camera gives 30"),
        (EncoderFacts("libx264", 30, 30, NS_PER_S * 9 // 10), State.WARN, "at 33"),
        (EncoderFacts("libx264", 30, 30, NS_PER_S * 11 // 10), State.FAIL, "at 27"),
        (EncoderFacts("h264_v4l2m2m", 30, 29, NS_PER_S // 2), State.FAIL, "29 packets of 30"),
    ],
)
def test_what_is_said_of_an_encoder(facts: EncoderFacts, state: State, word: str) -> None:
    says(judge_encoder(facts, FORMAT), state, word)


def test_the_real_encoder_gives_a_packet_for_each_frame() -> None:
    video = VideoSettings(encoder="libx264", bitrate_bps=500_000, preset="ultrafast", threads=1)
    for pixel_format in ("yuv420p", "nv12", "yuyv422", "yuvj420p"):
        camera = CameraFormat(320, 240, 15, pixel_format)
        facts = probe_encoder(video, camera, SystemClock())
        assert (facts.name, facts.frames, facts.packets) == ("libx264", 15, 15)
        assert facts.duration_ns > 0


def test_an_encoder_that_does_not_open() -> None:
    def refuses(_: VideoSettings, __: CameraFormat) -> encoder_file.Encoder:
        raise EncoderError('The encoder does not open; set video.encoder to "auto".')

    says(check_encoder(VideoSettings(), FORMAT, SimulatedClock(), refuses), State.FAIL, "does not open.", "Set video")


def test_hardware_that_this_machine_lacks() -> None:
    if Path("/dev/video11").exists():
        pytest.skip("this machine may have the hardware encoder")
    check = check_encoder(VideoSettings(encoder="h264_v4l2m2m"), FORMAT, SystemClock())
    says(check, State.FAIL, "h264_v4l2m2m does not open")


def test_an_encoder_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()

    class Hangs:
        name = "h264_v4l2m2m"

        def encode(self, _: CameraFrame, /) -> list[VideoPacket]:
            release.wait()
            return []

        def flush(self) -> list[VideoPacket]:
            return []

    monkeypatch.setattr(encoder_file, "TIMEOUT_S", 0.2)
    try:
        check = check_encoder(VideoSettings(), FORMAT, SimulatedClock(), lambda _, __: Hangs())
    finally:
        release.set()
    says(check, State.FAIL, "hangs")


def test_the_test_pictures_move_and_are_no_easy_ones() -> None:
    pictures = [frame.to_ndarray() for frame in encoder_file.moving_pictures(CameraFormat(64, 48, 30, "gray"), 3)]
    assert all(picture.shape == (48, 64) for picture in pictures)
    assert np.std(pictures[0]) > 20
    assert not np.array_equal(pictures[0], pictures[1])
    assert isinstance(next(encoder_file.moving_pictures(FORMAT, 1)), av.VideoFrame)


# Microphone


def tone(settings: Settings, clock: Clock) -> Microphone:
    return SyntheticMicrophone(TimeBase(clock), settings.audio.sample_rate_hz, settings.audio.channels)


class Fixed:
    """A microphone that gives one value for ever, or an error, or nothing."""

    name = "alsa hw:1"

    def __init__(self, value: float = 0.0, error: MicrophoneError | None = None) -> None:
        self.value, self.error, self.closed = value, error, False

    def open(self) -> AudioFormat:
        return AudioFormat(48_000, 1)

    def read(self) -> AudioChunk:
        if self.error:
            raise self.error
        return AudioChunk(np.full((1, 4800), self.value, np.float32), 0)

    def close(self) -> None:
        self.closed = True


def test_a_microphone_that_hears_something() -> None:
    says(check_microphone(SETTINGS, SimulatedClock(), tone), State.OK, "48000 Hz, 1 channel(s)", "dB of full scale")


@pytest.mark.parametrize(
    ("microphone", "state", "word"),
    [
        (Fixed(0.0), State.WARN, "all of it zeros"),
        (Fixed(-1.0), State.WARN, "clips"),
        (Fixed(-0.1), State.OK, "peak -20 dB"),
        (Fixed(error=MicrophoneError("It went away; plug it in.")), State.FAIL, "It went away. Plug it in."),
    ],
)
def test_what_is_said_of_a_microphone(microphone: Fixed, state: State, word: str) -> None:
    says(check_microphone(SETTINGS, SimulatedClock(), lambda _, __: microphone), state, word)
    assert microphone.closed


def test_a_microphone_that_gives_another_rate() -> None:
    facts = MicrophoneFacts("alsa", AudioFormat(44_100, 2), 0.1)
    says(judge_microphone(facts, AudioSettings()), State.WARN, "48000 Hz and 1 channel(s) were asked for")


def test_no_microphone_and_no_sound_in_the_file() -> None:
    silent = replace(SETTINGS, audio=AudioSettings(source="none"))
    says(check_microphone(silent, SimulatedClock(), tone), State.SKIPPED, "no sound")
    says(check_microphone(SETTINGS, SimulatedClock(), lambda _, __: None), State.WARN, "carries no sound")


# Pins

CHIP = Chip(Path("/dev/gpiochip0"), "pinctrl-bcm2711", 58, {})
OTHER = Chip(Path("/dev/gpiochip1"), "raspberrypi-exp-gpio", 8, {})


def gpio_facts(*chips: Chip, unreadable: tuple[tuple[Path, str], ...] = (), has_lgpio: bool = True) -> GpioFacts:
    return GpioFacts(chips, unreadable, has_lgpio)


def test_the_chip_is_found_by_its_label_whatever_its_number() -> None:
    moved = replace(CHIP, path=Path("/dev/gpiochip4"), label="pinctrl-rp1")
    says(judge_gpio(gpio_facts(OTHER, moved), SETTINGS), State.OK, "/dev/gpiochip4 is pinctrl-rp1", "GPIO17")


@pytest.mark.parametrize(
    ("facts", "gpio", "state", "word"),
    [
        (gpio_facts(OTHER), GpioSettings(), State.FAIL, "gpiochip1 is raspberrypi-exp-gpio"),
        (gpio_facts(), GpioSettings(), State.FAIL, "has no GPIO chip"),
        (
            gpio_facts(unreadable=((Path("/dev/gpiochip0"), "Permission denied"),)),
            GpioSettings(),
            State.FAIL,
            "Let this user",
        ),
        (gpio_facts(CHIP, has_lgpio=False), GpioSettings(), State.FAIL, "lgpio is not installed"),
        (gpio_facts(replace(CHIP, lines=25)), GpioSettings(), State.FAIL, "buzzer_pin = 25"),
        (
            gpio_facts(replace(CHIP, holders={17: "spi0 CS1"})),
            GpioSettings(),
            State.FAIL,
            "record_button_pin = 17 is held by spi0 CS1",
        ),
        (gpio_facts(replace(CHIP, holders={5: "w1"})), GpioSettings(), State.OK, "are free"),
        (
            gpio_facts(replace(CHIP, holders={5: "w1"})),
            GpioSettings(trigger_input_pins=(5,)),
            State.FAIL,
            "trigger_input_pins = 5 is held by w1",
        ),
        (
            gpio_facts(CHIP),
            GpioSettings(led_red_pin=-1, led_green_pin=-1, led_blue_pin=-1),
            State.WARN,
            "no light is fitted",
        ),
    ],
)
def test_what_is_said_of_the_pins(facts: GpioFacts, gpio: GpioSettings, state: State, word: str) -> None:
    says(judge_gpio(facts, Settings(gpio=gpio)), state, word)


def test_chips_are_read_with_the_kernels_structures(tmp_path: Path) -> None:
    for name in ("gpiochip0", "gpiochip1", "gpiochip2"):
        (tmp_path / name).touch()
    (tmp_path / "gpiochip4").symlink_to("gpiochip0")
    asked: list[tuple[str, int]] = []

    def ioctl(descriptor: int, request: int, buffer: bytearray) -> int:
        path = str(Path(f"/proc/self/fd/{descriptor}").readlink())
        asked.append((Path(path).name, request))
        if path.endswith("2"):
            raise OSError(errno.EINVAL, "Invalid argument")
        # struct gpiochip_info and struct gpio_v2_line_info of linux/gpio.h, written out field by field.
        if request == 0x8044B401:
            assert len(buffer) == 68
            label = b"pinctrl-rp1" if path.endswith("0") else b"other"
            buffer[:] = b"gpiochip0".ljust(32, b"\0") + label.ljust(32, b"\0") + struct.pack("=I", 54)
        else:
            assert request == 0xC100B405
            assert len(buffer) == 256
            (pin,) = struct.unpack_from("=I", buffer, 64)
            if pin == 22:
                buffer[32:41] = b"spi0 CS0\0"
                struct.pack_into("=Q", buffer, 72, 0x1 | 0x8)  # used, output
            else:
                struct.pack_into("=Q", buffer, 72, 0x4)  # input
        return 0

    facts = probe_gpio([17, 22, 60], tmp_path, ioctl)
    assert facts.chips == (
        Chip(tmp_path / "gpiochip0", "pinctrl-rp1", 54, {22: "spi0 CS0"}),
        Chip(tmp_path / "gpiochip1", "other", 54, {22: "spi0 CS0"}),
    )
    assert facts.unreadable == ((tmp_path / "gpiochip2", "Invalid argument"),)
    assert asked.count(("gpiochip0", 0x8044B401)) == 1  # not again through the link


def test_a_machine_without_pins_and_one_with_mock_pins(tmp_path: Path) -> None:
    says(check_gpio(SETTINGS, tmp_path), State.FAIL, "has no GPIO chip")
    says(check_gpio(replace(SETTINGS, gpio=GpioSettings(factory="mock"))), State.SKIPPED, "mock")


# Serial line


def test_a_real_serial_line_and_one_that_somebody_holds() -> None:
    far, near = pty.openpty()
    try:
        bridge = BridgeSettings(device=os.ttyname(near))
        says(check_serial(bridge), State.OK, "opens at 115200 baud")
        import serial

        with serial.Serial(bridge.device, bridge.baud, exclusive=True):
            says(check_serial(bridge), State.FAIL, "does not open", "Stop the other program")
    finally:
        os.close(far)
        os.close(near)


def test_serial_lines_that_are_none(tmp_path: Path) -> None:
    says(check_serial(BridgeSettings()), State.SKIPPED, "No bridge")
    says(check_serial(BridgeSettings(device=str(tmp_path / "none"))), State.FAIL, "enable_uart=1")
    (tmp_path / "file").write_text("no line")
    says(check_serial(BridgeSettings(device=str(tmp_path / "file"))), State.FAIL, "serial line")

    def denied(_: BridgeSettings) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    says(check_serial(BridgeSettings(device="/dev/serial0"), denied), State.FAIL, "dialout")

    def no_such_speed(_: BridgeSettings) -> None:
        raise ValueError("Invalid custom baud rate")

    says(check_serial(BridgeSettings(device="/dev/serial0"), no_such_speed), State.FAIL, "Invalid custom baud rate")
