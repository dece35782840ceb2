"""Giving a camera its identity: key, certificate chain, root. Everything is durable before it is reported as made.

The chain is written last and is what makes a camera enrolled, so an enrolment that a power cut interrupted is simply
run again and goes on with the key that is there. A key is never overwritten before its successor signs. The chain of
every certificate that ever signed stays, under the certificate's hash, so that old records can always be checked.

While a vault holds records, another certificate only waits beside the present one: `bodycam run` lets the key before
introduce it in the journal at its next start (agent.daemon.succession), and then makes it the present one.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

from agent.errors import DeviceKeyError, StorageError
from agent.trust import durable
from agent.trust.certificates import (
    EXTENSIONS_ADVICE,
    check_chain,
    extension_problems,
    fingerprint_hex,
    load_chain,
    make_bench_root,
    make_device_certificate,
    make_request,
    pem,
    public_key_der,
)
from agent.trust.keystore import FileKeys, KeyStore

BENCH_ROOT_KEY_NAME = "BENCH-ONLY-root.key"
BENCH_ROOT_NAME = "BENCH-ONLY-root.pem"
_BENCH_NOTE = (
    b"BENCH ONLY. Whoever holds this file can make certificates that look like this camera's.\n"
    b"It is for trying the software out; evidence needs a certificate from the department's CA.\n"
)


class Change(StrEnum):
    """What an enrolled camera gets anew."""

    RENEW = "renew"
    """Another certificate for the same key."""
    ROTATE = "rotate"
    """Another key, and a certificate for it."""


@dataclass(frozen=True, slots=True)
class IdentityPaths:
    """Where an identity lies: a software key, and the public chain and root inside the vault."""

    key: Path
    chain: Path
    root: Path

    @property
    def next_chain(self) -> Path:
        """The chain that takes over at the next start."""
        return self.chain.with_name("next.pem")

    def kept_chain(self, certificate: x509.Certificate) -> Path:
        """Where the chain of a device certificate stays for good."""
        return self.chain.with_name(f"chain-{fingerprint_hex(certificate)}.pem")

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
    """What an enrolment left. `certificate` is None while a request waits for its CA's answer.

    key_place: where the key lies to which it belongs, for people. waits: it takes over at the next start of
    `bodycam run`.
    """

    certificate: x509.Certificate | None
    key_is_new: bool
    key_place: str
    waits: bool = False


def enroll_bench(
    paths: IdentityPaths,
    device_id: str,
    hardware_serial: str | None,
    now: datetime,
    *,
    has_records: bool,
    keys: KeyStore | None = None,
    change: Change | None = None,
) -> Enrolment:
    """Make device key, bench CA and device certificate, or with `change` another of an enrolled camera's.

    has_records: the vault already holds journal records. keys: where the key is; the file at paths.key if left.
    Raises DeviceKeyError when the camera has a key that is not an interrupted bench enrolment's, StorageError.
    """
    keys = keys or FileKeys(paths.key)
    _check_enrolled(paths, change, has_records=has_records)
    if not paths.bench_root_key.exists() and (paths.key.exists() or change is not None):
        raise DeviceKeyError(
            f"There is already a device key at {paths.key}, which is never overwritten and was not made for the bench; "
            "install the CA's answer for it with `bodycam enroll --install CHAIN.pem`, or move it away."
        )
    durable.make_folder(paths.key.parent, 0o700)
    root_key, _ = FileKeys(paths.bench_root_key, _BENCH_NOTE).unused(())
    if not paths.bench_root.exists():
        durable.replace(paths.bench_root, pem([make_bench_root(root_key, now)]), 0o644)
    root = load_chain(paths.bench_root)[0]
    key, key_is_new = _key_for(paths, keys, change)
    serial = _subject_serial(key, hardware_serial)
    certificate = make_device_certificate(key.public_key(), device_id, serial, root_key, root, now)
    if problems := check_chain([certificate], [root], now):
        raise DeviceKeyError(
            f"The bench CA at {paths.bench_root} cannot be used: {' '.join(problems)} Move it and its key away."
        )
    waits = _publish(paths, (certificate,), root, has_records=has_records)
    return Enrolment(certificate, key_is_new, _place(keys, key.public_key()), waits)


def request_certificate(
    paths: IdentityPaths,
    device_id: str,
    hardware_serial: str | None,
    request_path: Path,
    *,
    has_records: bool,
    keys: KeyStore | None = None,
    change: Change | None = None,
) -> Enrolment:
    """Make a device key and a PEM request (PKCS#10) for the department's CA, which certifies it without seeing the key.

    A key whose certificate was never installed is used again, so that a lost request can be repeated. `change`: what
    an enrolled camera asks for.
    Raises DeviceKeyError when the camera is enrolled or the request's file exists, StorageError, SignerBusyError.
    """
    keys = keys or FileKeys(paths.key)
    _check_enrolled(paths, change, has_records=has_records)
    if _is_for_the_bench(paths, change):
        raise DeviceKeyError(
            f"The device key at {paths.key} was made for the bench and must not become a department's; move it and "
            f"{paths.bench_root_key.name} away and run this again."
        )
    if request_path.exists():
        raise DeviceKeyError(f"{request_path} is already there; name a new file for the request.")
    key, key_is_new = _key_for(paths, keys, change)
    request = make_request(key, device_id, _subject_serial(key, hardware_serial))
    _write_request(request_path, request.public_bytes(serialization.Encoding.PEM))
    return Enrolment(None, key_is_new, _place(keys, key.public_key()))


def install_chain(
    paths: IdentityPaths,
    chain_path: Path,
    root_path: Path | None,
    now: datetime,
    *,
    has_records: bool,
    keys: KeyStore | None = None,
) -> Enrolment:
    """Install what a CA issued for this camera's key, after checking that it is sound and for this key.

    The root is the one in `root_path` (PEM), else a self-signed one that ends the chain's file, else one installed
    earlier; without any, the chain is checked up to its last certificate only.
    Raises DeviceKeyError with every problem found, StorageError, SignerBusyError.
    """
    keys = keys or FileKeys(paths.key)
    chain = load_chain(chain_path)
    roots = load_chain(root_path) if root_path is not None else ()
    if len(chain) > 1 and chain[-1].subject == chain[-1].issuer:
        roots = roots or (chain[-1],)
        chain = chain[:-1]
    new_root = roots[0] if roots else None
    if not roots and paths.root.exists():
        roots = load_chain(paths.root)
    public_key = chain[0].public_key()
    if keys.find(public_key_der(public_key)) is None:
        raise DeviceKeyError(
            f"The first certificate in {chain_path} is not for the device key ({keys.place}); put the certificate that "
            "was issued for this camera's request first, then its issuers."
        )
    if problems := check_chain(chain, roots or (chain[-1],), now):
        advice = f" {EXTENSIONS_ADVICE}" if extension_problems(chain[0]) else ""
        raise DeviceKeyError(f"{chain_path} was not installed: {' '.join(problems)}{advice}")
    waits = _publish(paths, chain, new_root, has_records=has_records)
    return Enrolment(chain[0], key_is_new=False, key_place=_place(keys, public_key), waits=waits)


def _place(keys: KeyStore, public_key: PublicKeyTypes) -> str:
    return keys.place_of(public_key_der(public_key))


def _is_for_the_bench(paths: IdentityPaths, change: Change | None) -> bool:
    """Whether the key that would be certified was made together with a bench CA."""
    if change is Change.RENEW and paths.bench_root.exists():
        return load_chain(paths.chain)[0].issuer == load_chain(paths.bench_root)[0].subject
    return change is None and paths.bench_root_key.exists() and paths.key.exists()


def _check_enrolled(paths: IdentityPaths, change: Change | None, *, has_records: bool) -> None:
    if change is not None:
        if not paths.chain.exists():
            raise DeviceKeyError(f"There is no certificate at {paths.chain} yet; enrol the camera without --{change}.")
        if paths.next_chain.exists():
            raise DeviceKeyError(
                f"The certificate in {paths.next_chain} still waits to take over; start `bodycam run` once, or install "
                "another in its place with `bodycam enroll --install CHAIN.pem`."
            )
        return
    if paths.chain.exists():
        what = f"a device key at {paths.key}" if paths.key.exists() else "lost its key"
        raise DeviceKeyError(
            f"This camera is already enrolled: it has a certificate at {paths.chain} and {what}, which are never "
            "overwritten; ask for another with --renew (same key) or --rotate (new key), or to start anew, offload the "
            "vault, then move vault and key away."
        )
    if has_records:
        raise DeviceKeyError(
            f"The vault holds records of an earlier identity whose certificate {paths.chain} is gone; put it back with "
            "`bodycam enroll --install CHAIN.pem`, or offload the vault and start an empty one."
        )


def _key_for(paths: IdentityPaths, keys: KeyStore, change: Change | None) -> tuple[ec.EllipticCurvePrivateKey, bool]:
    """The key to certify, and whether it was made now. Raises DeviceKeyError."""
    if change is not Change.RENEW:
        return keys.unused(_certified(paths))
    present = load_chain(paths.chain)[0]
    key = keys.find(public_key_der(present.public_key()))
    if key is None:
        raise DeviceKeyError(
            f"The key of the present certificate is not there ({keys.place}); put it back, or ask for a certificate "
            "for another with --rotate."
        )
    return key, False


def _certified(paths: IdentityPaths) -> set[bytes]:
    """The public keys that have or had a certificate of this vault, in DER."""
    chains = [paths.chain, *paths.chain.parent.glob("chain-*.pem")]
    return {public_key_der(load_chain(path)[0].public_key()) for path in chains if path.exists()}


def _subject_serial(key: ec.EllipticCurvePrivateKey, hardware_serial: str | None) -> str:
    """The hardware's serial number, or on hardware without one the key identifier's first 16 hex digits."""
    return hardware_serial or x509.SubjectKeyIdentifier.from_public_key(key.public_key()).digest.hex()[:16]


def _publish(
    paths: IdentityPaths, chain: tuple[x509.Certificate, ...], root: x509.Certificate | None, *, has_records: bool
) -> bool:
    """Write root and chain. True when the chain has to wait for the one before it to introduce it."""
    durable.make_folder(paths.chain.parent, 0o750)
    present = load_chain(paths.chain) if paths.chain.exists() else ()
    waits = has_records and bool(present) and present[0] != chain[0]
    if root is not None:
        # The chains of earlier records may lead to another.
        kept = load_chain(paths.root) if has_records and paths.root.exists() else ()
        durable.replace(paths.root, pem([*(other for other in kept if other != root), root]), 0o644)
    if waits:
        durable.replace(paths.kept_chain(present[0]), pem(present), 0o644)
    durable.replace(paths.kept_chain(chain[0]), pem(chain), 0o644)
    target = paths.next_chain if waits else paths.chain
    durable.replace(target, pem(chain), 0o644)
    if fingerprint_hex(load_chain(target)[0]) != fingerprint_hex(chain[0]):
        raise StorageError(f"{target} does not read back as it was written; check the card with `bodycam doctor`.")
    return waits


def _write_request(path: Path, data: bytes) -> None:
    # Plainly, without links or modes: a request goes out on a FAT-formatted stick as often as not.
    try:
        with path.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise StorageError(error.errno, f"Writing the request failed: {error.strerror}", str(path)) from error
