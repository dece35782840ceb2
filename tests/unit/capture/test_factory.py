"""The factory: each backend and source of the settings gives its device, in step where they belong together."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from agent.capture.alsa import AlsaMicrophone
from agent.capture.factory import open_camera, open_microphone
from agent.capture.file import FileCamera, FileMicrophone
from agent.capture.images import ImageFolderCamera
from agent.capture.picamera import PicameraCamera
from agent.capture.raw import RawFileCamera
from agent.capture.scene import find_bursts
from agent.capture.synthetic import SyntheticCamera, SyntheticMicrophone
from agent.capture.webcam import WebcamCamera
from agent.clock import NS_PER_S, SimulatedClock
from agent.errors import ConfigError
from agent.settings.schema import AudioSettings, CameraSettings, Settings
from tests.support.scene_codec import write_scene_file


def small(backend: str, device: str = "") -> CameraSettings:
    return CameraSettings(backend=backend, device=device, width=96, height=64, fps=10)


def with_sound(camera: CameraSettings, source: str) -> Settings:
    return Settings(camera=camera, audio=AudioSettings(source=source, sample_rate_hz=16_000))


@pytest.mark.parametrize(
    ("backend", "kind", "name"),
    [
        ("picamera2", PicameraCamera, "picamera2 camera"),
        ("webcam", WebcamCamera, "webcam /dev/video0"),
        ("synthetic", SyntheticCamera, "synthetic 96x64 at 10/s"),
    ],
)
def test_backends(backend: str, kind: type, name: str) -> None:
    camera = open_camera(small(backend), SimulatedClock())
    assert isinstance(camera, kind)
    assert camera.name == name


def test_file_backend_by_what_lies_there(tmp_path: Path) -> None:
    clock = SimulatedClock()
    assert isinstance(open_camera(small("file", str(tmp_path)), clock), ImageFolderCamera)
    assert isinstance(open_camera(small("file", str(tmp_path / "a.yuv")), clock), RawFileCamera)
    assert isinstance(open_camera(small("file", str(tmp_path / "a.mp4")), clock), FileCamera)
    with pytest.raises(ConfigError, match=r"needs a path: set \[camera\] device"):
        open_camera(small("file"), clock)
    with pytest.raises(ConfigError, match='no camera backend "polaroid"'):
        open_camera(small("polaroid"), clock)


def test_sound_sources(tmp_path: Path) -> None:
    clock = SimulatedClock()
    write_scene_file(tmp_path / "loud.mp4", frames=10, sound_s=1)
    write_scene_file(tmp_path / "silent.mp4", frames=10)
    synthetic, raw = small("synthetic"), small("file", str(tmp_path / "a.yuv"))
    loud, silent = small("file", str(tmp_path / "loud.mp4")), small("file", str(tmp_path / "silent.mp4"))
    absent = small("file", str(tmp_path / "absent.mp4"))
    for camera, source, kind in [
        (synthetic, "none", type(None)),
        (synthetic, "alsa", AlsaMicrophone),
        (synthetic, "camera", SyntheticMicrophone),
        (raw, "camera", SyntheticMicrophone),
        (loud, "camera", FileMicrophone),
        (silent, "camera", type(None)),
        (absent, "camera", FileMicrophone),  # says so when opened
    ]:
        settings = with_sound(camera, source)
        assert type(open_microphone(settings, clock, open_camera(camera, clock))) is kind
    for camera in (small("webcam"), small("picamera2"), small("file", str(tmp_path))):
        with pytest.raises(ConfigError, match="carries no sound"):
            open_microphone(with_sound(camera, "camera"), clock, open_camera(camera, clock))


@pytest.mark.parametrize("backend", ["synthetic", "file"])
def test_camera_and_microphone_share_their_time_base(backend: str, tmp_path: Path) -> None:
    write_scene_file(tmp_path / "loud.mp4", frames=10, sound_s=1)
    settings = with_sound(small(backend, str(tmp_path / "loud.mp4")), "camera")
    clock = SimulatedClock()
    camera = open_camera(settings.camera, clock)
    microphone = open_microphone(settings, clock, camera)
    assert microphone is not None
    camera.open()
    clock.advance_ns(300_000_000)
    microphone.open()
    assert camera.read().captured_ns == 100 * NS_PER_S
    chunks = [microphone.read() for _ in range(150)]
    assert chunks[0].captured_ns == 100 * NS_PER_S + 300_000_000
    # The sound goes by the camera's zero and not by its own.
    bursts = [100.3 + onset for onset in find_bursts(np.concatenate([c.samples[0] for c in chunks]), 16_000)]
    assert bursts
    assert all(abs(burst - round(burst)) < 0.02 for burst in bursts)


def test_opencv_is_not_loaded_before_a_webcam_needs_it() -> None:
    """40 MB that a Pi with its own camera must not pay."""
    script = "import agent.capture.factory, sys; sys.exit('cv2' in sys.modules or 'picamera2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
