"""All of the matrix: every kind of tampering, and which of them verify.sh is run on in each run of the tests."""

from __future__ import annotations

from tests.tamper import (
    cells,
    certificates,
    encryption,
    names,
    records,
    replays,
    rules,
    spelling,
    timestamps,
    video,
)
from tests.tamper.table import FILES, row_of

NAMED = [
    kind
    for module in (records, spelling, rules, certificates, replays, video, encryption, timestamps, names)
    for kind in module.KINDS
]
KINDS = [*NAMED, *cells.KINDS]


def spread() -> set[str]:
    """Ids of a part of the matrix in which verify.sh refuses for every reason for which it refuses in every section.

    The files' sections, which are alike, count as one.
    """
    chosen: set[str] = set()
    seen: set[tuple[str, str]] = set()
    for kind in sorted(KINDS, key=lambda kind: -len(row_of(kind).script.fails)):
        section = FILES if kind.section.startswith(FILES) else kind.section
        said = {(section, code) for code in row_of(kind).script.fails}
        if not said <= seen:
            seen |= said
            chosen.add(kind.id)
    return chosen
