"""Whom a vault is enrolled to encrypt to: journalled at every start, so that it cannot be dropped in silence.

The journal's newest `encryption` record says which keys the camera encrypts to. A start with other keys, or none, in
the configuration is refused until somebody with the device key and the card has journalled the change.

The journal lies on a card that can be taken out and written to. So what counts is the newest such record that a
signature of this camera covers, its own or that of a later record which it leads to without a break. What no signature
covers is believed only where it makes matters stricter. What this cannot see is in docs/operations.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from cryptography import x509

from agent.errors import ConfigError, DeviceKeyError, JournalError
from agent.trust.certificates import parse_chain
from agent.trust.own_keys import OwnKeys
from agent.vault.filesystem import Filesystem
from agent.vault.journal_end import JournalEnd, JournalFile
from agent.vault.layout import VaultLayout
from agent.vault.record import ZERO_HASH, Record

RECORD_TYPE = "encryption"
FIRST, UNCHANGED, RE_ENROLLED = "first", "unchanged", "re-enrolled"
_CERTIFICATE_SUFFIX = ".pem"


class Keys(Protocol):
    """What reading an enrolment needs of the camera's keys; see OwnKeys."""

    def signed(self, certificate_sha256: str, json_bytes: bytes, signature: bytes) -> bool:
        """Whether this is a signature of these bytes by that certificate's key, and the key one of this camera."""


@dataclass(frozen=True, slots=True)
class Enrolment:
    """claimed: what the newest `encryption` record says. covered: what the newest one says that a signature covers.

    None: there is no such record. In a journal without any signature the two are the same, as the first runs of a
    camera leave it whose signer never answered.
    """

    claimed: tuple[str, ...] | None
    covered: tuple[str, ...] | None

    def start_record(self, configured: tuple[str, ...]) -> dict[str, Any]:
        """The fields of a start's `encryption` record. Raises ConfigError when the start has to be refused."""
        fields = start_record(self.claimed, configured)  # what stands in the chain, or verifying finds a contradiction
        start_record(self.covered, configured)
        return fields


def own_keys(filesystem: Filesystem, layout: VaultLayout, present: x509.Certificate) -> OwnKeys:
    """The keys of the camera that holds the present certificate's key, with what lies in device/ of those before it."""

    def on_card() -> list[x509.Certificate]:
        names = [name for name in filesystem.list_dir(layout.device) if name.endswith(_CERTIFICATE_SUFFIX)]
        return [one for name in names for one in _certificates(filesystem.read(layout.device / name), name)]

    return OwnKeys(present, on_card)


def _certificates(data: bytes, name: str) -> tuple[x509.Certificate, ...]:
    try:
        return parse_chain(data, name)
    except DeviceKeyError:
        return ()


def read_enrolment(filesystem: Filesystem, layout: VaultLayout, keys: Keys, end: JournalEnd | None = None) -> Enrolment:
    """What the journal says, from its newest record back to the first `encryption` record that a signature covers.

    end: of this journal and made with these keys; for who has read in it already, or wants to read on.
    Raises StorageError, and JournalError when the journal was changed so that it cannot be relied on.
    """
    claimed: tuple[str, ...] | None = None
    is_covered = any_signature = False
    newer: JournalFile | None = None
    for file in end or JournalEnd(filesystem, layout.journal, keys.signed):
        if not len(file) or (newer is not None and file.last != newer.before):
            raise _unreliable(f"its file {file.name} does not lead to {newer.name if newer else 'a next one'}")
        newer = file
        is_covered = is_covered or file.covered > 0
        any_signature = any_signature or file.has_signature
        for index in file.of_type(RECORD_TYPE):
            recipients = _recipients(file.record(index), file.name)
            if claimed is None:
                claimed = recipients
            if index < file.covered:
                return Enrolment(claimed, recipients)
    if newer is not None and newer.before != (0, ZERO_HASH):
        raise _unreliable(f"what comes before its file {newer.name} is not there")
    if any_signature and not is_covered:
        raise _unreliable("none of its signatures is of this camera's key")
    if is_covered and claimed is not None:
        # The first start of all writes it in one go with what is signed. So whoever edits the records from there on.
        raise _unreliable("no signature covers a word of it, though older records are signed")
    return Enrolment(claimed, claimed)


def _unreliable(why: str) -> JournalError:
    return JournalError(
        f"Whom this camera encrypts to cannot be told from its journal: {why}, so that it was changed, or lost a file, "
        "or the key before was lost. Copy the vault for examination; then journal whom it encrypts to from now on with "
        "`bodycam enroll --recipients`, or `--no-recipients` for nobody. Until then nothing is recorded."
    )


def journalled_recipients(filesystem: Filesystem, layout: VaultLayout) -> tuple[str, ...] | None:
    """What the newest `encryption` record says, signed or not; None when there is none.

    Raises StorageError, JournalError.
    """
    for file in JournalEnd(filesystem, layout.journal):
        for index in file.of_type(RECORD_TYPE):
            return _recipients(file.record(index), file.name)
    return None


def _recipients(record: Record, name: str) -> tuple[str, ...]:
    recipients = record.fields.get("recipients")
    if not isinstance(recipients, list) or not all(isinstance(text, str) for text in recipients):
        raise JournalError(
            f"Record {record.seq} in {name} does not say whom this camera encrypts to; have the vault "
            "examined, and start with a new one."
        )
    return tuple(recipients)


def start_record(journalled: tuple[str, ...] | None, configured: tuple[str, ...]) -> dict[str, Any]:
    """The fields of a start's `encryption` record. Raises ConfigError when the start has to be refused.

    The first keys of a vault need no ceremony, any other change does: keys replaced are as bad as keys dropped.
    """
    if not journalled:
        return {"recipients": list(configured), "reason": FIRST if configured else UNCHANGED}
    if set(journalled) == set(configured):
        return {"recipients": list(configured), "reason": UNCHANGED}
    raise ConfigError(
        f"This camera is enrolled to encrypt to {', '.join(journalled)}, and the configuration's encryption.recipients "
        f"say {', '.join(configured) or 'none'}. Put them back or, if the change is meant, journal it with `bodycam "
        f"enroll {'--recipients' if configured else '--no-recipients'}`; until then nothing is recorded."
    )


def change_record(journalled: tuple[str, ...] | None, configured: tuple[str, ...]) -> dict[str, Any]:
    """The fields of the `encryption` record of a re-enrolment."""
    return {"recipients": list(configured), "reason": RE_ENROLLED, "previous": list(journalled or ())}
