"""X.509 around the device key: bench CA, device certificate, request for a department's CA, and checking a chain.

Profile of a device certificate (RFC 5280): ECDSA P-256; no CA, by basic constraints; key usage digitalSignature;
extended key usage emailProtection, so that `openssl cms -verify` takes it without `-purpose any`. All three extensions
have to be there: openssl takes a certificate without them for anything, so one made for another purpose would pass, and
docs/evidence-format.md asks for them. Valid for 20 years, because an examiner may check against today's date and
because in-stream signatures are checked years later.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID

from agent.errors import DeviceKeyError

VALIDITY = timedelta(days=20 * 365 + 5)
# A device without a real-time clock may be enrolled by another clock than the one that checks a minute later.
BACKDATING = timedelta(days=1)
# Before this the clock was never set: no such software existed.
EARLIEST_PLAUSIBLE = datetime(2026, 1, 1, tzinfo=UTC)

_CHECKED_CRITICAL = {ExtensionOID.BASIC_CONSTRAINTS, ExtensionOID.KEY_USAGE, ExtensionOID.EXTENDED_KEY_USAGE}
_SOUND_HASHES = {"sha256", "sha384", "sha512"}

EXTENSIONS_ADVICE = """\
Have the CA issue it again with the extensions that the camera's request asks for, which a CA adds only when told to. \
For openssl, in a file named after -extfile:
    basicConstraints = critical, CA:false
    keyUsage = critical, digitalSignature
    extendedKeyUsage = emailProtection"""
"""What to do about a device certificate of which `extension_problems` has something to say."""


def public_key_der(key: PublicKeyTypes) -> bytes:
    """SubjectPublicKeyInfo, to compare keys by."""
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def fingerprint_hex(certificate: x509.Certificate) -> str:
    """SHA-256 of the certificate's DER in lower-case hex, as `certificate_sha256` in the journal."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def fingerprint_text(certificate: x509.Certificate) -> str:
    """The same as `openssl x509 -noout -fingerprint -sha256` prints it: "AB:CD:…"."""
    return certificate.fingerprint(hashes.SHA256()).hex(":").upper()


def pem(certificates: Sequence[x509.Certificate]) -> bytes:
    """Certificates one after another in PEM."""
    return b"".join(certificate.public_bytes(serialization.Encoding.PEM) for certificate in certificates)


def parse_chain(data: bytes, name: str) -> tuple[x509.Certificate, ...]:
    """Certificates out of PEM. `name` is for the message. Raises DeviceKeyError when there is none or one is broken."""
    try:
        return tuple(x509.load_pem_x509_certificates(data))
    except (ValueError, x509.InvalidVersion) as error:
        raise DeviceKeyError(f"{name} {_why_no_chain(data)}") from error


def _why_no_chain(data: bytes) -> str:
    """In our words: the library's name its own data structures and a page on the web."""
    begin, end = data.count(b"-----BEGIN CERTIFICATE-----"), data.count(b"-----END CERTIFICATE-----")
    if begin:
        if begin > end:
            return "is cut off in the middle of a certificate; copy the file the CA gave once more."
        return "holds certificates in PEM of which one cannot be read; copy the file the CA gave once more."
    if b"-----BEGIN CERTIFICATE REQUEST-----" in data:
        return "holds a request for a certificate and not the certificate; use the file the CA gave in answer to it."
    if b"PRIVATE KEY-----" in data:
        return "holds a private key and no certificate; use the file the CA gave."
    if data.startswith(b"\x30"):  # the tag of every certificate in DER
        return (
            "does not hold certificates in PEM but seems to be in DER; convert it with "
            "`openssl x509 -inform DER -in FILE -out FILE.pem`."
        )
    return 'does not hold certificates in PEM (no line "-----BEGIN CERTIFICATE-----"); use the file the CA gave.'


def load_chain(path: Path) -> tuple[x509.Certificate, ...]:
    """Certificates of a PEM file, in its order. Raises DeviceKeyError when it is absent, unreadable or holds none."""
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise DeviceKeyError(
            f"There is no certificate at {path}; run `bodycam enroll --bench` to try things out, or `--csr FILE` for "
            "your CA."
        ) from error
    except OSError as error:
        raise DeviceKeyError(f"The certificate {path} cannot be read ({error.strerror}); check who owns it.") from error
    return parse_chain(data, str(path))


