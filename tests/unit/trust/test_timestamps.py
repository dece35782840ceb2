"""Timestamps from a real authority, from false ones, and from hostile bytes."""

from __future__ import annotations

import hashlib
import random
import subprocess
import warnings
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import TimestampError
from agent.trust.der import with_sorted_certificates
from agent.trust.timestamps import (
    MAX_RESPONSE_BYTES,
    Doubt,
    Timestamp,
    TimestampRequest,
    check_response,
    doubt,
    make_request,
    read_response,
)
from tests.support.time_authority import NOW, TimeAuthority, good_to, time_authority

MESSAGE = b'{"v":1,"seq":7}'
REQUEST = make_request(MESSAGE)


@pytest.fixture(scope="module")
def response() -> bytes:
    return time_authority()(REQUEST.der)


def doubted(timestamp: Timestamp, *roots: x509.Certificate) -> Doubt | None:
    found = doubt(timestamp, roots)
    return None if found is None else found[0]


def test_the_request_is_what_openssl_expects(tmp_path: Path) -> None:
    (tmp_path / "query").write_bytes(REQUEST.der)
    command = ["openssl", "ts", "-query", "-in", str(tmp_path / "query"), "-text"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "Hash Algorithm: sha256" in text
    assert "Certificate required: yes" in text
    assert f"Nonce: 0x{REQUEST.nonce:016X}" in text
    assert REQUEST.imprint_sha256 == hashlib.sha256(MESSAGE).hexdigest()


def test_each_request_has_another_nonce() -> None:
    assert make_request(MESSAGE).nonce != make_request(MESSAGE).nonce


def test_a_response_says_what_openssl_reads_in_it(response: bytes, tmp_path: Path) -> None:
    (tmp_path / "reply").write_bytes(response)
    command = ["openssl", "ts", "-reply", "-in", str(tmp_path / "reply"), "-text"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    timestamp = check_response(response, REQUEST)
    assert f"{timestamp.gen_time:%b} {timestamp.gen_time.day:2d} {timestamp.gen_time:%H:%M:%S %Y} GMT" in text
    assert abs(timestamp.gen_time - datetime.now(UTC)) < timedelta(minutes=5)
    assert f"Serial number: 0x{timestamp.serial:02X}" in text
    assert timestamp.policy == "1.2.3.4.1"
    assert timestamp.authority == "CN=Test TSA"
    assert timestamp.accuracy == timedelta(seconds=1.5)
    assert (timestamp.earliest, timestamp.latest) == (
        timestamp.gen_time - timedelta(seconds=1.5),
        timestamp.gen_time + timedelta(seconds=2.5),
    )
    assert doubted(timestamp, time_authority().root) is None


def test_certificates_come_unsorted_and_are_sorted_for_the_parser_only() -> None:
    """Of an authority and its CA, whose order is by chance: some of them are the wrong way round."""
    changed = 0
    for number in range(8):
        authority = time_authority(f"TSA {'x' * number}", intermediate=number % 2 == 1)
        response = authority(REQUEST.der)
        again = with_sorted_certificates(response)
        changed += again != response
        assert sorted(again) == sorted(response)
        timestamp = read_response(response)
        assert timestamp.response == response
        assert doubted(timestamp, authority.root) is None
    assert changed


def test_an_authority_without_accuracy_is_good_to_its_second() -> None:
    timestamp = read_response(time_authority("TSA plain", accuracy="")(REQUEST.der))
    assert timestamp.accuracy == timedelta(0)
    assert timestamp.latest - timestamp.earliest == timedelta(seconds=1)


@pytest.mark.parametrize(
    ("moment", "accuracy"),
    [
        (NOW, good_to(86_401)),
        (NOW, good_to(10**11)),  # 3,000 years: the bounds would leave the calendar
        (NOW, good_to(2**63)),
        (datetime(1999, 12, 31, tzinfo=UTC), b""),
        (datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC), b""),
    ],
)
def test_times_that_no_authority_states_are_refused(moment: datetime, accuracy: bytes) -> None:
    with pytest.raises(TimestampError):
        read_response(time_authority().at(moment, accuracy=accuracy)(REQUEST.der))


def test_an_authority_may_be_a_day_off() -> None:
    response = time_authority().at(NOW, accuracy=good_to(86_400))(REQUEST.der)
    assert read_response(response).accuracy == timedelta(days=1)


def test_an_answer_to_another_request_is_refused(response: bytes) -> None:
    other = make_request(b"something else")
    with pytest.raises(TimestampError, match="something else"):
        check_response(response, other)
    with pytest.raises(TimestampError, match="nonce"):
        check_response(response, make_request(MESSAGE))
    without_nonce = TimestampRequest(REQUEST.der, REQUEST.imprint_sha256, REQUEST.nonce + 1)
    with pytest.raises(TimestampError, match="nonce"):
        check_response(response, without_nonce)


def test_an_answer_without_a_nonce_is_refused(tmp_path: Path) -> None:
    query = tmp_path / "query"
    command = ["openssl", "ts", "-query", "-digest", REQUEST.imprint_sha256, "-sha256", "-no_nonce", "-cert"]
    subprocess.run([*command, "-out", str(query)], check=True, capture_output=True)
    with pytest.raises(TimestampError, match="nonce"):
        check_response(time_authority()(query.read_bytes()), REQUEST)


def test_a_refusal_is_told_in_the_authoritys_words() -> None:
    refusing = time_authority("TSA of yesterday", digests="sha512")
    with pytest.raises(TimestampError, match=r"did not grant.*rejection.*algorithm"):
        check_response(refusing(REQUEST.der), REQUEST)


def test_another_authority_is_not_trusted(response: bytes) -> None:
    timestamp = read_response(response)
    assert doubted(timestamp, time_authority("Other TSA").root) is Doubt.UNTRUSTED
    assert doubted(timestamp) is Doubt.UNTRUSTED
    # As `openssl ts -verify -CAfile`: an authority's own certificate is no root.
    assert doubted(timestamp, time_authority().certificate) is Doubt.UNTRUSTED


def test_a_root_of_the_same_name_is_not_enough(response: bytes) -> None:
    namesake = time_authority.__wrapped__()
    assert namesake.root.subject == time_authority().root.subject
    assert doubted(read_response(response), namesake.root) is Doubt.UNTRUSTED
    more = [time_authority.__wrapped__().root for _ in range(5)]  # the order in which OpenSSL meets them is by chance
    assert doubted(read_response(response), namesake.root, *more, time_authority().root) is None


def test_a_certificate_that_had_expired_is_named() -> None:
    authority = time_authority("Old TSA", expired=True)
    found = doubt(read_response(authority(REQUEST.der)), [authority.root])
    assert found is not None
    kind, sentence = found
    assert kind is Doubt.OUTSIDE_VALIDITY
    assert '"CN=Old TSA" was valid from' in sentence


@pytest.mark.parametrize(
    ("purpose", "expected"),
    [(ExtendedKeyUsageOID.TIME_STAMPING, None), (ExtendedKeyUsageOID.EMAIL_PROTECTION, Doubt.ALTERED)],
)
def test_only_a_certificate_for_timestamps_makes_them(
    response: bytes, purpose: x509.ObjectIdentifier, expected: Doubt | None
) -> None:
    """A sound signature by a key that its CA certified once more, for the same purpose or for mail."""
    authority = time_authority()
    before = authority.certificate.public_bytes(Encoding.DER)
    other = b""
    while len(other) != len(before):  # an ECDSA signature has 70 to 72 bytes
        builder = (
            x509.CertificateBuilder()
            .subject_name(authority.certificate.subject)
            .issuer_name(authority.certificate.issuer)
            .public_key(authority.certificate.public_key())
            .serial_number(authority.certificate.serial_number)
            .not_valid_before(authority.certificate.not_valid_before_utc)
            .not_valid_after(authority.certificate.not_valid_after_utc)
        )
        for extension in authority.certificate.extensions:
            value: x509.ExtensionType = extension.value
            if isinstance(value, x509.ExtendedKeyUsage):
                value = x509.ExtendedKeyUsage([purpose])
            builder = builder.add_extension(value, extension.critical)
        other = builder.sign(authority.root_key, hashes.SHA256()).public_bytes(Encoding.DER)
    assert doubted(read_response(response.replace(before, other)), authority.root) is expected


def test_every_byte_of_what_is_signed_matters(response: bytes) -> None:
    """No change of a byte in the token's info, or of the signature, goes unnoticed."""
    timestamp = read_response(response)
    root = time_authority().root
    start = response.index(bytes.fromhex(timestamp.imprint_sha256))
    begin, end = start - 40, start + 32 + 40  # version, policy, imprint, serial, time
    accepted = []
    for offset in [*range(begin, end), *range(len(response) - 64, len(response))]:
        changed = bytearray(response)
        changed[offset] ^= 0x01
        try:
            altered = read_response(bytes(changed))
        except TimestampError:
            continue
        if doubted(altered, root) is None:
            accepted.append(offset)
    assert accepted == []


def test_too_large_a_response_is_not_parsed() -> None:
    with pytest.raises(TimestampError, match="at most"):
        read_response(b"\x30" * (MAX_RESPONSE_BYTES + 1))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes_end_in_our_own_error(data: bytes) -> None:
    with pytest.raises(TimestampError):
        read_response(data)


@settings(max_examples=400, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 6), st.booleans())
def test_a_spoilt_response_ends_in_our_own_error_or_in_doubt_or_says_the_same(
    seed: int, changes: int, cut: bool
) -> None:
    whole = _response()
    chance = random.Random(seed)
    data = bytearray(whole)
    for _ in range(changes):
        data[chance.randrange(len(data))] = chance.randrange(256)
    spoilt = bytes(data[: chance.randrange(len(data))]) if cut else bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # cryptography warns of certificates that it means to refuse one day
        try:
            timestamp = read_response(spoilt)
        except TimestampError:
            return
        if doubt(timestamp, [time_authority().root]) is None:
            sound = read_response(whole)
            assert (timestamp.gen_time, timestamp.imprint_sha256) == (sound.gen_time, sound.imprint_sha256)
            assert (timestamp.accuracy, timestamp.nonce) == (sound.accuracy, sound.nonce)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_sorting_never_fails_and_never_loses_a_byte(data: bytes) -> None:
    assert sorted(with_sorted_certificates(data)) == sorted(data)


_RESPONSES: dict[TimeAuthority, bytes] = {}


def _response() -> bytes:
    authority = time_authority()
    if authority not in _RESPONSES:
        _RESPONSES[authority] = authority(REQUEST.der)
    return _RESPONSES[authority]
