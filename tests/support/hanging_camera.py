"""`bodycam run` with a camera that can be made to hang: `python -m tests.support.hanging_camera FOLDER …`.

While FOLDER holds the pipe `read` or `open`, that call of the camera opens the pipe and so blocks in the kernel, where
no error, timeout or signal handler of Python reaches it: there is no writer. While it holds `unplugged`, reading fails;
while it holds `same`, one picture comes again and again. Pictures are looked at every 100 ms.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import av

import agent.daemon.picture_watch
import agent.daemon.run
import agent.daemon.watched_camera
from agent.capture.camera import Camera, CameraFormat, CameraFrame
from agent.capture.factory import open_camera
from agent.cli.main import main
from agent.clock import NS_PER_MS, NS_PER_S, Clock
from agent.errors import CameraLostError
from agent.settings.schema import CameraSettings

OPEN_S = 2


class HangingCamera:
    """A Camera in front of another one."""

    def __init__(self, camera: Camera, folder: Path) -> None:
        self._camera = camera
        self._folder = folder
        self._same: Any = None

    @property
    def name(self) -> str:
        return self._camera.name

    def open(self) -> CameraFormat:
        self._hang("open")
        return self._camera.open()

    def read(self) -> CameraFrame:
        self._hang("read")
        if (self._folder / "unplugged").exists():
            raise CameraLostError("The camera was unplugged; plug it in again.")
        frame = self._camera.read()
        if not (self._folder / "same").exists():
            self._same = None
            return frame
        if self._same is None:
            self._same = frame.image.to_ndarray()
        return CameraFrame(av.VideoFrame.from_ndarray(self._same, frame.image.format.name), frame.captured_ns)

    def close(self) -> None:
        self._camera.close()

    def _hang(self, call: str) -> None:
        pipe = self._folder / call
        if pipe.exists():
            pipe.open("rb").close()


def run(folder: Path, arguments: list[str]) -> None:
    """What `bodycam` does with these arguments, with this camera. Raises SystemExit."""

    def opened(settings: CameraSettings, clock: Clock) -> Camera:
        return HangingCamera(open_camera(settings, clock), folder)

    agent.daemon.run.open_camera = opened  # type: ignore[attr-defined]
    agent.daemon.watched_camera.OPEN_NS = OPEN_S * NS_PER_S
    agent.daemon.picture_watch._EVERY_NS = 100 * NS_PER_MS
    main(arguments)


if __name__ == "__main__":
    run(Path(sys.argv[1]), sys.argv[2:])
