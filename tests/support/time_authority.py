"""A time authority on this machine: `openssl ts` behind a small HTTP server, with certificates of its own."""

from __future__ import annotations

import atexit
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from rfc3161_client._rust import parse_timestamp_request

NOW = datetime.now(UTC)

_CONFIG = """\
[ tsa ]
default_tsa = authority
[ authority ]
serial = {folder}/serial
signer_cert = {folder}/authority.pem
certs = {folder}/chain.pem
signer_key = {folder}/authority.key
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = {digests}
{accuracy}
ordering = no
tsa_name = no
ess_cert_id_chain = no
ess_cert_id_alg = sha256
"""


_SHA256 = bytes.fromhex("0609608648016503040201")
_POLICY = bytes.fromhex("06042a030401")  # 1.2.3.4.1


def _der(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    size = len(content)
    length = bytes([size]) if size < 0x80 else b"\x82" + size.to_bytes(2, "big")
    if 0x80 <= size < 0x100:
        length = b"\x81" + bytes([size])
    return bytes([tag]) + length + content


def _integer(value: int) -> bytes:
    return _der(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def good_to(seconds: int | None = None, millis: int | None = None, micros: int | None = None) -> bytes:
    """The content of an Accuracy (RFC 3161 section 2.4.2)."""
    said = b"" if seconds is None else _integer(seconds)
    for number, value in enumerate((millis, micros)):
        if value is not None:
            said += bytes([0x80 + number]) + _integer(value)[1:]
    return said


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _certificate(
    subject: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: str,
    issuer_key: ec.EllipticCurvePrivateKey,
    valid: tuple[datetime, datetime],
    extensions: list[tuple[x509.ExtensionType, bool]],
) -> x509.Certificate:
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(valid[0])
        .not_valid_after(valid[1])
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(issuer_key, hashes.SHA256())


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, key_cert_sign=signs_certificates, crl_sign=False,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip


@dataclass(frozen=True)
class TimeAuthority:
    """Call it with a TimeStampReq for a TimeStampResp, whose time is the machine's own."""

    folder: Path
    root: x509.Certificate
    certificate: x509.Certificate
    root_key: ec.EllipticCurvePrivateKey

    def __call__(self, request: bytes) -> bytes:
        with tempfile.TemporaryDirectory() as work:
            query, reply = Path(work, "query"), Path(work, "reply")
            query.write_bytes(request)
            command = ["openssl", "ts", "-reply", "-config", str(self.folder / "tsa.cnf"), "-queryfile", str(query)]
            subprocess.run([*command, "-out", str(reply)], check=True, capture_output=True)
            return reply.read_bytes()

    def at(self, moment: datetime, *, serial: int = 1, accuracy: bytes = b"") -> Callable[[bytes], bytes]:
        """The same authority with its clock at a moment of the test's choice, which `openssl ts` has no way to set.

        accuracy: content of the Accuracy in DER, as `good_to` makes it; without, the token does not state any.
        """

        def stamp(request: bytes) -> bytes:
            asked = parse_timestamp_request(request)
            assert asked.nonce is not None
            info = _der(
                0x30,
                _integer(1),
                _POLICY,
                _der(0x30, _der(0x30, _SHA256, b"\x05\x00"), _der(0x04, asked.message_imprint.message)),
                _integer(serial),
                _der(0x18, moment.astimezone(UTC).strftime("%Y%m%d%H%M%SZ").encode()),
                _der(0x30, accuracy) if accuracy else b"",
                _integer(asked.nonce),
            )
            command = [
                "openssl", "cms", "-sign", "-binary", "-nodetach", "-cades", "-md", "sha256",
                "-econtent_type", "1.2.840.113549.1.9.16.1.4", "-outform", "DER",
                "-signer", str(self.folder / "authority.pem"), "-inkey", str(self.folder / "authority.key"),
            ]  # fmt: skip
            token = subprocess.run(command, input=info, check=True, capture_output=True).stdout
            return _der(0x30, _der(0x30, _integer(0)), token)

        return stamp

    @property
    def root_pem(self) -> Path:
        """The root's certificate, as an examiner brings it."""
        return self.folder / "root.pem"


@cache
def time_authority(
    name: str = "Test TSA",
    *,
    expired: bool = False,
    accuracy: str = "accuracy = secs:1, millisecs:500",
    digests: str = "sha256",
    intermediate: bool = False,
) -> TimeAuthority:
    """One with a key of its own under a root of its own; `expired`: its certificate was valid until yesterday.

    digests: which hashes it stamps; without sha256 it rejects what the camera asks for.
    """
    folder = Path(tempfile.mkdtemp(prefix="bodycam-test-authority-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    root_key, key, middle_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
    day = timedelta(days=1)
    long = (NOW - 1000 * day, NOW + 1000 * day)
    ca: list[tuple[x509.ExtensionType, bool]] = [
        (x509.BasicConstraints(ca=True, path_length=None), True),
        (_usage(signs_certificates=True), True),
    ]
    root = _certificate(f"{name} root", root_key, f"{name} root", root_key, long, ca)
    middle = _certificate(f"{name} CA", middle_key, f"{name} root", root_key, long, ca)
    issuer, issuer_key = (f"{name} CA", middle_key) if intermediate else (f"{name} root", root_key)
    certificate = _certificate(
        name,
        key,
        issuer,
        issuer_key,
        (NOW - 100 * day, NOW - day if expired else NOW + 100 * day),
        [
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (_usage(signs_certificates=False), True),
            (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING]), True),
        ],
    )
    encoding = serialization.Encoding.PEM
    (folder / "root.pem").write_bytes(root.public_bytes(encoding))
    # More than one certificate on purpose: openssl does not sort them, which a strict parser minds.
    chain = [root, middle] if intermediate else [root]
    (folder / "chain.pem").write_bytes(b"".join(found.public_bytes(encoding) for found in chain))
    (folder / "authority.pem").write_bytes(certificate.public_bytes(encoding))
    (folder / "authority.key").write_bytes(
        key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    (folder / "serial").write_text("01\n")
    (folder / "tsa.cnf").write_text(_CONFIG.format(folder=folder, accuracy=accuracy, digests=digests))
    return TimeAuthority(folder, root, certificate, root_key)


@contextmanager
def served(
    authority: Callable[[bytes], bytes], *, status: int = 200, kind: str = "application/timestamp-reply"
) -> Iterator[str]:
    """Its URL while it answers over HTTP."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            answer = authority(body) if self.headers["Content-Type"] == "application/timestamp-query" else b""
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(answer)))
            if status in (301, 302, 307):
                self.send_header("Location", "/elsewhere")
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()
