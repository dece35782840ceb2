"""Whom a vault is enrolled to encrypt to: journalled at every start, so that it cannot be dropped in silence.

The journal's newest `encryption` record says which keys the camera encrypts to. A start with other keys, or none, in
the configuration is refused until somebody with the device key and the card has journalled the change.
"""

from __future__ import annotations

from typing import Any

from agent.errors import ConfigError, JournalError
from agent.vault.filesystem import Filesystem
from agent.vault.journal import chained_files
from agent.vault.layout import VaultLayout

RECORD_TYPE = "encryption"
FIRST, UNCHANGED, RE_ENROLLED = "first", "unchanged", "re-enrolled"


def journalled_recipients(filesystem: Filesystem, layout: VaultLayout) -> tuple[str, ...] | None:
    """What the newest `encryption` record says; None when there is none. Raises StorageError, JournalError."""
    for name, records in chained_files(filesystem, layout.journal):
        for record in reversed(records):
            if record.type == RECORD_TYPE:
                recipients = record.fields.get("recipients")
                if not isinstance(recipients, list) or not all(isinstance(text, str) for text in recipients):
                    raise JournalError(
                        f"Record {record.seq} in {name} does not say whom this camera encrypts to; have the vault "
                        "examined, and start with a new one."
                    )
                return tuple(recipients)
    return None


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
