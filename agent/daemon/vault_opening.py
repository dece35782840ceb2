"""Opens a vault for writing: folders, key, journal, what an earlier run left. The recovery path is the start path."""

from __future__ import annotations

import json
import os
from pathlib import Path

from agent import __version__
from agent.clock import Clock
from agent.daemon.logs import log
from agent.errors import StorageError, StoreError
from agent.recorder.receipts import check_receipt
from agent.recorder.recorder import Recorder, RecorderListener
from agent.recorder.recovery import Recovered, recover
from agent.settings.load import LoadedSettings
from agent.trust.records import CmsRecordSigner
from agent.trust.software import SoftwareSigner
from agent.trust.timed import TimedSigner
from agent.vault.filesystem import Filesystem
from agent.vault.journal import Journal, RecordSigner
from agent.vault.layout import VaultLayout
from agent.vault.lock import VaultLock


def load_signer(loaded: LoadedSettings) -> CmsRecordSigner:
    """The device key behind its time budget. Raises DeviceKeyError saying how to enrol."""
    vault = loaded.settings.vault
    signer = SoftwareSigner.load(vault.key_path, VaultLayout(vault.path).chain)
    return CmsRecordSigner(TimedSigner(signer, vault.signer_timeout_ms / 1000))


def make_folders(filesystem: Filesystem, layout: VaultLayout) -> None:
    """The vault's folders, durable. Raises StorageError."""
    filesystem.make_dir(layout.root)
    filesystem.make_dir(layout.journal)
    filesystem.make_dir(layout.recordings)
    filesystem.sync_dir(layout.root)


def open_recorder(
    filesystem: Filesystem,
    layout: VaultLayout,
    signer: RecordSigner,
    clock: Clock,
    listener: RecorderListener,
    loaded: LoadedSettings,
) -> tuple[Recorder, Recovered]:
    """Journal, recovery, recorder. Raises StorageError to be tried again, JournalError when a person has to look."""
    settings = loaded.settings
    make_folders(filesystem, layout)
    journal = Journal(
        filesystem,
        layout.journal,
        signer,
        clock,
        device_id=settings.device.id,
        rotate_bytes=settings.vault.journal_rotate_bytes,
    )
    journal.append("boot", software="bodycam-agent", version=__version__, pid=os.getpid())
    journal.append(
        "config",
        config_sha256=loaded.sha256,
        profile=settings.profile,
        pre_event_s=settings.buffer.pre_event_s,
        pre_event_audio=settings.buffer.audio,
        segment_s=settings.vault.segment_s,
    )
    journal.commit()
    recovered = recover(filesystem, layout, journal, clock, resume_within_s=settings.recording.resume_within_s)
    _take_queued_receipts(filesystem, layout, journal, settings.vault.receipt_queue_path)
    return Recorder(filesystem, layout, journal, clock, listener, segment_s=settings.vault.segment_s), recovered


def _take_queued_receipts(filesystem: Filesystem, layout: VaultLayout, journal: Journal, folder: Path) -> None:
    """Receipts that came while no daemon ran. One that does not fit the journal is set aside, not lost."""
    for path in sorted(folder.glob("*.json")):
        try:
            fields = check_receipt(filesystem, layout, json.loads(path.read_bytes()))
        except (StoreError, ValueError) as error:
            log("receipt-refused", file=path.name, error=str(error))
            path.rename(path.with_suffix(".refused"))
            continue
        journal.append("offload", **fields)
        journal.commit()
        path.unlink()


class VaultOpening:
    """Tried again and again until it succeeds once; keeps the lock from the first success on."""

    def __init__(
        self, loaded: LoadedSettings, filesystem: Filesystem, clock: Clock, listener: RecorderListener
    ) -> None:
        """Takes lock and key now if the vault is there, so that what a person must mend is said before anything runs.

        Raises VaultLockedError, DeviceKeyError.
        """
        self._loaded = loaded
        self._filesystem = filesystem
        self._clock = clock
        self._listener = listener
        self._layout = VaultLayout(loaded.settings.vault.path)
        self._lock: VaultLock | None = None
        self._signer: RecordSigner | None = None
        if self._layout.root.is_dir():
            self._secure()

    def __call__(self) -> tuple[Recorder, Recovered]:
        """See `open_recorder`."""
        if not self._layout.root.is_dir():
            raise StorageError(2, "There is no vault; is the card in and mounted?", str(self._layout.root))
        signer = self._secure()
        return open_recorder(self._filesystem, self._layout, signer, self._clock, self._listener, self._loaded)

    def _secure(self) -> RecordSigner:
        if self._lock is None:
            self._lock = VaultLock(self._layout.root)
        if self._signer is None:
            self._signer = load_signer(self._loaded)
        return self._signer
