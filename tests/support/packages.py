"""Evidence packages of the recordings of a small real vault, made as the dock makes them."""

from __future__ import annotations

import hashlib
from pathlib import Path

from agent.clock import SimulatedClock
from agent.offload.folder import FolderStore
from agent.offload.offload import offload_once
from agent.offload.receipts import ReceiptQueue
from agent.trust.certificates import pem
from agent.vault.layout import ROOT_NAME
from tests.support.vault_builder import DEVICE_ID, VaultBuilder


def offloaded(vault: VaultBuilder, folder: Path) -> dict[str, Path]:
    """Every finished recording's package under `folder`/store, by recording; `folder`/root.pem is the examiner's."""
    store = folder / "store"
    store.mkdir(parents=True)
    report = offload_once(
        vault.root,
        FolderStore(store),
        control=None,
        queue=ReceiptQueue(folder / "receipts"),
        clock=SimulatedClock(),
    )
    assert report.ok, report.refused
    (folder / ROOT_NAME).write_bytes(pem([vault.identity.root]))
    return {receipt.recording_id: store / DEVICE_ID / receipt.recording_id for receipt in report.receipts}


def renew_sums(package: Path) -> None:
    """What a forger does last: SHA256SUMS over whatever lies there now."""
    sums = package / "SHA256SUMS"
    names = sorted(str(path.relative_to(package)) for path in package.rglob("*") if path.is_file() and path != sums)
    sums.write_text("".join(f"{hashlib.sha256((package / name).read_bytes()).hexdigest()}  {name}\n" for name in names))
