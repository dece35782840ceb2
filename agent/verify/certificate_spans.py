"""Which part of the journal stands under which certificate: a recording's origin is that of its own records only."""

from __future__ import annotations

from dataclasses import dataclass, field

MAX_SPANS = 100
"""Of one certificate; what comes behind is counted to the last one, so that memory stays bounded."""


@dataclass(slots=True)
class _Span:
    """Journal lines, counted through all files, and the numbers of their records, first and last."""

    first_line: int
    last_line: int
    first_seq: int
    last_seq: int


@dataclass(slots=True)
class CertificateSpans:
    """The lines that stand in journal files which name one certificate."""

    _spans: list[_Span] = field(default_factory=list)

    def take(self, line: int, seq: int) -> None:
        """One more line, in order."""
        last = self._spans[-1] if self._spans else None
        if last is None or (line != last.last_line + 1 and len(self._spans) < MAX_SPANS):
            self._spans.append(_Span(line, line, seq, seq))
        else:
            last.last_line, last.last_seq = line, seq

    @property
    def lines(self) -> list[tuple[int, int]]:
        """Where they are, first and last line of each stretch."""
        return [(span.first_line, span.last_line) for span in self._spans]

    @property
    def records(self) -> tuple[tuple[int, int], ...]:
        """The same in numbers of records, as these say themselves."""
        return tuple((span.first_seq, span.last_seq) for span in self._spans)
