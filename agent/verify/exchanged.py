"""Files that hold what was signed of another: which segments somebody exchanged, or copied over one another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from agent.verify.finding import Code, Finding
from agent.verify.media_job import FileSum, MediaJob

_CHANGED = frozenset({Code.CHECKPOINT_HASH, Code.SEGMENT_HASH, Code.SEGMENT_SIZE, Code.INIT_HASH})


class ExchangedFiles:
    """Takes files as they are checked; afterwards `told`. Memory grows with the number of files only."""

    def __init__(self) -> None:
        self._subjects: dict[str, str] = {}
        """By the hash that was signed: the first file it is of."""
        self._wrong: dict[str, tuple[str, str]] = {}
        """Of each file that is not what was signed: the hash that was, and the one that was found."""

    def take(self, job: MediaJob, found: FileSum) -> None:
        """The next file, and what it holds."""
        if job.bytes:
            self._subjects.setdefault(job.sha256, job.subject)
        if found.sha256 != job.sha256:
            self._wrong[job.subject] = (job.sha256, found.sha256)

    def told(self, findings: Sequence[Finding]) -> list[Finding]:
        """The same findings; the first one on each file that holds another's bytes says so."""
        left = dict(self._wrong)
        told = []
        for finding in findings:
            if finding.code in _CHANGED and finding.subject in left:
                said = self._said(finding.subject, *left.pop(finding.subject))
                finding = replace(finding, sentence=finding.sentence + said)
            told.append(finding)
        return told

    def _said(self, subject: str, signed: str, found: str) -> str:
        other = self._subjects.get(found)
        if other is None or other == subject:
            return ""
        recording_id, _, name = other.rpartition("/")
        where = name if subject.startswith(f"{recording_id}/") else f"{name} of recording {recording_id}"
        if self._wrong.get(other) == (found, signed):
            return f" It holds what was signed as {where}, and that file what was signed as this: they were exchanged."
        return f" It holds what was signed as {where}."
