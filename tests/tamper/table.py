"""The declared part of the matrix: what has to be found for each kind, from expected.toml and files.toml beside this.

A value is the codes that `bodycam verify` has to find, and verify.sh as well but for those that it is blind to; or
`{ verify, script, why }` where the script says something else. Codes as `Expected.of` reads them. A section's own
`why` is that of its rows for which nothing is found.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from agent.verify.finding import Code
from tests.tamper.kind import Expected, Kind

FILES = "Any file"
BLIND = {
    Code.FRAGMENT_DISAGREES: "verify.sh reads no MP4",
    Code.RECORDING_JSON_DIFFERS: "verify.sh does not make recording.json anew",
    Code.PACKAGE_KIT: "verify.sh has no other copy of itself to compare",
    Code.PLAIN_HASH: "verify.sh has no key to open encrypted video with",
    Code.IDENTITY: "verify.sh has no key to open what is encrypted with",
    Code.SEALED: "verify.sh has no key to open sealed fields with",
    Code.FILE_UNREADABLE: "verify.sh passes over what is no plain file, and tells what is missing then",
    Code.TIME_STEP: "verify.sh does not compare the two clocks",
    Code.VIDEO_SIGNED: "verify.sh does not read the signatures in the video",
    Code.VIDEO_GOP: "verify.sh does not read the signatures in the video",
    Code.VIDEO_KEY: "verify.sh does not read the signatures in the video",
    Code.VIDEO_UNSIGNED: "verify.sh does not read the signatures in the video",
}
"""What verify.sh cannot know, and why."""
# What the script says of a file that no record which it could read vouches for.
_FOLLOWS = frozenset({"FILE_UNKNOWN"})
# Where a journal file cannot be read to its end the script leaves the rest of it out: what then is missing follows.
_UNREADABLE_LOG = frozenset({"JOURNAL_LINE_BAD", "JOURNAL_FILE_MISSING", "JOURNAL_MISSING"})


@dataclass(frozen=True)
class Row:
    """What has to be found for one kind. why: in words, where the script or nobody finds it."""

    verify: Expected
    script: Expected
    why: str


@cache
def _declared() -> dict[str, dict[str, str | dict[str, str]]]:
    folder = Path(__file__).parent
    named = tomllib.loads((folder / "expected.toml").read_text())
    files = tomllib.loads((folder / "files.toml").read_text())
    return named | {f"{FILES}: {name}": rows for name, rows in files.items()}


def declared_ids() -> set[tuple[str, str]]:
    """(section, name) of every row that there is."""
    return {(section, name) for section, rows in _declared().items() for name in rows if name != "why"}


@cache
def row_of(kind: Kind) -> Row:
    """What is declared for a kind. Raises KeyError when nothing is.

    A file's row is of a package whose sums the forger made anew. Where they were left the change shows there as well.
    """
    rows = _declared()[kind.section]
    value = rows.get(kind.name if kind.sums else f"{kind.name}, sums left", rows[kind.name])
    a_file = kind.section.startswith(FILES) and kind.section != f"{FILES}: SHA256SUMS"
    left = a_file and not kind.sums and f"{kind.name}, sums left" not in rows
    fields = {"verify": value} if isinstance(value, str) else value
    more = " PACKAGE_SUM" if left else ""
    verify = Expected.of(fields["verify"] + more)
    why = [fields["why"]] if "why" in fields else []
    if not why and verify.outcome == "passes" and isinstance(said := rows.get("why"), str):
        why.append(said)
    if "script" in fields:
        script = Expected.of(fields["script"] + more)
    else:
        unseen = [code for code in BLIND if code.value in verify.fails | verify.warns | verify.notes]
        script = verify.without({code.value for code in BLIND}, anything=bool(verify.fails & _UNREADABLE_LOG))
        script = replace(script, perhaps=script.perhaps | _FOLLOWS) if script.fails else script
        if verify.outcome != script.outcome:
            why += sorted({BLIND[code] for code in unseen})
    return Row(verify, script, "; ".join(why))
