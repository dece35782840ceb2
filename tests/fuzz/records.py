"""Readers of journals: lines, files, and records that chain but say anything.

The last are the way behind the chain's checks: an input is a list of JSON documents, one a line, which are numbered and
chained here. Their signatures are pending, as every writer's may be; so each reader has to look at what they say.
"""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any

from rich.console import Console

from agent.cli.evidence_report import print_report, print_words
from agent.clock import SimulatedClock
from agent.errors import ConfigError, JournalError, StoreError
from agent.offload.folder import FolderStore
from agent.offload.offload import offload_once
from agent.offload.receipts import ReceiptQueue
from agent.recorder.enrolment import journalled_recipients, own_keys, read_enrolment, start_record
from agent.recorder.receipts import check_receipt
from agent.recorder.recovery import recover
from agent.vault.filesystem import PosixFilesystem
from agent.vault.journal import Journal, chained_prefix
from agent.vault.layout import RECORDING_JSON_NAME, VaultLayout
from agent.vault.record import COMMON_FIELDS, ZERO_HASH, parse_line, sha256_hex
from agent.verify.evidence import Evidence
from agent.verify.finding import Findings
from agent.verify.index import read_index
from agent.verify.journal import JournalReader
from agent.verify.report import Report
from agent.verify.verify import verify_path
from tests.fuzz.artefacts import Artefacts
from tests.fuzz.target import DefectError, Target
from tests.support.identity import BENCH_IDENTITY

_FILESYSTEM = PosixFilesystem()
_DEFAULTS: dict[str, Any] = {
    "v": 1,
    "seq": 0,
    "prev": "",
    "type": "marker",
    "utc": "2026-06-01T00:00:00.000000Z",
    "boottime_ns": 1,
    "boot_id": "00000000-0000-4000-8000-000000000001",
    "clock_source": "ntp",
    "clock_uncertainty_ms": 1,
}
_MAX_RECORDS = 200


def chained(data: bytes) -> bytes:
    """Documents as a journal whose chain holds; lines that are no JSON object stay as they are."""
    lines = []
    seq, prev = 0, ZERO_HASH
    for line in data.split(b"\n")[:_MAX_RECORDS]:
        try:
            document = json.loads(line)
            common = {name: _common(document, name) for name in COMMON_FIELDS}
            own = {name: value for name, value in document.items() if name not in COMMON_FIELDS}
            json_bytes = json.dumps({**common, "seq": seq + 1, "prev": prev, **own}, separators=(",", ":")).encode()
        except (ValueError, AttributeError, TypeError, RecursionError):
            lines.append(line)
            continue
        seq, prev = seq + 1, sha256_hex(json_bytes)
        lines.append(json_bytes + b"\t-")
    return b"".join(line + b"\n" for line in lines)


def _common(document: Any, name: str) -> Any:
    """What the document says, as far as a journal's line may say it."""
    said, default = document.get(name), _DEFAULTS[name]
    return said if type(said) is type(default) and name not in ("v", "seq", "prev") else default


def documents(artefacts: Artefacts) -> Sequence[bytes]:
    """What the records of real journals say: all of it, and each recording by itself."""
    lines = [line.partition(b"\t")[0] for data in artefacts.journals for line in data.splitlines()]
    lines = [line for line in lines if b'"type":"journal-open"' not in line or b'"seq":1,' in line]
    encrypted = [
        line.partition(b"\t")[0]
        for name, data in artefacts.tree("encrypted").items()
        if name.endswith(".journal")
        for line in data.splitlines()
    ]
    ids = sorted(path.name.encode() for path in artefacts.layout.recordings.iterdir())
    own = [[lines[0], *(line for line in lines if id_ in line and b'"checkpoint"' not in line)] for id_ in ids]
    # One that was cut off, which the next start seals from what its checkpoints say.
    unfinished = [
        line
        for line in lines
        if ids[0] not in line or not any(word in line for word in (b'"segment"', b'-close"', b'"stop"'))
    ]
    torn = [line for line in encrypted if b'"type":"segment"' not in line and b'-close"' not in line]
    return [b"\n".join(found) for found in (lines, encrypted, unfinished, torn, *own)]


