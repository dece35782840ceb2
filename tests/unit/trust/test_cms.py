from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import CmsError
from agent.trust import cms
from agent.trust.cms import encode_detached, sign_detached, verify_detached
from tests.unit.trust.identities import NOW, custom_certificate, identity, new_key, write_key

DATA = b'{"v":1,"seq":1}'
CANONICAL = [
    pkcs7.PKCS7Options.DetachedSignature,
    pkcs7.PKCS7Options.Binary,
    pkcs7.PKCS7Options.NoCerts,
    pkcs7.PKCS7Options.NoAttributes,
]


def by_builder(
    certificate: x509.Certificate,
    key: ec.EllipticCurvePrivateKey,
    options: list[pkcs7.PKCS7Options],
    algorithm: hashes.SHA256 | hashes.SHA384 = hashes.SHA256(),  # noqa: B008  immutable
) -> bytes:
    return (
        pkcs7.PKCS7SignatureBuilder().set_data(DATA).add_signer(certificate, key, algorithm).sign(Encoding.DER, options)
    )


def signature_of(der: bytes) -> bytes:
    """The last TLV of the canonical form."""
    size = der.rindex(b"\x30", 0, len(der) - 8)
    for start in range(len(der) - 72, len(der) - 7):
        if der[start] == 0x30 and der[start - 1] == len(der) - start and der[start + 1] == len(der) - start - 2:
            return der[start:]
    raise AssertionError(f"no signature in {der.hex()} {size}")


def refused(der: bytes, data: bytes = DATA) -> str:
    with pytest.raises(CmsError) as caught:
        verify_detached(der, data, [identity().leaf])
    return str(caught.value)


def test_own_signature_verifies_and_names_its_signer() -> None:
    der = sign_detached(identity().signer, DATA)
    assert verify_detached(der, DATA, [identity("other").leaf, identity().leaf]) == identity().leaf


NAMES = {
    "one UTF8String": None,
    "RFC 4514 with several attributes": x509.Name.from_rfc4514_string("CN=Ä root,O=Department,OU=Evidence,C=DE"),
    "multi-valued RDN": x509.Name(
        [
            x509.RelativeDistinguishedName(
                [x509.NameAttribute(NameOID.COMMON_NAME, "r"), x509.NameAttribute(NameOID.ORGANIZATION_NAME, "o")]
            )
        ]
    ),
    "long enough for two length octets": x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "x" * 60) for _ in range(6)]
    ),
    "empty": x509.Name([]),
}


@pytest.mark.parametrize("serial", [1, 127, 128, 255, 256, 2**158 - 1, 2**158])
@pytest.mark.parametrize("name", NAMES)
def test_encoding_is_byte_identical_to_the_library(name: str, serial: int) -> None:
    key, root_key = new_key(), new_key()
    leaf = custom_certificate("c", key.public_key(), "root", root_key, [], issuer_name=NAMES[name], serial=serial)
    der = by_builder(leaf, key, CANONICAL)
    assert encode_detached(leaf, signature_of(der)) == der
    assert verify_detached(der, DATA, [leaf]) == leaf


def test_every_signature_length_has_its_lengths_right() -> None:
    """Short r or s are too rare to meet by chance, so they are put in; `openssl asn1parse` judges the lengths."""
    leaf = identity().leaf
    for r_bits in (7, 8, 64, 200, 247, 248, 255, 256):
        for s_bits in (7, 8, 64, 200, 247, 248, 255, 256):
            signature = encode_dss_signature(2**r_bits - 1, 2**s_bits - 1)
            der = encode_detached(leaf, signature)
            parsed = subprocess.run(
                ["openssl", "asn1parse", "-inform", "DER"], input=der, capture_output=True, check=True
            ).stdout.decode()
            assert parsed.splitlines()[-1].endswith(f"[HEX DUMP]:{signature.hex().upper()}")
            assert parsed.count("\n") == 27


def openssl_verifies(folder: Path, der: bytes, data: bytes = DATA) -> bool:
    chain, root = identity().write(folder)
    (folder / "s").write_bytes(der)
    (folder / "r").write_bytes(data)
    command = ["openssl", "cms", "-verify", "-binary", "-inform", "DER", "-in", "s", "-content", "r"]
    command += ["-certfile", chain.name, "-CAfile", root.name, "-out", "out"]
    return subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode == 0


def test_stock_openssl_accepts_it_without_a_purpose_option(tmp_path: Path) -> None:
    der = sign_detached(identity().signer, DATA)
    assert openssl_verifies(tmp_path, der)
    assert not openssl_verifies(tmp_path, der, DATA + b" ")
    assert not openssl_verifies(tmp_path, sign_detached(identity("other").signer, DATA))


