"""How long the card still lasts, and what that means: a pure judgement of free bytes and the rate of recording."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from agent.settings.rate import recording_bytes_per_s
from agent.settings.schema import Settings

LOW_MINUTES = 60
VERY_LOW_MINUTES = 30
STOP_S = 10
"""A recording is stopped while there is room for so many more seconds: what waits to be written has to fit, too."""
_BETTER_PERCENT = 110


class StorageLevel(StrEnum):
    """How much room there is, from best to worst. FULL: nothing new is begun, and what runs is stopped."""

    PLENTY = "plenty"
    LOW = "low"
    VERY_LOW = "very-low"
    FULL = "full"


_FROM_BEST = list(StorageLevel)


@dataclass(frozen=True, slots=True)
class Room:
    """spare_bytes: free for media, what is kept for the journal left out. bytes_per_s: what a recording writes."""

    spare_bytes: int
    bytes_per_s: int
    level: StorageLevel

    @property
    def minutes_left(self) -> int:
        """Whole minutes of recording."""
        return self.spare_bytes // (60 * self.bytes_per_s)

    def is_worse_than(self, other: Room | None) -> bool:
        """Whether the wearer has to be told something new; None stands for plenty of room."""
        before = StorageLevel.PLENTY if other is None else other.level
        return _FROM_BEST.index(self.level) > _FROM_BEST.index(before)


def judge_room(settings: Settings, spare_bytes: int, measured_bytes_per_s: int | None, before: Room | None) -> Room:
    """The level that holds now. measured_bytes_per_s: None when nothing runs that could be measured.

    Between half and twice the configured rate it is believed: a dark scene ends. The level gets better only with a
    tenth more room than it got worse at, so that a rate that wavers is not told again and again.
    """
    configured = recording_bytes_per_s(settings)
    rate = configured if measured_bytes_per_s is None else measured_bytes_per_s
    rate = min(max(rate, configured // 2), 2 * configured)
    now = _level(settings, max(spare_bytes, 0), rate)
    if before is not None:
        eased = _level(settings, max(spare_bytes, 0) * 100 // _BETTER_PERCENT, rate)
        # No worse than before for the tenth alone, and no better than with it.
        now = max(now, min(eased, before.level, key=_FROM_BEST.index), key=_FROM_BEST.index)
    return Room(max(spare_bytes, 0), rate, now)


def _level(settings: Settings, spare_bytes: int, bytes_per_s: int) -> StorageLevel:
    # What a stop has still to write: the pre-event of a recording that began a moment ago, and what followed.
    if spare_bytes < (settings.buffer.pre_event_s + STOP_S) * bytes_per_s:
        return StorageLevel.FULL
    if spare_bytes < VERY_LOW_MINUTES * 60 * bytes_per_s:
        return StorageLevel.VERY_LOW
    return StorageLevel.LOW if spare_bytes < LOW_MINUTES * 60 * bytes_per_s else StorageLevel.PLENTY
