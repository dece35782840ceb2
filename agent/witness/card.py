"""Looks up on the card what the memory outside of it speaks of."""

from __future__ import annotations

from agent.errors import StorageError, VaultError
from agent.vault.journal_end import JournalEnd, JournalFile
from agent.vault.record import sha256_hex
from agent.witness.comparison import CardJournal, Outcome
from agent.witness.memory import Memory

MAX_FILES = 8
"""Of the journal, read back at a start for it: a memory that could not be written for weeks must not hold up a
recording. Each is some megabytes, and the newest one or two hold the record whenever the memory works."""
_ACCUSING = frozenset({Outcome.LOST.value, Outcome.DIFFERS.value})


def look(end: JournalEnd, head_seq: int, memory: Memory | None) -> CardJournal:
    """The journal whose files these are; head_seq: its newest record. What cannot be read counts as not reached."""
    if memory is None:
        return CardJournal(_first(end), head_seq, None)
    sha256: str | None = None
    told = False
    try:
        for number, file in enumerate(end):
            if number >= MAX_FILES or not len(file):
                break
            told = told or any(_tells(file, index, memory) for index in file.of_type("boot"))
            first_seq = file.before[0] + 1
            if first_seq <= memory.seq:
                index = memory.seq - first_seq
                sha256 = sha256_hex(file.json_bytes(index)) if index < len(file) else None
                break
    except VaultError:  # a record that was changed since, or a sector that is gone: nothing of it may hold up a start
        sha256 = None
    return CardJournal(_first(end), head_seq, sha256, told)


def _first(end: JournalEnd) -> str | None:
    try:
        return end.first_sha256()
    except StorageError:
        return None


def _tells(file: JournalFile, index: int, memory: Memory) -> bool:
    fields = file.record(index).fields
    return fields.get("witness") in _ACCUSING and (fields.get("witness_seq"), fields.get("witness_sha256")) == (
        memory.seq,
        memory.sha256,
    )
