from __future__ import annotations

import re
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from agent.errors import DeviceKeyError
from agent.trust.certificates import (
    EXTENSIONS_ADVICE,
    check_chain,
    extension_problems,
    fingerprint_hex,
    fingerprint_text,
    make_bench_root,
    make_device_certificate,
    make_request,
    parse_chain,
    pem,
)
from tests.unit.trust.identities import NOW, custom_certificate, identity, key_pem, new_key

ROOT_KEY, MIDDLE_KEY, KEY = new_key(), new_key(), new_key()


def usage(*, sign: bool, certify: bool) -> x509.KeyUsage:
    return x509.KeyUsage(sign, False, False, False, False, certify, certify, False, False)


CA = (x509.BasicConstraints(True, None), True)
NOT_CA = (x509.BasicConstraints(False, None), True)
CERTIFY = (usage(sign=False, certify=True), True)
SIGN = (usage(sign=True, certify=False), True)
EMAIL = (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), False)

ROOT = custom_certificate("root", ROOT_KEY.public_key(), "root", ROOT_KEY, [CA, CERTIFY])
MIDDLE = custom_certificate("middle", MIDDLE_KEY.public_key(), "root", ROOT_KEY, [CA, CERTIFY])
LEAF = custom_certificate("leaf", KEY.public_key(), "middle", MIDDLE_KEY, [NOT_CA, SIGN, EMAIL])


def test_a_sound_chain_has_no_problems() -> None:
    assert check_chain([LEAF, MIDDLE], [ROOT], NOW) == []
    assert check_chain([LEAF, MIDDLE, ROOT], [ROOT], NOW) == []
    assert check_chain([LEAF, MIDDLE], [identity().root, ROOT], NOW) == []
    assert check_chain([identity().leaf], [identity().root], NOW) == []


def test_the_profile_of_a_device_certificate() -> None:
    leaf, root = identity().leaf, identity().root
    assert leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "CAM-0001"
    assert leaf.subject.get_attributes_for_oid(NameOID.SERIAL_NUMBER)[0].value == "100000001234abcd"
    assert timedelta(days=20 * 365) < leaf.not_valid_after_utc - leaf.not_valid_before_utc < timedelta(days=20 * 366)
    assert leaf.not_valid_after_utc <= root.not_valid_after_utc
    root_id = root.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    authority = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    assert authority.key_identifier == root_id
    assert leaf.extensions.get_extension_for_class(x509.KeyUsage) == x509.Extension(
        x509.KeyUsage.oid, True, usage(sign=True, certify=False)
    )
    assert "BENCH ONLY" in root.subject.rfc4514_string()
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_a_certificate_never_outlives_its_ca() -> None:
    later = NOW + timedelta(days=25 * 365)
    leaf = make_device_certificate(KEY.public_key(), "c", "1", identity().root_key, identity().root, later)
    assert leaf.not_valid_after_utc == identity().root.not_valid_after_utc


def test_the_fingerprint_is_what_openssl_prints(tmp_path: Path) -> None:
    chain, _ = identity().write(tmp_path)
    printed = subprocess.run(
        ["openssl", "x509", "-noout", "-fingerprint", "-sha256", "-in", chain],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    assert printed.split("=")[1] == fingerprint_text(identity().leaf)
    assert fingerprint_hex(identity().leaf) == fingerprint_text(identity().leaf).replace(":", "").lower()


def test_openssl_verifies_the_bench_chain_strictly(tmp_path: Path) -> None:
    chain, root = identity().write(tmp_path)
    subprocess.run(
        ["openssl", "verify", "-x509_strict", "-purpose", "smimesign", "-CAfile", root, chain],
        capture_output=True, check=True,
    )  # fmt: skip


def test_a_request_asks_for_the_profile_and_is_signed() -> None:
    request = make_request(KEY, "CAM-7", "42")
    assert request.is_signature_valid
    assert request.public_key() == KEY.public_key()
    assert request.extensions.get_extension_for_class(x509.KeyUsage).value.digital_signature
    assert (
        ExtendedKeyUsageOID.EMAIL_PROTECTION in request.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    )
    assert request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "CAM-7"


@pytest.mark.parametrize("device_id", ["", "x" * 65])
def test_an_impossible_device_id_is_a_sentence(device_id: str) -> None:
    with pytest.raises(DeviceKeyError, match=r"device\.id"):
        make_request(KEY, device_id, "1")


@pytest.mark.parametrize("now", [datetime(1970, 1, 1, 0, 5, tzinfo=UTC), datetime(2025, 12, 31, tzinfo=UTC)])
def test_an_unset_clock_makes_no_certificates(now: datetime) -> None:
    with pytest.raises(DeviceKeyError, match="timedatectl"):
        make_bench_root(ROOT_KEY, now)
    with pytest.raises(DeviceKeyError, match="timedatectl"):
        make_device_certificate(KEY.public_key(), "c", "1", ROOT_KEY, ROOT, now)


def leaf_with(
    *extensions: tuple[x509.ExtensionType, bool], key: ec.EllipticCurvePublicKey | None = None
) -> x509.Certificate:
    return custom_certificate("leaf", key or KEY.public_key(), "middle", MIDDLE_KEY, list(extensions))


def middle_with(*extensions: tuple[x509.ExtensionType, bool]) -> x509.Certificate:
    return custom_certificate("middle", MIDDLE_KEY.public_key(), "root", ROOT_KEY, list(extensions))


P384 = ec.generate_private_key(ec.SECP384R1()).public_key()
CONSTRAINED = (x509.NameConstraints([x509.DNSName("example.org")], None), True)
REPUDIATES_NOT = (x509.KeyUsage(False, True, False, False, False, False, False, False, False), True)
ANY = (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]), False)
TLS = (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)
CA_WITHOUT_BELOW = (x509.BasicConstraints(True, 0), True)
UPPER = middle_with(CA_WITHOUT_BELOW, CERTIFY)
LOWER_KEY = new_key()
LOWER = custom_certificate("lower", LOWER_KEY.public_key(), "middle", MIDDLE_KEY, [CA, CERTIFY])
DEEP_LEAF = custom_certificate("leaf", KEY.public_key(), "lower", LOWER_KEY, [NOT_CA, SIGN, EMAIL])


