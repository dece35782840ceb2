"""The SEI to the bit, and out of hostile bytes."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.signing.nal import escape
from agent.signing.sei import (
    UUID,
    GopStatement,
    SeiDraft,
    SeiError,
    VendorInfo,
    identity_tlvs,
    parse_sei,
    statement_tlvs,
)

CHAIN = b"-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n"
VENDOR = VendorInfo("fw", "sn", "maker")
STATEMENT = GopStatement(7, 1_790_000_000_000_000_000, 1_790_000_001_000_000_100, 30, b"\xaa" * 32, b"\xbb" * 32)
digests = st.one_of(st.binary(min_size=32, max_size=32), st.just(bytes(32)))
utc_ns = st.integers(0, 2**62 // 100).map(lambda steps: steps * 100)
statements = st.builds(
    GopStatement, st.integers(0, 2**32 - 1), utc_ns, utc_ns, st.integers(0, 0xFFFF), digests, digests, st.booleans()
)


def draft(statement: GopStatement = STATEMENT, hash_list: bytes = b"") -> SeiDraft:
    return SeiDraft(identity_tlvs(CHAIN, VENDOR) + statement_tlvs(statement, hash_list))


def test_layout_by_hand() -> None:
    """Written out from the specification's tables, with the reference code's byte order."""
    tlvs = statement_tlvs(GopStatement(1, 0, 100, 2, b"\x11" * 32, b"\x22" * 32), b"")
    fields = (
        "01005b"  # tag 1, 91 bytes
        "021a060000"  # version 2, edition 26.06, a whole GOP
        "019db1ded53e8000019db1ded53e8001"  # 1970 in 100 ns since 1601, and one step more
        "000000010002"  # counter, NAL units
    )
    general = bytes.fromhex(fields) + b"\x11" * 32 + b"\x22" * 32
    assert tlvs == general
    head = bytes([0x06, 0x05, 16 + 1 + len(general) + 3 + 3 + 72]) + UUID + b"\x40"
    signature = bytes(range(1, 71))
    sei = SeiDraft(tlvs)
    assert sei.document == escape(head + general)
    field = bytes.fromhex("03004b010046") + signature + b"\x01\x01"
    assert sei.signed(signature) == escape(head + general + field + b"\x80")
    unsigned_head = bytes([0x06, 0x05, 16 + 1 + len(general)]) + UUID + b"\x40"
    assert sei.unsigned() == escape(unsigned_head + general + b"\x80")


def test_identity_by_hand() -> None:
    crypto = bytes.fromhex("040010010b0609608648016503040201000000")
    vendor = bytes.fromhex("05000d0102") + b"fw" + b"\x02sn" + b"\x05maker"
    chain = b"\x06" + (len(CHAIN) + 2).to_bytes(2, "big") + b"\x01\x00" + CHAIN
    assert identity_tlvs(CHAIN, VENDOR) == crypto + vendor + chain


@given(statements, st.lists(digests, max_size=40), st.binary(min_size=1, max_size=72))
def test_what_is_written_is_read(statement: GopStatement, listed: list[bytes], signature: bytes) -> None:
    hash_list = b"".join(listed)
    made = draft(statement, hash_list)
    unit = made.signed(signature)
    sei = parse_sei(unit)
    assert sei is not None
    assert (sei.statement, sei.hash_list, sei.signature) == (statement, hash_list, signature)
    assert (sei.vendor, sei.chain_pem, sei.is_certificate) == (VENDOR, CHAIN, False)
    assert sei.document == made.document
    assert unit.startswith(made.document)
    bare = parse_sei(made.unsigned())
    assert bare is not None
    assert (bare.statement, bare.hash_list, bare.signature) == (statement, hash_list, None)


def test_a_document_that_ends_in_zeros_ends_in_front_of_the_prevention_byte() -> None:
    """The signature's tag, 3, behind two zeros: the byte that must be put between belongs to neither."""
    made = SeiDraft(statement_tlvs(STATEMENT, b"\xcc" * 30 + b"\x00\x00"))
    assert made.document.endswith(b"\xcc\x00\x00")
    unit = made.signed(b"\x30" * 70)
    assert unit[len(made.document) : len(made.document) + 2] == b"\x03\x03"
    sei = parse_sei(unit)
    assert sei is not None
    assert sei.document == made.document


