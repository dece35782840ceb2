"""Encryption at rest: does it work here, and would `bodycam run` start with the keys that are configured?

What it asks is what `run` asks, through the same code: so the two cannot say different things.
"""

from __future__ import annotations

from agent.doctor.check import Check, fail, failed_with, ok, skipped, warn
from agent.encryption.recipients import Recipients
from agent.errors import ConfigError, DeviceKeyError, EncryptionError, JournalError, StorageError
from agent.recorder.enrolment import FIRST, Enrolment, own_keys, read_enrolment
from agent.settings.schema import Settings
from agent.vault.filesystem import PosixFilesystem
from agent.vault.layout import VaultLayout

_NAME = "encryption"
_CHANGE = "Write the key that is meant into encryption.recipients, or journal the change with `bodycam enroll {}`."


def probe_enrolment(settings: Settings) -> Enrolment:
    """What the vault's journal says. Raises DeviceKeyError without a certificate, StorageError, JournalError."""
    from agent.trust.certificates import load_chain

    filesystem, layout = PosixFilesystem(), VaultLayout(settings.vault.path)
    present = load_chain(layout.chain)[0]
    return read_enrolment(filesystem, layout, own_keys(filesystem, layout, present))


def judge_enrolment(enrolment: Enrolment, recipients: tuple[str, ...]) -> Check:
    """Against the configuration."""
    try:
        fields = enrolment.start_record(recipients)
    except ConfigError as error:
        what = "--recipients" if recipients else "--no-recipients"
        return fail(_NAME, f"`bodycam run` refuses to start. {error}", _CHANGE.format(what))
    if not recipients:
        return ok(_NAME, "Recordings are not encrypted: encryption.recipients names nobody, and nor does the vault.")
    said = f"Recordings are encrypted to {len(recipients)} key(s): {', '.join(recipients)}"
    if fields["reason"] == FIRST:
        return warn(
            _NAME,
            f"{said}. The vault does not know them yet; the next start enrols it, and then they cannot be dropped in "
            "silence.",
            "Make sure that the evidence system holds the private key: nobody else can open what is recorded then.",
        )
    return ok(_NAME, f"{said}, as the vault's newest signed record of it says.")


def check_encryption(settings: Settings) -> Check:
    """The encryption's check."""
    recipients = settings.encryption.recipients
    try:
        if recipients:
            Recipients(recipients).seal({"doctor": "a trial"})
    except EncryptionError as error:
        return failed_with(_NAME, error, "Install the extra, and give keys as age-keygen prints them (age1…).")
    try:
        return judge_enrolment(probe_enrolment(settings), recipients)
    except DeviceKeyError:
        return skipped(_NAME, "Without a certificate nothing in the vault can be believed; see the check of the key.")
    except JournalError as error:
        return fail(_NAME, f"`bodycam run` refuses to start. {error}", "Do what it says there.")
    except (StorageError, FileNotFoundError) as error:
        return _unreadable(settings, error)


def _unreadable(settings: Settings, error: OSError) -> Check:
    return fail(
        _NAME,
        f"The journal in {settings.vault.path} cannot be read: {error}.",
        "Run this as the user that `bodycam run` runs as, or look for card errors in `dmesg`.",
    )
