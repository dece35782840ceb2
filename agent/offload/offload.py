"""Gets recordings off a camera: packs, copies, reads back, compares, and hands in receipts. Deletes nothing.

Reads the vault only, and needs no daemon. May be cut at any moment and run again: it goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.clock import Clock
from agent.errors import ControlError, EvidenceDamagedError, EvidenceNotFound, StoreConflictError
from agent.offload.package import EvidencePackage
from agent.offload.receipts import Receipt, ReceiptQueue
from agent.offload.store import Store, StoredObject
from agent.vault.layout import RECORDING_JSON_NAME
from agent.vault.record import utc_text
from agent.verify.evidence import SUMS_NAME, Evidence, locate
from agent.verify.finding import Severity
from agent.verify.index import IndexedRecording, read_index

Control = Callable[[dict[str, Any]], None]
"""Hands one receipt to the daemon. Raises ControlError when it does not run or refuses."""


@dataclass(frozen=True, slots=True)
class Step:
    """For progress lines: an object of a recording is in the store."""

    recording_id: str
    item: StoredObject
    done_bytes: int
    all_bytes: int


@dataclass(slots=True)
class OffloadReport:
    """What one run did. queued: recordings whose receipts wait for the daemon. refused, waiting: (id, sentence).

    warnings: sentences about the vault as a whole. already: how many had their receipt before.
    """

    receipts: list[Receipt] = field(default_factory=list)
    queued: list[str] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)
    waiting: list[tuple[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    already: int = 0

    @property
    def ok(self) -> bool:
        """True when nothing that could leave had to stay."""
        return not self.refused


def offload_once(
    vault: Path,
    store: Store,
    *,
    control: Control | None,
    queue: ReceiptQueue,
    clock: Clock,
    progress: Callable[[Step], None] | None = None,
) -> OffloadReport:
    """Copy every closed recording that has no receipt of this store yet, oldest first.

    A damaged recording, or one whose place in the store is taken, is refused and the others go on.
    Raises EvidenceNotFound when there is no vault, StoreError when the store fails, StorageError when receipts cannot
    be kept; what was copied until then stays good.
    """
    evidence = locate(vault)
    if evidence.is_package:
        raise EvidenceNotFound(f"{vault} is an evidence package, not a vault; it can be copied with any tool.")
    queue.check_writable()
    report = OffloadReport()
    index = read_index(evidence)
    if any(finding.severity is Severity.FAIL for finding in index.findings.all()):
        report.warnings.append("The journal is damaged: run `bodycam verify` on the vault, and keep its card as it is.")
    for recording in index.recordings.values():
        if store.description in recording.stores or queue.holds(recording.recording_id, store.description):
            report.already += 1
        elif (reason := _waits(evidence, recording)) is not None:
            report.waiting.append((recording.recording_id, reason))
        elif recording.files:
            try:
                objects = _packed(evidence, recording, store, progress)
            except (EvidenceDamagedError, StoreConflictError) as error:
                report.refused.append((recording.recording_id, str(error)))
                continue
            receipt = Receipt(recording.recording_id, store.description, utc_text(clock.utc_ns()), objects)
            report.receipts.append(receipt)
            if not _deliver(receipt, control, queue, report):
                report.queued.append(recording.recording_id)
    return report


def _waits(evidence: Evidence, recording: IndexedRecording) -> str | None:
    if recording.closed_at is None:
        return "it is not finished yet"
    if recording.covered_at is None:
        return "its last record is not signed yet"
    folder = evidence.recording(recording.recording_id)
    if recording.files and folder.is_dir() and not (folder / RECORDING_JSON_NAME).is_file():
        return f"its {RECORDING_JSON_NAME} is not written yet; the camera does that at its next start"
    return None


def _packed(
    evidence: Evidence, recording: IndexedRecording, store: Store, progress: Callable[[Step], None] | None
) -> tuple[StoredObject, ...]:
    try:
        return _copy(EvidencePackage(evidence, recording), store, progress)
    except StoreConflictError as conflict:
        if recording.stamped_at is None or not conflict.name.startswith("journal/"):
            raise
        # Copying was cut before that timestamp was there. What has a name in a store is never replaced, so that
        # package is finished as it was begun.
        return _copy(EvidencePackage(evidence, recording, stamped=False), store, progress)


def _copy(package: EvidencePackage, store: Store, progress: Callable[[Step], None] | None) -> tuple[StoredObject, ...]:
    stored: list[StoredObject] = []
    damage: list[str] = []
    done_bytes = 0
    for item in package.objects:
        if damage and item.name == SUMS_NAME:
            break  # it is what makes a package whole
        try:
            stored.append(store.put(package.folder, item))
        except EvidenceDamagedError as error:
            # What is still good of it leaves the camera all the same.
            damage.append(str(error))
            continue
        done_bytes += item.bytes
        if progress is not None:
            progress(Step(package.recording.recording_id, stored[-1], done_bytes, package.bytes))
    if damage:
        raise EvidenceDamagedError(" ".join(damage))
    return tuple(stored)


def _deliver(receipt: Receipt, control: Control | None, queue: ReceiptQueue, report: OffloadReport) -> bool:
    if control is not None:
        try:
            control(receipt.to_json())
        except ControlError as error:
            report.warnings.append(f"The receipt for {receipt.recording_id} waits for the next start: {error}")
        else:
            return True
    queue.put(receipt)
    return False
