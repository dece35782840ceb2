"""Which findings follow from which: one line that is taken out of a journal makes many of its figures disagree.

A person is told the cause; what had to come of it is counted, and shown when asked for. A finding is only taken for a
consequence when the place that found it says so, or when the file it is about is known to be another: each place below
says why. Everything else stands for itself, so that one tampering cannot hide another.
"""

from __future__ import annotations

from collections.abc import Sequence

from agent.verify.finding import Code, Finding, Severity

_BREAKS = frozenset(
    {
        Code.SIGNATURE_BAD, Code.JOURNAL_SEQ, Code.JOURNAL_CHAIN_BROKEN, Code.JOURNAL_LINE_BAD,
        Code.JOURNAL_FILE_MISSING, Code.FILE_UNREADABLE, Code.CERT_UNKNOWN,
    }
)  # fmt: skip
"""Say that from their line on the journal is not what was signed, or cannot be checked."""
_BREAK_ORDER = (
    Code.SIGNATURE_BAD, Code.JOURNAL_FILE_MISSING, Code.FILE_UNREADABLE, Code.JOURNAL_LINE_BAD, Code.JOURNAL_SEQ,
    Code.JOURNAL_CHAIN_BROKEN, Code.CERT_UNKNOWN,
)  # fmt: skip
"""When two stand at one line, the first of these leads."""
_CHANGED_FILE = frozenset(
    {Code.CHECKPOINT_HASH, Code.SEGMENT_HASH, Code.SEGMENT_SIZE, Code.SEGMENT_MISSING, Code.INIT_HASH}
)


def causes(findings: Sequence[Finding]) -> list[int | None]:
    """For each finding the index of the one that it follows from in the end, None when it stands for itself."""
    index = _Index(findings)
    direct = [index.cause_of(number, finding) for number, finding in enumerate(findings)]
    return [_root(direct, number) for number in range(len(findings))]


def _root(direct: Sequence[int | None], number: int) -> int | None:
    seen = {number}
    cause = direct[number]
    while cause is not None and (further := direct[cause]) is not None and further not in seen:
        seen.add(cause)
        cause = further
    return cause


class _Index:
    """Findings by the line and by the file that they are about."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        self._lines: dict[int, tuple[int, int]] = {}
        self._bad_signatures: dict[int, int] = {}
        self._files: dict[str, int] = {}
        self._unknown: dict[str, int] = {}
        self._journal_files: dict[str, int] = {}
        for number, finding in enumerate(findings):
            if finding.severity is not Severity.FAIL:
                continue
            if finding.code in _BREAKS and finding.at is not None:
                rank = _BREAK_ORDER.index(finding.code)
                self._lines[finding.at] = min(self._lines.get(finding.at, (rank, number)), (rank, number))
                if finding.code is not Code.CERT_UNKNOWN:
                    self._journal_files.setdefault(finding.subject.partition(" ")[0], number)
                if finding.code is Code.SIGNATURE_BAD:
                    self._bad_signatures.setdefault(finding.at, number)
            elif finding.code in _CHANGED_FILE:
                self._files.setdefault(finding.subject, number)
            elif finding.code is Code.FILE_UNKNOWN and "/" in finding.subject:
                self._unknown.setdefault(finding.subject, number)

    def cause_of(self, number: int, finding: Finding) -> int | None:
        """The finding from which this one follows directly."""
        cause = self._cause_of(finding)
        return None if cause == number else cause

    def _cause_of(self, finding: Finding) -> int | None:
        if finding.severity is Severity.NOTE:
            return None
        if isinstance(finding.follows, int):
            return self._lines.get(finding.follows, (0, None))[1]
        if isinstance(finding.follows, str):
            return self._files.get(finding.follows)
        if finding.at is not None:
            return self._cause_in_journal(finding, finding.at)
        if finding.code is Code.PACKAGE_SUM:
            # The list of sums names all files: of one that is told to be another it says the same again.
            inner = f"{finding.recording_id}/{finding.subject}"
            return self._files.get(inner, self._journal_files.get(finding.subject))
        if finding.code is Code.FILE_UNKNOWN:
            return self._unknown.get(f"{finding.recording_id}/{finding.subject}")
        return None

    def _cause_in_journal(self, finding: Finding, at: int) -> int | None:
        if finding.code is Code.JOURNAL_CHAIN_BROKEN:
            # The record in front is not what was signed, so its hash cannot be what this one holds.
            return self._bad_signatures.get(at - 1)
        if finding.code is Code.SIGNATURE_UNCOVERED and finding.until is not None:
            # Only when each of the records is told to have a wrong signature: others may have lost theirs.
            lines = finding.until - at + 1
            if lines <= len(self._bad_signatures) and all(at + n in self._bad_signatures for n in range(lines)):
                return self._bad_signatures[at]
        return None
