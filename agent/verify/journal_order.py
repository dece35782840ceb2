"""Where record numbers do not follow on one another: what is gone, and what only stands elsewhere.

That is known at the journal's end only: two lines that were exchanged look like a record that is missing at first.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.verify.finding import Code, Findings

MAX_KEPT = 1000
"""Places at which numbers do not follow; behind them each is said as it looks by itself."""


@dataclass(slots=True)
class _Stretch:
    """Records that follow on one another. before: the number in front of it; None where it follows on nothing."""

    first: int
    last: int
    before: int | None = None
    place: str = ""
    ordinal: int = 0


class JournalOrder:
    """Takes the number of every record in order; afterwards `finish`."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._stretches: list[_Stretch] = []

    def take(self, seq: int, *, before: int | None, place: str, ordinal: int) -> None:
        """The next record. before: number of the one in front, None where that is not known."""
        last = self._stretches[-1] if self._stretches else None
        if last is not None and (before is None or seq == before + 1) and last.last + 1 == seq:
            last.last = seq
        elif before is None or seq == before + 1:
            if len(self._stretches) < MAX_KEPT:
                self._stretches.append(_Stretch(seq, seq))
        elif len(self._stretches) < MAX_KEPT:
            self._stretches.append(_Stretch(seq, seq, before, place, ordinal))
        else:
            self._fail(_Stretch(seq, seq, before, place, ordinal))

    def finish(self) -> None:
        """Report each place."""
        for stretch in self._stretches:
            if stretch.before is not None:
                self._fail(stretch)

    def _fail(self, stretch: _Stretch) -> None:
        sentence = self._sentence(stretch, stretch.before or 0)
        self._findings.fail(Code.JOURNAL_SEQ, stretch.place, sentence, at=stretch.ordinal)

    def _sentence(self, stretch: _Stretch, before: int) -> str:
        seq = stretch.first
        follows = f"record {seq} follows on record {before}"
        if seq <= before:
            others = [other for other in self._stretches if other is not stretch]
            doubled = any(other.first <= seq <= other.last for other in others)
            what = "added to the journal, or doubled" if doubled else "moved"
            return f"{follows[0].upper()}{follows[1:]}: records were {what}."
        first, last = before + 1, seq - 1
        one = first == last
        named = f"Record {first}" if one else f"Records {first} to {last}"
        elsewhere = sum(max(0, min(last, other.last) - max(first, other.first) + 1) for other in self._stretches)
        if not elsewhere:
            return f"{named} {'is' if one else 'are'} missing from the journal: {follows}."
        if elsewhere >= last - first + 1:
            stands = "stands" if one else "stand"
            return f"{named} {stands} elsewhere in the journal: {follows}, so records were moved."
        return f"{named} are missing from the journal, or stand elsewhere in it: {follows}."
