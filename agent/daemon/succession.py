"""Device keys at the start of `bodycam run`: the present one, and one that waits to take over from it.

The key before signs a record that names the certificate after it, so that a new key is introduced by the old one and
not only by whoever could write on the card. Only then does the new certificate become the present one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from cryptography import x509

from agent.daemon.logs import log
from agent.errors import BodycamError, DeviceKeyError, SignerBusyError
from agent.settings.schema import Settings
from agent.trust.certificates import load_chain
from agent.trust.custody import KeyCustody
from agent.trust.records import CmsRecordSigner
from agent.trust.signer import Signer
from agent.trust.timed import TimedSigner
from agent.vault.filesystem import Filesystem
from agent.vault.journal import Journal, RecordSigner
from agent.vault.layout import VaultLayout

FIRST_ANSWER_S = 3.0
"""A token that is opened for the first time may take a second or two, and nothing is recorded yet."""
_PROBE = b"bodycam: can this key sign?"


class Succession:
    """A signer that waits to take over from the journal's present one."""

    def __init__(self, successor: RecordSigner, promote: Callable[[], None]) -> None:
        """`promote` makes the successor's certificate the present one on flash. It raises StorageError."""
        self._successor = successor
        self.taken_over = False
        self._promote = promote

    def take_over(self, journal: Journal) -> bool:
        """Have the journal's signer introduce the successor, which signs from the next file on. False: not this time.

        Nothing that a signer does keeps the camera from recording. Raises StorageError, to be tried again.
        """
        try:
            self._successor.sign_record(_PROBE)
        except BodycamError as error:
            log("certificate-waits", logging.WARNING, error=str(error))
            return False
        new: dict[str, Any] = {
            "certificate_sha256": self._successor.certificate_sha256,
            "key": self._successor.description,
        }
        journal.append("certificate-changed", **new)
        journal.commit()
        if journal.signer_fault is not None:  # nobody has to believe an introduction that its maker did not sign
            log("certificate-waits", logging.WARNING, error=journal.signer_fault)
            return False
        self._promote()
        journal.change_signer(self._successor)
        self.taken_over = True
        log("certificate-changed", **new)
        return True


class DeviceKeys:
    """What signs from the start on, and what is to follow it."""

    def __init__(self, filesystem: Filesystem, settings: Settings) -> None:
        """Raises DeviceKeyError when no key can sign and a person has to look, StorageError."""
        self._filesystem = filesystem
        self._layout = VaultLayout(settings.vault.path)
        self._custody = KeyCustody(settings)
        self._timeout_s = settings.vault.signer_timeout_ms / 1000
        self.succession: Succession | None = None
        self._successor: CmsRecordSigner | None = None
        waiting = self._layout.next_chain.exists()
        try:
            self.signer: CmsRecordSigner = self._load(load_chain(self._layout.chain))
        except DeviceKeyError as error:
            if not waiting:
                raise
            # The key before is lost: nothing can introduce the new one any more, and verifying says so.
            log("certificate-not-introduced", logging.WARNING, error=str(error))
            self.signer = self._load(load_chain(self._layout.next_chain))
            self._promote()
            return
        if not waiting:
            self._settle()
            return
        try:
            successor = self._load(load_chain(self._layout.next_chain))
        except DeviceKeyError as error:
            log("certificate-waits", logging.WARNING, error=str(error))
        else:
            self._successor = successor
            self.succession = Succession(successor, self._promote)

    @property
    def device_signer(self) -> Signer:
        """The device key that signs at present, with a time limit to each answer."""
        if self._successor is not None and self.succession is not None and self.succession.taken_over:
            return self._successor.signer
        return self.signer.signer

    def _load(self, chain: tuple[x509.Certificate, ...]) -> CmsRecordSigner:
        signer = self._custody.signer(chain)
        first = TimedSigner(signer, FIRST_ANSWER_S)
        # Not being reachable passes, or it does not; either way there is evidence to be written meanwhile.
        with suppress(SignerBusyError):
            first.sign(_PROBE)
        first.close()
        return CmsRecordSigner(TimedSigner(signer, self._timeout_s))

    def _promote(self) -> None:
        """One rename: a power cut leaves the one or the other, each with its key."""
        if self._layout.next_chain.exists():  # else this is tried again, and only the sync had failed
            self._filesystem.rename(self._layout.next_chain, self._layout.chain)
        self._filesystem.sync_dir(self._layout.device)
        self._settle()

    def _settle(self) -> None:
        # Only tidiness: a key is found by its certificate under either name.
        try:
            self._custody.settle(load_chain(self._layout.chain)[0])
        except BodycamError as error:
            log("old-key-stays", logging.WARNING, error=str(error))
