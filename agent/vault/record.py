"""One line of the journal: JSON, TAB, detached CMS signature in base64 (or "-" for pending), LF.

The JSON is what was written and nothing else: it is signed, hashed and verified as bytes, never re-serialised. It is
one flat-enough object in ASCII (other characters as \\u escapes), no spaces between tokens, no newline, so that `cut`,
`sed` and `sha256sum` can work on it. See docs/evidence-format.md.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from agent.clock import WallObservation
from agent.errors import JournalError

FORMAT_VERSION = 1
ZERO_HASH = "0" * 64
PENDING = "-"
MAX_LINE_BYTES = 1 << 20
MAX_DEPTH = 16
MAX_JSON_BYTES = MAX_LINE_BYTES - (1 << 16)
"""What is written leaves room in its line for the signature."""
MAX_BRACKETS = 10_000
MAX_INTEGER = (1 << 63) - 1

COMMON_FIELDS = (
    "v", "seq", "prev", "type", "utc", "boottime_ns", "boot_id", "clock_source", "clock_uncertainty_ms",
)  # fmt: skip


def sha256_hex(data: bytes) -> str:
    """SHA-256 (FIPS 180-4) in lower-case hex."""
    return hashlib.sha256(data).hexdigest()


def utc_text(utc_ns: int) -> str:
    """RFC 3339 in UTC with microseconds and "Z"."""
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=utc_ns // 1000)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@dataclass(frozen=True, slots=True)
class Record:
    """A parsed line. `json_bytes` are the exact signed bytes, `signature` the CMS DER or None while pending."""

    json_bytes: bytes
    signature: bytes | None
    fields: dict[str, Any]

    @property
    def seq(self) -> int:
        """Number in the chain, from 1, without holes."""
        return int(self.fields["seq"])

    @property
    def prev(self) -> str:
        """SHA-256 of the JSON of record seq-1, hex; 64 zeros for the first."""
        return str(self.fields["prev"])

    @property
    def type(self) -> str:
        """What happened."""
        return str(self.fields["type"])

    @property
    def sha256(self) -> str:
        """What the next record's `prev` must be."""
        return sha256_hex(self.json_bytes)

    def line(self) -> bytes:
        """The line as it stands in the journal, newline included."""
        column = PENDING.encode() if self.signature is None else base64.b64encode(self.signature)
        return self.json_bytes + b"\t" + column + b"\n"


def encode_json(
    seq: int, prev: str, type_: str, observation: WallObservation, boot_id: str, fields: dict[str, Any]
) -> bytes:
    """The JSON bytes of a new record.

    Raises ValueError when `fields` would shadow a common field, or make a line that no reader takes: behind such a line
    the whole journal would count as torn.
    """
    if shadowed := set(fields) & set(COMMON_FIELDS):
        raise ValueError(f"Fields {sorted(shadowed)} belong to every record and cannot be set by one.")
    document = {
        "v": FORMAT_VERSION,
        "seq": seq,
        "prev": prev,
        "type": type_,
        "utc": utc_text(observation.utc_ns),
        "boottime_ns": observation.boottime_ns,
        "boot_id": boot_id,
        "clock_source": observation.source,
        "clock_uncertainty_ms": observation.uncertainty_ms,
        **fields,
    }
    data = _canonical(document, allow_nan=False)
    if len(data) > MAX_JSON_BYTES or _brackets(data) > MAX_BRACKETS or _is_deep(document):
        raise ValueError(f"A {type_} record of {len(data)} bytes is larger or deeper than a journal line may be.")
    return data


def _canonical(document: dict[str, Any], *, allow_nan: bool) -> bytes:
    """The one way to write a record: no white space, escapes only where they must be, in lower case, keys as given."""
    # 1e999 is read as infinity; what is written for that is no JSON, and so never equal to what was read.
    return (_ANY_ENCODER if allow_nan else _ENCODER).encode(document).encode("ascii")


def _brackets(json_bytes: bytes) -> int:
    return json_bytes.count(b"[") + json_bytes.count(b"{")


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise JournalError("A record has the same key twice; readers could disagree on what it says.")
    return document


