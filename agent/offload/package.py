"""What an evidence package of one recording consists of. See docs/evidence-format.md."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from agent.errors import EvidenceDamagedError
from agent.offload.extract import chained_records
from agent.offload.store import PackageObject
from agent.offload.support import SupportSheet, described_certificates
from agent.vault.layout import CHAIN_NAME, RECORDING_JSON_NAME, ROOT_NAME
from agent.verify.evidence import (
    PACKAGE_NAME,
    README_NAME,
    SCRIPT_NAME,
    SUMS_NAME,
    SUPPORT_JSON_NAME,
    SUPPORT_TEXT_NAME,
    VERIFY_NAME,
    Evidence,
)  # fmt: skip
from agent.verify.evidence_file import JOURNAL_NAME, names_in, open_plain
from agent.verify.index import IndexedRecording, vouched_chunks
from agent.verify.kit_files import package_text, readme, verify_script, verify_text
from agent.verify.segments import CHUNK_BYTES

_DEVICE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class EvidencePackage:
    """The objects of one recording's package, in the order in which they should leave: log first, SHA256SUMS last.

    The pages come late: another version of this software may write them otherwise, and what has a name in a store is
    never replaced, so that a package which an update cut in two could not be finished.
    """

    def __init__(self, evidence: Evidence, recording: IndexedRecording) -> None:
        """Reads and hashes everything but the media. `recording` is closed and covered by a signature.

        Raises EvidenceDamagedError when a file of it cannot be read, or a record of it cannot be used.
        """
        if recording.unusable:
            raise EvidenceDamagedError(f"{recording.recording_id} cannot be packed: {recording.unusable}.")
        self.recording = recording
        folder = evidence.recording(recording.recording_id)
        journal = list(_journal_objects(evidence.journal, recording))
        objects = [
            _from_file(RECORDING_JSON_NAME, folder / RECORDING_JSON_NAME),
            _from_file(f"device/{CHAIN_NAME}", evidence.device / CHAIN_NAME),
            *journal,
        ]
        if (evidence.device / ROOT_NAME).is_file():
            objects.append(_from_file(f"device/{ROOT_NAME}", evidence.device / ROOT_NAME))
        # Of a torn segment only what its record vouches for leaves the camera: the rest stands again in the next one.
        objects += [
            PackageObject(file.name, file.bytes, file.sha256, partial(vouched_chunks, folder, file))
            for file in recording.files
        ]
        objects += self._pages(evidence, journal)
        sums = "".join(f"{item.sha256}  {item.name}\n" for item in sorted(objects, key=lambda item: item.name))
        self.objects = (*objects, _from_bytes(SUMS_NAME, sums.encode()))

    def _pages(self, evidence: Evidence, journal: list[PackageObject]) -> list[PackageObject]:
        names = self._device_name, self.recording.recording_id
        sheet = SupportSheet(self.recording, described_certificates(evidence.device / CHAIN_NAME))
        for record in chained_records(journal):
            sheet.take(record)
        return [
            _from_bytes(SUPPORT_JSON_NAME, sheet.to_json()),
            _from_bytes(SUPPORT_TEXT_NAME, sheet.to_text()),
            _from_bytes(README_NAME, readme(*names, Path(journal[0].name).name)),
            _from_bytes(VERIFY_NAME, verify_text(*names)),
            _from_bytes(SCRIPT_NAME, verify_script()),
            _from_bytes(PACKAGE_NAME, package_text(*names)),
        ]

    @property
    def _device_name(self) -> str:
        device_id = self.recording.device_id
        return device_id if _DEVICE_ID.fullmatch(device_id) else "unnamed-camera"

    @property
    def folder(self) -> str:
        """Where it lies in a store."""
        return f"{self._device_name}/{self.recording.recording_id}"

    @property
    def bytes(self) -> int:
        """Of all objects."""
        return sum(item.bytes for item in self.objects)


def _journal_objects(folder: Path, recording: IndexedRecording) -> Iterator[PackageObject]:
    """Whole journal files from the start of the recording's run on; the last one up to what covers its end."""
    end = recording.covered_at
    if end is None:
        raise ValueError("A recording is packed once a signature covers its closing record.")
    for name in names_in(folder):
        if JOURNAL_NAME.fullmatch(name) and recording.run_file <= name <= end.file:
            yield _from_file(f"journal/{name}", folder / name, end.end_offset if name == end.file else None)


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
