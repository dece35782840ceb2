"""The SEI of ONVIF Media Signing, to the bit: what is signed, and what a reader may believe before it is.

ONVIF Media Signing Specification 26.06, "SEI format" and "TLV tags"; H.264 7.3.2.3 and D.1.7 (user_data_unregistered).
Deviation: the specification writes times and counter in little endian, its reference code (media-signing-framework
r25.12.3) in big endian, and streams are checked with the code: big endian here.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from agent.signing.gop import HASH_BYTES
from agent.signing.nal import NalError, escape, unescape

UUID = bytes.fromhex("005bc93f2d715e95ada4796f90877a6f")
MAX_LISTED_HASHES = 600
"""ONVIF's validator has room for this many SHA-256 hashes and refuses a longer list."""
MAX_CERTIFICATES = 4
"""In a chain without its root; ONVIF's validator refuses more."""
MAX_VENDOR_BYTES = 255
MAX_SIGNATURE_BYTES = 72
"""ECDSA-Sig-Value of P-256, seldom shorter than 70; the field is fixed, so that the payload size is known before."""

_NAL_HEADER = 0x06
_USER_DATA_UNREGISTERED = 0x05
_STOP_BYTE = 0x80
_CERTIFICATE_FLAG = 0x80
_ESCAPED_FLAG = 0x40  # the signature is over the bytes as they stand in the stream
_SPECIFICATION = (26, 6, 0)  # edition; the third byte belongs to the reference code
_SHA256_OID_DER = bytes.fromhex("0609608648016503040201")  # 2.16.840.1.101.3.4.2.1
_PAD = b"\x01"  # not 0, which would ask for emulation prevention

_GENERAL, _HASH_LIST, _SIGNATURE, _CRYPTO, _VENDOR, _CERTIFICATES = 1, 2, 3, 4, 5, 6
_GENERAL_LAYOUT = struct.Struct(">B3sBqqIH32s32s")
_GENERAL_V1_LAYOUT = struct.Struct(">B3sBqIH32s32s")

_1601_TO_1970_100NS = 116_444_736_000_000_000


class SeiError(ValueError):
    """A SEI with the specification's UUID that is not as the specification says; the message says why."""


@dataclass(frozen=True, slots=True)
class GopStatement:
    """What a signature says of one GOP.

    start_utc_ns: of its first picture; end_utc_ns: of the next GOP's; both nanoseconds since 1970, kept in steps of
    100. counter: one more for each GOP, modulo 2^32. nal_units: how many hashes are in gop_hash. linked_hash: first
    hash of the GOP before, 32 zero bytes for a stream's first. partial: it ends before its GOP does.
    """

    counter: int
    start_utc_ns: int
    end_utc_ns: int
    nal_units: int
    gop_hash: bytes
    linked_hash: bytes
    partial: bool = False


@dataclass(frozen=True, slots=True)
class VendorInfo:
    """Who made the camera. Each at most 255 bytes of UTF-8; what is longer is cut."""

    firmware_version: str
    serial_number: str
    manufacturer: str


@dataclass(frozen=True, slots=True)
class MediaSigningSei:
    """One SEI as read. Nothing in it is to be believed before `signature` over `document` has been checked.

    document: the bytes that are signed. hash_list: every hash, one behind the other; empty when the list was left out.
    chain_pem: certificates without the root, leaf first. signature: DER, or None for a SEI that has none.
    """

    is_certificate: bool
    document: bytes
    statement: GopStatement | None
    hash_list: bytes
    vendor: VendorInfo | None
    chain_pem: bytes | None
    signature: bytes | None


