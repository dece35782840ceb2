"""Findings are documented, and bounded in number."""

from __future__ import annotations

import re
from pathlib import Path

from agent.verify.finding import MAX_SAME_FINDINGS, Code, Findings, Severity

DOCUMENT = Path(__file__).parents[3] / "docs" / "evidence-format.md"


def test_every_code_is_in_the_format_s_document_with_its_meaning() -> None:
    listed = dict(re.findall(r"^\| `([A-Z_]+)` \| (.*) \|$", DOCUMENT.read_text(), re.MULTILINE))
    assert listed == {code.value: code.meaning for code in Code}
    assert all(code.meaning.endswith(".") for code in Code)


def test_a_million_findings_of_a_kind_are_a_few_and_a_number() -> None:
    findings = Findings()
    for number in range(1000):
        findings.fail(Code.SIGNATURE_BAD, f"line {number}", "Bad.", at=number)
    findings.note(Code.GAP, "x", "A gap.")
    found = findings.all()
    assert len(found) == MAX_SAME_FINDINGS + 2
    assert "990 more" in found[-1].sentence
    assert found[-1].severity is Severity.FAIL
    assert found[-1].at is None
