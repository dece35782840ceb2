"""What is to happen in one power cut, by its number: the same for all time."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum

from tests.rig.write_cache import CutRules


class Phase(StrEnum):
    """In what the power goes."""

    SNAPSHOT = "snapshot"
    """Right after the press, while the pre-event buffer is being written."""
    STEADY = "steady"
    """In a recording that has caught up: fragments, checkpoints, the journal, a new segment every few seconds."""
    STOP = "stop"
    """Around the stop: last fragments, seal, end of the recording."""
    RECOVERY = "recovery"
    """In a steady recording, and again while the next start recovers it."""
    TWICE = "recovery twice"
    """The same, and again while the start after that recovers what the second cut left."""
    OFFLOAD = "offload"
    """While finished recordings are copied to the dock's disk and receipts come in. That disk loses its power, too."""


RECOVERY_CUTS = {Phase.RECOVERY: 1, Phase.TWICE: 2}


@dataclass(frozen=True, slots=True)
class Moment:
    """When the power goes: so long after something, or instead of the nth write or flush from then on.

    By time most cuts come between two writes, because a card is idle most of the time; by requests none does. What
    stands between two requests is what a promise about order is about.
    """

    delay_s: float = 0.0
    request: int | None = None

    def __str__(self) -> str:
        return f"+{self.delay_s:.2f} s" if self.request is None else f"at request {self.request}"


@dataclass(frozen=True, slots=True)
class Plan:
    """One case.

    cut: after the second press (SNAPSHOT), the beginning of a hold that is long enough (STOP), the start of the offload
    (OFFLOAD), or after the recording had caught up. again: of each later cut, after its card was inserted. store_first:
    OFFLOAD only: `cut` counts the requests of the dock's disk and not of the card.
    """

    seed: int
    phase: Phase
    cut: Moment
    rules: CutRules
    again: tuple[Moment, ...] = ()
    store_first: bool = False


_LATEST_S = {Phase.SNAPSHOT: 1.5, Phase.STEADY: 4.0, Phase.STOP: 2.5, Phase.OFFLOAD: 20.0}
_LAST_REQUEST = {Phase.SNAPSHOT: 60, Phase.STEADY: 120, Phase.STOP: 40, Phase.OFFLOAD: 80}
"""How many there are in the time above, about."""
_AGAIN_LATEST_S = 25.0
_AGAIN_LAST_REQUEST = 60
"""Replaying the file system's journal takes a few, the start's records and the seal some 40; then recording goes on."""


def plan(seed: int, *, lie: bool = False, phase: Phase | None = None) -> Plan:
    """A case by its number."""
    chance = random.Random(seed)
    chosen = chance.choices(list(Phase), weights=(5, 7, 3, 2, 1, 2))[0]
    phase = phase or chosen
    like = Phase.STEADY if phase in RECOVERY_CUTS else phase
    keep, tear = chance.choice(((0.0, False), (0.5, False), (0.5, True), (0.9, True)))
    rules = CutRules(keep, tear, seed, lie_s=chance.uniform(1.0, 4.0) if lie else None)
    cut = _moment(chance, _LATEST_S[like], _LAST_REQUEST[like], by_request=chance.random() < 0.5)
    again = tuple(
        _moment(chance, _AGAIN_LATEST_S, _AGAIN_LAST_REQUEST, by_request=chance.random() < 0.75)
        for _ in range(RECOVERY_CUTS.get(phase, 0))
    )
    return Plan(seed, phase, cut, rules, again, store_first=chance.random() < 0.5)


def _moment(chance: random.Random, latest_s: float, last_request: int, *, by_request: bool) -> Moment:
    delay_s, request = chance.uniform(0.0, latest_s), chance.randint(1, last_request)
    return Moment(request=request) if by_request else Moment(delay_s)
