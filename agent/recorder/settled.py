"""Which recordings a start need not look at: those that an earlier start found closed, as its `settled` record says.

A card of a year holds ten thousand folders, and looking into each takes a cold card longer than a wearer waits. So each
start that has looked says which names it found closed, by their number and one hash over them, and names the few that
it is not sure of. The next one lists the names, takes away those that were begun since, and when the rest is what was
said, looks at these alone. Whatever else is found (no such record, one that no signature covers, a folder more or
less), it looks at every folder, as a first start does.

A name may only count as settled when its `recording.json` cannot be lost any more, and no sync says so: it is on flash
when it was found there after the power had been off. What was written since the camera was last switched on is
therefore looked at again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from agent.vault.journal_end import JournalEnd

RECORD_TYPE = "settled"
MAX_UNSETTLED = 200
"""Names in one record. With more no record is made, and the next start looks at every folder."""


@dataclass(frozen=True, slots=True)
class Settled:
    """What the newest `settled` record says, and what came after it. begun: recordings triggered since."""

    recordings: int
    names_sha256: str
    unsettled: frozenset[str]
    begun: frozenset[str]

    def rest(self, names: Sequence[str]) -> frozenset[str] | None:
        """Those of the names that need not be looked at; None when they are not those that were settled."""
        rest = [name for name in names if name not in self.unsettled and name not in self.begun]
        if (len(rest), names_sha256(rest)) != (self.recordings, self.names_sha256):
            return None
        return frozenset(rest)


def names_sha256(names: Sequence[str]) -> str:
    """SHA-256, hex, of sorted names with a newline behind each."""
    return hashlib.sha256("".join(f"{name}\n" for name in sorted(names)).encode()).hexdigest()


def read_settled(end: JournalEnd) -> Settled | None:
    """The newest record of what has been read of the journal already: no start reads on to find one."""
    begun: set[str] = set()
    for file in end.read:
        at = next(file.of_type(RECORD_TYPE), None)
        for index in file.of_type("trigger"):
            if at is None or index > at:
                begun.add(str(file.record(index).fields.get("recording_id")))
        if at is not None:
            return _settled(file.record(at).fields, begun) if at < file.covered else None
    return None


def _settled(fields: dict[str, Any], begun: Collection[str]) -> Settled | None:
    recordings, sha256, unsettled = (fields.get(name) for name in ("recordings", "names_sha256", "unsettled"))
    if not isinstance(recordings, int) or not isinstance(sha256, str) or not isinstance(unsettled, list):
        return None
    return Settled(recordings, sha256, frozenset(map(str, unsettled)), frozenset(begun))


def settled_record(settled: Collection[str], others: Collection[str]) -> dict[str, Any] | None:
    """The fields of a start's record; None when there is nothing to say, or the others are too many to be named."""
    if not settled or len(others) > MAX_UNSETTLED:
        return None
    return {"recordings": len(settled), "names_sha256": names_sha256(list(settled)), "unsettled": sorted(others)}
