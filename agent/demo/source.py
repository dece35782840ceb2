"""What `--source` means: which camera the demonstration films with, and whether there is sound."""

from __future__ import annotations

import re
import stat
from dataclasses import dataclass
from pathlib import Path

from agent.capture.loop import probe
from agent.demo.paths import shown
from agent.errors import CameraError
from agent.settings.files import CHECKOUT_PROFILES

DEFAULT_FOOTAGE = CHECKOUT_PROFILES.parents[1] / "build" / "footage" / "bigbuckbunny.mp4"
SYNTHETIC = "synthetic"

_MOST_PIXELS = 1280 * 720
"""Larger films are scaled down: libx264 has to keep up on a laptop, or in an emulator."""

_ANY_SIZE = (1280, 720)


@dataclass(frozen=True, slots=True)
class Source:
    """shown: for people. backend, device, width, height: as in [camera]. no_sound: why there is none, or None."""

    shown: str
    backend: str
    device: str
    width: int
    height: int
    no_sound: str | None = None


def choose_source(text: str) -> Source:
    """The source that a person named; empty is the default footage. Raises CameraError saying what to do."""
    if text == SYNTHETIC:
        return Source("a painted scene with a counter and a tone", "synthetic", "", 640, 360)
    if re.fullmatch(r"/dev/video\d+", text):
        return _webcam(Path(text))
    path = Path(text) if text else DEFAULT_FOOTAGE
    if not path.exists():
        what = "The footage of the demonstration" if path.resolve() == DEFAULT_FOOTAGE else "The video"
        raise CameraError(
            f"{what} is not there ({path}). Run `make setup` for the footage, or name a source: a video file, "
            f"/dev/videoN, or `{SYNTHETIC}`."
        )
    if path.is_dir():
        return Source(f"the images in {shown(path)}", "file", str(path.resolve()), *_ANY_SIZE, "images have none")
    film = probe(path)
    width, height = _fitted(film.width, film.height)
    no_sound = None if film.has_sound else "the file has none"
    return Source(shown(path), "file", str(path.resolve()), width, height, no_sound)


def _webcam(path: Path) -> Source:
    try:
        is_device = stat.S_ISCHR(path.stat().st_mode)
    except OSError as error:
        raise CameraError(
            f"There is no camera at {path} ({error.strerror}); `ls /dev/video*` lists what is plugged in."
        ) from error
    if not is_device:
        raise CameraError(f"{path} is not a video device; `ls /dev/video*` lists what is plugged in.")
    return Source(f"the webcam {path}", "webcam", str(path), 640, 480, "a webcam's microphone is a device of its own")


def _fitted(width: int, height: int) -> tuple[int, int]:
    """The same proportions, even, and not too many pixels."""
    scale = min(1.0, (_MOST_PIXELS / (width * height)) ** 0.5)
    return max(32, round(width * scale / 2) * 2), max(32, round(height * scale / 2) * 2)
