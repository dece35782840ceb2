"""Opens a vault for writing: folders, key, journal, what an earlier run left. The recovery path is the start path."""

from __future__ import annotations

import errno
import json
import logging
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from agent import __version__
from agent.clock import Clock
from agent.daemon.logs import log
from agent.daemon.machine import machine_fields
from agent.daemon.self_test import self_test
from agent.daemon.software import software_sha256
from agent.daemon.succession import DeviceKeys, Succession
from agent.daemon.witness_desk import WitnessDesk
from agent.encryption.recipients import Recipients
from agent.errors import StorageError, StoreError, VaultError
from agent.recorder.enrolment import RECORD_TYPE, own_keys, read_enrolment
from agent.recorder.places import RecordPlaces
from agent.recorder.receipts import check_receipt, is_written_down
from agent.recorder.recorder import Hold, Recorder, RecorderListener
from agent.recorder.recovery import Recovered, recover
from agent.settings.load import LoadedSettings
from agent.trust.records import CmsRecordSigner
from agent.trust.signer import Signer
from agent.vault.filesystem import Filesystem
from agent.vault.journal import Journal
from agent.vault.journal_end import JournalEnd
from agent.vault.layout import VaultLayout, link_refused
from agent.vault.lock import VaultLock

MAX_RECEIPT_BYTES = 1 << 20
MAX_RECEIPTS = 200
"""How many are taken at one start: recording waits behind them, and the rest keeps until the next."""


def make_folders(filesystem: Filesystem, layout: VaultLayout) -> None:
    """The vault's folders, durable. Raises StorageError, and VaultError for a link in place of one of them.

    A link would lead evidence to where nobody looks for it, or this process to write where it should not.
    """
    for folder in layout.folders:
        if filesystem.is_link(folder):
            raise VaultError(link_refused(folder))
    filesystem.make_dir(layout.root)
    filesystem.make_dir(layout.journal)
    filesystem.make_dir(layout.recordings)
    filesystem.sync_dir(layout.root)


def open_recorder(
    filesystem: Filesystem,
    layout: VaultLayout,
    signer: CmsRecordSigner,
    clock: Clock,
    listener: RecorderListener,
    loaded: LoadedSettings,
    succession: Succession | None = None,
    witness: WitnessDesk | None = None,
    hold: Hold | None = None,
) -> tuple[Recorder, Recovered]:
    """Journal, recovery, recorder.

    Raises StorageError to be tried again, VaultError (of which JournalError is one) when a person has to look,
    ConfigError when the vault is enrolled to encrypt to other keys than the configuration's.

    succession: a key that waits to take over from `signer`. witness: what is remembered of this card outside of it.
    hold: the vault's lock.
    """
    settings = loaded.settings
    make_folders(filesystem, layout)
    keys = own_keys(filesystem, layout, signer.signer.certificate)
    end = JournalEnd(filesystem, layout.journal, keys.signed)
    journal = Journal(
        filesystem,
        layout.journal,
        signer,
        clock,
        device_id=settings.device.id,
        rotate_bytes=settings.vault.journal_rotate_bytes,
        end=end,
    )
    try:
        enrolment = read_enrolment(filesystem, layout, keys, end)
        # Before anything is appended, and after what would refuse to start: such a start writes nothing.
        _require_in_place(hold, layout)
        encryption = enrolment.start_record(settings.encryption.recipients)
        remembered = witness.attend(journal, end).fields() if witness is not None else {}
        return _use_journal(
            journal, end, filesystem, layout, clock, listener, loaded, encryption, remembered, succession, hold
        )
    except BaseException:
        journal.close()  # it is tried again for hours, and each try opens a new one
        raise


def _use_journal(
    journal: Journal,
    end: JournalEnd,
    filesystem: Filesystem,
    layout: VaultLayout,
    clock: Clock,
    listener: RecorderListener,
    loaded: LoadedSettings,
    encryption: dict[str, Any],
    remembered: dict[str, Any],
    succession: Succession | None,
    hold: Hold | None,
) -> tuple[Recorder, Recovered]:
    settings = loaded.settings
    recipients = settings.encryption.recipients
    journal.append(
        "boot",
        software="bodycam-agent",
        version=__version__,
        software_sha256=software_sha256(),
        pid=os.getpid(),
        **machine_fields(),
        **remembered,
    )
    journal.append(
        "config",
        config_sha256=loaded.sha256,
        profile=settings.profile,
        pre_event_s=settings.buffer.pre_event_s,
        pre_event_audio=settings.buffer.audio,
        segment_s=settings.vault.segment_s,
    )
    journal.append(RECORD_TYPE, **encryption)
    journal.commit()
    tested = self_test(filesystem, layout)
    journal.append("self-test", **tested)
    if not tested["passed"]:
        log("self-test-failed", logging.ERROR, tests=str(tested["tests"]))
    journal.commit()
    _require_in_place(hold, layout)
    recovered = recover(filesystem, layout, journal, clock, resume_within_s=settings.recording.resume_within_s, end=end)
    _require_in_place(hold, layout)
    _take_queued_receipts(filesystem, layout, journal, settings.vault.receipt_queue_path)
    if succession is not None:
        succession.take_over(journal)
    _require_in_place(hold, layout)
    recorder = Recorder(
        filesystem,
        layout,
        journal,
        clock,
        listener,
        segment_s=settings.vault.segment_s,
        recipients=Recipients(recipients) if recipients else None,
        personal={"wearer": settings.device.wearer} if settings.device.wearer else None,
        hold=hold,
    )
    return recorder, recovered