def _line(_: Artefacts, data: bytes) -> None:
    record = parse_line(data)
    if record.line() != data + b"\n":
        raise DefectError("A record is written another way than it was read.")


def _lines(artefacts: Artefacts) -> Sequence[bytes]:
    return [line for data in artefacts.journals for line in data.splitlines()]


def _prefix(_: Artefacts, data: bytes) -> None:
    records, length = chained_prefix(data)
    if b"".join(record.line() for record in records) != data[:length]:
        raise DefectError("The chained prefix is not what its records are.")


@lru_cache(maxsize=1)
def _vault(artefacts: Artefacts) -> VaultLayout:
    """A copy of the vault whose journal each input replaces."""
    root = artefacts.work / "vault"
    shutil.copytree(artefacts.folder / "vault", root)
    return VaultLayout(root)


def _with_journal(artefacts: Artefacts, *files: bytes) -> VaultLayout:
    layout = _vault(artefacts)
    shutil.rmtree(layout.journal)
    layout.journal.mkdir()
    for number, data in enumerate(files, 1):
        (layout.journal / f"{number:06d}.journal").write_bytes(data)
    return layout


def _reader(artefacts: Artefacts, data: bytes) -> None:
    """As one file, and cut into two."""
    half = data.find(b"\n", len(data) // 2) + 1
    for files in ((data,), (data[:half], data[half:])):
        layout = _with_journal(artefacts, *files)
        for extract in (False, True):
            findings = Findings()
            for line in JournalReader(layout.journal, findings, extract=extract):
                parse_line(line.record.line()[:-1])
            findings.all()


def _writer(artefacts: Artefacts, data: bytes) -> None:
    """The daemon's own start on a journal, and one record behind it."""
    layout = _with_journal(artefacts, data)
    journal = _opened(layout)
    journal.append("boot", software="bodycam-agent", version="0", pid=1)
    journal.commit()
    journal.close()
    if journal.head[0] < 3 or len(list(layout.journal.iterdir())) != 2:
        raise DefectError(f"The journal went on at {journal.head}.")


def _opened(layout: VaultLayout) -> Journal:
    signer = BENCH_IDENTITY.record_signer
    return Journal(_FILESYSTEM, layout.journal, signer, SimulatedClock(), device_id="CAM-TEST", rotate_bytes=1 << 20)


def told(report: Report) -> None:
    """A report in both the forms in which people and programs get it, as bytes."""
    json.dumps(report.to_json()).encode("ascii")
    with io.TextIOWrapper(io.BytesIO(), "utf-8") as page:
        console = Console(file=page, width=100, highlight=False, emoji=False)
        print_words(console, print_report(console, report, everything=True))
        page.flush()


def _verify(artefacts: Artefacts, data: bytes) -> None:
    layout = _with_journal(artefacts, chained(data))
    report = verify_path(
        layout.root, roots=artefacts.roots, tsa_roots=artefacts.tsa_roots, identities=artefacts.identities
    )
    told(report)


def _recover(artefacts: Artefacts, data: bytes) -> None:
    """The daemon's start: who is encrypted to, what is unfinished, what a receipt is compared with."""
    layout = _with_journal(artefacts, chained(data))
    for folder in layout.recordings.iterdir():
        (folder / RECORDING_JSON_NAME).unlink(missing_ok=True)
    journal = _opened(layout)
    with suppress(ConfigError):  # the way in which a start is refused that would drop the keys
        start_record(journalled_recipients(_FILESYSTEM, layout), ())
    journal.append("boot", software="bodycam-agent", version="0", pid=1)
    journal.commit()
    recover(_FILESYSTEM, layout, journal, SimulatedClock(), resume_within_s=60)
    journal.close()
    with suppress(StoreError):  # the way in which a receipt is refused
        check_receipt(_FILESYSTEM, layout, json.loads(artefacts.one("receipt.json")))


class _Believing:
    """Takes every signature for this camera's, so that what a record says is all that counts."""

    def signed(self, certificate_sha256: str, json_bytes: bytes, signature: bytes) -> bool:
        return bool(certificate_sha256 and json_bytes and signature)


def _enrolment(artefacts: Artefacts, data: bytes) -> None:
    """Whom a start encrypts to, of records that say anything: unsigned, signed by somebody, and all believed."""
    unsigned = chained(data)
    for lines, believing in ((unsigned, False), (signed(unsigned), False), (signed(unsigned), True)):
        layout = _with_journal(artefacts, lines)
        keys = _Believing() if believing else own_keys(_FILESYSTEM, layout, artefacts.chain[0])
        with suppress(JournalError):  # each by itself: the first would keep the others from being read
            enrolment = read_enrolment(_FILESYSTEM, layout, keys)
            with suppress(ConfigError):  # the way in which a start is refused that would drop the keys
                enrolment.start_record(())


def _enrolled(artefacts: Artefacts, data: bytes) -> None:
    """The same of a journal that the camera signed, which no change may make say something else."""
    layout = _with_journal(artefacts, data)
    enrolment = read_enrolment(_FILESYSTEM, layout, own_keys(_FILESYSTEM, layout, artefacts.chain[0]))
    is_signed = any(record.signature is not None for record in chained_prefix(data)[0])
    if is_signed and enrolment.covered not in (None, *_enrolments(artefacts)):
        raise DefectError(f"No signature of the camera covers {enrolment.covered}.")


@lru_cache(maxsize=1)
def _enrolments(artefacts: Artefacts) -> set[tuple[str, ...]]:
    """What the camera ever signed of whom it encrypts to."""
    return {
        tuple(record.fields["recipients"])
        for data in _signed_journals(artefacts)
        for record in chained_prefix(data)[0]
        if record.type == "encryption"
    }


def _signed_journals(artefacts: Artefacts) -> Sequence[bytes]:
    encrypted = artefacts.tree("encrypted")
    return [*_journals(artefacts), *(encrypted[name] for name in sorted(encrypted) if name.endswith(".journal"))]


def signed(journal: bytes) -> bytes:
    """Each pending signature is one that nobody made."""
    return journal.replace(b"\t-\n", b"\tAAAA\n")


def _offload(artefacts: Artefacts, data: bytes) -> None:
    """`bodycam offload` from a vault that may say anything."""
    layout = _with_journal(artefacts, signed(chained(data)))
    read_index(Evidence(layout.root, is_package=False))
    store = artefacts.work / "store"
    shutil.rmtree(store, ignore_errors=True)
    store.mkdir()
    offload_once(
        layout.root,
        FolderStore(store),
        control=None,
        queue=ReceiptQueue(artefacts.work / "receipts"),
        clock=SimulatedClock(),
    )
    if any(not path.resolve().is_relative_to(store) for path in store.rglob("*")):
        raise DefectError("A package lies outside its store.")


def _journals(artefacts: Artefacts) -> Sequence[bytes]:
    return [*artefacts.journals, b"".join(artefacts.journals)]


TARGETS = (
    Target("journal-line", _line, _lines, (JournalError,), tries=1500, is_json=True),
    Target("journal-prefix", _prefix, _journals, tries=60),
    Target("journal-reader", _reader, _journals, tries=40),
    Target("journal-writer", _writer, _journals, (JournalError,), tries=40),
    Target("records-verify", _verify, documents, tries=60, is_json=True),
    Target("records-recover", _recover, documents, (JournalError,), tries=60, is_json=True),
    Target("records-enrolment", _enrolment, documents, tries=60, is_json=True),
    Target("journal-enrolment", _enrolled, _signed_journals, (JournalError,), tries=60),
    Target("records-offload", _offload, documents, tries=40, is_json=True),
)
