"""Keys and certificates for tests, made once: making them is quick, but not free."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from agent.trust.certificates import make_bench_root, make_device_certificate, pem
from agent.trust.software import SoftwareSigner

NOW = datetime.now(UTC)  # openssl checks against today, so the certificates must be valid today


@dataclass(frozen=True)
class Identity:
    """A root, a device under it, and both keys."""

    root_key: ec.EllipticCurvePrivateKey
    root: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    leaf: x509.Certificate

    @property
    def signer(self) -> SoftwareSigner:
        return SoftwareSigner(self.key, (self.leaf,))

    def write(self, folder: Path) -> tuple[Path, Path]:
        """Chain and root in PEM; returns both paths."""
        folder.mkdir(parents=True, exist_ok=True)
        chain, root = folder / "chain.pem", folder / "root.pem"
        chain.write_bytes(pem([self.leaf]))
        root.write_bytes(pem([self.root]))
        return chain, root


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@cache
def identity(name: str = "CAM-0001") -> Identity:
    """Another name is another device under another root."""
    root_key, key = new_key(), new_key()
    root = make_bench_root(root_key, NOW)
    leaf = make_device_certificate(key.public_key(), name, "100000001234abcd", root_key, root, NOW)
    return Identity(root_key, root, key, leaf)


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def write_key(path: Path, key: ec.EllipticCurvePrivateKey, mode: int = 0o600) -> Path:
    path.write_bytes(key_pem(key))
    path.chmod(mode)
    return path


def custom_certificate(
    subject: str,
    key: ec.EllipticCurvePublicKey,
    issuer: str,
    issuer_key: ec.EllipticCurvePrivateKey,
    extensions: list[tuple[x509.ExtensionType, bool]],
    *,
    start: datetime = NOW - timedelta(days=1),
    end: datetime = NOW + timedelta(days=365),
    issuer_name: x509.Name | None = None,
    serial: int | None = None,
    algorithm: hashes.SHA256 | hashes.SHA1 | None = None,
) -> x509.Certificate:
    """A certificate with exactly these extensions, good or bad."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(issuer_name or x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key)
        .serial_number(serial or x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(issuer_key, algorithm or hashes.SHA256())  # type: ignore[arg-type]
