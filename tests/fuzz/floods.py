"""Inputs that are legal nearly everywhere and made to cost: one small thing, as often as it fits."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass

from agent.signing.sei import UUID
from tests.fuzz.records import chained

MEBIBYTE = 1 << 20
MESSAGE_BYTES = 1_000_000  # what is longer than a mebibyte is refused unread


@dataclass(frozen=True, slots=True)
class Flood:
    """make: about so many bytes of it. memory_factor: Python memory that reading may take, as a multiple of them.

    bytes: how many memory is measured with; a mebibyte where a line of Python takes many of them.
    """

    target: str
    name: str
    make: Callable[[int], bytes]
    memory_factor: int = 36
    bytes: int = 1 << 16


def repeated(unit: bytes, head: bytes = b"", tail: bytes = b"") -> Callable[[int], bytes]:
    """`unit` over and over."""
    return lambda size: head + unit * (size // len(unit)) + tail


def box(type_: bytes, *content: bytes) -> bytes:
    """A box of ISO/IEC 14496-12."""
    body = b"".join(content)
    return struct.pack(">I4s", 8 + len(body), type_) + body


_MFHD = box(b"mfhd", bytes(8))
_TFHD = box(b"tfhd", struct.pack(">III", 0x18, 1, 1), struct.pack(">I", 1))
_TFDT = box(b"tfdt", bytes(8))
_SMALLEST = box(b"moof", _MFHD) + box(b"mdat")


def _moof(unit: Callable[[int], bytes]) -> Callable[[int], bytes]:
    return lambda size: box(b"moof", _MFHD, *(unit(number) for number in range(size // len(unit(0)))))


def _traf(number: int) -> bytes:
    return box(b"traf", box(b"tfhd", struct.pack(">II", 0x18, number), bytes(8)), _TFDT)


def _runs(size: int) -> bytes:
    """Runs of 2^32 - 1 samples that all have the default size."""
    run = box(b"trun", b"\x00\x00\x00\x00\xff\xff\xff\xff")
    return box(b"moof", _MFHD, box(b"traf", _TFHD, _TFDT, run * (size // len(run))))


def _nested(size: int) -> bytes:
    data = b""
    while len(data) < size:
        data = box(b"traf", data)
        if len(data) > size // 2:  # deeper is as good, and making it takes the square of the depth
            break
    return box(b"moof", _MFHD, data)


def _sei(content: Callable[[int], bytes]) -> Callable[[int], bytes]:
    def make(size: int) -> bytes:
        body = UUID + b"\x40" + content(size)
        return b"\x06\x05" + b"\xff" * (len(body) // 255) + bytes([len(body) % 255]) + body + b"\x80"

    return make


def _der(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    size = len(content).to_bytes(4, "big")
    return bytes([tag, 0x84]) + size + content


def _certificate_set(size: int) -> bytes:
    elements = b"".join(bytes([0x02, 1, 255 - number % 256]) for number in range(size // 3))
    signed_data = _der(0x30, _der(0xA0, elements))
    return _der(0x30, _der(0x30), _der(0x30, _der(0x06), _der(0xA0, signed_data)))


def _record(extra: str) -> bytes:
    """A line whose JSON has one more member."""
    line = chained(b'{"type":"marker"}').split(b"\t")[0]
    return line.removesuffix(b"}") + b',"x":' + extra.encode() + b"}\t-"


def _line(value: Callable[[int], str]) -> Callable[[int], bytes]:
    return lambda size: _record(value(size))


def _sums(size: int) -> bytes:
    return b"".join(b"%064x  %06d.m4s\n" % (number, number) for number in range(size // 77))


def _objects(size: int) -> bytes:
    entry = {"name": "a", "bytes": 1, "sha256": "0" * 64, "read_back": "buffered"}
    objects = [entry] * (size // 120)
    return json.dumps({"recording_id": "0" * 36, "store": "s", "objects": objects}, separators=(",", ":")).encode()


def _toml(line: Callable[[int], str]) -> Callable[[int], bytes]:
    return lambda size: line(size).encode()


_AGE = b"age-encryption.org/v1\n"

FLOODS: tuple[Flood, ...] = (
    Flood("mp4-walk", "smallest boxes", repeated(box(b"free")), bytes=MEBIBYTE),
    Flood("mp4-walk", "boxes with 64-bit sizes", repeated(b"\x00\x00\x00\x01free" + struct.pack(">Q", 16))),
    Flood(
        "mp4-walk",
        "a box of 2^63 bytes",
        repeated(b"x", b"\x00\x00\x00\x01free" + struct.pack(">Q", 1 << 63)),
        bytes=MEBIBYTE,
    ),
    Flood("mp4-walk", "size 0 is the rest", repeated(b"\x00\x00\x00\x00free"), bytes=MEBIBYTE),
    Flood("mp4-walk", "smaller than its header", repeated(b"\x00\x00\x00\x07free")),
    Flood("mp4-fragments", "smallest boxes", repeated(box(b"free"))),
    Flood("mp4-fragments", "smallest fragments", repeated(_SMALLEST)),
    Flood("mp4-moof", "smallest boxes", _moof(lambda _: box(b"free"))),
    Flood("mp4-moof", "tracks", _moof(_traf)),
    Flood("mp4-moof", "samples without end", _runs),
    Flood("mp4-moof", "nested", _nested),
    Flood("mp4-plain", "smallest boxes", repeated(box(b"free"))),
    Flood("mp4-plain", "smallest fragments", repeated(_SMALLEST)),
    Flood("nal-byte-stream", "smallest units", repeated(b"\x00\x00\x01\x09"), 80),
    Flood("nal-byte-stream", "zeros", repeated(b"\x00", b"\x00\x00\x01\x09", b"\x01"), bytes=MEBIBYTE),
    Flood(
        "nal-byte-stream",
        "emulation prevention",
        repeated(b"\x00\x00\x03", b"\x00\x00\x01\x06", b"\x01"),
        bytes=MEBIBYTE,
    ),
    Flood("nal-sample", "smallest units", repeated(b"\x01\x09", b"\x01"), 120),
    Flood("nal-sample", "zeros", repeated(b"\x00", b"\x04\x00\x10\x00\x00\x09"), bytes=MEBIBYTE),
    Flood("sei", "a size without end", repeated(b"\xff", b"\x06\x05"), bytes=MEBIBYTE),
    Flood(
        "sei",
        "emulation prevention",
        repeated(b"\x00\x00\x03", b"\x06\x05\xff\xff\x00" + UUID, b"\x80"),
        bytes=MEBIBYTE,
    ),
    Flood("sei", "empty tags", _sei(repeated(b"\x02\x00\x00"))),
    Flood("sei", "one tag", _sei(lambda size: b"\x02\xff\xff" + b"\x01" * min(size, 0xFFFF))),
    Flood("signed-stream", "GOPs of one slice", repeated(b"\x00\x00\x00\x01\x65\x88"), 80),
    Flood("signed-stream", "slices without a GOP", repeated(b"\x00\x00\x00\x01\x41\x88"), 80),
    Flood("signed-stream", "what is no unit", repeated(b"\x00\x00\x00\x01"), 80),
    Flood("journal-line", "brackets", _line(lambda size: "[" * size), bytes=MEBIBYTE),
    Flood(
        "journal-line",
        "lists in a list",
        _line(lambda size: "[" + ",".join(["[]"] * (size // 3)) + "]"),
        48,
        bytes=MEBIBYTE,
    ),
    Flood(
        "journal-line", "members", _line(lambda size: '{"":0,' + '"":0,' * (size // 5) + '"a":0}'), 48, bytes=MEBIBYTE
    ),
    Flood(
        "journal-line",
        "small numbers",
        _line(lambda size: "[" + ",".join(["1e9"] * (size // 4)) + "]"),
        48,
        bytes=MEBIBYTE,
    ),
    Flood("journal-line", "a number", _line(lambda size: "1" * size), bytes=MEBIBYTE),
    Flood("journal-line", "numbers of 500 digits", _line(lambda size: f"[{','.join(['1' * 500] * (size // 501))}]")),
    Flood("journal-line", "escapes", _line(lambda size: '"' + "\\ud800" * (size // 6) + '"'), bytes=MEBIBYTE),
    Flood("journal-line", "a signature", lambda size: _record("0")[:-1] + b"A" * (size // 4 * 4), bytes=MEBIBYTE),
    Flood("journal-line", "tabs", repeated(b"\t"), bytes=MEBIBYTE),
    Flood("journal-prefix", "line ends", repeated(b"\n")),
    Flood("journal-prefix", "no line end", repeated(b"{"), bytes=MEBIBYTE),
    Flood("journal-reader", "line ends", repeated(b"\n")),
    Flood("journal-reader", "zeros", repeated(b"\x00")),
    Flood("journal-reader", "no line end", repeated(b"{")),
    Flood("control-frames", "brackets", repeated(b"["), bytes=MESSAGE_BYTES),
    Flood("control-frames", "lists in a list", repeated(b"[],", b"[", b"[]]\n"), 4, bytes=MESSAGE_BYTES),
    Flood("control-frames", "objects in an object", repeated(b'"":{"":{}},', b"{", b'"":0}\n'), 4, bytes=MESSAGE_BYTES),
    Flood("control-frames", "members", repeated(b'"":0,', b"{", b'"":0}\n'), bytes=MESSAGE_BYTES),
    Flood("control-frames", "a number", repeated(b"1", b"", b"\n"), bytes=MESSAGE_BYTES),
    Flood("control-frames", "messages", repeated(b"{}\n"), 80),
    Flood("receipt", "objects", _objects, 48, bytes=MESSAGE_BYTES),
    Flood("timestamp-der", "a set of certificates", _certificate_set, 48),
    Flood("timestamp-der", "nested", repeated(b"\x30\x80"), bytes=MEBIBYTE),
    Flood("timestamp", "too long a response", repeated(b"\x30\x80"), bytes=MEBIBYTE),
    Flood("certificates", "beginnings", repeated(b"-----BEGIN CERTIFICATE-----\n"), bytes=MEBIBYTE),
    Flood(
        "certificates",
        "empty ones",
        repeated(b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"),
        bytes=MEBIBYTE,
    ),
    Flood("cms", "zeros", repeated(b"\x00", b"\x30\x84"), bytes=MEBIBYTE),
    Flood("age-identity", "line ends", repeated(b"\n")),
    Flood("age-identity", "comments", repeated(b"#\n")),
    Flood("age-file", "recipients", repeated(b"-> a b\n\n", _AGE), bytes=MEBIBYTE),
    Flood("age-file", "one recipient", repeated(b"A ", _AGE + b"-> X25519 "), bytes=MEBIBYTE),
    Flood(
        "age-sealed",
        "recipients",
        repeated(b"LT4gYSBiCgot", b"YWdlLWVuY3J5cHRpb24ub3JnL3YxCi0+IGEgYgoK"),
        bytes=MEBIBYTE,
    ),
    Flood("package-text", "digits", repeated(b"1", b"Evidence-Package: "), bytes=MEBIBYTE),
    # It is read into a buffer of 16 MiB, its limit, whatever its size.
    Flood("package-sums", "line ends", repeated(b"\n"), 300),
    Flood("package-sums", "files", _sums, 300),
    Flood("settings", "parts of a key", _toml(lambda size: "a." * (size // 2) + "a = 1"), 400),
    Flood("settings", "keys", _toml(lambda size: "".join(f"a{number} = 1\n" for number in range(size // 10))), 400),
    Flood("settings", "lists in a list", _toml(lambda size: "a = " + "[" * (size // 2) + "]" * (size // 2)), 400),
    Flood("settings", "a number", _toml(lambda size: "a = 0x" + "f" * size)),
)