@given(st.binary(max_size=400))
def test_any_payload_is_read_or_refused(body: bytes) -> None:
    size = b"\xff" * ((len(body) + 16) // 255) + bytes([(len(body) + 16) % 255])
    whole = b"\x06\x05" + size + UUID + body + b"\x80"
    for unit in (whole, escape(whole), whole[: len(whole) // 2], body):
        try:
            parse_sei(unit)
        except SeiError:
            continue


@given(st.data())
def test_a_changed_sei_is_refused_or_says_something_else(data: st.DataObject) -> None:
    made = draft(hash_list=sha256(b"").digest() * 3)
    unit = bytearray(made.signed(b"\x30" * 71))
    at = data.draw(st.integers(0, len(unit) - 1))
    unit[at] ^= 1 << data.draw(st.integers(0, 7))
    try:
        sei = parse_sei(bytes(unit))
    except SeiError:
        return
    is_padding = at == len(unit) - 2
    assert sei is None or is_padding or (sei.document, sei.signature) != (made.document, b"\x30" * 71)


@pytest.mark.parametrize(
    "tlvs",
    [
        b"\x01\x00",  # cut inside a tag
        b"\x01\xff\xff\x02",  # longer than the SEI
        b"\x07\x00\x02\x01x",  # arbitrary data
        b"\x00\x00\x00",
        statement_tlvs(STATEMENT, b"") * 2,
        statement_tlvs(STATEMENT, b"x" * 31),
        statement_tlvs(STATEMENT, b"") + b"\x03\x00\x03\x01\x00\x00",  # an empty signature
        statement_tlvs(STATEMENT, b"") + b"\x03\x00\x05\x01\x00\x03ab",  # longer than its field
        statement_tlvs(STATEMENT, b"") + b"\x03\x00\x05\x01\x00\x02ab" + b"\x05\x00\x04\x01\x00\x00\x00",
        statement_tlvs(STATEMENT, b"") + bytes.fromhex("040010010b0609608648016503040203000000"),  # SHA-512
        identity_tlvs(CHAIN, VENDOR),  # says nothing of a GOP
    ],
)
def test_malformed_tags_are_refused(tlvs: bytes) -> None:
    with pytest.raises(SeiError):
        parse_sei(SeiDraft(tlvs).unsigned())


def test_other_seis_are_nobody_s_business() -> None:
    assert parse_sei(b"\x06\x05\x12" + bytes.fromhex("dc45e9bde6d948b7962cd820d923eeef") + b"x2\x80") is None
    assert parse_sei(b"\x06\x01\x01\x00\x80") is None
    assert parse_sei(b"\x06") is None


def test_certificate_sei_of_others_is_read() -> None:
    sei = parse_sei(SeiDraft(identity_tlvs(CHAIN, VENDOR), certificate=True).signed(b"\x30" * 70))
    assert sei is not None
    assert (sei.is_certificate, sei.chain_pem, sei.statement) == (True, CHAIN, None)


@pytest.mark.parametrize("signature", [b"", b"\x30" * 73])
def test_a_signature_that_does_not_fit_is_refused(signature: bytes) -> None:
    with pytest.raises(SeiError):
        draft().signed(signature)


def test_long_vendor_names_are_cut_and_a_chain_too_long_is_refused() -> None:
    long = identity_tlvs(CHAIN, VendorInfo("é" * 200, "", "m"))
    sei = parse_sei(SeiDraft(long + statement_tlvs(STATEMENT, b"")).unsigned())
    assert sei is not None
    assert sei.vendor is not None
    assert sei.vendor.firmware_version.startswith("é" * 127)
    with pytest.raises(SeiError):
        identity_tlvs(b"x" * 65534, VENDOR)
