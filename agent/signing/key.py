"""Whose key signs a stream: taken from the stream's first signature that fits, and held to from there on."""

from __future__ import annotations

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from agent.signing.sei import MAX_CERTIFICATES, MediaSigningSei, VendorInfo


class StreamKey:
    """Checks signatures. The first SEI whose signature fits its own certificate fixes the key for the whole stream."""

    def __init__(self) -> None:
        self.chain: tuple[x509.Certificate, ...] = ()
        self.vendor: VendorInfo | None = None
        self._chain_pem: bytes | None = None
        self._key: ec.EllipticCurvePublicKey | None = None

    def problem(self, sei: MediaSigningSei) -> str | None:
        """Why a SEI that has a signature is not to be believed, as a sentence; None when it is."""
        key = self._key
        chain: tuple[x509.Certificate, ...] = ()
        if key is not None and sei.chain_pem not in (None, self._chain_pem):
            return "It is signed with another certificate than the stream's first signature."
        if key is None:
            if sei.chain_pem is None:
                return "No certificate came before its signature."
            chain = _chain(sei.chain_pem)
            if not chain:
                return "Its certificates cannot be read."
            found = _public_key(chain[0])
            if found is None:
                return "Its certificate holds no elliptic-curve key, which is all that this reader takes."
            key = found
        if sei.signature is None or not _fits(key, sei.signature, sei.document):
            return "Its signature does not verify."
        if self._key is None:
            self._key, self.chain, self._chain_pem, self.vendor = key, chain, sei.chain_pem, sei.vendor
        return None


def _chain(pem: bytes) -> tuple[x509.Certificate, ...]:
    try:
        chain = tuple(x509.load_pem_x509_certificates(pem))
    except (ValueError, x509.InvalidVersion):
        return ()
    return chain if len(chain) <= MAX_CERTIFICATES else ()


def _public_key(certificate: x509.Certificate) -> ec.EllipticCurvePublicKey | None:
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return None
    return key if isinstance(key, ec.EllipticCurvePublicKey) else None


def _fits(key: ec.EllipticCurvePublicKey, signature: bytes, document: bytes) -> bool:
    try:
        key.verify(signature, document, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True