def _name(text: str, *more: x509.NameAttribute[str]) -> x509.Name:
    try:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text), *more])
    except ValueError as error:
        raise DeviceKeyError(
            f"{text!r} cannot stand in a certificate ({error}); set device.id to 1 to 64 characters."
        ) from error


def _device_name(device_id: str, serial_number: str) -> x509.Name:
    return _name(device_id, x509.NameAttribute(NameOID.SERIAL_NUMBER, serial_number))


def _key_usage(*, digital_signature: bool, certificate_signing: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=certificate_signing,
        crl_sign=certificate_signing,
        encipher_only=False,
        decipher_only=False,
    )


def _start(now: datetime) -> datetime:
    if now < EARLIEST_PLAUSIBLE:
        raise DeviceKeyError(
            f"The clock says {now:%Y-%m-%d}, which cannot be; set it (`timedatectl`) before enrolling, "
            "because the certificate's validity starts there."
        )
    return (now - BACKDATING).replace(microsecond=0)


def make_bench_root(key: ec.EllipticCurvePrivateKey, now: datetime) -> x509.Certificate:
    """A self-signed CA for the bench. Its name says that it proves nothing. Raises DeviceKeyError on an unset clock."""
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    name = _name(f"BENCH ONLY bodycam root {identifier.digest.hex()[:8]}")
    start = _start(now)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        # Longer than any certificate made under it in its first years.
        .not_valid_after(start + VALIDITY + timedelta(days=3652))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(digital_signature=False, certificate_signing=True), critical=True)
        .add_extension(identifier, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier(identifier.digest, None, None), critical=False)
        .sign(key, hashes.SHA256())
    )


def make_device_certificate(
    public_key: ec.EllipticCurvePublicKey,
    device_id: str,
    serial_number: str,
    ca_key: ec.EllipticCurvePrivateKey,
    ca_certificate: x509.Certificate,
    now: datetime,
) -> x509.Certificate:
    """A device certificate under a CA; `serial_number` is the hardware's, for the subject (X.520 serialNumber).

    Raises DeviceKeyError on an unset clock or a device id that no certificate can hold.
    """
    ca_identifier = x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key())
    start = _start(now)
    return (
        x509.CertificateBuilder()
        .subject_name(_device_name(device_id, serial_number))
        .issuer_name(ca_certificate.subject)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(min(start + VALIDITY, ca_certificate.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(digital_signature=True, certificate_signing=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ca_identifier), critical=False)
        .sign(ca_key, hashes.SHA256())
    )


def make_request(key: ec.EllipticCurvePrivateKey, device_id: str, serial_number: str) -> x509.CertificateSigningRequest:
    """A PKCS#10 request (RFC 2986) that asks for the profile above. Raises DeviceKeyError on an impossible id."""
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(_device_name(device_id, serial_number))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(digital_signature=True, certificate_signing=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False)
        .sign(key, hashes.SHA256())
    )


def check_chain(chain: Sequence[x509.Certificate], roots: Sequence[x509.Certificate], at: datetime) -> list[str]:
    """Everything that is wrong with a device's chain at one moment, in sentences; empty when it may be trusted.

    `chain` is the device certificate, then each issuer in turn; `roots` are what the caller trusts. Checked:
    signatures, validity of every certificate, basic constraints with path length, key usage, the device's extended
    key usage, hashes.
    Not checked: revocation, name constraints, policies (a critical one of these is reported, not ignored).
    Explicit and not cryptography.x509.verification, whose profiles are for web servers and clients.
    Raises ValueError when `at` has no time zone.
    """
    if at.tzinfo is None:
        raise ValueError("`at` needs a time zone.")
    if not chain:
        return ["The chain holds no certificate."]
    problems: list[str] = []
    path = list(chain)
    if path[-1] not in roots:
        anchor = next((root for root in roots if _issued(path[-1], root) is None), None)
        if anchor is None:
            problems.append(f"{_label(path[-1])} was not issued by any trusted root certificate.")
        else:
            path.append(anchor)
    for certificate in path:
        problems += _window_problems(certificate, at) + _extension_problems(certificate)
    problems += _device_problems(path[0])
    for depth, issuer in enumerate(path[1:]):
        if (reason := _issued(path[depth], issuer)) is not None:
            problems.append(f"{_label(path[depth])} was not issued by {_subject(issuer)}: {reason}.")
        problems += _issuer_problems(issuer, depth)
    return problems


def _label(certificate: x509.Certificate) -> str:
    return f"The certificate {_subject(certificate)}"


