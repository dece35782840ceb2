"""What the memory outside the card says of the card's journal, as a pure function.

The memory may lag behind: it is written after the card has confirmed, and not for every record. So a journal that goes
on beyond what is remembered is the normal case, and one that does not hold what is remembered is not what the card had
confirmed.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from agent.witness.memory import Memory


class Outcome(StrEnum):
    """agrees: the card has the record. lost: it ends before. differs: it has another record under that number.
    told: it lacks the record, and an earlier start has said so in the journal already. another-journal: the card was
    exchanged or emptied. out-of-reach: the record stands further back than a start reads. absent: nothing is
    remembered. unreadable: what is remembered cannot be read."""

    AGREES = "agrees"
    LOST = "lost"
    DIFFERS = "differs"
    TOLD = "told"
    ANOTHER_JOURNAL = "another-journal"
    OUT_OF_REACH = "out-of-reach"
    ABSENT = "absent"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class CardJournal:
    """The journal as it lies on the card at a start, before anything is appended.

    first_sha256: of its first record, None when there is none or it cannot be read. head_seq: number of its newest
    record, 0 for none. sha256: of the record whose number is remembered; None when it is not there or was not reached.
    told: a start has journalled that this very memory was not borne out.
    """

    first_sha256: str | None
    head_seq: int
    sha256: str | None
    told: bool = False


@dataclass(frozen=True, slots=True)
class Comparison:
    """outcome: see there. memory: what was remembered, None for nothing. head_seq: the card's newest record."""

    outcome: Outcome
    memory: Memory | None
    head_seq: int

    def fields(self) -> dict[str, Any]:
        """Fields of the start's `boot` record."""
        fields: dict[str, Any] = {"witness": self.outcome.value}
        if self.memory is not None:
            fields |= {
                "witness_seq": self.memory.seq,
                "witness_sha256": self.memory.sha256,
                "witness_boot_id": self.memory.boot_id,
                "witness_boottime_ns": self.memory.boottime_ns,
                "witness_found_seq": self.head_seq,
            }
        return fields

    @property
    def accusation(self) -> str | None:
        """What is wrong with the card, in a sentence for people; None when nothing is known to be."""
        memory = self.memory
        if memory is None or self.outcome not in (Outcome.LOST, Outcome.DIFFERS, Outcome.TOLD):
            return None
        if self.outcome is Outcome.LOST:
            lost = f"records {self.head_seq + 1} to {memory.seq}" if memory.seq > self.head_seq + 1 else (
                f"record {memory.seq}"
            )  # fmt: skip
            what = f"The card had confirmed {lost} of the log and no longer has what it confirmed"
        elif self.outcome is Outcome.DIFFERS:
            what = f"The card had confirmed another record {memory.seq} of the log than the one that is on it now"
        else:
            what = f"The card lost records that it had confirmed, up to record {memory.seq}, as the log says"
        return (
            f"{what}: it lies about what it has written, or an earlier state of it was put back; offload this camera, "
            "run `bodycam verify`, and replace its card."
        )


def compare(memory: Memory | None, card: CardJournal, *, readable: bool = True) -> Comparison:
    """memory: None for nothing remembered, or, with readable false, for what cannot be read."""

    def comes_to(outcome: Outcome) -> Comparison:
        return Comparison(outcome, memory, card.head_seq)

    if memory is None:
        return comes_to(Outcome.ABSENT if readable else Outcome.UNREADABLE)
    if card.sha256 == memory.sha256:
        return comes_to(Outcome.AGREES)
    # A journal whose beginning cannot be read is damaged, whoever's it is: that must not hide what else it lacks.
    is_ours = card.first_sha256 == memory.journal_sha256 or (card.first_sha256 is None and card.head_seq > 0)
    if not is_ours:
        return comes_to(Outcome.ANOTHER_JOURNAL)
    if card.told:
        return comes_to(Outcome.TOLD)
    if card.head_seq < memory.seq:
        return comes_to(Outcome.LOST)
    return comes_to(Outcome.OUT_OF_REACH if card.sha256 is None else Outcome.DIFFERS)
