"""Certificates swapped, unfit, out of their time, and chains that lead elsewhere."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.serialization import pkcs7
from cryptography.x509.oid import ExtendedKeyUsageOID

from agent.trust.certificates import make_device_certificate, pem
from agent.trust.cms import encode_detached
from tests.support.identity import BenchIdentity
from tests.tamper.bases import CAMERA, Bases, Department, ca_extensions, device_extensions, identity_of
from tests.tamper.kind import Forger, Harm, Kind
from tests.unit.trust.identities import NOW, custom_certificate, key_pem, new_key

SECTION = "Certificates and keys"
Make = Callable[[Bases], BenchIdentity]


def resigned(make: Make) -> Harm:
    """The whole log signed by somebody else, who brings their chain and says so in the log."""

    def harm(forger: Forger) -> None:
        identity = make(forger.bases)
        log = forger.log()
        log.first("journal-open")["certificate_sha256"] = identity.record_signer.certificate_sha256
        log.resign(identity.record_signer)
        forger.write("device/chain.pem", pem(identity.signer.chain))
        forger.write("device/root.pem", pem([identity.root]))

    return harm


def issued(by: Department, name: str = CAMERA, **change: object) -> BenchIdentity:
    """A device certificate under a CA with one thing about it that is not as it must be."""
    key = new_key()
    change = {"extensions": device_extensions(), "issuer_name": by.root.subject} | change
    leaf = custom_certificate(name, key.public_key(), "", by.key, **change)  # type: ignore[arg-type]
    return identity_of(by.root, key, leaf)


def usage(*, signs: bool, certifies: bool) -> tuple[x509.ExtensionType, bool]:
    return x509.KeyUsage(signs, False, False, False, False, certifies, certifies, False, False), True


def a_ca_itself(bases: Bases) -> BenchIdentity:
    """A CA's certificate that may sign everything, in a device's place."""
    extended = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
    ca = [(x509.BasicConstraints(ca=True, path_length=0), True), usage(signs=True, certifies=True), (extended, False)]
    return issued(bases.department, extensions=ca)


def for_servers(bases: Bases) -> BenchIdentity:
    extended = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    return issued(bases.department, extensions=[*device_extensions()[:2], (extended, False)])


def not_for_signatures(bases: Bases) -> BenchIdentity:
    agreement = x509.KeyUsage(False, False, False, False, True, False, False, False, False)
    return issued(bases.department, extensions=[device_extensions()[0], (agreement, True), device_extensions()[2]])


def by_a_camera(bases: Bases) -> BenchIdentity:
    """Another camera's key plays the CA."""
    key, ca = new_key(), bases.other.signer
    leaf = make_device_certificate(key.public_key(), CAMERA, "serial-1", ca._key, ca.certificate, NOW)
    return identity_of(bases.department.root, key, leaf, ca.certificate)


def intermediate(bases: Bases, *, path_length: int | None = 0, **change: object) -> tuple[Department, x509.Certificate]:
    key = new_key()
    change = {"extensions": ca_extensions(path_length), "issuer_name": bases.department.root.subject} | change
    certificate = custom_certificate("Branch CA", key.public_key(), "", bases.department.key, **change)  # type: ignore[arg-type]
    return Department(key, certificate), certificate


def under_a_branch(bases: Bases) -> BenchIdentity:
    """Sound: the root, a CA under it, the camera. For what is cut out of it."""
    branch, certificate = intermediate(bases)
    key = new_key()
    leaf = make_device_certificate(key.public_key(), CAMERA, "serial-1", branch.key, branch.root, NOW)
    return identity_of(bases.department.root, key, leaf, certificate)


def too_deep(bases: Bases) -> BenchIdentity:
    """One CA more than the root's path length allows."""
    first, first_certificate = intermediate(bases, path_length=None)
    key = new_key()
    second = custom_certificate(
        "Desk CA", key.public_key(), "", first.key, ca_extensions(None), issuer_name=first.root.subject
    )
    leaf_key = new_key()
    leaf = make_device_certificate(leaf_key.public_key(), CAMERA, "serial-1", key, second, NOW)
    return identity_of(bases.department.root, leaf_key, leaf, second, first_certificate)


def under_a_branch_that_may_not(bases: Bases) -> BenchIdentity:
    constraints = x509.BasicConstraints(ca=True, path_length=0)
    branch, certificate = intermediate(bases, extensions=[(constraints, True), usage(signs=True, certifies=False)])
    key = new_key()
    leaf = make_device_certificate(key.public_key(), CAMERA, "serial-1", branch.key, branch.root, NOW)
    return identity_of(bases.department.root, key, leaf, certificate)


