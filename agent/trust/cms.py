"""The detached CMS signature of a record: one canonical DER encoding, written and accepted by this file alone.

SignedData (RFC 5652 section 5.1) version 1, SHA-256 with NULL parameters (as `cryptography` writes them; RFC 5754
section 2 makes every reader accept NULL and absent), eContentType id-data without content, no certificates, no CRLs;
one SignerInfo version 1 by issuer and serial number, no attributes, ecdsa-with-SHA256 (RFC 5754 section 3.3).
`openssl cms -verify` accepts it.

Nothing but the signature value can vary for a given certificate, so verifying is comparing bytes and one ECDSA check;
no parser meets hostile input. The DER is written here and not with `cryptography.hazmat.asn1`, whose API is declared
unstable.

Without signed attributes a signature over attributes could pass for one over content (RFC 5652 section 11): no content
here can be mistaken for them, since a record starts with "{" (0x7b) and a DER SET with 0x31.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from agent.errors import CmsError
from agent.trust.signer import Signer

_INTEGER, _OCTET_STRING, _SEQUENCE, _SET, _CONTEXT_0 = 0x02, 0x04, 0x30, 0x31, 0xA0
_OID_SIGNED_DATA = bytes.fromhex("06092a864886f70d010702")
_OID_DATA = bytes.fromhex("06092a864886f70d010701")
_SHA256_WITH_NULL = bytes.fromhex("300d06096086480165030402010500")
_ECDSA_WITH_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
_VERSION_1 = bytes.fromhex("020101")

# ECDSA-Sig-Value on P-256: two INTEGERs of 1 to 33 bytes.
_SIGNATURE_SIZES_BYTES = range(8, 73)

_ALGORITHM = ec.ECDSA(hashes.SHA256())


def _head(tag: int, length: int) -> bytes:
    """Tag and definite length, shortest form (ITU-T X.690 section 10.1)."""
    if length < 0x80:
        return bytes((tag, length))
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(octets))) + octets


def _tlv(tag: int, content: bytes) -> bytes:
    return _head(tag, len(content)) + content


@dataclass(frozen=True, slots=True)
class _Template:
    """All bytes in front of the signature value, for each length that the whole may have."""

    public_key: ec.EllipticCurvePublicKey
    prefix_by_total_bytes: dict[int, bytes]
    total_by_signature_bytes: dict[int, int]


def _prefix(issuer_and_serial: bytes, signature_bytes: int) -> bytes:
    prefix = b"".join(
        (
            _VERSION_1,
            issuer_and_serial,
            _SHA256_WITH_NULL,
            _ECDSA_WITH_SHA256,
            _head(_OCTET_STRING, signature_bytes),
        )
    )
    # From the inside out: SignerInfo, SET OF SignerInfo, SignedData, [0] EXPLICIT, ContentInfo.
    for tag, before in (
        (_SEQUENCE, b""),
        (_SET, b""),
        (_SEQUENCE, _VERSION_1 + _tlv(_SET, _SHA256_WITH_NULL) + _tlv(_SEQUENCE, _OID_DATA)),
        (_CONTEXT_0, b""),
        (_SEQUENCE, _OID_SIGNED_DATA),
    ):
        prefix = before + prefix
        prefix = _head(tag, len(prefix) + signature_bytes) + prefix
    return prefix


# A journal has one signer, an examiner's heap of vaults a few dozen; the bound is against a hostile heap.
@lru_cache(maxsize=64)
def _template(certificate: x509.Certificate) -> _Template:
    try:
        public_key = certificate.public_key()
        issuer = certificate.issuer.public_bytes()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise CmsError(f"The signer's certificate cannot be read: {error}.") from error
    if not isinstance(public_key, ec.EllipticCurvePublicKey) or not isinstance(public_key.curve, ec.SECP256R1):
        raise CmsError("The signer's certificate holds no ECDSA P-256 key.")
    if issuer not in certificate.tbs_certificate_bytes:
        raise CmsError("The issuer's name in the signer's certificate is not in canonical DER.")
    serial = certificate.serial_number
    serial_der = _tlv(_INTEGER, serial.to_bytes(serial.bit_length() // 8 + 1, "big", signed=True))
    issuer_and_serial = _tlv(_SEQUENCE, issuer + serial_der)
    prefixes = {size: _prefix(issuer_and_serial, size) for size in _SIGNATURE_SIZES_BYTES}
    totals = {size: size + len(prefix) for size, prefix in prefixes.items()}
    return _Template(public_key, {totals[size]: prefix for size, prefix in prefixes.items()}, totals)


def _is_canonical(signature: bytes) -> bool:
    try:
        r, s = decode_dss_signature(signature)
    except ValueError:
        return False
    return encode_dss_signature(r, s) == signature


def encode_detached(certificate: x509.Certificate, signature: bytes) -> bytes:
    """DER ContentInfo around a raw ECDSA-SHA256 signature (DER `ECDSA-Sig-Value`) by the certificate's key.

    Whether the signature fits any data is not looked at. Raises CmsError when it is no P-256 signature in DER or the
    certificate holds no P-256 key.
    """
    template = _template(certificate)
    total = template.total_by_signature_bytes.get(len(signature))
    if total is None or not _is_canonical(signature):
        raise CmsError("The signer's answer is not a P-256 signature in DER.")
    return template.prefix_by_total_bytes[total] + signature


def sign_detached(signer: Signer, data: bytes) -> bytes:
    """The CMS DER for a record's JSON bytes. Raises what Signer.sign raises, and CmsError."""
    return encode_detached(signer.certificate, signer.sign(data))


def verify_detached(der: bytes, data: bytes, certificates: Sequence[x509.Certificate]) -> x509.Certificate:
    """Check that `der` is the canonical signature of exactly `data` by one of `certificates`; returns that one.

    The certificates themselves are not judged (see agent.trust.certificates.check_chain): give only device certificates
    that may sign here, not a whole chain file, in which another camera's certificate could stand.
    Raises CmsError with the reason, and nothing else, whatever the bytes are.
    """
    if not certificates:
        raise CmsError("There is no certificate to check the signature with.")
    reason = "it is not the canonical detached CMS of any given certificate"
    for certificate in certificates:
        try:
            template = _template(certificate)
        except CmsError as error:  # such as an intermediate with an RSA key: it cannot have signed, others may
            reason = str(error).rstrip(".")
            continue
        prefix = template.prefix_by_total_bytes.get(len(der))
        if prefix is None or not der.startswith(prefix):
            continue
        signature = der[len(prefix) :]
        if not _is_canonical(signature):
            reason = "its signature value is not canonical DER"
            continue
        try:
            template.public_key.verify(signature, data, _ALGORITHM)
        except InvalidSignature:
            reason = "it does not match the record"
            continue
        return certificate
    raise CmsError(f"The signature is refused: {reason}.")
