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
    GOP has one or its time is not known.
    """

    counts: Counter[GopState] = field(default_factory=Counter)
    frames: Counter[GopState] = field(default_factory=Counter)
    bad: list[GopFinding] = field(default_factory=list)
    first_uncovered: GopFinding | None = None
    pending_from_s: float | None = None

    def take(self, finding: GopFinding) -> None:
        """Count one more."""
        self.counts[finding.state] += 1
        self.frames[finding.state] += finding.frames
        if finding.state is GopState.UNCOVERED:
            self.first_uncovered = self.first_uncovered or finding
        elif finding.state in BAD_STATES and len(self.bad) < MAX_LISTED:
            self.bad.append(finding)
        elif finding.state is GopState.PENDING and self.counts[GopState.PENDING] == 1:
            self.pending_from_s = finding.start_s

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
    """For sentences: "GOP 8, at 7.000 s of the recording,"."""
    return f"GOP {gop.number}" + ("" if gop.start_s is None else f", at {gop.start_s:.3f} s of the video,")
