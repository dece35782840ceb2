"""The webcam over a fake V4L2: what it gives is read back and said, a camera that goes is an error, times are the
device's."""

from __future__ import annotations

import itertools
import logging
import os
from pathlib import Path

import pytest

from agent.capture.webcam import (
    PROP_CONVERT_RGB,
    PROP_FOURCC,
    PROP_FPS,
    PROP_HEIGHT,
    PROP_WIDTH,
    WebcamCamera,
    first_usb_camera,
)
from agent.clock import NS_PER_MS, NS_PER_S, SimulatedClock, SystemClock
from agent.errors import CameraError, CameraLostError
from tests.support.scene_webcam import FakeV4l2


def webcam(fake: FakeV4l2, device: str = "fake", width: int = 96, height: int = 64, **options: object) -> WebcamCamera:
    return WebcamCamera(
        fake.clock,
        device,
        width,
        height,
        25,
        open_capture=lambda _: fake,
        monotonic_ns=fake.monotonic_ns,
        **options,  # type: ignore[arg-type]
    )


def test_asks_mjpeg_first_then_size_and_rate() -> None:
    fake = FakeV4l2(SimulatedClock())
    camera = webcam(fake)
    given = camera.open()
    assert (given.width, given.height, given.fps, given.pixel_format) == (96, 64, 25.0, "yuv420p")
    assert [prop for prop, _ in fake.asked] == [PROP_FOURCC, PROP_WIDTH, PROP_HEIGHT, PROP_FPS, PROP_CONVERT_RGB]
    assert camera.name == "webcam fake MJPG"


def test_falls_back_to_yuyv_and_logs_what_was_given(caplog: pytest.LogCaptureFixture) -> None:
    fake = FakeV4l2(SimulatedClock(), fourccs=("YUYV",), fps=15.0)
    with caplog.at_level(logging.INFO):
        given = webcam(fake, width=1920, height=1080).open()
    assert (given.width, given.height, given.fps) == (160, 90, 15.0)
    assert "gives YUYV 160x90 at 15/s" in caplog.text
    assert "does not have 1920x1080 at 25/s" in caplog.text


def test_a_format_that_opencv_took_instead_is_none_that_was_asked_for() -> None:
    """As with vivid, where it takes BGR3 and says that it was MJPG: more on the bus, and no more to see."""
    fake = FakeV4l2(SimulatedClock(), fourccs=("YUYV", "BGR3"))
    fake.finds_another = "BGR3"
    camera = webcam(fake)
    camera.open()
    assert camera.name == "webcam fake YUYV"


def test_the_configured_format_is_the_one_asked_for() -> None:
    fake = FakeV4l2(SimulatedClock())
    camera = webcam(fake, fourccs=("YUYV",))
    camera.open()
    assert camera.name == "webcam fake YUYV"


def test_frames_are_limited_range_bt601_yuv420p() -> None:
    fake = FakeV4l2(SimulatedClock())
    camera = webcam(fake)
    camera.open()
    for bgr, yuv in [
        ((0, 0, 0), (16, 128, 128)),
        ((255, 255, 255), (235, 128, 128)),
        ((0, 0, 255), (82, 90, 240)),  # red, ITU-R BT.601 limited range
    ]:
        fake.colour = bgr
        frame = camera.read().image
        assert (frame.format.name, frame.color_range, frame.colorspace) == ("yuv420p", 1, 5)
        planes = [plane[0] for plane in (bytes(p) for p in frame.planes)]
        assert planes == pytest.approx(yuv, abs=1)


def test_height_that_is_no_multiple_of_four_is_whole() -> None:
    fake = FakeV4l2(SimulatedClock())
    camera = webcam(fake, width=160, height=90)
    assert camera.open().height == 90
    assert camera.read().image.height == 90


def test_device_times_are_moved_to_the_boot_clock() -> None:
    fake = FakeV4l2(SimulatedClock())
    fake.suspended_ns = 7 * NS_PER_S  # the device slept before: the clocks are 7 s apart
    camera = webcam(fake)
    camera.open()
    for _ in range(5):
        frame = camera.read()
        assert frame.captured_ns == pytest.approx(fake.clock.boottime_ns() - 5 * NS_PER_MS, abs=1000)
    fake.suspended_ns += 3600 * NS_PER_S  # and sleeps again while open
    fake.clock.advance_ns(3600 * NS_PER_S)
    frame = camera.read()
    assert frame.captured_ns == pytest.approx(fake.clock.boottime_ns() - 5 * NS_PER_MS, abs=1000)


@pytest.mark.parametrize("stamp_ms", [0.0, 1_790_000_000_000.0])
def test_times_of_another_clock_give_way_to_the_time_of_arrival(
    stamp_ms: float, caplog: pytest.LogCaptureFixture
) -> None:
    fake = FakeV4l2(SimulatedClock())
    fake.stamp = lambda: stamp_ms
    camera = webcam(fake)
    camera.open()
    times = [(camera.read().captured_ns, fake.clock.boottime_ns()) for _ in range(3)]
    assert all(captured == now for captured, now in times)
    assert "times of arrival are used" in caplog.text


