"""Whose a certificate is and who issued it, as far as strangers' certificates can be read at all."""

from __future__ import annotations

from collections.abc import Sequence

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509.oid import NameOID

from agent.trust.certificates import is_issued_by, public_key_der


def path_from(certificate: x509.Certificate, bundle: Sequence[x509.Certificate]) -> list[x509.Certificate]:
    """The certificate and its issuers as far as the bundle has them."""
    path = [certificate]
    while issuer := next((found for found in bundle if found not in path and is_issued_by(path[-1], found)), None):
        path.append(issuer)
    return path


def public_key(certificate: x509.Certificate) -> bytes | None:
    """Its key, None for one of a kind that is not known."""
    try:
        return public_key_der(certificate.public_key())
    except (ValueError, UnsupportedAlgorithm):
        return None


def common_name(certificate: x509.Certificate) -> str | None:
    """Whom it is for, None when it does not say, or not so that it can be read."""
    try:
        names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    except ValueError:
        return None
    return str(names[0].value) if names else None