@pytest.mark.parametrize(
    ("chain", "roots", "said"),
    [
        ([], [ROOT], "no certificate"),
        ([LEAF], [ROOT], "not issued by any"),
        ([LEAF, MIDDLE], [], "not issued by any trusted root"),
        ([LEAF, MIDDLE], [identity().root], "not issued by any"),
        ([LEAF, identity().leaf], [identity().root], 'was not issued by "'),
        ([LEAF, custom_certificate("middle", new_key().public_key(), "root", ROOT_KEY, [CA, CERTIFY])], [ROOT],
         "signature does not match"),
        ([leaf_with(CA, SIGN, EMAIL), MIDDLE], [ROOT], "is a CA's"),
        ([leaf_with(NOT_CA, CERTIFY, EMAIL), MIDDLE], [ROOT], "not for signatures"),
        ([leaf_with(NOT_CA, SIGN, TLS), MIDDLE], [ROOT], "emailProtection"),
        ([leaf_with(SIGN, EMAIL), MIDDLE], [ROOT], "has no basicConstraints, so"),
        ([leaf_with(NOT_CA, EMAIL), MIDDLE], [ROOT], "has no keyUsage, so"),
        ([leaf_with(NOT_CA, SIGN), MIDDLE], [ROOT], "has no extendedKeyUsage, so"),
        ([leaf_with(NOT_CA, REPUDIATES_NOT, EMAIL), MIDDLE], [ROOT], "not for signatures"),
        ([leaf_with(NOT_CA, SIGN, ANY), MIDDLE], [ROOT], "emailProtection"),
        ([leaf_with(NOT_CA, SIGN, EMAIL, key=P384), MIDDLE], [ROOT], "no ECDSA P-256 key"),
        ([leaf_with(NOT_CA, SIGN, EMAIL, (x509.IssuerAlternativeName([x509.DNSName("a")]), True)), MIDDLE], [ROOT],
         "critical extension"),
        ([LEAF, middle_with(NOT_CA, CERTIFY)], [ROOT], "is not a CA's"),
        ([LEAF, middle_with(CERTIFY)], [ROOT], "is not a CA's"),
        ([LEAF, middle_with(CA, SIGN)], [ROOT], "may not sign certificates"),
        ([LEAF, middle_with(CA, CERTIFY, CONSTRAINED)], [ROOT], "critical extension"),
        ([DEEP_LEAF, LOWER, UPPER], [ROOT], "allows 0 CA"),
    ],
)  # fmt: skip
def test_each_fault_is_named(chain: list[x509.Certificate], roots: list[x509.Certificate], said: str) -> None:
    problems = check_chain(chain, roots, NOW)
    assert any(said in problem for problem in problems), problems
    assert all(problem.endswith(".") and problem[0].isupper() for problem in problems)


def test_the_same_depth_without_the_limit_is_fine() -> None:
    assert check_chain([DEEP_LEAF, LOWER, MIDDLE], [ROOT], NOW) == []
    assert check_chain([LEAF, UPPER], [ROOT], NOW) == []


@pytest.mark.parametrize("which", ["leaf", "middle", "root"])
def test_validity_is_checked_for_every_certificate_at_the_given_moment(which: str) -> None:
    def made(
        name: str, key: ec.EllipticCurvePrivateKey, issuer: str, by: ec.EllipticCurvePrivateKey
    ) -> x509.Certificate:
        start = NOW + timedelta(days=10) if name == which else NOW - timedelta(days=900)
        end = NOW + timedelta(days=20) if name == which else NOW + timedelta(days=900)
        extensions = [NOT_CA, SIGN, EMAIL] if name == "leaf" else [CA, CERTIFY]
        return custom_certificate(name, key.public_key(), issuer, by, extensions, start=start, end=end)

    root = made("root", ROOT_KEY, "root", ROOT_KEY)
    chain = [made("leaf", KEY, "middle", MIDDLE_KEY), made("middle", MIDDLE_KEY, "root", ROOT_KEY)]
    (early,) = check_chain(chain, [root], NOW)
    (late,) = check_chain(chain, [root], NOW + timedelta(days=30))
    assert "valid only from" in early
    assert "expired" in late
    assert check_chain(chain, [root], NOW + timedelta(days=15)) == []


