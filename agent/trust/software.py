"""A device key in a file: the default. Whoever can read the file can copy the key, and records say so."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from agent.errors import DeviceKeyError
from agent.trust.certificates import load_chain, public_key_der

PRIVATE_MODES = (0o600, 0o400)
MAX_KEY_FILE_BYTES = 65_536


def load_private_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Read a P-256 key from an unencrypted PEM file that only its owner can read.

    Raises DeviceKeyError when it is absent, unreadable, open to others, of another kind, or not a key.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError as error:
        raise DeviceKeyError(
            f"There is no device key at {path}; run `bodycam enroll --bench` to try things out, or `--csr FILE` for "
            "your CA."
        ) from error
    except OSError as error:
        raise DeviceKeyError(
            f"The device key {path} cannot be opened ({error.strerror}); give it to the user who runs the camera "
            f"(this is uid {os.geteuid()}) with `chown`."
        ) from error
    try:
        # The mode of the file that was opened, not of whatever has the name by now.
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise DeviceKeyError(f"{path} is not a regular file; set vault.key_path to the file with the device key.")
        if not is_private(status):
            raise DeviceKeyError(
                f"The device key {path} has mode {stat.S_IMODE(status.st_mode):04o} and must be for its owner alone; "
                f"run `chmod 0600 {path}`. If others may have read it, enrol the camera with a new key."
            )
        pem = os.read(descriptor, MAX_KEY_FILE_BYTES)
    except OSError as error:
        raise DeviceKeyError(f"Reading the device key {path} failed ({error.strerror}); check the card.") from error
    finally:
        os.close(descriptor)
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise DeviceKeyError(
            f"{path} does not hold an unencrypted private key in PEM; restore it, or move it away and run "
            "`bodycam enroll --csr FILE` (or --bench) for a new one."
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise DeviceKeyError(
            f"The key in {path} is not ECDSA on P-256, the only kind that records are signed with; "
            "move it away and run `bodycam enroll --csr FILE` (or --bench)."
        )
    return key


def is_private(status: os.stat_result) -> bool:
    """Whether a secret's file is for its owner alone."""
    mode = stat.S_IMODE(status.st_mode)
    # systemd gives a service its credential by an ACL entry on a file of root's; the mask then shows as group bits.
    return mode in PRIVATE_MODES or (mode == 0o440 and status.st_uid == status.st_gid == 0)


def key_paths(path: Path) -> tuple[Path, Path]:
    """The device key's file, and that of the key that is to follow it."""
    return path, path.with_name(f"{path.name}.next")


def load_key_for(path: Path, chain: tuple[x509.Certificate, ...]) -> ec.EllipticCurvePrivateKey:
    """The key that a chain's first certificate is for, from the device key's file or that of the next one.

    Which of the two is the device key is said by the certificate alone, so that a change of both is one rename.
    Raises DeviceKeyError when neither is.
    """
    wanted = public_key_der(chain[0].public_key()) if chain else b""
    device, following = key_paths(path)
    key = load_private_key(device)
    if public_key_der(key.public_key()) != wanted and following.exists():
        key = load_private_key(following)
    if public_key_der(key.public_key()) != wanted:
        raise DeviceKeyError(_NOT_THIS_KEYS)
    return key


_NOT_THIS_KEYS = (
    "The device certificate does not belong to the device key; install the chain that was issued for this key with "
    "`bodycam enroll --install CHAIN.pem`."
)


class SoftwareSigner:
    """Signs with a key in memory; about 0.05 ms a signature on a desktop processor."""

    def __init__(self, key: ec.EllipticCurvePrivateKey, chain: tuple[x509.Certificate, ...]) -> None:
        """`chain` is the device certificate, then intermediates. Raises DeviceKeyError when it is not this key's."""
        if not chain or public_key_der(chain[0].public_key()) != public_key_der(key.public_key()):
            raise DeviceKeyError(_NOT_THIS_KEYS)
        self._key = key
        self._chain = chain
        self._algorithm = ec.ECDSA(hashes.SHA256())

    @classmethod
    def load(cls, key_path: Path, chain_path: Path) -> Self:
        """Read key and chain from PEM files. Raises DeviceKeyError with what to do when they cannot be used."""
        chain = load_chain(chain_path)
        return cls(load_key_for(key_path, chain), chain)

    @property
    def certificate(self) -> x509.Certificate:
        return self._chain[0]

    @property
    def chain(self) -> tuple[x509.Certificate, ...]:
        return self._chain

    @property
    def description(self) -> str:
        return "software (exportable)"

    def sign(self, data: bytes) -> bytes:
        return self._key.sign(data, self._algorithm)
