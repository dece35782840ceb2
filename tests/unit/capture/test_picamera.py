"""The Pi camera over a stand-in for picamera2: formats read back, strides honoured, buffers given back, stalls
noticed."""

from __future__ import annotations

import gc
import os
import sys
import weakref
from typing import Any

import numpy as np
import pytest

import agent.capture.picamera
from agent.capture.picamera import BUFFERS, PicameraCamera
from agent.clock import NS_PER_S, SimulatedClock
from agent.errors import CameraError, CameraLostError
from tests.support.scene_picamera import Buffer, ColorSpace, Module

NOW_NS = 100 * NS_PER_S
FRAME_NS = NS_PER_S // 30


def picamera(module: Module, device: str = "", width: int = 96, height: int = 64, fps: float = 30) -> PicameraCamera:
    return PicameraCamera(SimulatedClock(NOW_NS), device, width, height, fps, stall_ms=1, load=lambda: module)


def image(seed: int, stride: int, height: int, tail: int = 0) -> Buffer:
    return np.random.default_rng(seed).integers(0, 256, stride * height * 3 // 2 + tail, dtype=np.uint8)


def test_asks_for_yuv420_at_the_frame_rate_with_enough_buffers() -> None:
    module = Module()
    given = picamera(module).open()
    assert (given.width, given.height, given.fps, given.pixel_format) == (96, 64, 30, "yuv420p")
    asked = module.opened[0].asked
    assert asked["main"] == {"size": (96, 64), "format": "YUV420"}
    assert asked["controls"] == {"FrameDurationLimits": (33_333, 33_333)}
    assert asked["buffer_count"] == BUFFERS


@pytest.mark.parametrize("padding", [0, 32])
@pytest.mark.parametrize(("pixel_format", "name"), [("YUV420", "yuv420p"), ("NV12", "nv12")])
@pytest.mark.parametrize("tail", [0, 4096])
def test_frames_are_what_lies_in_the_buffer_without_its_padding(
    padding: int, pixel_format: str, name: str, tail: int
) -> None:
    module = Module()
    module.pixel_format, module.padding = pixel_format, padding
    camera = picamera(module)
    assert camera.open().pixel_format == name
    stride = 96 + padding
    buffer = image(1, stride, 64, tail)
    module.opened[0].complete(buffer, NOW_NS - 5)
    frame = camera.read()
    assert frame.captured_ns == NOW_NS - 5
    got = frame.image.to_ndarray()
    assert np.array_equal(got[:64], buffer[: stride * 64].reshape(64, stride)[:, :96])
    chroma = buffer[stride * 64 : stride * 96]
    if name == "nv12":
        assert np.array_equal(got[64:], chroma.reshape(32, stride)[:, :96])
    else:
        u_and_v = chroma.reshape(2, 32, stride // 2)[:, :, :48]
        assert np.array_equal(got[64:].reshape(2, 32, 48), u_and_v)


@pytest.mark.parametrize(
    ("colour_space", "expected"),
    [
        (ColorSpace("Rec709", "Limited"), (1, 1)),
        (ColorSpace("Rec601", "Limited"), (1, 5)),
        (ColorSpace("Rec601", "Full"), (2, 5)),
        (None, (1, 2)),
    ],
)
def test_frames_say_their_range_and_matrix(colour_space: ColorSpace | None, expected: tuple[int, int]) -> None:
    module = Module()
    module.colour_space = colour_space
    camera = picamera(module)
    camera.open()
    module.opened[0].complete(image(1, 96, 64), NOW_NS)
    frame = camera.read().image
    assert (frame.color_range, frame.colorspace) == expected


def test_what_is_given_instead_is_used_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    module = Module()
    module.size, module.frame_duration_limits = (1280, 720), (66_666, 200_000, 66_666)
    given = picamera(module).open()
    assert (given.width, given.height) == (1280, 720)
    assert given.fps == pytest.approx(15, abs=0.01)
    assert "does not have 96x64 at 30/s and gives 1280x720 at 15/s" in caplog.text


def test_frames_that_come_while_the_reader_is_busy_are_all_there_in_order() -> None:
    module = Module()
    camera = picamera(module)
    camera.open()
    for index in range(5):
        module.opened[0].complete(image(index, 96, 64), NOW_NS - (5 - index) * FRAME_NS)
    times = []
    for index in range(5):
        frame = camera.read()
        times.append(frame.captured_ns)
        assert np.array_equal(frame.image.to_ndarray().reshape(-1), image(index, 96, 64))
    assert times == [NOW_NS - (5 - index) * FRAME_NS for index in range(5)]
    assert camera.missed == 0


def test_more_than_the_queue_holds_is_counted_and_the_camera_keeps_buffers() -> None:
    module = Module()
    camera = picamera(module)
    camera.open()
    for index in range(20):
        module.opened[0].complete(image(index, 96, 64), NOW_NS - (20 - index) * FRAME_NS)
    assert camera.missed == 15
    camera.read()
    module.opened[0].complete(image(99, 96, 64), NOW_NS)
    assert module.opened[0].out <= BUFFERS - 2


def test_a_buffer_is_given_back_at_the_next_read_and_not_before() -> None:
    module = Module()
    camera = picamera(module)
    camera.open()
    fake = module.opened[0]
    fake.complete(image(1, 96, 64), NOW_NS - 2)
    fake.complete(image(2, 96, 64), NOW_NS - 1)
    first = camera.read()
    assert fake.requests[0].references == 1
    assert np.array_equal(first.image.to_ndarray().reshape(-1), image(1, 96, 64))
    camera.read()
    assert fake.requests[0].references == 0
    assert fake.requests[1].references == 1


def test_close_gives_every_buffer_back_first_and_may_be_called_twice() -> None:
    module = Module()
    camera = picamera(module)
    camera.open()
    fake = module.opened[0]
    for index in range(3):
        fake.complete(image(index, 96, 64), NOW_NS + index)
    camera.read()
    camera.close()
    camera.close()
    assert fake.closed
    assert fake.out == 0
    with pytest.raises(CameraLostError, match="not open"):
        camera.read()


def test_a_camera_that_stops_is_lost_after_the_stall_time() -> None:
    module = Module()
    camera = picamera(module)
    camera.open()
    module.opened[0].complete(image(1, 96, 64), NOW_NS)
    camera.read()
    with pytest.raises(CameraLostError, match="imx708 gave no picture for 1 ms; check its cable"):
        camera.read()


def test_the_first_picture_may_take_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent.capture.picamera, "FIRST_FRAME_MS", 20)
    camera = picamera(Module())
    camera.open()
    with pytest.raises(CameraLostError, match="gave no picture for 20 ms"):
        camera.read()


def test_times_that_stand_still_or_are_of_another_clock_are_an_error() -> None:
    module = Module()
    camera = picamera(module)
    camera.open()
    module.opened[0].complete(image(1, 96, 64), NOW_NS)
    module.opened[0].complete(image(2, 96, 64), NOW_NS)
    camera.read()
    with pytest.raises(CameraLostError, match="repeats the time"):
        camera.read()
    module.opened[0].complete(image(3, 96, 64), 1_790_000_000 * NS_PER_S)
    with pytest.raises(CameraLostError, match="not on CLOCK_BOOTTIME"):
        camera.read()


def test_a_camera_is_found_by_number_model_and_id() -> None:
    cameras: list[dict[str, Any]] = [
        {"Model": "imx708", "Id": "/base/b/imx708@1a", "Num": 1},
        {"Model": "ov5647", "Id": "/base/a/ov5647@36", "Num": 0},
    ]
    for device, number in (("", 0), ("1", 1), ("ov5647", 1), ("/base/b/imx708@1a", 0)):
        module = Module(cameras)
        picamera(module, device).open()
        assert module.opened[0].number == number
    with pytest.raises(CameraError, match=r"no camera 2; .*0: imx708 .*1: ov5647"):
        picamera(Module(cameras), "2").open()


def test_without_a_camera_nothing_is_opened_that_could_leak() -> None:
    module = Module([])
    with pytest.raises(CameraError, match="libcamera finds no camera; check the ribbon cable"):
        picamera(module).open()
    assert module.opened == []


def test_what_cannot_start_is_closed_and_a_sentence() -> None:
    module = Module()
    module.fails = "Failed to acquire camera: Device or resource busy"
    with pytest.raises(CameraError, match=r"imx708 cannot be started \(Failed to acquire.*no other program"):
        picamera(module).open()
    assert module.opened[0].closed
    module = Module()
    module.pixel_format = "MJPEG"
    with pytest.raises(CameraError, match="gives MJPEG, which is neither YUV420 nor NV12"):
        picamera(module).open()
    assert module.opened[0].closed


def test_what_is_busy_says_so_and_leaves_no_descriptor() -> None:
    module = Module()
    module.busy = "Device or resource busy"
    with pytest.raises(CameraError, match=r"imx708 cannot be started \(Device or resource busy\)"):
        picamera(module).open()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(module.opened[0].notifyme_w)


def test_what_the_session_before_left_is_gone_when_the_next_one_opens() -> None:
    """picamera2's objects refer to each other in circles, each with descriptors; nothing else frees them in time."""
    module = Module()
    camera = picamera(module)
    camera.open()
    (session,) = module.opened
    session.itself = session
    left = weakref.ref(session)
    camera.close()
    module.opened.clear()
    gc.disable()
    try:
        del session
        assert left() is not None
        picamera(module).open()
        assert left() is None
    finally:
        gc.enable()


def test_without_picamera2_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "picamera2", None)
    with pytest.raises(CameraError, match="apt install python3-picamera2"):
        PicameraCamera(SimulatedClock(), "", 96, 64, 30).open()
