"""What an evidence package of one recording consists of. See docs/evidence-format.md."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from agent.errors import DeviceKeyError, EvidenceDamagedError, JournalError
from agent.offload.extract import chained_records
from agent.offload.store import PackageObject
from agent.offload.support import SupportSheet, described_certificates
from agent.trust.certificates import parse_chain, pem
from agent.vault.layout import CHAIN_NAME, RECORDING_JSON_NAME, ROOT_NAME, kept_chain_name
from agent.vault.record import MAX_LINE_BYTES, parse_line
from agent.verify.evidence import (
    PACKAGE_NAME,
    README_NAME,
    SCRIPT_NAME,
    SUMS_NAME,
    SUPPORT_JSON_NAME,
    SUPPORT_TEXT_NAME,
    VERIFY_NAME,
    Evidence,
    device_name,
)  # fmt: skip
from agent.verify.evidence_file import JOURNAL_NAME, names_in, open_plain
from agent.verify.index import IndexedRecording, vouched_chunks
from agent.verify.kit_files import package_text, readme, verify_script, verify_text
from agent.verify.segments import CHUNK_BYTES

_SHA256 = re.compile(r"[0-9a-f]{64}")
MAX_DETOUR_BYTES = 64 << 20
"""An extract reaches at most so far back to a timestamp in front of its run, and so far on to one behind its end."""


class EvidencePackage:
    """The objects of one recording's package, in the order in which they should leave: log first, SHA256SUMS last.

    The pages come late: another version of this software may write them otherwise, and what has a name in a store is
    never replaced, so that a package which an update cut in two could not be finished.
    """

    def __init__(self, evidence: Evidence, recording: IndexedRecording, *, stamped: bool = True) -> None:
        """Reads and hashes everything but the media. `recording` is closed and covered by a signature.

        stamped: the extract goes on to the timestamp behind the recording's end, if there is one by now. Without, it
        is what it was before there was one: how a package is finished whose copying was interrupted then.
        Raises EvidenceDamagedError when a file of it cannot be read, or a record of it cannot be used.
        """
        if recording.unusable:
            raise EvidenceDamagedError(f"{recording.recording_id} cannot be packed: {recording.unusable}.")
        self.recording = recording
        folder = evidence.recording(recording.recording_id)
        journal = list(_journal_objects(evidence.journal, recording, stamped=stamped))
        certificates = list(_certificate_objects(evidence, [evidence.root / item.name for item in journal]))
        # The log before the certificates: where a store has the shorter extract already, nothing else was added to it
        # before that is known.
        objects = [
            _from_file(RECORDING_JSON_NAME, folder / RECORDING_JSON_NAME),
            *journal,
            *certificates,
        ]
        # Of a torn segment only what its record vouches for leaves the camera: the rest stands again in the next one.
        objects += [
            PackageObject(file.name, file.bytes, file.sha256, partial(vouched_chunks, folder, file))
            for file in recording.files
        ]
        objects += self._pages(certificates, journal)
        sums = "".join(f"{item.sha256}  {item.name}\n" for item in sorted(objects, key=lambda item: item.name))
        self.objects = (*objects, _from_bytes(SUMS_NAME, sums.encode()))

    def _pages(self, certificates: list[PackageObject], journal: list[PackageObject]) -> list[PackageObject]:
        names = self._device_name, self.recording.recording_id
        chains = [_bytes_of(item) for item in certificates if item.name != f"device/{ROOT_NAME}"]
        sheet = SupportSheet(self.recording, described_certificates(chains))
        for record in chained_records(journal):
            sheet.take(record)
        page = readme(*names, Path(journal[0].name).name, encrypted=self.recording.encrypted)
        return [
            _from_bytes(SUPPORT_JSON_NAME, sheet.to_json()),
            _from_bytes(SUPPORT_TEXT_NAME, sheet.to_text()),
            _from_bytes(README_NAME, page),
            _from_bytes(VERIFY_NAME, verify_text(*names)),
            _from_bytes(SCRIPT_NAME, verify_script()),
            _from_bytes(PACKAGE_NAME, package_text(*names)),
        ]

    @property
    def _device_name(self) -> str:
        return device_name(self.recording.device_id)

    @property
    def folder(self) -> str:
        """Where it lies in a store."""
        return f"{self._device_name}/{self.recording.recording_id}"

    @property
    def bytes(self) -> int:
        """Of all objects."""
        return sum(item.bytes for item in self.objects)


def _certificate_objects(evidence: Evidence, journal: list[Path]) -> Iterator[PackageObject]:
    """The chains of the certificates that these journal files name, and the roots that they lead to.

    chain.pem is that of the first file, whatever certificate the camera has by now: a package is the same each time.
    """
    first, *others = dict.fromkeys(_certificate_sha256(path) for path in journal)
    kept = evidence.device / kept_chain_name(first)
    chain = _from_file(f"device/{CHAIN_NAME}", kept if kept.is_file() else evidence.device / CHAIN_NAME)
    chains = [chain]
    for sha256 in sorted(others):
        if (evidence.device / kept_chain_name(sha256)).is_file():  # a missing one is for `verify` to tell
            name = kept_chain_name(sha256)
            chains.append(_from_file(f"device/{name}", evidence.device / name))
    yield from chains
    if (evidence.device / ROOT_NAME).is_file():
        root = _from_file(f"device/{ROOT_NAME}", evidence.device / ROOT_NAME)
        needed = _roots_of(_bytes_of(root), [_bytes_of(chain) for chain in chains])
        yield root if needed is None else _from_bytes(f"device/{ROOT_NAME}", needed)


def _opening(path: Path) -> dict[str, Any]:
    """A journal file's first record; empty when there is none, which is for `verify` to tell."""
    try:
        with open_plain(path) as file, io.BufferedReader(file) as lines:
            return parse_line(lines.readline(MAX_LINE_BYTES + 2).removesuffix(b"\n")).fields
    except (OSError, JournalError):
        return {}