def test_other_data_other_key_and_trailing_bytes_are_refused() -> None:
    der = sign_detached(identity().signer, DATA)
    assert "does not match" in refused(der, DATA + b"\n")
    assert "does not match" in refused(der, b"")
    assert "not the canonical" in refused(sign_detached(identity("other").signer, DATA))
    assert "not the canonical" in refused(der + b"\x00")
    assert "not the canonical" in refused(der[:-1])
    assert "not the canonical" in refused(b"")
    with pytest.raises(CmsError, match="no certificate"):
        verify_detached(der, DATA, [])


@pytest.mark.parametrize(
    "options",
    [
        [pkcs7.PKCS7Options.DetachedSignature, pkcs7.PKCS7Options.Binary],
        [pkcs7.PKCS7Options.DetachedSignature, pkcs7.PKCS7Options.Binary, pkcs7.PKCS7Options.NoCerts],
        [
            pkcs7.PKCS7Options.DetachedSignature,
            pkcs7.PKCS7Options.Binary,
            pkcs7.PKCS7Options.NoCerts,
            pkcs7.PKCS7Options.NoCapabilities,
        ],
        [
            pkcs7.PKCS7Options.DetachedSignature,
            pkcs7.PKCS7Options.Binary,
            pkcs7.PKCS7Options.NoAttributes,
        ],
        [pkcs7.PKCS7Options.Binary, pkcs7.PKCS7Options.NoCerts, pkcs7.PKCS7Options.NoAttributes],
    ],
    ids=["attributes and certificate", "attributes", "fewer attributes", "certificate", "with its content"],
)
def test_other_forms_of_the_same_signature_are_refused(tmp_path: Path, options: list[pkcs7.PKCS7Options]) -> None:
    der = by_builder(identity().leaf, identity().key, options)
    assert openssl_verifies(tmp_path, der)  # it is a good signature, in a form that is not ours
    refused(der)


def test_another_digest_is_refused(tmp_path: Path) -> None:
    der = by_builder(identity().leaf, identity().key, CANONICAL, hashes.SHA384())
    assert openssl_verifies(tmp_path, der)
    refused(der)


def test_two_signers_and_the_key_identifier_form_are_refused(tmp_path: Path) -> None:
    chain, _ = identity().write(tmp_path)
    key = write_key(tmp_path / "key", identity().key)
    (tmp_path / "r").write_bytes(DATA)
    base = ["openssl", "cms", "-sign", "-binary", "-outform", "DER", "-in", "r", "-nocerts", "-noattr", "-md", "sha256"]
    sign = ["-signer", chain.name, "-inkey", key.name]
    for name, more in {"twice": sign + sign, "keyid": [*sign, "-keyid"], "plain": sign}.items():
        subprocess.run([*base, *more, "-out", name], cwd=tmp_path, capture_output=True, check=True)
        assert openssl_verifies(tmp_path, (tmp_path / name).read_bytes())
        refused((tmp_path / name).read_bytes())
    # OpenSSL's own plain form differs from ours in nothing but absent SHA-256 parameters (RFC 5754 section 2).
    plain = (tmp_path / "plain").read_bytes()
    ours = encode_detached(identity().leaf, signature_of(plain))
    assert len(ours) - len(plain) == 4
    assert ours.count(b"\x04\x02\x01\x05\x00") == plain.count(b"\x04\x02\x01") == 2


def test_indefinite_lengths_are_refused(tmp_path: Path) -> None:
    der = sign_detached(identity().signer, DATA)
    assert der[:2] == b"\x30\x81"
    ber = b"\x30\x80" + der[3:] + b"\x00\x00"
    assert openssl_verifies(tmp_path, ber)
    refused(ber)
    longer_length = b"\x30\x82\x00" + der[2:]
    refused(longer_length)


def test_a_padded_integer_in_the_signature_value_is_refused_by_name() -> None:
    signer = identity().signer
    for _ in range(200):
        r, s = decode_dss_signature(signer.sign(DATA))
        if r >> 255 and not s >> 255:  # 33 + 32 bytes; padding s by one zero gives the 72 of a common good one
            break
    r_der = b"\x02\x21\x00" + r.to_bytes(32, "big")
    s_der = b"\x02\x21\x00" + s.to_bytes(32, "big")
    value = b"\x30\x46" + r_der + s_der
    longest = encode_dss_signature(2**256 - 1, 2**256 - 1)
    assert len(value) == len(longest)
    prefix = encode_detached(identity().leaf, longest)[: -len(longest)]
    assert "not canonical DER" in refused(prefix + value)
    with pytest.raises(CmsError, match="not a P-256 signature in DER"):
        encode_detached(identity().leaf, value)


