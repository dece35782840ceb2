"""Changes to real inputs, the same ones for the same seed: what a fuzzer does, in a few lines and without one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from random import Random
from typing import Any

# Where parsers stumble: limits of length fields, DER and box headers, JSON that is legal and absurd.
TOKENS: tuple[bytes, ...] = (
    b"\x00", b"\xff", b"\x7f", b"\x80", b"\x00\x00\x00\x00", b"\x00\x00\x00\x01", b"\x7f\xff\xff\xff",
    b"\x80\x00\x00\x00", b"\xff\xff\xff\xff", b"\x7f" + b"\xff" * 7, b"\x80" + b"\x00" * 7, b"\xff" * 8,
    b"\x00\x00\x03", b"\x00\x00\x01", b"\x30\x80", b"\x30\x84\xff\xff\xff\xff", b"\x02\x00",
    b"\xa0\x03\x02\x01\x07", b"\n", b"\r\n", b"\t", b"\x1c", b"\x85", b"\xed\xa0\x80", b"\xc0\x80", b"\\ud800",
    b"\\u0000", b"1e999", b"-0", b"NaN", b"1" * 4300, b"9" * 4400, b"null", b"true", b"{", b"[", b"}", b"]", b'"',
    b",", b":", b"=", b"#", b".", b"../", b"/", b"-", b"~", b"%s", b"AGE-SECRET-KEY-1", b"age1", b"-> X25519 ",
    b"\n--- ", b"-----BEGIN CERTIFICATE-----\n", b"-----END CERTIFICATE-----\n", b"moof", b"mdat", b"free",
)  # fmt: skip

VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 1 << 31, (1 << 63) - 1, 1 << 63, -(1 << 63), 1 << 70, 10**4299, 0.5, -0.0, 1e308,
    "", "0", "\0", "\ud800", "ä", "../../etc/passwd", "init.mp4", "000001.m4s", "000001.m4s.age", "000001.journal",
    "0" * 64, "f" * 64, "9999-12-31T23:59:59.999999Z", "0001-01-01T00:00:00.000000Z",
    "2026-02-30T00:00:00.000000Z", "%", "[bold]", "x" * 5000, [], {}, [[]], [None], ["age1"], {"": None},
    [0] * 100,
)  # fmt: skip


def mutated(random: Random, seeds: Sequence[bytes], max_bytes: int, *, is_json: bool) -> bytes:
    """One of the seeds, changed in one to six ways."""
    data = bytearray(random.choice(seeds))
    for _ in range(random.choice((1, 1, 1, 2, 3, 6))):
        if is_json and random.random() < 0.6:
            data = bytearray(json_mutated(random, bytes(data)))
        else:
            _change(random, data, seeds)
    return bytes(data[:max_bytes])


def _change(random: Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    at = random.randrange(len(data) + 1)
    # Mostly near: a header's neighbour is its own length field.
    end = min(len(data), at + random.choice((1, 2, 4, 8, 32, 256, 1 << 16)))
    match random.randrange(9):
        case 0 | 1 if at < len(data):
            data[at] ^= 1 << random.randrange(8)
        case 2 if at < len(data):
            data[at] = random.randrange(256)
        case 3:
            data[at:end] = b""
        case 4:
            data[at:at] = data[at:end] * random.choice((1, 2, 50))
        case 5:
            token = random.choice(TOKENS)
            data[at : at + random.choice((0, len(token)))] = token
        case 6:
            other = random.choice(seeds)
            start = random.randrange(len(other) + 1)
            data[at:end] = other[start : start + random.choice((4, 64, 4096))]
        case 7:
            del data[at:]
        case _:
            width = random.choice((1, 2, 4, 8))
            number = random.choice((0, 1, 2, 7, 8, 16, len(data), len(data) - at, 1 << (8 * width - 1)))
            data[at : at + width] = (number % (1 << (8 * width))).to_bytes(width, "big")


def json_mutated(random: Random, data: bytes) -> bytes:
    """One line of JSON with a value replaced, removed, copied or moved; lines that are none come back as they are."""
    lines = data.split(b"\n")
    at = random.randrange(len(lines))
    try:
        document = json.loads(lines[at])
    except (ValueError, RecursionError):
        return data
    places = _places(document)
    if not places:
        return data
    holder, key = random.choice(places)
    match random.randrange(7):
        case 0:
            del holder[key]
        case 1:
            lines.insert(random.randrange(len(lines) + 1), lines[at])
        case 2:
            lines.insert(random.randrange(len(lines)), lines.pop(at))
            return b"\n".join(lines)
        case 3:
            other, name = random.choice(places)
            holder[key] = other[name]
        case _:
            holder[key] = random.choice(VALUES)
    try:
        lines[at] = json.dumps(document, separators=(",", ":")).encode()
    except ValueError:  # a value that was put into itself
        return data
    return b"\n".join(lines)


def _places(document: Any) -> list[tuple[Any, Any]]:
    found: list[tuple[Any, Any]] = []
    level = [document]
    for _ in range(4):
        holders = [item for item in level if isinstance(item, dict | list)]
        keys = [(item, list(item) if isinstance(item, dict) else list(range(len(item)))) for item in holders]
        found += [(item, key) for item, names in keys for key in names]
        level = [item[key] for item, names in keys for key in names]
    return found
