"""What `boot` records say of the camera's memory outside of its card: whether the card had what it had confirmed."""

from __future__ import annotations

from agent.vault.record import Record
from agent.verify.fields import FieldError, Fields
from agent.verify.finding import Code, Findings

_ACCUSING = frozenset({"lost", "differs"})
_QUIET = frozenset({"agrees", "told", "out-of-reach", "absent", "unreadable"})
_OTHER = "another-journal"


def check_remembered(record: Record, ordinal: int, findings: Findings) -> None:
    """Takes every `boot` record; one of a camera without such a memory says nothing of it. Raises FieldError."""
    if "witness" not in record.fields:
        return
    fields = Fields(record.fields)
    outcome = fields.text("witness")
    if outcome in _QUIET:
        return
    if outcome == _OTHER:
        findings.note(
            Code.CARD_CHANGED,
            f"record {record.seq}",
            f"When the camera started in record {record.seq}, the card in it was another than the one it remembered, "
            f"or had been emptied. That one had confirmed records up to {fields.count('witness_seq')} of another log. "
            "They are not here; ask for that card, or for what was offloaded from it.",
            at=ordinal,
        )
        return
    if outcome not in _ACCUSING:
        raise FieldError(f"its witness {outcome[:40]!r} is none there is")
    seq, found = fields.count("witness_seq"), fields.count("witness_found_seq")
    sha256 = fields.sha256("witness_sha256")
    if found >= record.seq or (found < seq) is not (outcome == "lost"):
        raise FieldError("what its witness remembers and what was found contradict each other")
    start = f"When the camera started in record {record.seq}"
    memory = "by what it remembers outside of the card"
    findings.warn(
        Code.CONFIRMED_LOST,
        f"record {record.seq}",
        (
            f"{start}, its card did not have {_records(found + 1, seq)}, which it had confirmed before ({memory}); "
            f"what stands under {'that number' if seq == found + 1 else 'these numbers'} was written later. "
            if outcome == "lost"
            else f"{start}, its card had another record {seq} than the one that it had confirmed ({memory}: SHA-256 "
            f"{sha256}). "
        )
        + "Either the card lost what it had said was written, as one that ignores flushes does when its power goes, "
        "or an earlier state of it was put back. What the lost records said, and video that only they vouched for, is "
        "not here.",
        at=ordinal,
    )


def _records(first: int, last: int) -> str:
    return f"record {last}" if first == last else f"records {first} to {last}"