def _certificate_sha256(path: Path) -> str:
    said = _opening(path).get("certificate_sha256")
    return said if isinstance(said, str) and _SHA256.fullmatch(said) else ""


def _roots_of(root_pem: bytes, chains: list[bytes]) -> bytes | None:
    """PEM of the roots that the chains lead to; None when that is all of them, or cannot be told."""
    try:
        roots = parse_chain(root_pem, ROOT_NAME)
        last = [parse_chain(chain, CHAIN_NAME)[-1] for chain in chains]
    except DeviceKeyError:
        return None
    needed = [root for root in roots if any(certificate.issuer == root.subject for certificate in last)]
    return None if len(needed) in (0, len(roots)) else pem(needed)


def _bytes_of(item: PackageObject) -> bytes:
    return b"".join(item.chunks())


def _journal_objects(folder: Path, recording: IndexedRecording, *, stamped: bool) -> Iterator[PackageObject]:
    """Whole journal files from the start of the recording's run on; the last one up to what covers its end.

    From the run before it that holds the last timestamp before it, and up to what covers the first one behind it, where
    that is not too far off.
    """
    end = recording.covered_at
    if end is None:
        raise ValueError("A recording is packed once a signature covers its closing record.")
    names = [name for name in names_in(folder) if JOURNAL_NAME.fullmatch(name)]
    begin = recording.run_file
    if (earlier := recording.stamped_from) is not None and earlier < begin:
        back = sum((folder / name).lstat().st_size for name in names if earlier <= name < begin)
        begin = earlier if back <= MAX_DETOUR_BYTES else begin
    if stamped and (later := recording.stamped_at) is not None:
        on = sum((folder / name).lstat().st_size for name in names if end.file <= name < later.file)
        end = later if on + later.end_offset - end.end_offset <= MAX_DETOUR_BYTES else end
    wanted = [name for name in names if begin <= name <= end.file]
    for name, following in zip(wanted, [*wanted[1:], None], strict=True):
        limit = end.end_offset if following is None else _outside_chain_from(_opening(folder / following))
        yield _from_file(f"journal/{name}", folder / name, limit)


def _outside_chain_from(following: dict[str, Any]) -> int | None:
    """Where the tail of a file begins that no record describes: whatever stands there is outside of all signatures."""
    said = following.get("prev_file_bytes")
    return said if following.get("torn_exact") is False and isinstance(said, int) and said >= 0 else None


def _from_bytes(name: str, data: bytes) -> PackageObject:
    return PackageObject(name, len(data), hashlib.sha256(data).hexdigest(), lambda: iter((data,)))


def _from_file(name: str, path: Path, limit: int | None = None) -> PackageObject:
    """Up to `limit` bytes of a file, hashed now; whoever copies it compares with that."""
    digest = hashlib.sha256()
    size = 0
    for chunk in _chunks(path, limit):
        digest.update(chunk)
        size += len(chunk)
    return PackageObject(name, size, digest.hexdigest(), partial(_chunks, path, limit))


def _chunks(path: Path, limit: int | None) -> Iterator[bytes]:
    left = limit
    try:
        with open_plain(path) as file:
            while left != 0 and (chunk := file.read(CHUNK_BYTES if left is None else min(CHUNK_BYTES, left))):
                left = None if left is None else left - len(chunk)
                yield chunk
    except OSError as error:
        raise EvidenceDamagedError(f"{path} cannot be read ({error.strerror}); run `bodycam verify`.") from error
