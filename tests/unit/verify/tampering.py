"""What a forger does to files, with and without the key; and what the tests ask of a report."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent.vault.journal import RecordSigner
from agent.vault.record import ZERO_HASH, Record, parse_line, sha256_hex
from agent.verify.finding import Code, Severity
from agent.verify.report import Report
from agent.verify.verify import verify_path
from tests.support.identity import BENCH_IDENTITY
from tests.support.vault_builder import VaultBuilder


def check(vault: VaultBuilder | Path) -> Report:
    """The verifier's word, with the examiner's own root."""
    return verify_path(vault if isinstance(vault, Path) else vault.root, roots=[BENCH_IDENTITY.root])


def codes(report: Report, severity: Severity) -> set[Code]:
    return {finding.code for finding in report.findings if finding.severity is severity}


def fails(report: Report) -> set[Code]:
    assert report.ok == (not codes(report, Severity.FAIL))
    return codes(report, Severity.FAIL)


def warns(report: Report) -> set[Code]:
    return codes(report, Severity.WARN)


def notes(report: Report) -> set[Code]:
    return codes(report, Severity.NOTE)


def verdicts(report: Report) -> dict[str, str]:
    return {recording.recording_id: recording.verdict.value for recording in report.recordings}


def flip(path: Path, offset: int, mask: int = 0x01) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= mask
    path.write_bytes(data)


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def edit_lines(path: Path, edit: Callable[[list[bytes]], list[bytes]]) -> None:
    path.write_bytes(b"".join(edit(lines_of(path))))


def index_of(path: Path, type_: str, nth: int = 0) -> int:
    """Number, from 0, of the nth line of a type."""
    return [n for n, line in enumerate(lines_of(path)) if parse_line(line[:-1]).type == type_][nth]


def unsigned(line: bytes) -> bytes:
    return line.partition(b"\t")[0] + b"\t-\n"


def forge(
    path: Path, edit: Callable[[list[dict[str, Any]]], list[dict[str, Any]]], signer: RecordSigner | None
) -> None:
    """Rewrite a journal of one file with a chain that fits again; signed anew by `signer`, or not at all."""
    documents = edit([parse_line(line[:-1]).fields for line in lines_of(path)])
    out, prev = [], ZERO_HASH
    for seq, document in enumerate(documents, 1):
        data = json.dumps(document | {"seq": seq, "prev": prev}, separators=(",", ":")).encode()
        prev = sha256_hex(data)
        out.append(Record(data, signer.sign_record(data) if signer else None, {}).line())
    path.write_bytes(b"".join(out))


def first(documents: list[dict[str, Any]], type_: str, nth: int = 0) -> dict[str, Any]:
    return [document for document in documents if document["type"] == type_][nth]