def _subject(certificate: x509.Certificate) -> str:
    try:
        return f'"{certificate.subject.rfc4514_string({NameOID.SERIAL_NUMBER: "serialNumber"})}"'
    except ValueError:
        return f"with SHA-256 {fingerprint_hex(certificate)}"


def is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether `issuer` signed `certificate`, by name and signature; False for what cannot be read or is not known."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> str | None:
    """None when `issuer` signed `certificate`, else why not."""
    try:
        certificate.verify_directly_issued_by(issuer)
        algorithm = certificate.signature_hash_algorithm
    except InvalidSignature:
        return "the signature does not match"
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        return str(error).rstrip(".") or type(error).__name__
    if algorithm is None or algorithm.name not in _SOUND_HASHES:
        return "it is signed with a hash that is not SHA-256, SHA-384 or SHA-512"
    return None


def _window_problems(certificate: x509.Certificate, at: datetime) -> list[str]:
    when = at.astimezone(UTC)
    if when < certificate.not_valid_before_utc:
        return [f"{_label(certificate)} is valid only from {certificate.not_valid_before_utc:%Y-%m-%d %H:%M:%S} UTC."]
    if when > certificate.not_valid_after_utc:
        return [f"{_label(certificate)} expired at {certificate.not_valid_after_utc:%Y-%m-%d %H:%M:%S} UTC."]
    return []


def _extension_problems(certificate: x509.Certificate) -> list[str]:
    try:
        extensions = certificate.extensions
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        return [f"{_label(certificate)} has extensions that cannot be read: {error}."]
    return [
        f"{_label(certificate)} has a critical extension ({extension.oid.dotted_string}) that is not checked here."
        for extension in extensions
        if extension.critical and extension.oid not in _CHECKED_CRITICAL
    ]


def _readable(certificate: x509.Certificate) -> x509.Extensions | None:
    try:
        return certificate.extensions
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return None  # already reported by _extension_problems


def extension_problems(certificate: x509.Certificate) -> list[str]:
    """What a device certificate's extensions lack, in sentences; empty when they fit or cannot be read at all."""
    if (extensions := _readable(certificate)) is None:
        return []
    constraints = _find(extensions, x509.BasicConstraints)
    usage = _find(extensions, x509.KeyUsage)
    extended = _find(extensions, x509.ExtendedKeyUsage)
    found = {"basicConstraints": constraints, "keyUsage": usage, "extendedKeyUsage": extended}
    problems = []
    if absent := [name for name, value in found.items() if value is None]:
        problems.append(f"{_label(certificate)} has no {' and no '.join(absent)}, so it could be for any purpose.")
    if constraints is not None and constraints.ca:
        problems.append(f"{_label(certificate)} is a CA's and not a device's.")
    if usage is not None and not usage.digital_signature:
        problems.append(f"{_label(certificate)} is not for signatures (key usage).")
    # Not anyExtendedKeyUsage: openssl's purpose smimesign does not take it for emailProtection.
    if extended is not None and ExtendedKeyUsageOID.EMAIL_PROTECTION not in extended:
        problems.append(
            f"{_label(certificate)} lacks the extended key usage emailProtection, so that `openssl cms` refuses it."
        )
    return problems


def _device_problems(certificate: x509.Certificate) -> list[str]:
    problems = []
    try:
        key = certificate.public_key()
        sound = isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1)
    except (ValueError, UnsupportedAlgorithm):
        sound = False
    if not sound:
        problems.append(f"{_label(certificate)} holds no ECDSA P-256 key.")
    return problems + extension_problems(certificate)


def _issuer_problems(certificate: x509.Certificate, depth: int) -> list[str]:
    """`depth` is how many CA certificates stand between this one and the device's."""
    if (extensions := _readable(certificate)) is None:
        return []
    problems = []
    constraints = _find(extensions, x509.BasicConstraints)
    if constraints is None or not constraints.ca:
        problems.append(f"{_label(certificate)} is not a CA's (basic constraints).")
    elif constraints.path_length is not None and constraints.path_length < depth:
        problems.append(f"{_label(certificate)} allows {constraints.path_length} CA(s) below it; there are {depth}.")
    usage = _find(extensions, x509.KeyUsage)
    if usage is not None and not usage.key_cert_sign:
        problems.append(f"{_label(certificate)} may not sign certificates (key usage).")
    return problems


_ExtensionT = TypeVar("_ExtensionT", bound=x509.ExtensionType)


def _find(extensions: x509.Extensions, kind: type[_ExtensionT]) -> _ExtensionT | None:
    try:
        return extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None