def _no_constant(name: str) -> Any:
    raise JournalError(f"A record holds {name[:40]}, which no record does; readers could disagree on what it says.")


# Made once: a journal has hundreds of thousands of lines, and making them takes as long as using them.
_DECODER = json.JSONDecoder(parse_constant=_no_constant)
_ENCODER = json.JSONEncoder(separators=(",", ":"), ensure_ascii=True, allow_nan=False)
_ANY_ENCODER = json.JSONEncoder(separators=(",", ":"), ensure_ascii=True, allow_nan=True)
_PRINTABLE = bytes(range(0x20, 0x7F))


def _is_deep(value: Any) -> bool:
    # Level by level and not by recursion: what json.loads can nest, a Python function cannot follow.
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [child for item in level for child in _children(item)]
        if not level:
            return False
    return True


def _children(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()


_COMMON_TYPES: dict[str, tuple[type, ...]] = {
    "v": (int,),
    "seq": (int,),
    "prev": (str,),
    "type": (str,),
    "utc": (str,),
    "boottime_ns": (int,),
    "boot_id": (str,),
    "clock_source": (str,),
    "clock_uncertainty_ms": (int, type(None)),
}


def parse_line(line: bytes) -> Record:
    """Parse one line without its newline. Raises JournalError naming what is wrong with it.

    Strict on purpose: what two readers could read differently (duplicate keys, non-ASCII, deep nesting, a second TAB,
    non-canonical base64) is refused.
    """
    if len(line) > MAX_LINE_BYTES:
        raise JournalError(f"A journal line has {len(line)} bytes; at most {MAX_LINE_BYTES} are allowed.")
    json_bytes, tab, column = line.partition(b"\t")
    if not tab or b"\t" in column:
        raise JournalError("A journal line is not JSON, one TAB, and a signature column.")
    # 0x20..0x7e only: a CR or NUL inside would be invisible to a person and not to a hash.
    if json_bytes.translate(None, _PRINTABLE):
        raise JournalError("A record holds bytes that are not printable ASCII.")
    brackets = _brackets(json_bytes)
    if brackets > MAX_BRACKETS:
        raise JournalError("A record is nested or listed beyond any real one.")
    try:
        fields = _DECODER.decode(json_bytes.decode("ascii"))
    except (ValueError, RecursionError) as error:
        raise JournalError(f"A record is not valid JSON: {error}.") from error
    if not isinstance(fields, dict) or (brackets >= MAX_DEPTH and _is_deep(fields)):
        raise JournalError("A record is not one JSON object of sane depth.")
    for name, types in _COMMON_TYPES.items():
        value = fields.get(name, fields)  # a whole record is of no such type
        if not isinstance(value, types) or isinstance(value, bool):
            raise JournalError(f'A record lacks "{name}" or has it in a wrong type.')
        if isinstance(value, int) and abs(value) > MAX_INTEGER:
            raise JournalError(f'A record has a number in "{name}" that no 64 bits hold.')
    if not 1 <= fields["seq"] < MAX_INTEGER:
        raise JournalError("A record has a number that no journal reaches.")
    if fields["v"] != FORMAT_VERSION:
        raise JournalError(f"A record has format version {fields['v']}; this software reads {FORMAT_VERSION}.")
    # Tools that know no JSON (`cut`, `sed`) must see what a parser sees, so that there is one way to write a record.
    if tuple(fields)[: len(COMMON_FIELDS)] != COMMON_FIELDS or _canonical(fields, allow_nan=True) != json_bytes:
        # A key that is there twice is in `fields` once, so that it is always found here; this only says which it was.
        json.loads(json_bytes, object_pairs_hook=_no_duplicates)
        raise JournalError("A record is not written as records are: its bytes could be read in more than one way.")
    signature = None
    if column != PENDING.encode():
        try:
            signature = base64.b64decode(column, validate=True)
        except binascii.Error as error:
            raise JournalError("A signature column is not base64.") from error
        if base64.b64encode(signature) != column or not signature:
            raise JournalError("A signature column is not canonical base64.")
    return Record(json_bytes, signature, fields)
