"""The second verifier's view of time: what timestamps in an evidence package bound, from docs/evidence-format.md alone.

It shares no code with the project; responses are read by the rules of RFC 3161 and X.690, and `openssl ts` says whom
they are from.
"""

from __future__ import annotations

import base64
import re
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tests.support.second_verifier import Record, Refused, digest, need, number, oid, read_extract, text

SEQUENCE, INTEGER, OCTETS, TIME, CONTEXT_0 = 0x30, 0x02, 0x04, 0x18, 0xA0
SECOND = timedelta(seconds=1)


@dataclass(frozen=True)
class Token:
    """What a response says. latest: it was made before then."""

    imprint: str
    gen_time: datetime
    earliest: datetime
    latest: datetime


def time_bounds(
    folder: Path, recording_id: str, authorities: list[x509.Certificate] | None
) -> tuple[datetime | None, datetime | None]:
    """Not before, existed by. authorities: roots that are trusted; None believes every token.

    Raises Refused when a record is what no camera writes.
    """
    hashes: dict[int, str] = {}
    before = after = latest = None
    begun, closed_seq = False, None
    last: tuple[int, str] = (0, "")
    for record in read_extract(folder / "journal"):
        fields = record.fields
        hashes[number(fields, "seq")] = record.sha256
        if record.type == "timestamp":
            head_seq, token = read_record(record, hashes, last)
            last = head_seq, text(fields, "response")
            if authorities is None or believed(last[1], token, authorities):
                latest = token
                if closed_seq is not None and head_seq >= closed_seq and after is None:
                    after = token.latest
        elif fields.get("recording_id") == recording_id and record.type != "offload":
            if not begun and latest is not None:
                before = latest.earliest
            begun = True
            if record.type == "recording-close":
                closed_seq = number(fields, "seq")
    return before, after


def read_record(record: Record, hashes: dict[int, str], last: tuple[int, str]) -> tuple[int, Token]:
    fields = record.fields
    head_seq, head_sha256, response = (
        number(fields, "head_seq"),
        digest(fields, "head_sha256"),
        text(fields, "response"),
    )
    need(number(fields, "requested_boottime_ns") <= number(fields, "boottime_ns"), "it came after it was asked for")
    try:
        der = base64.b64decode(response, validate=True)
    except ValueError as error:
        raise Refused("a response is base64") from error
    need(base64.b64encode(der).decode() == response, "a response is base64 in its one form")
    token = read_response(der)
    need(f"{token.gen_time:%Y-%m-%dT%H:%M:%SZ}" == text(fields, "gen_time"), "gen_time is that of the token")
    need(token.imprint == head_sha256 == hashes.get(head_seq), "it is over the record that it names")
    need(head_seq >= last[0] and response != last[1], "head_seq does not go down, and a response stands once")
    return head_seq, token


def elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Tag and content of each element of DER (X.690 section 8.1)."""
    while data:
        need(len(data) >= 2, "an element has a head")
        tag, length, at = data[0], data[1], 2
        if length & 0x80:
            octets = length & 0x7F
            need(1 <= octets <= 4 and len(data) >= 2 + octets, "an element has a length")
            length, at = int.from_bytes(data[2 : 2 + octets], "big"), 2 + octets
        need(at + length <= len(data), "an element ends inside")
        yield tag, data[at : at + length]
        data = data[at + length :]


def inside(element: tuple[int, bytes], tag: int) -> list[tuple[int, bytes]]:
    need(element[0] == tag, "a response is built as RFC 3161 says")
    return list(elements(element[1]))


def read_response(der: bytes) -> Token:
    """RFC 3161 sections 2.4.2, RFC 5652 section 5.1."""
    need(len(der) <= 65536, "a response has at most 65536 bytes")
    outer = list(elements(der))
    need(len(outer) == 1, "nothing follows on a response")
    parts = inside(outer[0], SEQUENCE)
    need(len(parts) == 2, "it has a token")
    need(inside(parts[0], SEQUENCE)[0] == (INTEGER, b"\0"), "it was granted")
    wrapped = inside(inside(parts[1], SEQUENCE)[1], CONTEXT_0)
    signed = inside(wrapped[0], SEQUENCE)
    need(len(list(elements(signed[-1][1]))) == 1, "a token is signed once")
    content = inside(inside(signed[2], SEQUENCE)[1], CONTEXT_0)
    need(content[0][0] == OCTETS, "it holds its info")
    (info,) = elements(content[0][1])
    version, _, imprint, _, made, *rest = inside(info, SEQUENCE)
    need(version == (INTEGER, b"\x01"), "it is of version 1")
    algorithm, hashed = inside(imprint, SEQUENCE)
    need(oid("2.16.840.1.101.3.4.2.1") == b"\x06\x09" + inside(algorithm, SEQUENCE)[0][1], "it is over SHA-256")
    need(made[0] == TIME and re.fullmatch(rb"[0-9]{14}(\.[0-9]+)?Z", made[1]), "it says its time")
    gen_time = datetime.strptime(made[1][:14].decode(), "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    accuracy = timedelta(0)
    if rest and rest[0][0] == SEQUENCE:
        for tag, value in elements(rest[0][1]):
            unit = {INTEGER: SECOND, 0x80: SECOND / 1000, 0x81: SECOND / 10**6}.get(tag)
            amount = int.from_bytes(value, "big", signed=True)
            need(unit is not None and 0 <= amount <= 86400, "its accuracy is at most a day")
            assert unit is not None
            accuracy += amount * unit
    need(accuracy <= timedelta(days=1) and 2000 <= gen_time.year <= 9998, "its time is one that can be")
    return Token(hashed[1].hex(), gen_time, gen_time - accuracy, gen_time + accuracy + SECOND)


def believed(response: str, token: Token, authorities: list[x509.Certificate]) -> bool:
    """Certificates are judged at genTime."""
    with tempfile.TemporaryDirectory() as work:
        reply, roots = Path(work, "reply"), Path(work, "roots.pem")
        reply.write_bytes(base64.b64decode(response))
        roots.write_bytes(b"".join(root.public_bytes(Encoding.PEM) for root in authorities))
        command = ["openssl", "ts", "-verify", "-digest", token.imprint, "-in", str(reply), "-CAfile", str(roots)]
        at = ["-attime", f"{token.gen_time.timestamp():.0f}"]
        return subprocess.run([*command, *at], capture_output=True, check=False).returncode == 0
