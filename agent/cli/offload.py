"""`bodycam offload`: finished recordings to a folder store, with receipts."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent.cli.output import say
from agent.cli.timestamp import stamp_first
from agent.clock import SystemClock
from agent.control.client import ControlClient
from agent.errors import ConfigError
from agent.offload.folder import FolderStore
from agent.offload.offload import OffloadReport, Step, offload_once
from agent.offload.receipts import ReceiptQueue
from agent.settings.schema import Settings

_BUFFERED = (
    "This store cannot be read past the page cache, so its read-back proves less; the receipts say so (buffered)."
)


def offload(settings: Settings, *, to: Path, once: bool) -> int:
    """Copy what has no receipt yet to the folder `to`; returns 0, or 1 when something had to be refused.

    Raises ConfigError without `once`, EvidenceNotFound, StoreError, StorageError.
    """
    if not once:
        raise ConfigError("Say --once: offload copies what there is now and ends; run it again, or from a timer.")
    store = FolderStore(to)
    stamp_first(settings)
    report = offload_once(
        settings.vault.path,
        store,
        control=_control(settings.vault.socket_path),
        queue=ReceiptQueue(settings.vault.receipt_queue_path),
        clock=SystemClock(),
        progress=_Lines().step,
    )
    _say(report, settings, to)
    return 0 if report.ok else 1


def _control(socket_path: Path) -> Callable[[dict[str, Any]], None] | None:
    """The way to the daemon, or None when none runs here."""
    try:
        if not stat.S_ISSOCK(socket_path.stat().st_mode):
            return None
    except OSError:
        return None
    client = ControlClient(socket_path)

    def hand_in(receipt: dict[str, Any]) -> None:
        client.request({"command": "receipt", "receipt": receipt})

    return hand_in


class _Lines:
    """One line for each object, so that a log of an unattended dock says how far it came."""

    def __init__(self) -> None:
        self._recording_id = ""

    def step(self, step: Step) -> None:
        """Say that an object is in the store."""
        if step.recording_id != self._recording_id:
            self._recording_id = step.recording_id
            say(f"{step.recording_id} ({step.all_bytes / 1e6:.1f} MB)")
        share = 100 * step.done_bytes // step.all_bytes if step.all_bytes else 100
        say(f"  {share:3d} %  {step.item.name}  {step.item.bytes} bytes, read back and equal")


def _say(report: OffloadReport, settings: Settings, to: Path) -> None:
    for warning in report.warnings:
        say(warning)
    for recording_id, sentence in report.waiting:
        say(f"{recording_id} stays for now: {sentence}.")
    for recording_id, sentence in report.refused:
        say(f"{recording_id} was REFUSED: {sentence}")
    if any(item.read_back == "buffered" for receipt in report.receipts for item in receipt.objects):
        say(_BUFFERED)
    if report.queued:
        say(
            f"{len(report.queued)} receipt(s) wait in {settings.vault.receipt_queue_path} and are taken up when "
            "`bodycam run` starts."
        )
    handed = len(report.receipts) - len(report.queued)
    if handed:
        say(f"{handed} receipt(s) were handed to the camera and are in its journal.")
    say(
        f"{len(report.receipts)} recording(s) copied to {to}, {report.already} had been before. Nothing was deleted "
        "from the camera."
    )
