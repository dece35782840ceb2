"""The raw source that the 1080p benchmarks film: real footage, scaled, a frame counter painted in, looped."""

from __future__ import annotations

import hashlib
from pathlib import Path

import av
import numpy as np

from agent.capture import counter

WIDTH, HEIGHT, FPS = 1920, 1080, 30
FRAMES = 120
FOOTAGE = Path("build/footage/bigbuckbunny.mp4")
_RECIPE = 1
"""Counted up when `_make` changes, so that no old file is taken for a new one."""

_FRAME_BYTES = WIDTH * HEIGHT * 3 // 2
_GRAIN = 6  # grey levels: upscaled footage is softer than what a camera gives, and an encoder is faster on it


def raw_source(folder: Path, footage: Path = FOOTAGE) -> Path:
    """I420 at 1920x1080, made once: `FRAMES` frames, of which frame n has the counter n painted in.

    The whole file is read afterwards, so that it is in the page cache when something is measured on it. Raises
    FileNotFoundError without footage.
    """
    recipe = hashlib.sha256(f"{_RECIPE} {FRAMES} {_GRAIN}".encode() + footage.read_bytes()).hexdigest()[:12]
    path = folder / f"source-{WIDTH}x{HEIGHT}-{recipe}.yuv"
    if not path.exists() or path.stat().st_size != FRAMES * _FRAME_BYTES:
        for old in folder.glob("source-*.yuv"):
            old.unlink()
        beside = path.with_suffix(".part")
        _make(beside, footage)
        beside.rename(path)
    with path.open("rb") as file:
        while file.read(1 << 24):
            continue
    return path


def _make(path: Path, footage: Path) -> None:
    grains = np.random.default_rng(1).integers(-_GRAIN, _GRAIN + 1, (8, HEIGHT, WIDTH), dtype=np.int16)
    with av.open(str(footage)) as container, path.open("wb") as file:
        for number, frame in enumerate(container.decode(video=0)):
            image = np.asarray(frame.reformat(WIDTH, HEIGHT, "yuv420p").to_ndarray(), np.uint8)
            luma = image[:HEIGHT]
            np.clip(luma + grains[number % len(grains)], 16, 235, out=luma, casting="unsafe")
            counter.paint(luma, number)
            file.write(image.tobytes())
            if number + 1 == FRAMES:
                return
    raise FileNotFoundError(f"{footage} has fewer than {FRAMES} frames; run `make setup` to fetch the footage again.")
