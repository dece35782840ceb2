"""Trusted timestamps (RFC 3161): requests, what a response says, and whether its authority is to be believed.

No network and no clock. `make_request`, `read_response` and `check_response` are for the camera, which takes a response
for what it says it is; `doubt` is for whoever examines evidence and brings the authority's root certificate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from cryptography import x509
from rfc3161_client import (
    Accuracy,
    HashAlgorithm,
    TimestampRequestBuilder,
    TimeStampResponse,
    VerificationError,
    VerifierBuilder,
    decode_timestamp_response,
)

from agent.errors import TimestampError
from agent.trust.certificates import is_issued_by
from agent.trust.der import with_sorted_certificates

MAX_RESPONSE_BYTES = 65_536
"""A response with its chain of certificates has 1.5 to 8 kB."""
SHA256_OID = "2.16.840.1.101.3.4.2.1"
MAX_ACCURACY = timedelta(days=1)
"""Coarser than that no authority is, and times around it could leave the calendar."""
# The parser drops the fraction of a second that GeneralizedTime may have, and most authorities give none.
GENTIME_STEP = timedelta(seconds=1)
_MAX_CERTIFICATES = 32
_MAX_PATH = 8
_GRANTED = 0
_STATUS = {1: "granted with modifications", 2: "rejection", 3: "waiting"}


@dataclass(frozen=True, slots=True)
class TimestampRequest:
    """A TimeStampReq (RFC 3161 section 2.4.1). imprint_sha256: hex of what is stamped. nonce: 64 bits at random."""

    der: bytes
    imprint_sha256: str
    nonce: int


@dataclass(frozen=True, slots=True)
class Timestamp:
    """What a granted response says; nothing of it is verified. gen_time: UTC, cut to whole seconds.

    accuracy: as the authority states it, zero when it does not. authority: name in the certificate that signed, from
    the response itself. serial: of the token. policy: OID in dots.
    """

    response: bytes
    imprint_sha256: str
    nonce: int | None
    gen_time: datetime
    accuracy: timedelta
    serial: int
    policy: str
    authority: str

    @property
    def earliest(self) -> datetime:
        """It was made at this moment or later."""
        return self.gen_time - self.accuracy

    @property
    def latest(self) -> datetime:
        """It was made before this moment."""
        return self.gen_time + GENTIME_STEP + self.accuracy


class Doubt(StrEnum):
    """Why a timestamp proves nothing: not under the given roots; a certificate not valid then; not what was signed."""

    UNTRUSTED = "untrusted"
    OUTSIDE_VALIDITY = "outside-validity"
    ALTERED = "altered"


def make_request(message: bytes) -> TimestampRequest:
    """A request for a token over SHA-256 of `message`, with a fresh nonce, that asks for the certificate.

    Raises ValueError for an empty message.
    """
    request = TimestampRequestBuilder().data(message).hash_algorithm(HashAlgorithm.SHA256).build()
    assert request.nonce is not None
    return TimestampRequest(request.as_bytes(), request.message_imprint.message.hex(), request.nonce)


def read_response(response: bytes) -> Timestamp:
    """What a TimeStampResp says. Raises TimestampError when it is none, or the authority did not grant it."""
    if len(response) > MAX_RESPONSE_BYTES:
        raise TimestampError(f"A timestamp response has {len(response)} bytes; at most {MAX_RESPONSE_BYTES} are taken.")
    try:
        decoded = decode_timestamp_response(with_sorted_certificates(response))
        status, told = int(decoded.status), "; ".join(decoded.status_string)[:200]
    except Exception as error:  # a foreign parser on a stranger's bytes: whatever it raises, it is no response
        raise TimestampError("What the authority answered is no timestamp response (RFC 3161).") from error
    if status != _GRANTED:
        raise TimestampError(
            f"The time authority did not grant a timestamp: {_STATUS.get(status, f'status {status}')}"
            + (f", {told!r}." if told else ".")
        )
    try:
        return _read_token(response, decoded)
    except TimestampError:
        raise
    except Exception as error:  # as above: fields are parsed only when they are asked for
        raise TimestampError("A timestamp response holds a token that cannot be read.") from error


def check_response(response: bytes, request: TimestampRequest) -> Timestamp:
    """What a response to this very request says. Raises TimestampError when it answers another, or nothing."""
    timestamp = read_response(response)
    if timestamp.imprint_sha256 != request.imprint_sha256:
        raise TimestampError("The timestamp is over something else than what was asked for; it is refused.")
    if timestamp.nonce != request.nonce:
        raise TimestampError("The timestamp answers another request (its nonce differs); it is refused.")
    return timestamp


def doubt(timestamp: Timestamp, roots: Sequence[x509.Certificate]) -> tuple[Doubt, str] | None:
    """Why this timestamp proves nothing to someone who trusts `roots`, with a sentence; None when it is good.

    Certificates are judged at the token's own time: one that expired since does not matter. Of `roots` the self-signed
    ones are trusted, as `openssl ts -verify -CAfile` does; others only help to build the chain. Revocation is not
    checked. Never raises for what the response holds.
    """
    try:
        return _doubt(timestamp, roots)
    except Exception as error:  # noqa: BLE001  foreign parsers on a stranger's bytes
        return Doubt.ALTERED, f"its certificates or its signature cannot be read ({type(error).__name__})"


def _read_token(response: bytes, decoded: TimeStampResponse) -> Timestamp:
    info = decoded.tst_info
    imprint = info.message_imprint
    if imprint.hash_algorithm.dotted_string != SHA256_OID or len(imprint.message) != 32:
        raise TimestampError("The timestamp is over another kind of hash than SHA-256; it is refused.")
    if info.version != 1:
        raise TimestampError(f"The timestamp has version {info.version}, which RFC 3161 does not know.")
    gen_time, accuracy = info.gen_time.astimezone(UTC).replace(microsecond=0), _accuracy(info.accuracy)
    if not 2000 <= gen_time.year < 9999 or accuracy > MAX_ACCURACY:
        raise TimestampError(f"The timestamp says {gen_time:%Y-%m-%d}, good to {accuracy}; no authority says that.")
    return Timestamp(
        response=response,
        imprint_sha256=imprint.message.hex(),
        nonce=info.nonce,
        gen_time=gen_time,
        accuracy=accuracy,
        serial=info.serial_number,
        policy=info.policy.dotted_string,
        authority=_authority(decoded),
    )


def _accuracy(said: Accuracy | None) -> timedelta:
    if said is None:
        return timedelta(0)
    return timedelta(seconds=said.seconds or 0, milliseconds=said.millis or 0, microseconds=said.micros or 0)


def _authority(decoded: TimeStampResponse) -> str:
    infos = decoded.signed_data.signer_infos
    if len(infos) != 1:
        raise TimestampError(f"A timestamp is signed once; this one is {len(infos)} times. It is refused.")
    (signer,) = infos
    certificate = _signer(signer.issuer, signer.serial_number, _certificates(decoded))
    if certificate is None:
        return f"issued by {signer.issuer.rfc4514_string()}, serial {signer.serial_number:x}"[:200]
    return certificate.subject.rfc4514_string()[:200]


def _certificates(decoded: TimeStampResponse) -> list[x509.Certificate]:
    found = decoded.signed_data.certificates
    if len(found) > _MAX_CERTIFICATES:
        raise TimestampError(f"A timestamp brings {len(found)} certificates, far more than any chain.")
    return [x509.load_der_x509_certificate(der) for der in sorted(found)]


def _signer(issuer: x509.Name, serial: int, certificates: Sequence[x509.Certificate]) -> x509.Certificate | None:
    return next((found for found in certificates if (found.issuer, found.serial_number) == (issuer, serial)), None)


def _doubt(timestamp: Timestamp, roots: Sequence[x509.Certificate]) -> tuple[Doubt, str] | None:
    anchors = [root for root in roots if root.issuer == root.subject]
    helpers = [root for root in roots if root.issuer != root.subject]
    decoded = decode_timestamp_response(with_sorted_certificates(timestamp.response))
    (signer,) = decoded.signed_data.signer_infos
    known = [*_certificates(decoded), *helpers]
    leaf = _signer(signer.issuer, signer.serial_number, known)
    path = None if leaf is None else _path(leaf, known, anchors)
    if path is None:
        return Doubt.UNTRUSTED, f"{_quoted(timestamp.authority)} does not lead to a root certificate that you trust"
    for certificate in path:
        begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        if not begin <= timestamp.gen_time < end:  # as OpenSSL, for which the last second is over
            return Doubt.OUTSIDE_VALIDITY, (
                f"the authority's certificate {_quoted(certificate.subject.rfc4514_string())} was valid from "
                f"{begin:%Y-%m-%d %H:%M:%S} to {end:%Y-%m-%d %H:%M:%S} UTC only"
            )
    # This path and no other: of two roots of one name, as after a new key, OpenSSL would take the first it meets.
    builder = VerifierBuilder(roots=[path[-1]], intermediates=[found for found in helpers if found in path])
    if leaf in helpers:
        builder = builder.tsa_certificate(leaf)
    try:
        builder.build().verify(decoded, bytes.fromhex(timestamp.imprint_sha256))
    except VerificationError:
        return Doubt.ALTERED, (
            f"its signature does not verify, or {_quoted(timestamp.authority)} has no certificate for timestamps"
        )
    return None


def _path(
    leaf: x509.Certificate, known: Sequence[x509.Certificate], anchors: Sequence[x509.Certificate]
) -> list[x509.Certificate] | None:
    """From the leaf to an anchor, or None."""
    path = [leaf]
    while len(path) <= _MAX_PATH:
        if path[-1] in anchors:
            return path
        if anchor := next((found for found in anchors if is_issued_by(path[-1], found)), None):
            return [*path, anchor]
        issuer = next((found for found in known if found not in path and is_issued_by(path[-1], found)), None)
        if issuer is None:
            return None
        path.append(issuer)
    return None


def _quoted(name: str) -> str:
    return f'"{name[:120]}"'
