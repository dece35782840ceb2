"""A USB webcam for the device in the box, from this side: its pictures, its plug, and what goes wrong with it."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from agent.capture import counter
from agent.capture.image import Bytes
from agent.capture.scene import Scene
from tests.rig.layers import HERE, ROOT
from tests.rig.machine import Machine
from tests.rig.usb.descriptors import FORMATS

WIDTH, HEIGHT, FPS = 320, 180, 10
FOLDER = "/run/rig"
SOCKET = f"{FOLDER}/webcam.sock"
QUALITY = 80


def template() -> tuple[bytes, bytes]:
    """The scene with the number 0 as a JPEG whose blocks stand alone, and as YUYV."""
    scene = Scene(WIDTH, HEIGHT, FPS)
    # A slot without the flash.
    i420 = scene.draw(1, 0)
    # Colourless where the counter is, so that one black block is like another.
    wide, high = (side // 2 for side in counter.painted_size(WIDTH, HEIGHT))
    i420[HEIGHT:].reshape(2, HEIGHT // 2, WIDTH // 2)[:, :high, :wide] = 128
    bgr = cv2.cvtColor(i420, cv2.COLOR_YUV2BGR_I420)
    done, jpeg = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, QUALITY, cv2.IMWRITE_JPEG_RST_INTERVAL, 1])
    assert done
    return jpeg.tobytes(), yuyv_of(i420).tobytes()


def yuyv_of(i420: Bytes) -> Bytes:
    """I420 of shape (height * 3 / 2, width) as YUYV of shape (height, width, 2)."""
    chroma = i420[HEIGHT:].reshape(2, HEIGHT // 2, WIDTH // 2).repeat(2, axis=1)
    yuyv = np.empty((HEIGHT, WIDTH, 2), np.uint8)
    yuyv[:, :, 0] = i420[:HEIGHT]
    yuyv[:, 0::2, 1], yuyv[:, 1::2, 1] = chroma
    return yuyv


class UsbWebcam:
    """The camera on a machine; nothing is plugged in before `plug`. Times are the guest's boot time."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        jpeg, yuyv = template()
        machine.put(jpeg, f"{FOLDER}/scene.jpg")
        machine.put(yuyv, f"{FOLDER}/scene.yuyv")
        for path in (HERE / "usb").glob("*.py"):
            machine.put(path.read_bytes(), f"{FOLDER}/{path.relative_to(ROOT)}")
        machine.run("modprobe -a vhci-hcd uvcvideo")
        machine.run(
            f"systemd-run --quiet --unit=rig-webcam --working-directory={FOLDER} python3 -m tests.rig.usb.webcam"
            f" {SOCKET} {FOLDER}/scene.jpg {FOLDER}/scene.yuyv {WIDTH} {HEIGHT} {FPS};"
            f" until [ -S {SOCKET} ]; do systemctl is-active --quiet rig-webcam; sleep 0.1; done"
        )

    def plug(self, *formats: str) -> int:
        """Plug it in, with what it can give; returns when."""
        return self._ask(do="plug", formats=formats or FORMATS)

    def unplug(self) -> int:
        """Pull the plug; returns when."""
        return self._ask(do="unplug")

    def freeze(self, what: str) -> int:
        """Answer nothing any more: no picture ("stream"), or nothing at all ("all"); returns since when."""
        return self._ask(do="freeze", what=what)

    def thaw(self) -> int:
        """Go on with what it was asked for meanwhile."""
        return self._ask(do="freeze", what="")

    def cover(self, on: bool) -> int:
        """A hand over the lens, or away from it."""
        return self._ask(do="dark", on=on)

    def break_pictures(self, pictures: int) -> int:
        """Send so many pictures that are none."""
        return self._ask(do="break", pictures=pictures)

    def sent(self) -> dict[int, int]:
        """What was sent whole so far: the number of each picture, and when."""
        return dict(self._answer(do="sent")["sent"])

    def _ask(self, **request: Any) -> int:
        return int(self._answer(**request)["boottime_ns"])

    def _answer(self, **request: Any) -> dict[str, Any]:
        answer: dict[str, Any] = self._machine.hand.ask("ask", socket_path=SOCKET, request=request)["answer"]
        assert "error" not in answer, answer
        return answer