def test_a_device_time_that_steps_back_never_steps_back_here() -> None:
    fake = FakeV4l2(SimulatedClock())
    camera = webcam(fake)
    camera.open()
    good = fake.stamp
    times = [camera.read().captured_ns]
    fake.stamp = lambda: good() - 300
    times.append(camera.read().captured_ns)
    fake.stamp = good
    times += [camera.read().captured_ns for _ in range(3)]
    assert all(a < b for a, b in itertools.pairwise(times))
    assert times[-1] == pytest.approx(fake.clock.boottime_ns() - 5 * NS_PER_MS, abs=1000)


def test_a_repeated_picture_is_a_lost_camera() -> None:
    def repeat(fake: FakeV4l2, frame: int) -> None:
        fake.repeats = frame >= 3

    camera = webcam(FakeV4l2(SimulatedClock(), on_read=repeat))
    camera.open()
    for _ in range(3):
        camera.read()
    with pytest.raises(CameraLostError, match="repeats its last picture"):
        camera.read()


def test_unplugged_is_told_from_stalled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(fake: FakeV4l2, frame: int) -> None:
        fake.broken = frame >= 1

    fake = FakeV4l2(SimulatedClock(), on_read=broken)
    camera = webcam(fake, device="/dev/null")  # a device node that exists
    camera.open()
    camera.read()
    with pytest.raises(CameraLostError, match=r"gave no picture for 2 s or its stream broke.*plug it in again"):
        camera.read()
    monkeypatch.setattr(Path, "exists", lambda _: False)
    with pytest.raises(CameraLostError, match="was unplugged"):
        camera.read()
    assert tmp_path


@pytest.mark.parametrize("left_bytes", [0, 2, 300, -1])
def test_a_picture_that_does_not_decode_is_left_out_and_many_are_a_fault(left_bytes: int) -> None:
    def corrupt(fake: FakeV4l2, frame: int) -> None:
        fake.corrupt = frame in (2, 3) or frame >= 6

    fake = FakeV4l2(SimulatedClock(), on_read=corrupt)
    fake.corrupt_bytes = left_bytes
    camera = webcam(fake)
    camera.open()
    times = [camera.read().captured_ns for _ in range(4)]
    assert [b - a for a, b in itertools.pairwise(times)] == pytest.approx([40e6, 120e6, 40e6], abs=1000)
    with pytest.raises(CameraLostError, match="do not decode"):
        camera.read()


def test_select_timeout_is_the_stall_time_in_whole_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", "10")
    webcam(FakeV4l2(SimulatedClock()), stall_ms=2100).open()
    assert os.environ["OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT"] == "3"


def test_what_cannot_be_opened_is_a_sentence() -> None:
    closed = FakeV4l2(SimulatedClock(), opens=False)
    with pytest.raises(CameraError, match="no other program uses it"):
        webcam(closed).open()
    assert closed.released
    odd = FakeV4l2(SimulatedClock(), sizes=((97, 65),))
    with pytest.raises(CameraError, match="cannot be encoded as 4:2:0"):
        webcam(odd).open()
    assert odd.released


def test_close_releases_once_and_reading_after_is_an_error() -> None:
    fake = FakeV4l2(SimulatedClock())
    camera = webcam(fake)
    with pytest.raises(CameraLostError, match="not open"):
        camera.read()
    camera.open()
    camera.close()
    camera.close()
    assert fake.released
    with pytest.raises(CameraLostError, match="not open"):
        camera.read()


def node(sysfs: Path, name: str, bus: str, index: int) -> None:
    """A V4L2 device as sysfs has it."""
    (sysfs / "bus" / bus).mkdir(parents=True, exist_ok=True)
    (sysfs / "class" / name / "device").mkdir(parents=True)
    (sysfs / "class" / name / "index").write_text(f"{index}\n")
    (sysfs / "class" / name / "device" / "subsystem").symlink_to(sysfs / "bus" / bus)


def test_the_first_usb_camera_is_neither_codec_nor_metadata(tmp_path: Path) -> None:
    assert first_usb_camera(tmp_path / "class") is None
    node(tmp_path, "video0", "platform", 0)
    node(tmp_path, "video1", "usb", 1)
    assert first_usb_camera(tmp_path / "class") is None
    node(tmp_path, "video10", "usb", 0)
    node(tmp_path, "video2", "usb", 0)
    (tmp_path / "class" / "video3").mkdir()  # going away
    assert first_usb_camera(tmp_path / "class") == "/dev/video2"


def test_a_camera_that_is_not_named_is_looked_for_at_each_opening() -> None:
    found: list[str | None] = ["fake7", "fake8"]
    camera = webcam(FakeV4l2(SimulatedClock()), device="", find_device=lambda: found.pop(0))
    for name in ("fake7", "fake8"):
        camera.open()
        assert camera.name == f"webcam {name} MJPG"
        camera.close()
    nowhere = webcam(FakeV4l2(SimulatedClock()), device="", find_device=lambda: None)
    assert nowhere.name == "webcam /dev/video0"


def test_one_that_is_named_is_not_looked_for() -> None:
    camera = webcam(FakeV4l2(SimulatedClock()), device="fake", find_device=lambda: pytest.fail("looked for"))
    camera.open()
    assert camera.name == "webcam fake MJPG"


def test_real_opencv_on_an_absent_and_on_a_wrong_device() -> None:
    with pytest.raises(CameraError, match="no camera at /dev/video99; plug it in"):
        WebcamCamera(SystemClock(), "/dev/video99", 640, 480, 30).open()
    with pytest.raises(CameraError, match="/dev/null cannot be opened as a camera"):
        WebcamCamera(SystemClock(), "/dev/null", 640, 480, 30).open()
