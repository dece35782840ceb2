"""Records written otherwise than records are written: where two readers could read two things."""

from __future__ import annotations

from collections.abc import Callable

from tests.tamper.kind import Forger, Harm, Kind

SECTION = "Spelling of records"


def spelt(old: bytes, new: bytes, *, signed: bool, type_: str = "boot") -> Harm:
    """JSON changed as bytes; signed: by the camera's own key over these very bytes, else the signature stays."""

    def harm(forger: Forger) -> None:
        def spell(data: bytes) -> bytes:
            assert old in data
            return data.replace(old, new, 1)

        log = forger.log()
        log.lines[log.at(type_)].spell = spell
        if signed:
            log.resign(forger.bases.camera.record_signer)
        else:
            log.save()

    return harm


def line(change: Callable[[bytes], bytes]) -> Harm:
    """The second line of the log, TAB and signature included, changed as bytes."""

    def harm(forger: Forger) -> None:
        lines = forger.read("journal/000001.journal").splitlines(keepends=True)
        lines[1] = change(lines[1])
        forger.write("journal/000001.journal", b"".join(lines))

    return harm


PID = b'"pid":1'
SPELLINGS: dict[str, tuple[bytes, bytes, str]] = {
    "a key twice": (PID, b'"pid":1,"pid":1', "boot"),
    "a common key twice": (PID, b'"pid":1,"seq":2', "boot"),
    "a byte that is not UTF-8": (PID, b'"pid":"\xff"', "boot"),
    "a letter in UTF-8 and not escaped": (PID, b'"pid":"\xc3\xa9"', "boot"),
    "a NUL": (PID, b'"pid":"\x00"', "boot"),
    "white space": (PID, b'"pid": 1', "boot"),
    "a letter escaped that needs none": (PID, b'"pid":"\\u0041"', "boot"),
    "a key with an escape in it": (b'"bytes"', b'"byte\\u0073"', "checkpoint"),
    "an escape in capitals": (PID, b'"pid":"\\u00E9"', "boot"),
    "a number with a leading zero": (PID, b'"pid":01', "boot"),
    "a negative zero": (PID, b'"pid":-0', "boot"),
    "a number with an exponent": (PID, b'"pid":1e0', "boot"),
    "a fraction with a zero at its end": (PID, b'"pid":1.50', "boot"),
    "infinity": (PID, b'"pid":1e999', "boot"),
    "not a number": (PID, b'"pid":NaN', "boot"),
    "deep nesting": (PID, b'"pid":' + b"[" * 17 + b"]" * 17, "boot"),
    "very deep nesting": (PID, b'"pid":' + b"[" * 30_000 + b"]" * 30_000, "boot"),
    "more than a megabyte": (PID, b'"pid":"' + b"x" * (1 << 20) + b'"', "boot"),
    "a number of 5000 digits": (PID, b'"pid":' + b"9" * 5000, "boot"),
    "fields in another order": (b'"v":1,"seq":2', b'"seq":2,"v":1', "boot"),
    "another version": (b'"v":1', b'"v":2', "boot"),
    "a list in place of the object": (b'{"v":1', b'[{"v":1', "boot"),
}
NUMBERS: dict[str, bytes] = {
    "a fraction": b"1.0",
    "beyond 64 bits": b"9" * 30,
    "text": b'"1"',
    "true": b"true",
    "null": b"null",
    "negative": b"-1",
}
LINES: dict[str, Callable[[bytes], bytes]] = {
    "a second TAB": lambda text: text.replace(b"\t", b"\t\t"),
    "no signature column": lambda text: text.partition(b"\t")[0] + b"\n",
    "an empty signature column": lambda text: text.partition(b"\t")[0] + b"\t\n",
    "base64 with padding too much": lambda text: text[:-1] + b"=\n",
    "base64 with a blank": lambda text: text[:-5] + b" " + text[-5:],
    "a carriage return": lambda text: text[:-1] + b"\r\n",
    "an empty line": lambda text: text + b"\n",
}

KINDS = [
    *(
        Kind(SECTION, f"{name}, {'signed by the own key' if signed else 'not signed anew'}", "plain", harm)
        for name, (old, new, type_) in SPELLINGS.items()
        for signed in (False, True)
        for harm in [spelt(old, new, signed=signed, type_=type_)]
    ),
    *(
        Kind(SECTION, f"a number that is {name}, signed by the own key", "plain", harm)
        for name, number in NUMBERS.items()
        for harm in [spelt(b'"fragment":1', b'"fragment":' + number, signed=True, type_="checkpoint")]
    ),
    *(Kind(SECTION, name, "plain", line(change)) for name, change in LINES.items()),
]
