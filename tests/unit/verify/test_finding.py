"""Findings are documented, and bounded in number."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from agent.verify.finding import (
    MAX_FINDINGS,
    MAX_SAME_FINDINGS,
    MAX_SAME_WHEN_MANY,
    Code,
    Findings,
    Severity,
)

DOCUMENT = Path(__file__).parents[3] / "docs" / "evidence-format.md"


def test_every_code_is_in_the_format_s_document_with_its_meaning() -> None:
    listed = {code: meaning for code, _, meaning in rows()}
    assert listed == {code.value: code.meaning for code in Code}
    assert all(code.meaning.endswith(".") for code in Code)


def rows() -> list[tuple[str, str, str]]:
    """Code, severities, meaning."""
    return re.findall(r"^\| `([A-Z_]+)` \| ([a-z, ]+) \| (.*) \|$", DOCUMENT.read_text(), re.MULTILINE)


class Severities(ast.NodeVisitor):
    """Which severities the code gives to which codes: fail(Code.X), warn, note, and add(Code.X, Severity.Y)."""

    def __init__(self) -> None:
        self.found: dict[str, set[str]] = {}
        self._codes: list[dict[str, set[str]]] = []

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        assigned: dict[str, set[str]] = {}
        for inner in ast.walk(node):
            if isinstance(inner, ast.Assign) and isinstance(inner.targets[0], ast.Name):
                found = attributes(inner.value, "Code") | attributes(inner.value, "Severity")
                assigned.setdefault(inner.targets[0].id, set()).update(found)
        self._codes.append(assigned)
        self.generic_visit(node)
        self._codes.pop()

    def visit_Call(self, node: ast.Call) -> None:
        self.generic_visit(node)
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        said = {value for argument in node.args[:4] for value in self._values(argument)}
        codes, severities = said & set(Code.__members__), said & set(Severity.__members__)
        if name.strip("_") in ("fail", "warn", "note", "add"):
            for code in codes:
                self.found.setdefault(code, set()).update(severities or {name.strip("_").upper()})

    def _values(self, argument: ast.expr) -> set[str]:
        if isinstance(argument, ast.Name):
            return {value for names in self._codes[-1:] for value in names.get(argument.id, ())}
        return attributes(argument, "Code") | attributes(argument, "Severity")


def attributes(node: ast.AST, of: str) -> set[str]:
    return {
        inner.attr
        for inner in ast.walk(node)
        if isinstance(inner, ast.Attribute) and isinstance(inner.value, ast.Name) and inner.value.id == of
    }


def test_the_document_says_how_severe_each_code_is() -> None:
    visitor = Severities()
    for path in DOCUMENT.parents[1].joinpath("agent", "verify").glob("*.py"):
        visitor.visit(ast.parse(path.read_text()))
    order = [severity.name for severity in Severity]
    made = {code: ", ".join(name.lower() for name in order if name in found) for code, found in visitor.found.items()}
    assert {code: severities for code, severities, _ in rows()} == made
    assert made.keys() == set(Code.__members__)


def test_a_million_findings_of_a_kind_are_a_thousand_and_a_number() -> None:
    findings = Findings()
    for number in range(5000):
        findings.fail(Code.SIGNATURE_BAD, f"line {number}", "Bad.", at=number)
    findings.note(Code.GAP, "x", "A gap.")
    found = findings.all()
    assert len(found) == MAX_SAME_FINDINGS + 2
    assert "4000 more" in found[-1].sentence
    assert found[-1].severity is Severity.FAIL
    assert found[-1].at is None


def test_findings_of_many_recordings_do_not_add_up_without_end() -> None:
    findings = Findings()
    for recording in range(60):
        for number in range(MAX_SAME_FINDINGS):
            findings.fail(Code.MEDIA_TIME, f"line {number}", "Bad.", recording_id=str(recording))
    found = findings.all()
    many = MAX_FINDINGS // MAX_SAME_FINDINGS
    assert len(found) == MAX_FINDINGS + (60 - many) * (MAX_SAME_WHEN_MANY + 1)
    # Of each recording something is kept, and all are counted: none can pass because others filled the list.
    assert {finding.recording_id for finding in found} == {str(recording) for recording in range(60)}
    assert sum("990 more" in finding.sentence for finding in found) == 60 - many
