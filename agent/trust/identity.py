"""Giving a camera its identity: key, certificate chain, root. Everything is durable before it is reported as made.

The chain is written last and is what makes a camera enrolled, so an enrolment that a power cut interrupted is simply
run again and goes on with the key that is there. A key is never replaced, and no certificate whose records a vault
holds: they could not be checked any more.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from agent.errors import DeviceKeyError, StorageError
from agent.trust import durable
from agent.trust.certificates import (
    check_chain,
    fingerprint_hex,
    load_chain,
    make_bench_root,
    make_device_certificate,
    make_request,
    pem,
    public_key_der,
)
from agent.trust.software import load_private_key

BENCH_ROOT_KEY_NAME = "BENCH-ONLY-root.key"
BENCH_ROOT_NAME = "BENCH-ONLY-root.pem"
_BENCH_NOTE = (
    b"BENCH ONLY. Whoever holds this file can make certificates that look like this camera's.\n"
    b"It is for trying the software out; evidence needs a certificate from the department's CA.\n"
)


@dataclass(frozen=True, slots=True)
class IdentityPaths:
    """Where an identity lies: the private key, and the public chain and root inside the vault."""

    key: Path
    chain: Path
    root: Path

    @property
    def bench_root_key(self) -> Path:
        """Private key of the bench CA, beside the device key."""
        return self.key.with_name(BENCH_ROOT_KEY_NAME)

    @property
    def bench_root(self) -> Path:
        """Certificate of the bench CA, beside its key."""
        return self.key.with_name(BENCH_ROOT_NAME)


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What an enrolment left. `certificate` is None while a request waits for its CA's answer."""

    certificate: x509.Certificate | None
    key_is_new: bool


def enroll_bench(
    paths: IdentityPaths, device_id: str, hardware_serial: str | None, now: datetime, *, has_records: bool
) -> Enrolment:
    """Make device key, bench CA and device certificate. `has_records`: the vault already holds journal records.

    Raises DeviceKeyError when the camera has a key that is not an interrupted bench enrolment's, StorageError.
    """
    _refuse_if_enrolled(paths, has_records=has_records)
    if paths.key.exists() and not paths.bench_root_key.exists():
        raise DeviceKeyError(
            f"There is already a device key at {paths.key}, which is never overwritten and was not made for the bench; "
            "install the CA's answer for it with `bodycam enroll --install CHAIN.pem`, or move it away."
        )
    durable.make_folder(paths.key.parent, 0o700)
    root_key, _ = _load_or_make_key(paths.bench_root_key, _BENCH_NOTE)
    if not paths.bench_root.exists():
        durable.replace(paths.bench_root, pem([make_bench_root(root_key, now)]), 0o644)
    root = load_chain(paths.bench_root)[0]
    key, key_is_new = _load_or_make_key(paths.key)
    serial = _subject_serial(key, hardware_serial)
    certificate = make_device_certificate(key.public_key(), device_id, serial, root_key, root, now)
    if problems := check_chain([certificate], [root], now):
        raise DeviceKeyError(
            f"The bench CA at {paths.bench_root} cannot be used: {' '.join(problems)} Move it and its key away."
        )
    _publish(paths, (certificate,), root)
    return Enrolment(certificate, key_is_new)


def request_certificate(
    paths: IdentityPaths, device_id: str, hardware_serial: str | None, request_path: Path, *, has_records: bool
) -> Enrolment:
    """Make a device key and a PEM request (PKCS#10) for the department's CA, which certifies it without seeing the key.

    A key whose certificate was never installed is used again, so that a lost request can be repeated.
    Raises DeviceKeyError when the camera is enrolled or the request's file exists, StorageError.
    """
    _refuse_if_enrolled(paths, has_records=has_records)
    if paths.key.exists() and paths.bench_root_key.exists():
        raise DeviceKeyError(
            f"The device key at {paths.key} was made for the bench and must not become a department's; move it and "
            f"{paths.bench_root_key.name} away and run this again."
        )
    if request_path.exists():
        raise DeviceKeyError(f"{request_path} is already there; name a new file for the request.")
    durable.make_folder(paths.key.parent, 0o700)
    key, key_is_new = _load_or_make_key(paths.key)
    request = make_request(key, device_id, _subject_serial(key, hardware_serial))
    _write_request(request_path, request.public_bytes(serialization.Encoding.PEM))
    return Enrolment(None, key_is_new)