def self_signed(bases: Bases) -> BenchIdentity:
    """A certificate that says of itself all that the camera's says, issuer included."""
    key, own = new_key(), bases.camera.signer.certificate
    builder = (
        x509.CertificateBuilder().subject_name(own.subject).issuer_name(own.issuer).public_key(key.public_key())
        .serial_number(own.serial_number).not_valid_before(own.not_valid_before_utc)
        .not_valid_after(own.not_valid_after_utc)
    )  # fmt: skip
    for extension in own.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    return identity_of(bases.department.root, key, builder.sign(key, hashes.SHA256()))


def branch_cut(forger: Forger) -> None:
    """The chain is cut in its middle: the CA between camera and root is not there."""
    identity = under_a_branch(forger.bases)
    resigned(lambda _: identity)(forger)
    forger.write("device/chain.pem", pem([identity.signer.certificate]))


def leaf_cut(forger: Forger) -> None:
    identity = under_a_branch(forger.bases)
    resigned(lambda _: identity)(forger)
    forger.write("device/chain.pem", pem(identity.signer.chain[1:]))


def brings_it_along(forger: Forger) -> None:
    """Signed with a strange key whose certificate lies in the signature itself, which openssl would like to use."""
    key = new_key()
    leaf = custom_certificate(CAMERA, key.public_key(), CAMERA, key, device_extensions())
    options = [pkcs7.PKCS7Options.DetachedSignature, pkcs7.PKCS7Options.Binary, pkcs7.PKCS7Options.NoAttributes]

    def sign(_: object, data: bytes) -> bytes:
        builder = pkcs7.PKCS7SignatureBuilder().set_data(data).add_signer(leaf, key, hashes.SHA256())
        return builder.sign(serialization.Encoding.DER, options)

    forger.log().chain(sign)


def taken_out(forger: Forger) -> None:
    """One signature in the middle: what an honest camera writes while its signer is busy, and as good."""
    log = forger.log()
    log.lines[log.at("marker")].signature = None
    log.save()


def all_taken_out(forger: Forger) -> None:
    log = forger.log()
    for line in log.lines:
        line.signature = None
    log.save()


def last_taken_out(forger: Forger) -> None:
    log = forger.log()
    log.lines[-1].signature = None
    log.save()


def of_another_record(forger: Forger) -> None:
    log = forger.log()
    log.lines[log.at("marker")].signature = log.lines[log.at("stop")].signature
    log.save()


ORDER_P256 = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def twin(forger: Forger) -> None:
    """ECDSA's other valid signature of the same bytes under the same key, which anyone can work out: (r, n - s)."""
    log = forger.log()
    line = log.lines[log.at("marker")]
    assert line.signature is not None
    old = line.signature[line.signature.rindex(b"\x02", 0, len(line.signature) - 33) - 40 :]
    start = next(n for n in range(len(old)) if old[n] == 0x30 and old[n + 1] == len(old) - n - 2)
    r, s = decode_dss_signature(old[start:])
    line.signature = encode_detached(forger.bases.camera.signer.certificate, encode_dss_signature(r, ORDER_P256 - s))
    log.save()