def test_a_moment_needs_a_time_zone() -> None:
    with pytest.raises(ValueError, match="time zone"):
        check_chain([LEAF, MIDDLE], [ROOT], datetime(2030, 1, 1))


def test_a_weak_hash_is_refused(tmp_path: Path) -> None:
    """cryptography does not make such certificates; openssl does. SHA-1 it does not even verify any more."""
    for name, key in (("root.key", ROOT_KEY), ("key", KEY)):
        (tmp_path / name).write_bytes(key_pem(key))
    (tmp_path / "root.pem").write_bytes(pem([ROOT]))

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=tmp_path, capture_output=True, check=True)

    openssl("req", "-new", "-key", "key", "-subj", "/CN=c", "-out", "csr")
    (tmp_path / "device.ext").write_text(EXTENSIONS_ADVICE.partition("-extfile:\n")[2])
    found = {}
    for digest in ("sha1", "sha224", "sha256"):
        issue = f"x509 -req -in csr -CA root.pem -CAkey root.key -CAcreateserial -extfile device.ext -{digest}"
        openssl(*issue.split(), "-out", digest)
        leaf = x509.load_pem_x509_certificate((tmp_path / digest).read_bytes())
        found[digest] = check_chain([leaf, ROOT], [ROOT], NOW + timedelta(hours=1))
    assert found["sha256"] == []
    assert any("hash that is not" in problem for problem in found["sha224"])
    assert any("was not issued by" in problem for problem in found["sha1"])


def test_a_request_signed_without_extensions_is_refused_although_openssl_takes_it(tmp_path: Path) -> None:
    """`openssl x509 -req` copies none out of the request, and openssl takes a certificate without any for anything."""
    (tmp_path / "root.key").write_bytes(key_pem(ROOT_KEY))
    (tmp_path / "root.pem").write_bytes(pem([ROOT]))
    (tmp_path / "csr").write_bytes(make_request(KEY, "CAM-7", "42").public_bytes(serialization.Encoding.PEM))

    def openssl(command: str) -> None:
        subprocess.run(["openssl", *command.split()], cwd=tmp_path, capture_output=True, check=True)

    openssl("x509 -req -in csr -CA root.pem -CAkey root.key -CAcreateserial -sha256 -out plain.pem")
    openssl("verify -purpose smimesign -CAfile root.pem plain.pem")
    (plain,) = parse_chain((tmp_path / "plain.pem").read_bytes(), "plain.pem")
    problems = check_chain([plain], [ROOT], NOW + timedelta(hours=1))
    assert problems == extension_problems(plain)
    (said,) = problems
    assert "has no basicConstraints and no keyUsage and no extendedKeyUsage" in said
    (tmp_path / "device.ext").write_text(EXTENSIONS_ADVICE.partition("-extfile:\n")[2])
    openssl("x509 -req -in csr -CA root.pem -CAkey root.key -CAcreateserial -sha256 -extfile device.ext -out good.pem")
    openssl("verify -purpose smimesign -CAfile root.pem good.pem")
    (good,) = parse_chain((tmp_path / "good.pem").read_bytes(), "good.pem")
    assert check_chain([good], [ROOT], NOW + timedelta(hours=1)) == []


WHOLE = pem([LEAF])
LINES = WHOLE.splitlines(keepends=True)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "does not hold certificates in PEM"),
        (b"hello\n", "does not hold certificates in PEM"),
        (b"\xff\xfe\x00", "does not hold certificates in PEM"),
        (LEAF.public_bytes(serialization.Encoding.DER), "openssl x509 -inform DER"),
        (make_request(KEY, "c", "1").public_bytes(serialization.Encoding.PEM), "request for a certificate"),
        (key_pem(KEY), "private key and no certificate"),
        (b"".join(LINES[:-2]), "cut off in the middle"),
        (b"".join([LINES[0], b"!!!!\n", *LINES[1:]]), "cannot be read"),
        (b"".join([LINES[0], LINES[2], LINES[-1]]), "cannot be read"),
    ],
)
def test_what_is_no_certificate_is_said_in_our_words(data: bytes, said: str) -> None:
    with pytest.raises(DeviceKeyError) as caught:
        parse_chain(data, "chain.pem")
    assert str(caught.value).startswith("chain.pem ")
    assert said in str(caught.value)
    assert not {"Malformed", "http", "ParseError", "InvalidData"} & set(re.findall(r"\w+", str(caught.value)))
