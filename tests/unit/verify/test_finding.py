"""Findings are documented, and bounded in number."""

from __future__ import annotations

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
    listed = dict(re.findall(r"^\| `([A-Z_]+)` \| (.*) \|$", DOCUMENT.read_text(), re.MULTILINE))
    assert listed == {code.value: code.meaning for code in Code}
    assert all(code.meaning.endswith(".") for code in Code)


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
