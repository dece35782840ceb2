"""Where a recording's part of the journal is broken, and which of its figures may disagree because of that.

Whoever takes one line out of a journal makes counts, times and sums behind it disagree. Only what the break can explain
is put down to it: what goes on from the line before, segments that were open there, and sums that span it.
"""

from __future__ import annotations

from collections.abc import Iterable


class JournalBreaks:
    """Takes where the journal is broken, in order. Lines are counted through all of the journal, from 0.

    A journal is broken at a line whose signature is wrong, or that does not follow on the one before it.
    """

    def __init__(self) -> None:
        self.last: int | None = None
        """The last break between two records of the recording, or right before its first; None when there is none."""
        self.before_first: int | None = None
        """The break right before its first record."""
        self.in_sums: int | None = None
        """The last one at which something may be gone that the sums of its closing record count."""
        self._fresh = False
        self._files: set[str] = set()

    def take(
        self, line: int, previous: int | None, broken_at: int | None, open_files: Iterable[str], *, counted: bool
    ) -> None:
        """The recording's next record stands at `line`, the one before it at `previous` (None: it is the first).

        broken_at: the journal's last break up to this line. open_files: segments that have checkpoints and no record
        that closes them yet. counted: what stands between the two records may count in the recording's sums.
        """
        if broken_at is None or broken_at <= (line - 1 if previous is None else previous):
            return
        self.last, self._fresh = broken_at, True
        self._files.update(open_files)
        if previous is None:
            self.before_first = broken_at
        if counted:
            self.in_sums = broken_at

    @property
    def before_next(self) -> int | None:
        """The break because of which what the next checkpoint must go on from may be gone."""
        return self.last if self._fresh else None

    def checkpoint(self, file: str) -> None:
        """A checkpoint of this segment was taken: the next one goes on from it."""
        if self._fresh:
            self._files.add(file)  # the first checkpoints of it may be those that are gone
        self._fresh = False

    def in_file(self, file: str) -> int | None:
        """The break because of which checkpoints of this segment may be gone."""
        return self.last if self._fresh or file in self._files else None
