"""What a demonstration writes before it starts, and what it refuses to write over."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from agent.demo.place import PRE_EVENT_S, Place
from agent.demo.source import Source, choose_source
from agent.errors import CameraError, DemoError, VaultLockedError
from agent.settings.load import load_settings
from agent.vault.lock import VaultLock

SILENT = Source("a film", "file", "/some/film.mp4", 320, 240, no_sound="it has none")
LOUD = Source('a "film"\\', "file", '/some/"film"\\é.mp4', 320, 240)


@pytest.mark.parametrize("source", [SILENT, LOUD], ids=["silent", "loud"])
def test_the_configuration_is_the_bench_profile_with_this_source(tmp_path: Path, source: Source) -> None:
    place = Place(tmp_path / "demo")
    place.make(source)
    settings = load_settings(place.config).settings
    assert settings.profile == "bench"
    assert (settings.camera.backend, settings.camera.device) == ("file", source.device)
    assert (settings.camera.width, settings.camera.height) == (320, 240)
    assert settings.buffer.pre_event_s == PRE_EVENT_S
    assert settings.buffer.audio is (source.no_sound is None)
    assert settings.audio.source == ("none" if source.no_sound else "camera")
    assert settings.vault.path == place.layout.root
    assert settings.vault.key_path == place.identity.key
    assert Path(settings.gpio.bench_pin_socket_path) == place.pin_socket


def test_only_a_real_camera_hangs_after_two_seconds(tmp_path: Path) -> None:
    place = Place(tmp_path / "demo")
    for backend, stall_ms in (("file", 10_000), ("synthetic", 10_000), ("webcam", 2000)):
        place.make(Source("it", backend, "/dev/video9", 320, 240, no_sound="it has none"))
        assert load_settings(place.config).settings.camera.stall_ms == stall_ms


def test_an_earlier_demonstration_is_cleared_away(tmp_path: Path) -> None:
    place = Place(tmp_path / "demo")
    place.make(SILENT)
    (place.folder / "vault").mkdir()
    place.make(SILENT)
    assert [path.name for path in place.folder.iterdir()] == ["bodycam.toml"]


def test_not_while_a_daemon_runs_in_it(tmp_path: Path) -> None:
    place = Place(tmp_path / "demo")
    place.make(SILENT)
    place.layout.root.mkdir()
    lock = VaultLock(place.layout.root)
    with pytest.raises(VaultLockedError):
        place.make(SILENT)
    lock.release()
    place.make(SILENT)


def test_a_configuration_that_somebody_wrote_is_no_mark(tmp_path: Path) -> None:
    (tmp_path / "bodycam.toml").write_text('profile = "bench"\n')
    with pytest.raises(DemoError, match="nothing in it was touched"):
        Place(tmp_path).make(SILENT)
    assert (tmp_path / "bodycam.toml").exists()


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "demo").write_text("something")
    with pytest.raises(DemoError, match="nothing in it was touched"):
        Place(tmp_path / "demo").make(SILENT)


def write_film(path: Path, width: int, height: int) -> None:
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((height, width, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode())


@pytest.mark.parametrize(
    ("size", "expected"),
    [((320, 136), (320, 136)), ((1920, 1080), (1280, 720)), ((1080, 1920), (720, 1280)), ((1280, 720), (1280, 720))],
)
def test_a_film_keeps_its_proportions(tmp_path: Path, size: tuple[int, int], expected: tuple[int, int]) -> None:
    write_film(tmp_path / "film.mp4", *size)
    source = choose_source(str(tmp_path / "film.mp4"))
    assert (source.width, source.height) == expected
    assert source.no_sound == "the file has none"


def test_other_sources(tmp_path: Path) -> None:
    assert choose_source("synthetic").backend == "synthetic"
    assert choose_source(str(tmp_path)).no_sound
    with pytest.raises(CameraError, match="ls /dev/video"):
        choose_source("/dev/video99")
    with pytest.raises(CameraError, match="not there"):
        choose_source(str(tmp_path / "film.mp4"))