def _require_in_place(hold: Hold | None, layout: VaultLayout) -> None:
    """Reading a long journal takes seconds, in which a card can be exchanged. Raises StorageError; then start anew."""
    if hold is not None and not hold.in_place():
        raise StorageError(f"Another card came to {layout.root} while the vault was opened; it is opened again.")


def _take_queued_receipts(filesystem: Filesystem, layout: VaultLayout, journal: Journal, folder: Path) -> None:
    """Receipts that came while no daemon ran. One that does not fit the journal is set aside, not lost.

    The folder belongs to the process that has the network: nothing in it may keep the camera from recording.
    """
    places = RecordPlaces(filesystem, layout)
    for path in _queued(folder)[:MAX_RECEIPTS]:
        try:
            fields = check_receipt(filesystem, layout, json.loads(_read_plain(path)), places)
            known = is_written_down(filesystem, layout, fields, places)
        except StorageError:
            raise  # of the vault, and so to be tried again
        except (StoreError, ValueError, RecursionError, OSError) as error:
            log("receipt-refused", logging.WARNING, file=path.name, error=str(error))
            _quietly(partial(path.rename, path.with_suffix(".refused")), path)
            continue
        if not known:
            journal.append("offload", **fields)
            journal.commit()
        _quietly(path.unlink, path)


def _queued(folder: Path) -> list[Path]:
    try:
        return sorted(folder / name for name in os.listdir(folder) if name.endswith(".json") and name[0] != ".")
    except FileNotFoundError:
        return []
    except OSError as error:
        log("receipts-unreadable", logging.WARNING, folder=str(folder), error=str(error))
        return []


def _read_plain(path: Path) -> bytes:
    """A small regular file; a pipe would hold up the start for ever. Raises StoreError, OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_RECEIPT_BYTES:
            raise StoreError(f"{path} is no file of at most {MAX_RECEIPT_BYTES} bytes; it is refused.")
        return file.read(MAX_RECEIPT_BYTES)


def _quietly(action: Callable[[], object], path: Path) -> None:
    try:
        action()
    except OSError as error:
        log("receipt-stays", logging.WARNING, file=path.name, error=str(error))


class VaultOpening:
    """Tried again and again until it succeeds once; keeps the lock from the first success on."""

    def __init__(
        self,
        loaded: LoadedSettings,
        filesystem: Filesystem,
        clock: Clock,
        listener: RecorderListener,
        witness: WitnessDesk | None = None,
    ) -> None:
        """Takes lock and key now if the vault is there, so that what a person must mend is said before anything runs.

        Raises VaultLockedError, DeviceKeyError. A card that cannot be read is tried again later, as one that is not in.
        """
        self._loaded = loaded
        self._filesystem = filesystem
        self._clock = clock
        self._listener = listener
        self._witness = witness
        self._layout = VaultLayout(loaded.settings.vault.path)
        self._lock: VaultLock | None = None
        self._keys: DeviceKeys | None = None
        with suppress(StorageError):  # said when the storage thread meets it again
            self._require_vault()
            self._secure()

    def require_in_place(self) -> None:
        """Before somebody's word on the vault's files is taken. Raises StorageError while another card stands there."""
        if self._lock is None or not self._lock.in_place():
            raise StorageError(
                f"What stands at {self._layout.root} is not the vault that this camera writes; put its card back in."
            )

    @property
    def device_signer(self) -> Signer | None:
        """The device key, once the vault was there. It answers within `vault.signer_timeout_ms` or refuses."""
        return None if self._keys is None else self._keys.device_signer

    def __call__(self) -> tuple[Recorder, Recovered]:
        """See `open_recorder`."""
        self._require_vault()
        keys = self._secure()
        return open_recorder(
            self._filesystem,
            self._layout,
            keys.signer,
            self._clock,
            self._listener,
            self._loaded,
            keys.succession,
            self._witness,
            self._lock,
        )

    def _require_vault(self) -> None:
        root = self._layout.root
        try:
            there = stat.S_ISDIR(root.stat().st_mode)
        except FileNotFoundError:
            there = False
        except OSError as error:
            raise StorageError(error.errno, f"The vault cannot be read: {error.strerror}", str(root)) from error
        if not there:
            raise StorageError(
                errno.ENOENT,
                "There is no vault. Is the card in and mounted? A new camera gets its vault from "
                "`bodycam enroll --bench` or `--csr FILE`",
                str(root),
            )

    def _secure(self) -> DeviceKeys:
        if self._lock is not None and not self._lock.in_place():
            # Another card since: the key of the one before is not this one's.
            self._lock.release()
            self._lock = self._keys = None
        if self._lock is None:
            self._lock = VaultLock(self._layout.root)
        if self._keys is None:
            self._keys = DeviceKeys(self._filesystem, self._loaded.settings)
        return self._keys
