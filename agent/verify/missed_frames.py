"""Where frames are missing that a camera says never came: fragments that hold fewer than their length asks for."""

from __future__ import annotations

from agent.media.units import VIDEO_TIMESCALE_90K
from agent.verify.media_job import Checkpoint
from agent.verify.words import counted, listed, media_place

MAX_PLACES = 5


def frames_short(first_media_90k: int, end_media_90k: int, frames: int, fps: float) -> int:
    """How many frames fewer a fragment has than its length makes at that many a second; negative when it has more."""
    return round((end_media_90k - first_media_90k) * fps / VIDEO_TIMESCALE_90K) - frames


class MissedFrames:
    """Takes checkpoints in order; keeps the first few places and counts the rest."""

    def __init__(self) -> None:
        self._places: list[str] = []
        self._more = 0

    def take(self, checkpoint: Checkpoint, fps: float | None) -> None:
        """Compare a fragment's frames with its length. fps: frames a second; None when that is not known."""
        if fps is None or checkpoint.end_media_90k <= checkpoint.first_media_90k:
            return
        missing = frames_short(checkpoint.first_media_90k, checkpoint.end_media_90k, checkpoint.frames, fps)
        if missing <= 0:
            return
        if len(self._places) < MAX_PLACES:
            span = f"{media_place(checkpoint.first_media_90k)} to {media_place(checkpoint.end_media_90k)}"
            self._places.append(f"{span} ({missing})")
        else:
            self._more += 1

    def sentence(self, missed: int) -> str:
        """What the camera says, and where; missed: how many frames never came, as its closing record says."""
        more = [f"{self._more} more"] if self._more else []
        where = ""
        if self._places:
            where = f" By its checkpoints they are missing at {listed([*self._places, *more])} of the recording."
        return (
            f"{counted(missed, 'frame')} {'is' if missed == 1 else 'are'} missing: the camera did not keep up, and "
            f"says so itself.{where}"
        )
