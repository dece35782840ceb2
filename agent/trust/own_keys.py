"""Which signatures one camera takes for its own, when all that lies on its card may have been changed by somebody else.

Only the present key is beyond doubt: it is not on the card. A key before it counts when the issuer of the present
certificate issued one for the same subject to it. Whoever has the card can put certificates there, and cannot make
that issuer's signature; nor another issuer's key under which the present certificate would verify and theirs, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa

from agent.errors import CmsError
from agent.trust.certificates import fingerprint_hex, is_issued_by
from agent.trust.cms import verify_detached

USUAL_RSA_EXPONENT = 65_537


class OwnKeys:
    """The present certificate of a camera, and those of its earlier keys."""

    def __init__(self, present: x509.Certificate, on_card: Callable[[], Iterable[x509.Certificate]]) -> None:
        """present: of the key that this camera holds now. on_card: every certificate that lies in device/."""
        self._present = present
        self._on_card = on_card
        self._known: dict[str, x509.Certificate | None] = {fingerprint_hex(present): present}

    def signed(self, certificate_sha256: str, json_bytes: bytes, signature: bytes) -> bool:
        """Whether this is a record's signature by the key of the certificate that its file names, and that key ours."""
        if certificate_sha256 not in self._known:
            self._known[certificate_sha256] = self._earlier(certificate_sha256)
        certificate = self._known[certificate_sha256]
        if certificate is None:
            return False
        try:
            verify_detached(signature, json_bytes, (certificate,))
        except CmsError:
            return False
        return True

    def _earlier(self, certificate_sha256: str) -> x509.Certificate | None:
        on_card = list(self._on_card())
        named = next((one for one in on_card if fingerprint_hex(one) == certificate_sha256), None)
        if named is None or named.subject != self._present.subject:
            return None
        issuers = [one for one in on_card if _issued(one, self._present)]
        return named if any(_issued(issuer, named) for issuer in issuers) else None


def _issued(issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        key = issuer.public_key()
        # To a given RSA signature a key pair with an exponent of one's own choice can be made under which it verifies,
        # too (Blake-Wilson and Menezes, PKC 1999): such an issuer would vouch for the present certificate as well.
        if isinstance(key, rsa.RSAPublicKey) and key.public_numbers().e > USUAL_RSA_EXPONENT:
            return False
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return False
    return is_issued_by(certificate, issuer)
