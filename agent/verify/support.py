"""A package's support sheet against the log it is gathered from. It is no evidence; but people certify by it."""

from __future__ import annotations

from collections.abc import Callable

from agent.errors import BodycamError
from agent.verify.evidence import SUPPORT_JSON_NAME, SUPPORT_TEXT_NAME, Evidence
from agent.verify.evidence_file import read_plain
from agent.verify.finding import Code, Findings

SupportMaker = Callable[[Evidence], dict[str, bytes]]
"""Makes the files of a package's support sheet anew, by name. Raises BodycamError or OSError when it cannot."""
MAX_SUPPORT_BYTES = 64 << 20


def check_support(evidence: Evidence, make: SupportMaker, findings: Findings) -> None:
    """Compare a package's support.json and support.txt with what this version makes of its log."""
    try:
        made = make(evidence)
    except (BodycamError, OSError) as error:
        for name in (SUPPORT_JSON_NAME, SUPPORT_TEXT_NAME):
            _warn(evidence, findings, name, f"{name} was not checked: it cannot be made anew from this log. {error}")
        return
    for name, data in made.items():
        try:
            found = read_plain(evidence.root / name, MAX_SUPPORT_BYTES)
        except OSError:
            continue  # that it is not there is told with the package's parts
        if found != data:
            sentence = (
                f"{name} is not what this version of the software makes of the log: it was changed or damaged, or "
                "another version of the software made the package. It is no evidence; rely on the records themselves."
            )
            _warn(evidence, findings, name, sentence)


def _warn(evidence: Evidence, findings: Findings, name: str, sentence: str) -> None:
    findings.warn(Code.SUPPORT_DIFFERS, name, sentence, recording_id=evidence.packaged_id)
