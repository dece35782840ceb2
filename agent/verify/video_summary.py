"""What the signatures in a video come to: counted as the GOPs come, in memory that does not grow with them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from agent.signing.finding import BAD_STATES, GopFinding, GopState

MAX_LISTED = 10


@dataclass(slots=True)
class VideoSummary:
    """Takes each GOP's finding in order.

    bad: the first few that are not what was signed, or that nothing vouches for. first_uncovered: the first that says
    of itself that it has no signature. pending_from_s: media time from which no signature has come yet, None when every
    GOP has one or its time is not known. valid_s: media time from the first valid GOP to the end of the last valid one,
    None when that cannot be told.
    """

    counts: Counter[GopState] = field(default_factory=Counter)
    frames: Counter[GopState] = field(default_factory=Counter)
    bad: list[GopFinding] = field(default_factory=list)
    first_uncovered: GopFinding | None = None
    pending_from_s: float | None = None
    _first_valid_s: float | None = None
    _last_valid: tuple[float, int, int] | None = None
    """Of the last valid GOP: its beginning, its frames, and the frames from the first valid one to its beginning."""
    _valid_end_s: float | None = None
    _frames_before: int = 0

    def take(self, finding: GopFinding) -> None:
        """Count one more."""
        if self._last_valid is not None and self._valid_end_s is None:
            self._valid_end_s = finding.start_s
        if finding.state is GopState.VALID and finding.start_s is not None:
            if self._first_valid_s is None:
                self._first_valid_s, self._frames_before = finding.start_s, self.frames.total()
            before = self.frames.total() - self._frames_before
            self._last_valid, self._valid_end_s = (finding.start_s, finding.frames, before), None
        self.counts[finding.state] += 1
        self.frames[finding.state] += finding.frames
        if finding.state is GopState.UNCOVERED:
            self.first_uncovered = self.first_uncovered or finding
        elif finding.state in BAD_STATES and len(self.bad) < MAX_LISTED:
            self.bad.append(finding)
        elif finding.state is GopState.PENDING and self.counts[GopState.PENDING] == 1:
            self.pending_from_s = finding.start_s

    @property
    def valid_s(self) -> float | None:
        """See the class; of a valid GOP at the very end the length is that of its frames at the rate before it."""
        if self._first_valid_s is None or self._last_valid is None:
            return None
        if self._valid_end_s is not None:
            return self._valid_end_s - self._first_valid_s
        start_s, frames, before = self._last_valid
        return (start_s - self._first_valid_s) * (before + frames) / before if before else None

    @property
    def gops(self) -> int:
        """All of them."""
        return self.counts.total()

    @property
    def bad_gops(self) -> int:
        """How many are not what was signed, or should have a signature and have none."""
        return sum(self.counts[state] for state in BAD_STATES - {GopState.UNCOVERED})

    @property
    def first_bad(self) -> GopFinding | None:
        """The first of those."""
        return self.bad[0] if self.bad else None

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "gops": self.gops,
            "frames": self.frames.total(),
            "states": {state.value: {"gops": self.counts[state], "frames": self.frames[state]} for state in GopState},
            "first_bad": gop_json(self.first_bad),
            "first_uncovered": gop_json(self.first_uncovered),
            "pending_from_s": self.pending_from_s,
        }


def gop_json(gop: GopFinding | None) -> dict[str, Any] | None:
    """One GOP's finding for programs."""
    if gop is None:
        return None
    return {
        "gop": gop.number,
        "start_s": gop.start_s,
        "frames": gop.frames,
        "state": gop.state.value,
        "reason": gop.reason,
    }


def where(gop: GopFinding) -> str:
    """For sentences: "GOP 8, at 7.000 s of the video,"."""
    return f"GOP {gop.number}" + ("" if gop.start_s is None else f", at {gop.start_s:.3f} s of the video,")
