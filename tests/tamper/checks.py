"""The two verifiers on one package, each with what an examiner gives it."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from agent.offload.support_again import support_again
from agent.trust.certificates import pem
from agent.verify.finding import Severity
from agent.verify.kit_files import verify_script
from agent.verify.verify import verify_path
from tests.support.evidence_key import EVIDENCE
from tests.support.time_authority import time_authority
from tests.tamper.bases import Bases

FINDING = re.compile(r"^(fail|warn|note) ([A-Z_]+)  .+$", re.MULTILINE)
SCRIPT_TIMEOUT_S = 100


@dataclass(frozen=True)
class Found:
    """Codes by severity, and all that was said."""

    fails: set[str]
    warns: set[str]
    notes: set[str]
    said: str


def is_stamped(base: str) -> bool:
    """Whether the examiner of a base's packages asks for trusted time."""
    return base.startswith("stamped")


def by_verify(package: Path, bases: Bases, base: str, *, opened: bool = False) -> Found:
    """`bodycam verify`, which reads the signatures in the video unless it is told not to."""
    tsa_roots = [bases.authority.root, time_authority("Old TSA", expired=True).root] if is_stamped(base) else None
    identities = EVIDENCE.identities if opened else None
    roots = [bases.department.root]
    report = verify_path(
        package, roots=roots, tsa_roots=tsa_roots, identities=identities, video=True, support=support_again
    )
    codes = {
        severity: {found.code.value for found in report.findings if found.severity is severity} for severity in Severity
    }
    assert report.ok == (not codes[Severity.FAIL])
    said = "\n".join(f"{found.severity.value} {found.code.value}  {found.sentence}" for found in report.findings)
    return Found(codes[Severity.FAIL], codes[Severity.WARN], codes[Severity.NOTE], said)


def by_script(package: Path, bases: Bases, base: str) -> Found:
    """verify.sh, the examiner's own copy, with a folder for its temporary files that it has to leave empty."""
    script, tsa_pem = bases.folder / "verify.sh", bases.folder / "tsa.pem"
    if not script.exists():
        script.write_bytes(verify_script())
        tsa_pem.write_bytes(pem([bases.authority.root, time_authority("Old TSA", expired=True).root]))
    arguments = [str(script), str(bases.root_pem), ".", *([str(tsa_pem)] if is_stamped(base) else [])]
    with tempfile.TemporaryDirectory(dir=bases.folder) as scratch:
        done = subprocess.run(
            ["sh", *arguments], cwd=package, capture_output=True, text=True, check=False, timeout=SCRIPT_TIMEOUT_S,
            env={**os.environ, "TMPDIR": scratch},
        )  # fmt: skip
        assert not any(Path(scratch).iterdir())
    assert done.stderr == "", done.stderr
    found = FINDING.findall(done.stdout)
    fails, warns, notes = ({code for severity, code in found if severity == what} for what in ("fail", "warn", "note"))
    assert done.returncode == (1 if fails else 0), done.stdout
    assert "\x1b" not in done.stdout
    return Found(fails, warns, notes, done.stdout)
