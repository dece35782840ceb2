"""Whether the pictures show anything: a pure judgement of a figure or two of one small thumbnail every few seconds.

It warns and stops nothing: what looks like a covered lens may be the darkest of nights, and is recorded all the same.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from agent.controller.events import PictureMeasured

LOOK_EVERY_S = 2

COVERED_MEAN = 60.0
"""A lens behind a hand or cloth in daylight still gets some light; above this it looks at a wall, or into fog."""
COVERED_DETAIL = 0.4
"""Of 255. The demo's daylight footage has 15 to 40, at a twenty-fifth of its light 0.6 and more, all but black with the
sensor's noise over it; a covered lens has what its noise pretends."""
WHITE_SHARE = 0.8
"""Half of a picture is white when it shows the sky."""
EASED = 1.5
"""A fault is over only when its figure is that much better than it began at."""

COVERED_LOOKS = 10
"""Long enough for a wearer who kneels over somebody, or walks through a dark cellar."""
WHITE_LOOKS = 10
FROZEN_LOOKS = 5
"""That many times 37,000 samples without a bit of noise: no sensor gives that once."""
CLEAR_LOOKS = 3


class PictureFault(StrEnum):
    """What can be wrong with pictures that come in time."""

    COVERED = "covered"
    OVEREXPOSED = "overexposed"
    FROZEN = "frozen"

    @property
    def component(self) -> str:
        """As records name it."""
        return "lens" if self is PictureFault.COVERED else "picture"

    @property
    def looks(self) -> int:
        """How many in a row it takes."""
        return _LOOKS[self]

    @property
    def message(self) -> str:
        """For people."""
        return _MESSAGES[self].format(seconds=self.looks * LOOK_EVERY_S)

    @property
    def over(self) -> str:
        """For people, when it has ended."""
        return _OVER[self]


_LOOKS = {
    PictureFault.COVERED: COVERED_LOOKS,
    PictureFault.OVEREXPOSED: WHITE_LOOKS,
    PictureFault.FROZEN: FROZEN_LOOKS,
}
_MESSAGES = {
    PictureFault.COVERED: "The picture has been dark and without any detail for {seconds} s; see that nothing covers "
    "the lens.",
    PictureFault.OVEREXPOSED: "Nearly all of the picture has been white for {seconds} s; look at the lens and at the "
    "camera's exposure.",
    PictureFault.FROZEN: "The camera has given one and the same picture for {seconds} s; unplug it and plug it in "
    "again, or restart the device.",
}
_OVER = {
    PictureFault.COVERED: "The picture shows something again.",
    PictureFault.OVEREXPOSED: "The picture is no longer white.",
    PictureFault.FROZEN: "The picture changes again.",
}


@dataclass(frozen=True, slots=True)
class PictureState:
    """fault: what the wearer was told of and has not ended. suspected: what the last `looks` looks were like."""

    fault: PictureFault | None = None
    suspected: PictureFault | None = None
    looks: int = 0

    def interrupted(self) -> PictureState:
        """No pictures come for now: what was suspected is, a fault stays until a picture shows otherwise."""
        return replace(self, suspected=self.fault, looks=0)


def like(seen: PictureMeasured, fault: PictureFault | None) -> PictureFault | None:
    """What one look is like. What is the fault already needs less to be it still."""
    ease = {known: EASED if known is fault else 1.0 for known in PictureFault}
    darkest = ease[PictureFault.COVERED]
    if seen.mean <= COVERED_MEAN * darkest and seen.detail <= max(COVERED_DETAIL, seen.noise) * darkest:
        return PictureFault.COVERED
    if seen.white >= WHITE_SHARE / ease[PictureFault.OVEREXPOSED]:
        return PictureFault.OVEREXPOSED
    return PictureFault.FROZEN if seen.still else None


def look(seen: PictureMeasured, before: PictureState) -> PictureState:
    """The state after one more look; a fault begins or ends where `fault` differs from before."""
    found = like(seen, before.fault)
    looks = before.looks + 1 if found is before.suspected else 1
    now = PictureState(before.fault, found, looks)
    if found is before.fault:
        return now
    if found is not None and looks >= found.looks:
        return replace(now, fault=found)
    if before.fault is not None and (found is None and looks >= CLEAR_LOOKS):
        return replace(now, fault=None)
    return now