class SeiDraft:
    """A SEI before its signature is there."""

    def __init__(self, tlvs: bytes, *, certificate: bool = False) -> None:
        """certificate: a SEI of its own that says who signs ("Certificate SEI"); our own streams have none."""
        self._flags = _ESCAPED_FLAG | (_CERTIFICATE_FLAG if certificate else 0)
        self._tlvs = tlvs

    @property
    def document(self) -> bytes:
        """What is to be signed: from the NAL unit's header to the signature, as it will stand in the stream."""
        return escape(self._head(len(_signature_tlv(b""))))

    def signed(self, signature: bytes) -> bytes:
        """The NAL unit. signature: DER. Raises SeiError for one that is no ECDSA signature of P-256 by its length."""
        if not 0 < len(signature) <= MAX_SIGNATURE_BYTES:
            raise SeiError(f"The signer gave a signature of {len(signature)} bytes; P-256 has at most 72.")
        field = _signature_tlv(signature)
        return escape(self._head(len(field)) + field + bytes([_STOP_BYTE]))

    def unsigned(self) -> bytes:
        """The NAL unit without a signature, which a later GOP's signature then covers ("Signing multiple GOPs")."""
        return escape(self._head(0) + bytes([_STOP_BYTE]))

    def _head(self, signature_bytes: int) -> bytes:
        payload_bytes = len(UUID) + 1 + len(self._tlvs) + signature_bytes
        size = b"\xff" * (payload_bytes // 255) + bytes([payload_bytes % 255])
        return bytes([_NAL_HEADER, _USER_DATA_UNREGISTERED]) + size + UUID + bytes([self._flags]) + self._tlvs


def identity_tlvs(chain_pem: bytes, vendor: VendorInfo) -> bytes:
    """Who signs, and with which algorithms: the same for as long as key and chain stay.

    chain_pem: leaf first, without the root. Raises SeiError when it is longer than a length field can say.
    """
    if len(chain_pem) > 0xFFFF - 2:
        raise SeiError(f"A certificate chain of {len(chain_pem)} bytes does not fit a SEI.")
    # The OID of the signature and an RSA key's size stay empty: ECDSA needs neither.
    crypto = b"\x01" + bytes([len(_SHA256_OID_DER)]) + _SHA256_OID_DER + b"\x00" + b"\x00\x00"
    names = b"".join(_counted(text) for text in (vendor.firmware_version, vendor.serial_number, vendor.manufacturer))
    # User provisioned: 0. There is one device key, and an open camera's manufacturer is whoever enrolled it.
    return _tlv(_CRYPTO, crypto) + _tlv(_VENDOR, b"\x01" + names) + _tlv(_CERTIFICATES, b"\x01\x00" + chain_pem)


def statement_tlvs(statement: GopStatement, hash_list: bytes) -> bytes:
    """What is said of one GOP; an empty list leaves the list out, as "Low Bitrate Mode" does."""
    general = _GENERAL_LAYOUT.pack(
        2,
        bytes(_SPECIFICATION),
        statement.partial,
        statement.start_utc_ns // 100 + _1601_TO_1970_100NS,
        statement.end_utc_ns // 100 + _1601_TO_1970_100NS,
        statement.counter,
        statement.nal_units,
        statement.gop_hash,
        statement.linked_hash,
    )
    return _tlv(_GENERAL, general) + (_tlv(_HASH_LIST, b"\x01" + hash_list) if hash_list else b"")


def parse_sei(unit: bytes) -> MediaSigningSei | None:
    """A SEI's NAL unit, header to stop bit; None for a SEI of anything else.

    Raises SeiError for one with the specification's UUID that is malformed.
    """
    header_bytes = _payload_offset(unit)
    if header_bytes is None:
        return None
    try:
        raw = unescape(unit)
    except NalError as error:
        raise SeiError(str(error)) from error
    payload_bytes = sum(raw[2:header_bytes])
    end = header_bytes + payload_bytes
    if len(raw) != end + 1 or raw[end] != _STOP_BYTE:
        raise SeiError(f"A SEI says {payload_bytes} bytes and has {len(raw) - header_bytes - 1}.")
    at = header_bytes + len(UUID)
    if at >= end:
        raise SeiError("A SEI ends before its flags.")
    flags = raw[at]
    if flags & ~(_CERTIFICATE_FLAG | _ESCAPED_FLAG):
        raise SeiError(f"A SEI has flags {flags:#04x}, which the specification does not know.")
    return _read(raw, at + 1, end, flags, unit)


def _read(raw: bytes, at: int, end: int, flags: int, unit: bytes) -> MediaSigningSei:
    fields: dict[int, bytes] = {}
    document_end = end
    for tag, offset, value in _tlvs(raw, at, end):
        if _SIGNATURE in fields:
            raise SeiError("A SEI has something behind its signature.")
        if tag in fields:
            raise SeiError(f"A SEI has tag {tag} twice.")
        if tag == _SIGNATURE:
            document_end = offset
        fields[tag] = value
    document = raw[:document_end]
    if flags & _ESCAPED_FLAG:
        document = escape(document)
        if not unit.startswith(document):
            raise SeiError("A SEI's signed part cannot be told from its emulation prevention.")
    is_certificate = bool(flags & _CERTIFICATE_FLAG)
    statement = _statement(fields[_GENERAL]) if _GENERAL in fields else None
    if (statement is None) is not is_certificate:
        raise SeiError("A SEI says of a GOP and of certificates what only the other kind may.")
    if _CRYPTO in fields:
        _check_crypto(fields[_CRYPTO])
    chain_pem = fields.get(_CERTIFICATES)
    return MediaSigningSei(
        is_certificate,
        document,
        statement,
        _hash_list(fields[_HASH_LIST]) if _HASH_LIST in fields else b"",
        _vendor(fields[_VENDOR]) if _VENDOR in fields else None,
        None if chain_pem is None else _certificates(chain_pem),
        _signature(fields[_SIGNATURE]) if _SIGNATURE in fields else None,
    )


def _payload_offset(unit: bytes) -> int | None:
    """Where the payload of a SEI with our UUID begins, else None. No emulation prevention can be in front of it."""
    if unit[:2] != bytes([_NAL_HEADER, _USER_DATA_UNREGISTERED]):
        return None
    sizes = len(unit) - 2 - len(unit[2:].lstrip(b"\xff"))
    offset = 2 + sizes + 1
    return offset if unit[offset : offset + len(UUID)] == UUID else None


def _tlvs(raw: bytes, at: int, end: int) -> Iterator[tuple[int, int, bytes]]:
    while at < end:
        if end - at < 3:
            raise SeiError("A SEI ends inside a tag.")
        tag, length = struct.unpack_from(">BH", raw, at)
        if not _GENERAL <= tag <= _CERTIFICATES:
            # 7, arbitrary data, came and went between editions: ONVIF's own validator calls such a stream invalid.
            raise SeiError(f"A SEI has tag {tag}, which this reader does not take.")
        if length > end - at - 3:
            raise SeiError(f"Tag {tag} of a SEI is longer than the SEI.")
        yield tag, at, raw[at + 3 : at + 3 + length]
        at += 3 + length


def _statement(value: bytes) -> GopStatement:
    version = value[:1]
    if version == b"\x02" and len(value) == _GENERAL_LAYOUT.size:
        _, _, partial, start, end, counter, count, gop_hash, linked = _GENERAL_LAYOUT.unpack(value)
    elif version == b"\x01" and len(value) == _GENERAL_V1_LAYOUT.size:
        _, _, partial, start, counter, count, gop_hash, linked = _GENERAL_V1_LAYOUT.unpack(value)
        end = start
    else:
        raise SeiError(f"A SEI's general information has version {version.hex()} and {len(value)} bytes.")
    if partial > 1:
        raise SeiError("A SEI's flag for a partial GOP is neither 0 nor 1.")
    return GopStatement(counter, _utc_ns(start), _utc_ns(end), count, gop_hash, linked, bool(partial))


def _utc_ns(since_1601_100ns: int) -> int:
    return (since_1601_100ns - _1601_TO_1970_100NS) * 100


def _hash_list(value: bytes) -> bytes:
    if value[:1] != b"\x01" or len(value) == 1 or (len(value) - 1) % HASH_BYTES:
        raise SeiError("A SEI's hash list is no list of SHA-256 hashes.")
    return value[1:]


def _signature(value: bytes) -> bytes:
    if len(value) < 3 or value[0] != 1:
        raise SeiError("A SEI's signature field is of a version this reader does not take.")
    (length,) = struct.unpack_from(">H", value, 1)
    if not 0 < length <= len(value) - 3:
        raise SeiError("A SEI's signature is longer than its field, or empty.")
    return value[3 : 3 + length]


def _check_crypto(value: bytes) -> None:
    expected = b"\x01" + bytes([len(_SHA256_OID_DER)]) + _SHA256_OID_DER
    if not value.startswith(expected):
        raise SeiError("A SEI names another hash than SHA-256.")
    rest = value[len(expected) :]
    if not rest or len(rest) != 1 + rest[0] + 2:
        raise SeiError("A SEI's cryptographic information is malformed.")


def _vendor(value: bytes) -> VendorInfo:
    texts = []
    at = 1
    for _ in range(3):
        if value[:1] != b"\x01" or at >= len(value) or at + 1 + value[at] > len(value):
            raise SeiError("A SEI's vendor information is malformed.")
        texts.append(value[at + 1 : at + 1 + value[at]].decode("utf-8", "replace"))
        at += 1 + value[at]
    if at != len(value):
        raise SeiError("A SEI's vendor information is malformed.")
    return VendorInfo(*texts)


def _certificates(value: bytes) -> bytes:
    if value[:1] != b"\x01" or value[1:2] not in (b"\x00", b"\x01") or len(value) == 2:
        raise SeiError("A SEI's certificate chain is malformed.")
    return value[2:]


def _tlv(tag: int, value: bytes) -> bytes:
    return struct.pack(">BH", tag, len(value)) + value


def _signature_tlv(signature: bytes) -> bytes:
    return _tlv(_SIGNATURE, struct.pack(">BH", 1, len(signature)) + signature.ljust(MAX_SIGNATURE_BYTES, _PAD))


def _counted(text: str) -> bytes:
    data = text.encode("utf-8")[:MAX_VENDOR_BYTES]
    return bytes([len(data)]) + data
