"""Journals that a camera encrypts to other keys from now on, or to none. Done while no daemon runs.

It takes the daemon's place as the vault's one writer for a moment, lock and recovery included, so that the change is a
signed record in the chain before anything is recorded under it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from agent import __version__
from agent.clock import Clock
from agent.daemon.succession import DeviceKeys
from agent.daemon.vault_opening import make_folders
from agent.daemon.witness_desk import WITNESS_TIMEOUT_S, WitnessDesk, open_witness
from agent.errors import DeviceKeyError
from agent.recorder.enrolment import RECORD_TYPE, change_record, journalled_recipients
from agent.recorder.recovery import recover
from agent.settings.load import LoadedSettings
from agent.vault.filesystem import Filesystem
from agent.vault.journal import Journal
from agent.vault.journal_end import JournalEnd
from agent.vault.layout import VaultLayout
from agent.vault.lock import VaultLock


@dataclass(frozen=True, slots=True)
class ReEnrolment:
    """What was journalled, in record `seq` with this SHA-256. card_forgot: what is wrong with the card, if anything."""

    previous: tuple[str, ...]
    recipients: tuple[str, ...]
    seq: int
    sha256: str
    card_forgot: str | None = None


def re_enroll(loaded: LoadedSettings, filesystem: Filesystem, clock: Clock) -> ReEnrolment:
    """Journal the configuration's recipients as this vault's.

    Raises VaultLockedError while a daemon runs, DeviceKeyError without a key or when it does not sign, StorageError,
    VaultError (of which JournalError is one).
    """
    settings = loaded.settings
    layout = VaultLayout(settings.vault.path)
    lock = VaultLock(layout.root)
    keeper = open_witness(settings, clock)
    try:
        # The present key: one that waits to take over does so at the next start, introduced by this one.
        signer = DeviceKeys(filesystem, settings).signer
        make_folders(filesystem, layout)
        end = JournalEnd(filesystem, layout.journal)
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
            accusations: list[str] = []
            desk = (
                None if keeper is None else WitnessDesk(keeper, clock, lambda message, _: accusations.append(message))
            )
            remembered = {} if desk is None else desk.attend(journal, end).fields()
            # It reads like a short run: what ran before and had no end is then still told apart from an orderly one.
            journal.append("boot", software="bodycam-agent", version=__version__, pid=os.getpid(), **remembered)
            for message in accusations:
                journal.append("fault", component="card-forgot", message=message)
            # A recording that was cut off ends here: the next start must not take this record's time for its last.
            recover(filesystem, layout, journal, clock, resume_within_s=0)
            previous = journalled_recipients(filesystem, layout) or ()
            recipients = settings.encryption.recipients
            journal.append(RECORD_TYPE, **change_record(previous, recipients))
            journal.commit()
            done = ReEnrolment(previous, recipients, *journal.head, next(iter(accusations), None))
            fault = journal.signer_fault
            journal.append("shutdown", reason="enrolled")
            journal.commit()
            if fault is not None:
                raise DeviceKeyError(
                    f"The change is journalled, but the key did not sign it ({fault}); run this again."
                )
            return done
        finally:
            journal.close()
    finally:
        if keeper is not None:
            keeper.stop(
                WITNESS_TIMEOUT_S
            )  # behind is no harm: a journal that goes on beyond it is what a start expects
        lock.release()