def signed_by(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> Harm:
    """A key of a kind that no camera has, with a certificate of the department."""

    def harm(forger: Forger) -> None:
        department = forger.bases.department
        leaf = custom_certificate(
            CAMERA, key.public_key(), "", department.key, device_extensions(),  # type: ignore[arg-type]
            issuer_name=department.root.subject,
        )  # fmt: skip
        options = [
            pkcs7.PKCS7Options.DetachedSignature, pkcs7.PKCS7Options.Binary, pkcs7.PKCS7Options.NoAttributes,
            pkcs7.PKCS7Options.NoCerts,
        ]  # fmt: skip

        def sign(_: object, data: bytes) -> bytes:
            builder = pkcs7.PKCS7SignatureBuilder().set_data(data).add_signer(leaf, key, hashes.SHA256())
            return builder.sign(serialization.Encoding.DER, options)

        log = forger.log()
        log.first("journal-open")["certificate_sha256"] = leaf.fingerprint(hashes.SHA256()).hex()
        log.chain(sign)
        forger.write("device/chain.pem", pem([leaf]))

    return harm


def swapped(base: str) -> Harm:
    return lambda forger: forger.write("device/chain.pem", forger.steal(base, "device/chain.pem"))


def kept_one_gone(forger: Forger) -> None:
    (path,) = forger.path("device").glob("chain-*.pem")
    path.unlink()


def chains_exchanged(forger: Forger) -> None:
    (kept,) = forger.path("device").glob("chain-*.pem")
    one, two = forger.read("device/chain.pem"), kept.read_bytes()
    kept.write_bytes(one)
    forger.write("device/chain.pem", two)


def not_introduced(forger: Forger) -> None:
    """Another key of the same name under the same CA goes on with the log from some file on."""
    log = forger.log()
    thief = forger.bases.department.camera(CAMERA)
    last = log.lines[-1].file
    opening = next(line for line in log.lines if line.file == last)
    opening.fields["certificate_sha256"] = thief.record_signer.certificate_sha256
    log.resign(forger.bases.camera.record_signer, thief.record_signer)
    name = f"device/chain-{thief.record_signer.certificate_sha256}.pem"
    forger.write(name, pem(thief.signer.chain))


def expired(bases: Bases) -> BenchIdentity:
    return issued(bases.department, end=NOW - timedelta(hours=1))


def not_yet(bases: Bases) -> BenchIdentity:
    return issued(bases.department, start=NOW + timedelta(days=1))


def no_usages(bases: Bases) -> BenchIdentity:
    return issued(bases.department, extensions=[])


def of_sha1(bases: Bases) -> BenchIdentity:
    """A certificate of the department over a hash that has been broken; only openssl still makes such a one."""
    key, department = new_key(), bases.department
    request = x509.CertificateSigningRequestBuilder().subject_name(bases.camera.signer.certificate.subject)
    for extension, critical in device_extensions():
        request = request.add_extension(extension, critical)
    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder, name) for name in ("request", "ca", "key", "leaf")}
        encoding = serialization.Encoding.PEM
        files["request"].write_bytes(request.sign(key, hashes.SHA256()).public_bytes(encoding))
        files["ca"].write_bytes(pem([department.root]))
        files["key"].write_bytes(key_pem(department.key))
        command = ["openssl", "x509", "-req", "-sha1", "-days", "30", "-copy_extensions", "copyall", "-set_serial", "7"]
        for option, name in (("-in", "request"), ("-CA", "ca"), ("-CAkey", "key"), ("-out", "leaf")):
            command += [option, str(files[name])]
        subprocess.run(command, check=True, capture_output=True)
        leaf = x509.load_pem_x509_certificate(files["leaf"].read_bytes())
    return identity_of(department.root, key, leaf)


KINDS = [
    Kind(SECTION, "chain.pem of another camera of the department", "plain", swapped("other camera")),
    Kind(SECTION, "chain.pem of a camera of that name under another CA", "plain", swapped("other CA")),
    Kind(SECTION, "log re-signed by another camera of the department, under its own certificate", "plain",
         resigned(lambda bases: bases.other)),
    Kind(SECTION, "log re-signed by a camera of that name under another CA of that name", "plain",
         resigned(lambda bases: bases.impostor)),
    Kind(SECTION, "log re-signed under a self-made certificate with all the same names", "plain",
         resigned(self_signed)),
    Kind(SECTION, "log re-signed by a key whose certificate lies in the signature", "plain", brings_it_along),
    Kind(SECTION, "log re-signed under a certificate that had expired", "plain", resigned(expired)),
    Kind(SECTION, "log re-signed under a certificate that was not yet valid", "plain", resigned(not_yet)),
    Kind(SECTION, "log re-signed with a CA's certificate", "plain", resigned(a_ca_itself)),
    Kind(SECTION, "log re-signed under a certificate that a camera issued", "plain", resigned(by_a_camera)),
    Kind(SECTION, "log re-signed under a certificate for servers", "plain", resigned(for_servers)),
    Kind(SECTION, "log re-signed under a certificate that is not for signatures", "plain",
         resigned(not_for_signatures)),
    Kind(SECTION, "log re-signed under a certificate without any usage", "plain", resigned(no_usages)),
    Kind(SECTION, "log re-signed under a certificate signed with SHA-1", "plain", resigned(of_sha1)),
    Kind(SECTION, "log re-signed with a P-384 key", "plain", signed_by(ec.generate_private_key(ec.SECP384R1()))),
    Kind(SECTION, "log re-signed with an RSA key", "plain", signed_by(rsa.generate_private_key(65537, 2048))),
    Kind(SECTION, "more CAs than the root allows", "plain", resigned(too_deep)),
    Kind(SECTION, "a CA in between that may not certify", "plain", resigned(under_a_branch_that_may_not)),
    Kind(SECTION, "the CA in between cut out of the chain", "plain", branch_cut),
    Kind(SECTION, "the camera's own certificate cut off its chain", "plain", leaf_cut),
    Kind(SECTION, "the successor's chain gone", "rotated", kept_one_gone),
    Kind(SECTION, "the two chains exchanged", "rotated", chains_exchanged),
    Kind(SECTION, "another key of that name goes on with the log", "long log", not_introduced),
    Kind(SECTION, "all signatures taken out", "plain", all_taken_out),
    Kind(SECTION, "the last signature taken out", "plain", last_taken_out),
    Kind(SECTION, "a signature of another record", "plain", of_another_record),
    Kind(SECTION, "one signature taken out", "plain", taken_out),
    Kind(SECTION, "a signature exchanged for its arithmetical twin", "plain", twin),
]  # fmt: skip
