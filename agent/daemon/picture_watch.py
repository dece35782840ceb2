"""Looks at the picture every few seconds, off the encode path: a thumbnail is taken on the capture thread, because the
frame is the camera's again at its next read; what there is to say of it is worked out on a thread of its own.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from contextlib import suppress

from agent.capture.camera import CameraFrame
from agent.capture.thumbnail import Figures, Thumbnail, measure, thumbnail
from agent.clock import NS_PER_S
from agent.controller.events import PictureMeasured
from agent.controller.picture import LOOK_EVERY_S
from agent.daemon.logs import LOG, log

STOP_S = 1.0
_EVERY_NS = LOOK_EVERY_S * NS_PER_S


class PictureWatch:
    """`saw` is for the capture thread, `start` and `stop` for whoever owns it. One at most waits to be measured."""

    def __init__(self, on_measured: Callable[[PictureMeasured], None]) -> None:
        """on_measured: comes on the thread of its own and must not block."""
        self._on_measured = on_measured
        self._looked_ns: int | None = None
        self._fails = False
        self._waiting: queue.Queue[Thumbnail | None] = queue.Queue(1)
        self._before: Thumbnail | None = None
        self._thread = threading.Thread(target=self._run, name="picture", daemon=True)

    def saw(self, frame: CameraFrame) -> None:
        """A frame passes by; mostly nothing is done."""
        if self._looked_ns is not None and frame.captured_ns - self._looked_ns < _EVERY_NS:
            return
        self._looked_ns = frame.captured_ns
        try:
            self._waiting.put_nowait(thumbnail(frame.image))
        except queue.Full:
            return  # a machine that has no time for this has better things to do
        except (ValueError, OSError) as error:  # PyAV's errors are both
            # The picture is recorded all the same, and whether it can be is not for this to say.
            if not self._fails:
                log("no-thumbnail", logging.WARNING, message=str(error))
            self._fails = True

    @property
    def waits(self) -> bool:
        """Whether something is to be measured."""
        return not self._waiting.empty()

    def measure_waiting(self) -> bool:
        """Measure what waits, or wait for it. False when it is `stop`."""
        now = self._waiting.get()
        if now is None:
            return False
        before, self._before = self._before, now
        if before is not None and before.samples.shape != now.samples.shape:
            before = None
        self._on_measured(_event(measure(now, before)))
        return True

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after what is being measured, unless that hangs: its code may have to be read from a card that stalls."""
        with suppress(queue.Full):
            self._waiting.put(None, timeout=STOP_S)
        self._thread.join(STOP_S)

    def _run(self) -> None:
        goes_on = True
        while goes_on:
            try:
                goes_on = self.measure_waiting()
            except Exception:  # noqa: BLE001 a defect here takes no recording down, nor goes unsaid
                LOG.exception("picture-check-failed")


def _event(figures: Figures) -> PictureMeasured:
    return PictureMeasured(figures.mean, figures.detail, figures.noise, figures.white, figures.still)
