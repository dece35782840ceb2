"""One device identity for all tests: making keys is slow enough to matter a thousand times over."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from agent.trust.certificates import make_bench_root, make_device_certificate, pem
from agent.trust.records import CmsRecordSigner
from agent.trust.software import SoftwareSigner
from agent.vault.layout import VaultLayout


@dataclass(frozen=True)
class BenchIdentity:
    """A root, a device key under it, and the signer of records."""

    root: x509.Certificate
    signer: SoftwareSigner
    record_signer: CmsRecordSigner

    def install(self, layout: VaultLayout) -> None:
        """Put chain and root where a vault keeps them, on the real disk."""
        layout.device.mkdir(parents=True, exist_ok=True)
        layout.chain.write_bytes(pem(self.signer.chain))
        layout.root_certificate.write_bytes(pem([self.root]))


def make_identity(device_id: str = "CAM-TEST") -> BenchIdentity:
    """A new identity."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    root_key = ec.generate_private_key(ec.SECP256R1())
    key = ec.generate_private_key(ec.SECP256R1())
    root = make_bench_root(root_key, now)
    leaf = make_device_certificate(key.public_key(), device_id, "serial-1", root_key, root, now)
    signer = SoftwareSigner(key, (leaf,))
    return BenchIdentity(root, signer, CmsRecordSigner(signer))


BENCH_IDENTITY = make_identity()