def test_zero_and_out_of_range_numbers_do_not_verify() -> None:
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    r, s = decode_dss_signature(identity().signer.sign(DATA))
    for pair in ((0, 0), (0, s), (r, 0), (order, s), (r, order), (r, order + s if order + s < 2**256 else order)):
        refused(encode_detached(identity().leaf, encode_dss_signature(*pair)))


def test_a_certificate_with_another_kind_of_key_cannot_have_signed() -> None:
    p384 = ec.generate_private_key(ec.SECP384R1())
    rsa_key = rsa.generate_private_key(65537, 2048)
    good = sign_detached(identity().signer, DATA)
    for key in (p384.public_key(), rsa_key.public_key()):
        other = custom_certificate("c", key, "root", identity().root_key, [])  # type: ignore[arg-type]
        with pytest.raises(CmsError, match="P-256"):
            encode_detached(other, identity().signer.sign(DATA))
        with pytest.raises(CmsError, match="P-256"):
            verify_detached(good, DATA, [other])
        assert verify_detached(good, DATA, [other, identity().leaf]) == identity().leaf


def test_two_certificates_with_one_issuer_and_serial_are_told_apart_by_key() -> None:
    one, two, root_key = new_key(), new_key(), new_key()
    first = custom_certificate("one", one.public_key(), "root", root_key, [], serial=7)
    second = custom_certificate("two", two.public_key(), "root", root_key, [], serial=7)
    der = encode_detached(second, two.sign(DATA, ec.ECDSA(hashes.SHA256())))
    assert verify_detached(der, DATA, [first, second]) == second


@given(st.binary(max_size=400), st.binary(max_size=100))
def test_random_bytes_are_refused_with_nothing_but_cms_error(der: bytes, data: bytes) -> None:
    refused(der, data)


GOOD = sign_detached(identity().signer, DATA)


@settings(max_examples=500)
@given(st.data())
def test_no_mutation_verifies(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(("flip", "set", "insert", "delete", "splice", "tail")))
    at = data.draw(st.integers(0, len(GOOD) - 1))
    if kind == "flip":
        mutated = GOOD[:at] + bytes((GOOD[at] ^ (1 << data.draw(st.integers(0, 7))),)) + GOOD[at + 1 :]
    elif kind == "set":
        mutated = GOOD[:at] + data.draw(st.binary(min_size=1, max_size=8)) + GOOD[at:][8:]
    elif kind == "insert":
        mutated = GOOD[:at] + data.draw(st.binary(min_size=1, max_size=8)) + GOOD[at:]
    elif kind == "delete":
        mutated = GOOD[:at] + GOOD[at + data.draw(st.integers(1, 8)) :]
    elif kind == "splice":
        other = data.draw(st.integers(0, len(GOOD) - 1))
        mutated = GOOD[:at] + GOOD[other:]
    else:
        signature = data.draw(st.binary(min_size=8, max_size=72))
        mutated = GOOD[: -len(signature)] + signature
    if mutated != GOOD:
        refused(mutated)


@given(st.binary(min_size=8, max_size=72) | st.builds(encode_dss_signature, *[st.integers(0, 2**256 - 1)] * 2))
def test_no_random_signature_value_verifies(signature: bytes) -> None:
    """Reaches the ECDSA check itself, which random outer bytes never do."""
    try:
        der = encode_detached(identity().leaf, signature)
    except CmsError:
        return
    refused(der)


def test_verification_is_one_ecdsa_check_and_no_der_is_made_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bar of 0.15 ms is the benchmark's; here is counted what it rests on."""
    leaf, other = identity().leaf, identity("other").leaf
    checked: list[bytes] = []

    class CountedKey:
        def __init__(self, key: ec.EllipticCurvePublicKey) -> None:
            self._key = key

        def verify(self, signature: bytes, data: bytes, algorithm: ec.ECDSA) -> None:
            checked.append(signature)
            self._key.verify(signature, data, algorithm)

    made = cms._template

    def counted(certificate: x509.Certificate) -> object:
        template = made(certificate)
        return replace(template, public_key=CountedKey(template.public_key))  # type: ignore[arg-type]

    verify_detached(GOOD, DATA, [other, leaf])  # both templates are made once
    misses = made.cache_info().misses
    monkeypatch.setattr(cms, "_template", counted)
    monkeypatch.setattr(cms, "_prefix", None)  # whoever makes a template now fails
    for number in range(1, 101):
        assert verify_detached(GOOD, DATA, [other, leaf]) == leaf
        assert len(checked) == number, "the other certificate is ruled out by its bytes"
    assert made.cache_info().misses == misses
    refused(GOOD[:-80] + bytes(80))
    assert len(checked) == 100, "what is not the canonical form is refused before any arithmetic"


def test_now_is_inside_the_test_certificates() -> None:
    assert identity().leaf.not_valid_before_utc < NOW < identity().leaf.not_valid_after_utc
