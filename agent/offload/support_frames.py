"""Where pictures never came, by the checkpoints: fragments with fewer frames than their duration makes."""

from __future__ import annotations

import math
from typing import Any

from agent.offload.support_entry import is_whole
from agent.verify.missed_frames import frames_short

_TICKS_PER_MS = 90
_MAX_FPS = 1000


class FewerFrames:
    """Takes a recording's checkpoints in order. Neighbours that both lack frames make one place."""

    def __init__(self, most: int) -> None:
        """most: how many places are kept; the others are counted."""
        self._most = most
        self._places: list[dict[str, int]] = []
        self._left_out = 0
        self._frames = 0
        self.fps: float | None = None

    def opened(self, video: object) -> None:
        """The `video` of the recording-open record, which says how many frames a second makes."""
        fps = video.get("fps") if isinstance(video, dict) else None
        if isinstance(fps, int | float) and not isinstance(fps, bool) and math.isfinite(fps) and 0 < fps <= _MAX_FPS:
            self.fps = fps

    def take(self, seq: int, fields: dict[str, Any]) -> None:
        """The next checkpoint; one whose numbers are none is for `verify` to tell."""
        begin, end, frames = (fields.get(key) for key in ("first_media_90k", "end_media_90k", "frames"))
        if self.fps is None or not (is_whole(begin) and is_whole(end) and is_whole(frames)):
            return
        if (fewer := frames_short(begin, end, frames, self.fps)) <= 0:
            return
        self._frames += fewer
        last = self._places[-1] if self._places else None
        if last is not None and last["end_media_90k"] == begin:
            last["frames"] += fewer
            last["last_record"] = seq
            last["end_media_90k"], last["end_media_ms"] = end, end // _TICKS_PER_MS
        elif len(self._places) < self._most:
            self._places.append(
                {
                    "first_record": seq,
                    "last_record": seq,
                    "first_media_90k": begin,
                    "first_media_ms": begin // _TICKS_PER_MS,
                    "end_media_90k": end,
                    "end_media_ms": end // _TICKS_PER_MS,
                    "frames": fewer,
                }
            )
        else:
            self._left_out += 1

    def document(self) -> dict[str, Any]:
        """For programs."""
        return {"frames": self._frames, "places": list(self._places), "places_left_out": self._left_out}
