"""Every error the agent raises on purpose, one line each, with the exit code of a command that ends with it.

The message of an error is a full sentence that says what to do next. Codes follow sysexits.h where one fits.
"""

from __future__ import annotations


class BodycamError(Exception):
    """Base of all errors whose message is meant for a person."""

    exit_code = 1


class ConfigError(BodycamError, ValueError):
    """A configuration file or key is wrong; nothing was started."""

    exit_code = 78


class VaultError(BodycamError):
    """The vault cannot be used as it is."""

    exit_code = 74


class VaultLockedError(VaultError):
    """Another `bodycam run` holds this vault."""

    exit_code = 75


class StorageError(VaultError, OSError):
    """A write, fsync or directory operation failed; state on flash is unknown from there on."""


class OtherCardError(StorageError):
    """What stands under the vault's name is not the vault that was opened."""


class JournalError(VaultError):
    """The journal cannot be read or continued."""


class CameraError(BodycamError):
    """The camera is absent, gave a wrong format, or stopped giving frames."""

    exit_code = 69


class CameraLostError(CameraError):
    """A camera that was working went away or froze."""


class MicrophoneError(BodycamError):
    """The microphone is absent or stopped giving samples."""

    exit_code = 69


class EncoderError(BodycamError):
    """No encoder opens with these settings, or a running one failed."""

    exit_code = 70


class PanelError(BodycamError):
    """A button, light, buzzer or GPIO chip of the panel cannot be used."""

    exit_code = 69


class DeviceKeyError(BodycamError):
    """The device key or certificate is missing or does not fit."""

    exit_code = 77


class SignerBusyError(BodycamError):
    """The signer did not answer in time; the record is written with a pending signature."""


class CmsError(BodycamError):
    """A record's signature is not the one CMS encoding that is accepted, or does not match the record."""


class ControlError(BodycamError):
    """The daemon cannot be reached over its control socket, or refused a request."""

    exit_code = 69


class TimestampError(BodycamError):
    """No timestamp could be had, or what came is not one, or not the one that was asked for."""

    exit_code = 69


class StoreError(BodycamError):
    """The store refused an object or holds something else under its name."""

    exit_code = 74


class UsageError(BodycamError):
    """The command line asks for what the command does not do."""

    exit_code = 2


class VerificationFailed(BodycamError):
    """The evidence does not verify; the findings say why."""

    exit_code = 1


class EvidenceNotFound(BodycamError):
    """There is no vault, package or recording where one was named."""

    exit_code = 66


class StoreConflictError(StoreError):
    """The store holds other bytes under a name that belongs to this object. name: of the object in its package."""

    def __init__(self, message: str, *, name: str) -> None:
        super().__init__(message)
        self.name = name


class EvidenceDamagedError(BodycamError):
    """A file on flash is no longer what the journal vouches for."""


class DemoError(BodycamError):
    """The demonstration cannot be given here, or a step of it failed."""


class EncryptionError(BodycamError):
    """A key to encrypt to or to decrypt with is missing, or is not one."""

    exit_code = 77
