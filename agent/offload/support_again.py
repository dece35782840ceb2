"""A package's support sheet, made anew from the log inside the package: what `verify` compares it with."""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from agent.errors import EvidenceDamagedError
from agent.offload.extract import chained_records
from agent.offload.store import PackageObject
from agent.offload.support import SupportSheet, described_certificates
from agent.vault.layout import CHAIN_NAME
from agent.verify.evidence import SUPPORT_JSON_NAME, SUPPORT_TEXT_NAME, Evidence
from agent.verify.evidence_file import JOURNAL_NAME, names_in, open_plain, read_plain
from agent.verify.index import read_index
from agent.verify.segments import CHUNK_BYTES

_MAX_CHAIN_BYTES = 1 << 20


def support_again(package: Evidence) -> dict[str, bytes]:
    """The files of its support sheet, by name, as this version makes them.

    Raises EvidenceDamagedError when the log does not hold the packaged recording, OSError when a file cannot be read.
    """
    recording = read_index(package).recordings.get(package.packaged_id or "")
    if recording is None:
        raise EvidenceDamagedError("The log does not hold the recording that the package names.")
    kept = sorted(name for name in names_in(package.device) if name.startswith("chain-"))
    chains = [read_plain(package.device / name, _MAX_CHAIN_BYTES) for name in (CHAIN_NAME, *kept)]
    sheet = SupportSheet(recording, described_certificates(chains))
    journal = [
        PackageObject(name, 0, "", partial(_chunks, package.journal / name))
        for name in names_in(package.journal)
        if JOURNAL_NAME.fullmatch(name)
    ]
    for record in chained_records(journal):
        sheet.take(record)
    return {SUPPORT_JSON_NAME: sheet.to_json(), SUPPORT_TEXT_NAME: sheet.to_text()}


def _chunks(path: Path) -> Iterator[bytes]:
    with open_plain(path) as file, io.BufferedReader(file) as source:
        while chunk := source.read(CHUNK_BYTES):
            yield chunk
