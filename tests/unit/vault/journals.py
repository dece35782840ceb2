"""A journal on a failing disk, a signer that fails when told to, and the reader's rules as the format page has them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from agent.clock import SimulatedClock
from agent.errors import SignerBusyError
from agent.vault.filesystem import Filesystem
from agent.vault.journal import Journal, chained_prefix
from agent.vault.journal_end import JOURNAL_NAME_PATTERN
from agent.vault.record import ZERO_HASH, Record
from tests.support.crashfs import CrashFilesystem

VAULT = Path("/vault")
FOLDER = VAULT / "journal"


@dataclass
class FakeSigner:
    """Signs with something that can be recognised. busy: raises; calls: what it was asked to sign."""

    busy: bool = False
    calls: list[bytes] = field(default_factory=list)
    certificate_sha256: str = "c" * 64
    description: str = "fake"

    def sign_record(self, json_bytes: bytes) -> bytes:
        self.calls.append(json_bytes)
        if self.busy:
            raise SignerBusyError("The signer sleeps.")
        return b"signed " + hashlib.sha256(json_bytes).digest()


def disk() -> CrashFilesystem:
    """A disk with a durable journal folder."""
    filesystem = CrashFilesystem(VAULT)
    filesystem.put(FOLDER / ".keep", b"")
    return filesystem


def open_journal(filesystem: Filesystem, signer: FakeSigner | None = None, *, rotate_bytes: int = 1 << 20) -> Journal:
    """A writer."""
    return Journal(
        filesystem, FOLDER, signer or FakeSigner(), SimulatedClock(), device_id="CAM-1", rotate_bytes=rotate_bytes
    )


def names(filesystem: Filesystem) -> list[str]:
    """The journal's files."""
    return [name for name in filesystem.list_dir(FOLDER) if JOURNAL_NAME_PATTERN.fullmatch(name)]


def read_chain(filesystem: Filesystem) -> list[Record]:
    """Every record of the chain by the rules of docs/evidence-format.md. Raises AssertionError where one is broken."""
    chain: list[Record] = []
    files = names(filesystem)
    for index, name in enumerate(files):
        data = filesystem.read(FOLDER / name)
        end = len(data)
        if index + 1 < len(files):
            (opening, *_), _ = chained_prefix(filesystem.read(FOLDER / files[index + 1]))
            assert opening.fields["prev_file"] == name
            end = opening.fields["prev_file_bytes"]
            assert end <= len(data), f"{name} is shorter than what counts of it"
            if opening.fields["torn_exact"]:
                assert opening.fields["torn_bytes"] == len(data) - end
                assert opening.fields["torn_sha256"] == hashlib.sha256(data[end:]).hexdigest()
        records, chained = chained_prefix(data[:end])
        if index + 1 < len(files):
            assert chained == end, f"{name} has {chained} chained bytes, not {end}"
        assert records, f"{name} does not begin with a whole record"
        assert records[0].type == "journal-open"
        assert records[0].fields["file"] == name
        if index == 0:
            assert records[0].fields["prev_file"] is None
            assert records[0].fields["reason"] == "first"
        chain += records
    prev = ZERO_HASH
    for seq, record in enumerate(chain, 1):
        assert (record.seq, record.prev) == (seq, prev)
        prev = record.sha256
    return chain


def payloads(filesystem: Filesystem) -> list[int]:
    """The `n` of each record appended by a test, in the chain's order."""
    return [record.fields["n"] for record in read_chain(filesystem) if record.type == "test"]
