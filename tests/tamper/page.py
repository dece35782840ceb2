"""The tables of docs/tampering.md out of the declared matrix: `python -m tests.tamper.page` puts them there."""

from __future__ import annotations

from pathlib import Path

from tests.tamper.cells import FILE_KINDS, TAMPERINGS
from tests.tamper.kind import Expected
from tests.tamper.matrix import KINDS, NAMED
from tests.tamper.table import FILES, row_of

PAGE = Path(__file__).parents[2] / "docs" / "tampering.md"
FILES_BY_NAME = [kind for kind in KINDS if kind not in NAMED]


def tables() -> dict[str, str]:
    """Each generated part by its mark, marks included."""
    parts = {"numbers": _numbers(), "kinds": _named(), "files": _files(), "silent": _silent()}
    return {mark: f"<!-- {mark} -->\n{text}\n<!-- end of {mark} -->" for mark, text in parts.items()}


def _numbers() -> str:
    lines = [
        "| kinds of tampering | number | refused by `bodycam verify` | by `verify.sh` |", "|---|---|---|---|",
    ]  # fmt: skip
    groups = {"named, below": NAMED, "every kind of file × everything that can be done to a file": FILES_BY_NAME}
    for name, kinds in groups.items():
        rows = [row_of(kind) for kind in kinds]
        verify = sum(row.verify.outcome == "fails" for row in rows)
        script = sum(row.script.outcome == "fails" for row in rows)
        lines.append(f"| {name} | {len(kinds)} | {verify} | {script} |")
    return "\n".join(lines)


def _named() -> str:
    lines: list[str] = []
    section = ""
    for kind in NAMED:
        if kind.section != section:
            section = kind.section
            lines += [
                "",
                f"### {section}",
                "",
                "| what a forger does | `bodycam verify` | `verify.sh` |",
                "|---|---|---|",
            ]
        row = row_of(kind)
        script = "the same" if row.script.text() == row.verify.text() else row.script.text() or "nothing"
        lines.append(f"| {_cell(kind.name)} | {row.verify.text() or 'nothing'} | {script} |")
    return "\n".join(lines[1:])


def _files() -> str:
    lines = ["| file | what is done to it | `bodycam verify` |", "|---|---|---|"]
    for file in FILE_KINDS:
        groups: dict[str, list[str]] = {}
        for tampering in TAMPERINGS:
            sums = file.name != "SHA256SUMS"
            kind = next(
                found
                for found in FILES_BY_NAME
                if (found.section, found.name, found.sums) == (f"{FILES}: {file.name}", tampering, sums)
            )
            verify = row_of(kind).verify
            groups.setdefault((verify.text() + (" …" if verify.anything else "")) or "nothing", []).append(tampering)
        lines += [f"| {_cell(file.name)} | {'; '.join(names)} | {codes} |" for codes, names in groups.items()]
    return "\n".join(lines)


def _silent() -> str:
    """What is not refused by one or both, and why."""
    lines = ["| what a forger does | `bodycam verify` | `verify.sh` | why |", "|---|---|---|---|"]
    for kind in NAMED:
        row = row_of(kind)
        if row.verify.outcome != "fails" or row.script.outcome != "fails":
            lines.append(f"| {_cell(kind.name)} | {_outcome(row.verify)} | {_outcome(row.script)} | {_cell(row.why)} |")
    return "\n".join(lines)


def _outcome(expected: Expected) -> str:
    return {"fails": "refused", "to be judged": "warning", "noted": "note", "passes": "passes"}[expected.outcome]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def write() -> None:
    """Put the tables into the page between their marks."""
    text = PAGE.read_text(encoding="utf-8")
    for mark, table in tables().items():
        before, _, rest = text.partition(f"<!-- {mark} -->")
        _, _, after = rest.partition(f"<!-- end of {mark} -->")
        text = before + table + after
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write()
