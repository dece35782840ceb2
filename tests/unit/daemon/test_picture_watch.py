"""The look at the picture every few seconds: when a thumbnail is taken, what it costs the encode path, what is told."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator

import av
import numpy as np
import pytest

import agent.daemon.picture_watch
from agent.capture.camera import CameraFrame
from agent.capture.image import wrap_yuv420
from agent.capture.thumbnail import Figures, Thumbnail
from agent.clock import NS_PER_MS, NS_PER_S
from agent.controller.events import PictureMeasured
from agent.controller.picture import LOOK_EVERY_S
from agent.daemon.picture_watch import PictureWatch

WAIT_S = 10.0


def frame(at_ns: int, level: int = 100, width: int = 96, height: int = 64) -> CameraFrame:
    image = np.full((height * 3 // 2, width), level, np.uint8)
    return CameraFrame(wrap_yuv420(image, "yuv420p", width, height), at_ns)


@pytest.fixture
def told() -> Iterator[tuple[PictureWatch, queue.Queue[PictureMeasured]]]:
    measured: queue.Queue[PictureMeasured] = queue.Queue()
    watch = PictureWatch(measured.put)
    watch.start()
    yield watch, measured
    watch.stop()


def test_it_looks_every_two_seconds_by_the_frames_own_clock(
    told: tuple[PictureWatch, queue.Queue[PictureMeasured]],
) -> None:
    watch, measured = told
    for index in range(100):
        watch.saw(frame(index * 100 * NS_PER_MS))
        if index % (LOOK_EVERY_S * 10) == 0:
            measured.get(timeout=WAIT_S)
    assert measured.empty()
    watch.saw(frame(10 * NS_PER_S))
    assert measured.get(timeout=WAIT_S).still is True


def test_each_is_compared_with_the_one_before_and_none_of_another_size(
    told: tuple[PictureWatch, queue.Queue[PictureMeasured]],
) -> None:
    watch, measured = told
    seen = []
    for index, (level, width) in enumerate([(100, 96), (100, 96), (101, 96), (101, 192), (101, 192)]):
        watch.saw(frame(index * 5 * NS_PER_S, level, width))
        seen.append(measured.get(timeout=WAIT_S).still)
    assert seen == [None, True, False, None, True]


def test_a_machine_that_is_late_leaves_looks_out_and_holds_no_frame_up() -> None:
    """Without a thread that measures, as on a machine that has no time for it."""
    measured: list[PictureMeasured] = []
    watch = PictureWatch(measured.append)
    for index in range(50):
        watch.saw(frame(index * 3 * NS_PER_S, index))
    assert watch.measure_waiting()
    assert not watch.waits
    assert len(measured) == 1


def test_a_check_that_hangs_holds_no_end_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent.daemon.picture_watch, "STOP_S", 0.05)
    hangs, goes_on = threading.Event(), threading.Event()

    def hang(_measured: PictureMeasured) -> None:
        hangs.set()
        goes_on.wait()

    watch = PictureWatch(hang)
    watch.start()
    watch.saw(frame(0))
    assert hangs.wait(WAIT_S)
    watch.saw(frame(10 * NS_PER_S))  # waits behind it
    stopping = threading.Thread(target=watch.stop)
    stopping.start()
    stopping.join(WAIT_S)
    ended = not stopping.is_alive()
    goes_on.set()
    assert ended


def test_a_defect_in_the_check_ends_nothing_and_is_logged(
    told: tuple[PictureWatch, queue.Queue[PictureMeasured]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    watch, measured = told
    broken = threading.Event()

    def fails(_now: Thumbnail, _before: Thumbnail | None) -> Figures:
        broken.set()
        raise ZeroDivisionError

    with monkeypatch.context() as patched:
        patched.setattr(agent.daemon.picture_watch, "measure", fails)
        watch.saw(frame(0))
        assert broken.wait(WAIT_S)
    watch.saw(frame(5 * NS_PER_S))
    assert measured.get(timeout=WAIT_S).still is True
    assert "picture-check-failed" in caplog.text


def test_a_picture_without_a_thumbnail_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    watch = PictureWatch(lambda _measured: None)
    for index in range(5):
        watch.saw(CameraFrame(av.VideoFrame(16, 16, "yuv420p"), index * 5 * NS_PER_S))
    assert not watch.waits
    assert [record.message for record in caplog.records].count("no-thumbnail") == 1
