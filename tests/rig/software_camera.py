"""libcamera's software camera put into the device, with the hands on it that a test needs; see virtual_camera/."""

from __future__ import annotations

import io
import tarfile

import av
import numpy as np

from agent.capture import counter
from tests.rig.camera import Camera
from tests.rig.layers import HERE

FOLDER = "/run/rig/camera"
DROP_IN = "/run/systemd/system/bodycam.service.d/rig-camera.conf"
LIBCAMERA_FILE = "/usr/share/libcamera/pipeline/virtual/virtual.yaml"
MODEL = "rig-frames"
WIDTH, HEIGHT, FPS = 320, 180, 15
PICTURES = 32
"""As many different ones the camera has, one after the other and again from the first."""
REPEATS = 4
"""So often it shows each (frameRepeat in libcamera's image_frame_generator.h)."""


def install(camera: Camera, stall_ms: int) -> None:
    """Before the daemon starts: the camera, its pictures, and a configuration that names it."""
    files = {name: (HERE / "virtual_camera" / name).read_bytes() for name in ("adapter.py", "sitecustomize.py")}
    files |= {f"frames/{number:03}.jpg": picture(number) for number in range(PICTURES)}
    machine = camera.machine
    machine.put(archive(files), f"{FOLDER}/files.tar")
    machine.put((HERE / "virtual_camera/virtual.yaml").read_bytes(), LIBCAMERA_FILE)
    machine.put((HERE / "virtual_camera/camera.conf").read_bytes(), DROP_IN)
    machine.put(configuration(stall_ms).encode(), "/etc/bodycam/bodycam.toml")
    # `hang` is the pipe that a start blocks on.
    machine.run(f"cd {FOLDER} && tar -xf files.tar && mkfifo hang && chmod -R a+rX . && systemctl daemon-reload")


def configuration(stall_ms: int) -> str:
    """The rig's, with the camera of the Pi's profiles."""
    head, _, rest = (HERE / "guest/bodycam.toml").read_text().partition("[camera]\n")
    _, video, tail = rest.partition("[video]\n")
    camera = f'''[camera]
backend = "picamera2"
device = "{MODEL}"
width = {WIDTH}
height = {HEIGHT}
fps = {FPS}
stall_ms = {stall_ms}

'''
    return head + camera + video + tail


def order(camera: Camera, words: str) -> int:
    """What the camera does from its next frame on (see virtual_camera/adapter.py); the boot time before it was told."""
    now_ns = int(camera.machine.hand.ask("now")["boottime_ns"])
    camera.machine.run(f"cd {FOLDER} && echo {words} >order.new && mv order.new order")
    return now_ns


def picture(number: int) -> bytes:
    """A JPEG of the camera's size with its number painted in it, over something that moves."""
    luma = np.tile(np.arange(WIDTH, dtype=np.uint8) // 2 + 40, (HEIGHT, 1))
    left = number * (WIDTH - 32) // PICTURES
    luma[HEIGHT // 2 : HEIGHT // 2 + 32, left : left + 32] = 220
    counter.paint(luma, number)
    image = av.VideoFrame(WIDTH, HEIGHT, "yuvj420p")
    for plane, value in zip(image.planes, (luma, 100, 150), strict=True):
        rows = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)  # type: ignore[call-overload]
        rows[:, : plane.width] = value
    encoder = av.CodecContext.create("mjpeg", "w")
    assert isinstance(encoder, av.VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt, encoder.framerate = WIDTH, HEIGHT, "yuvj420p", FPS  # type: ignore[assignment]
    return b"".join(bytes(packet) for packet in [*encoder.encode(image), *encoder.encode(None)])


def archive(files: dict[str, bytes]) -> bytes:
    """A tar of these."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return data.getvalue()


def descriptors(camera: Camera) -> int:
    """How many the daemon has open."""
    return int(camera.machine.run("ls /proc/$(systemctl show -P MainPID bodycam.service)/fd | wc -l"))


def openings(camera: Camera) -> int:
    """How often the daemon has opened the camera since it started."""
    return camera.log(lines=2000).count(f"{MODEL} gives")