def install_chain(
    paths: IdentityPaths, chain_path: Path, root_path: Path | None, now: datetime, *, has_records: bool
) -> Enrolment:
    """Install what a CA issued for this camera's key, after checking that it is sound and for this key.

    The root is the one in `root_path` (PEM), else a self-signed one that ends the chain's file, else one installed
    earlier; without any, the chain is checked up to its last certificate only.
    Raises DeviceKeyError with every problem found, StorageError.
    """
    key = load_private_key(paths.key)
    chain = load_chain(chain_path)
    roots = load_chain(root_path) if root_path is not None else ()
    if len(chain) > 1 and chain[-1].subject == chain[-1].issuer:
        roots = roots or (chain[-1],)
        chain = chain[:-1]
    if not roots and paths.root.exists():
        roots = load_chain(paths.root)
    if public_key_der(chain[0].public_key()) != public_key_der(key.public_key()):
        raise DeviceKeyError(
            f"The first certificate in {chain_path} is not for the device key {paths.key}; put the certificate that "
            "was issued for this camera's request first, then its issuers."
        )
    if problems := check_chain(chain, roots or (chain[-1],), now):
        raise DeviceKeyError(f"{chain_path} was not installed: {' '.join(problems)}")
    if has_records and paths.chain.exists() and load_chain(paths.chain)[0] != chain[0]:
        raise DeviceKeyError(
            f"The vault holds records that can only be checked with its present certificate {paths.chain}; offload "
            "them and start an empty vault before installing another."
        )
    _publish(paths, chain, roots[0] if roots else None)
    return Enrolment(chain[0], key_is_new=False)


def _refuse_if_enrolled(paths: IdentityPaths, *, has_records: bool) -> None:
    if paths.chain.exists():
        what = f"a device key at {paths.key}" if paths.key.exists() else "lost its key"
        raise DeviceKeyError(
            f"This camera is already enrolled: it has a certificate at {paths.chain} and {what}, which are never "
            "overwritten; to start anew, offload the vault, then move vault and key away."
        )
    if has_records:
        raise DeviceKeyError(
            f"The vault holds records of an earlier identity whose certificate {paths.chain} is gone; put it back with "
            "`bodycam enroll --install CHAIN.pem`, or offload the vault and start an empty one."
        )


def _load_or_make_key(path: Path, note: bytes = b"") -> tuple[ec.EllipticCurvePrivateKey, bool]:
    key = ec.generate_private_key(ec.SECP256R1())
    encoded = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    try:
        # RFC 7468 section 2 allows text before the first boundary.
        durable.create(path, note + encoded, 0o600)
    except FileExistsError:
        return load_private_key(path), False
    return key, True


def _subject_serial(key: ec.EllipticCurvePrivateKey, hardware_serial: str | None) -> str:
    """The hardware's serial number, or on hardware without one the key identifier's first 16 hex digits."""
    return hardware_serial or x509.SubjectKeyIdentifier.from_public_key(key.public_key()).digest.hex()[:16]


def _publish(paths: IdentityPaths, chain: tuple[x509.Certificate, ...], root: x509.Certificate | None) -> None:
    durable.make_folder(paths.chain.parent, 0o750)
    if root is not None:
        durable.replace(paths.root, pem([root]), 0o644)
    durable.replace(paths.chain, pem(chain), 0o644)
    if fingerprint_hex(load_chain(paths.chain)[0]) != fingerprint_hex(chain[0]):
        raise StorageError(f"{paths.chain} does not read back as it was written; check the card with `bodycam doctor`.")


def _write_request(path: Path, data: bytes) -> None:
    # Plainly, without links or modes: a request goes out on a FAT-formatted stick as often as not.
    try:
        with path.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise StorageError(error.errno, f"Writing the request failed: {error.strerror}", str(path)) from error
