"""The device key as the journal uses it: JSON bytes in, detached CMS out."""

from __future__ import annotations

from agent.trust.certificates import fingerprint_hex
from agent.trust.cms import sign_detached
from agent.trust.signer import Signer


class CmsRecordSigner:
    """Signs journal records with a Signer."""

    def __init__(self, signer: Signer) -> None:
        self._signer = signer
        self._certificate_sha256 = fingerprint_hex(signer.certificate)

    @property
    def signer(self) -> Signer:
        """The key behind it."""
        return self._signer

    @property
    def certificate_sha256(self) -> str:
        """SHA-256, hex, of the signing certificate in DER."""
        return self._certificate_sha256

    @property
    def description(self) -> str:
        """Where the key lives."""
        return self._signer.description

    def sign_record(self, json_bytes: bytes) -> bytes:
        """Detached CMS over exactly these bytes, DER. Raises SignerBusyError, DeviceKeyError, CmsError."""
        return sign_detached(self._signer, json_bytes)
