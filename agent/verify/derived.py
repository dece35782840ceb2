"""`recording.json` against the journal it is derived from. It is no evidence; but people and catalogues read it."""

from __future__ import annotations

import hashlib
from pathlib import Path

from agent.vault.layout import RECORDING_JSON_NAME
from agent.vault.record import Record
from agent.vault.summary import RecordingSummary
from agent.verify.evidence_file import read_plain
from agent.verify.finding import Code, Findings

MAX_RECORDING_JSON_BYTES = 16 << 20
"""Some 20 000 segments, two weeks of one recording; beyond it nothing is compared, so that memory stays bounded."""


class DerivedJson:
    """What `recording.json` must be, to the byte. Keeps a summary while its recording is open and then a hash."""

    def __init__(self, recording_id: str) -> None:
        self._summary: RecordingSummary | None = RecordingSummary(recording_id)
        self._taken_bytes = 0
        self._sha256: str | None = None

    def take(self, record: Record) -> None:
        """The next record of the recording; the one that closes it is the last."""
        if self._summary is None or record.type == "checkpoint":
            return
        self._taken_bytes += len(record.json_bytes)
        if self._taken_bytes > MAX_RECORDING_JSON_BYTES:
            self._summary = None
            return
        self._summary.add(record.type, record.fields)
        if record.type == "recording-close":
            self._sha256 = hashlib.sha256(self._summary.to_json()).hexdigest()
            self._summary = None

    def check(
        self, folder: Path, recording_id: str, findings: Findings, *, closed: bool, writing: bool, is_package: bool
    ) -> None:
        """Compare the file in `folder`. writing: the camera wrote its journal meanwhile, and so perhaps the file.

        is_package: the folder is that of a package, which no camera completes.
        """
        wrong = self._wrong(folder / RECORDING_JSON_NAME, closed=closed, writing=writing, is_package=is_package)
        if wrong is not None:
            findings.warn(
                Code.RECORDING_JSON_DIFFERS,
                f"{recording_id}/{RECORDING_JSON_NAME}",
                f"{RECORDING_JSON_NAME} {wrong} What the journal says holds, and nothing else.",
                recording_id=recording_id,
            )

    def _wrong(self, path: Path, *, closed: bool, writing: bool, is_package: bool) -> str | None:
        try:
            data = read_plain(path, MAX_RECORDING_JSON_BYTES)
        except FileNotFoundError:
            if not closed:
                return None
            if is_package:
                return "is absent, and every package has it."
            return (
                "is absent though the recording is closed: it was deleted, or power was cut in the moment in which "
                "the camera would have written it; then its next start does."
            )
        except OSError as error:
            return f"cannot be compared with the journal: {error.strerror}."
        if not closed:
            if writing:
                return None
            return (
                "is there though the journal has no record that closes the recording; a camera writes it only behind "
                "that record, so records were cut off the journal's end."
            )
        if self._sha256 is None:
            return f"cannot be compared: the journal says more than {MAX_RECORDING_JSON_BYTES >> 20} MiB for it."
        if hashlib.sha256(data).hexdigest() != self._sha256:
            return "is not what the journal makes of it: it was changed or damaged."
        return None
