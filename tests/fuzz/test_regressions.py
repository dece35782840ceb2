"""Inputs that once broke a reader, each by what it is. New ones come from `make fuzz` and stay here."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from agent.cli.verify import verify
from agent.errors import ConfigError, EncryptionError, JournalError, StoreError, TimestampError
from agent.recorder.receipts import check_receipt
from agent.trust.timestamps import make_request, read_response
from agent.vault.filesystem import PosixFilesystem
from agent.vault.record import MAX_INTEGER
from tests.fuzz.artefacts import Artefacts
from tests.fuzz.evidence import edit
from tests.fuzz.records import chained, documents, signed
from tests.fuzz.targets import target
from tests.support.time_authority import time_authority


@pytest.fixture(scope="module")
def artefacts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Artefacts]:
    made = Artefacts.kept_in(tmp_path_factory.mktemp("regressions") / "artefacts")
    yield made
    made.close()


def certificate_of_version_8(artefacts: Artefacts) -> bytes:
    """cryptography raises InvalidVersion for it, which is no ValueError."""
    der = artefacts.chain[0].public_bytes(Encoding.DER)
    version = bytes.fromhex("a003020102")
    assert version in der
    body = base64.encodebytes(der.replace(version, bytes.fromhex("a003020107")))
    return b"-----BEGIN CERTIFICATE-----\n" + body + b"-----END CERTIFICATE-----\n"


def changed(type_: str, seed: int = 2, /, **fields: object) -> Callable[[Artefacts], bytes]:
    """All records of a vault, and one field of one type set or (None) taken out.

    seed: 2 has the first recording cut off, 1 is of an encrypted vault.
    """

    def make(artefacts: Artefacts) -> bytes:
        lines = documents(artefacts)[seed].split(b"\n")
        found = [json.loads(line) for line in lines]
        touched = [document for document in found if document["type"] == type_]
        assert touched
        for document in touched:
            for name, value in fields.items():
                if value is None:
                    document.pop(name)
                else:
                    document[name] = value
        return b"\n".join(json.dumps(document).encode() for document in found)

    return make


def line_with(name: str, value: int) -> Callable[[Artefacts], bytes]:
    """A journal line, written as one must be, with a number that is beyond any field."""

    def make(artefacts: Artefacts) -> bytes:
        json_bytes, _, _ = artefacts.journals[0].partition(b"\t")
        document = json.loads(json_bytes)
        document[name] = value
        return json.dumps(document, separators=(",", ":")).encode() + b"\t-"

    return make


RECIPIENTS: dict[str, object] = {
    "none": None,
    "a number": 7,
    "true": True,
    "a word": "age1",
    "a map": {"age1": 1},
    "a list of numbers": [1],
    "a list of lists": [["age1"]],
}


CASES: dict[str, tuple[str, Callable[[Artefacts], bytes]]] = {
    "a certificate of version 8 in a SEI": ("sei-key", certificate_of_version_8),
    "a certificate of version 8 in a chain": ("certificates", certificate_of_version_8),
    "half a surrogate pair as recipient": ("age-recipient", lambda _: b"age1\x80"),
    "an array of 400 levels": ("settings", lambda _: b"a = " + b"[" * 400 + b"]" * 400),
    "a hexadecimal number of 20,000 bits": ("settings", lambda _: b"a = 0x" + b"f" * 5000),
    "a file named in no encoding": ("package", lambda _: edit(0, 7, 0, b"\xff.m4s")),
    "a file named for the terminal": ("package", lambda _: edit(0, 7, 0, b"\x1b[2J[bold]\n")),
    "a device that is half a surrogate pair": ("records-verify", changed("journal-open", device_id="\ud800")),
    "a stop for half a surrogate pair": ("records-verify", changed("recording-close", stop_reason="\ud800")),
    "the end of the calendar": (
        "records-verify",
        changed("recording-open", utc="9999-12-31T23:59:59.999999Z", media_origin_boottime_ns=MAX_INTEGER),
    ),
    "the beginning of the calendar": (
        "records-verify",
        changed("recording-open", utc="0001-01-01T00:00:00.000000Z", media_origin_boottime_ns=-MAX_INTEGER),
    ),
    "a start behind a time that is none": ("records-recover", changed("boot", utc="yesterday")),
    "a journal that is followed from nowhere": (
        "records-recover",
        changed("journal-open", prev_file="0", prev_file_bytes=None),
    ),
    "a journal that is followed from words": (
        "records-recover",
        changed("journal-open", prev_file="0", prev_file_bytes="x"),
    ),
    **{
        f"a checkpoint without {name}": ("records-recover", changed("checkpoint", **{name: None}))
        for name in ("file", "bytes", "sha256", "first_media_90k", "end_media_90k", "frames", "audio_frames")
    },
    "a checkpoint of a list of bytes": ("records-recover", changed("checkpoint", bytes=[])),
    "a checkpoint of an encrypted file": ("records-recover", changed("checkpoint", file="000001.m4s.age")),
    "a segment without bytes": ("records-recover", changed("segment", bytes=None)),
    "a segment that ends in words": ("records-recover", changed("segment", end_media_90k="later")),
    **{
        f"recipients that are {what}": ("records-enrolment", changed("encryption", 1, recipients=value))
        for what, value in RECIPIENTS.items()
    },
    "a number of 4,300 digits": ("journal-line", line_with("seq", 10**4299)),
    "a clock of 4,300 digits": ("journal-line", line_with("boottime_ns", 10**4299)),
    "record 0": ("journal-line", line_with("seq", 0)),
}


@pytest.mark.parametrize("name", CASES)
def test_it_ends_in_an_answer(artefacts: Artefacts, name: str) -> None:
    reader, make = CASES[name]
    target(reader).feed(artefacts, make(artefacts))


@pytest.mark.parametrize("name", [name for name, (reader, _) in CASES.items() if reader == "journal-line"])
def test_a_line_with_such_a_number_is_no_record(artefacts: Artefacts, name: str) -> None:
    reader, make = CASES[name]
    with pytest.raises(target(reader).promised):
        target(reader).read(artefacts, make(artefacts))


@pytest.mark.parametrize("what", RECIPIENTS)
@pytest.mark.parametrize("is_signed", [False, True])
def test_such_recipients_refuse_the_start(artefacts: Artefacts, what: str, is_signed: bool) -> None:
    """A record that does not say whom the camera encrypts to must not read as nobody."""
    lines = chained(changed("encryption", 1, recipients=RECIPIENTS[what])(artefacts))
    target("journal-prefix").feed(artefacts, lines)
    with pytest.raises(JournalError, match=r"does not say whom this camera encrypts to|cannot be told"):
        target("journal-enrolment").read(artefacts, signed(lines) if is_signed else lines)


def test_a_token_from_the_last_second_of_the_calendar_is_refused() -> None:
    response = time_authority().at(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC))(make_request(b"x").der)
    with pytest.raises(TimestampError):
        read_response(response)


LONG_HEADERS = {
    "recipients": b"age-encryption.org/v1\n" + b"-> a b\n\n" * 32_768,
    "one recipient": b"age-encryption.org/v1\n-> X25519 " + b"A " * 131_072,
    "armour": b"-----BEGIN AGE ENCRYPTED FILE-----\n"
    + base64.encodebytes(b"age-encryption.org/v1\n" + b"-> a b\n\n" * 32_768),
}


@pytest.mark.parametrize("name", LONG_HEADERS)
def test_age_is_not_given_a_header_that_would_take_it_minutes(artefacts: Artefacts, name: str) -> None:
    data = LONG_HEADERS[name]
    taken: list[bytes] = []
    with pytest.raises(EncryptionError, match=r"header has more than 8192|is no age file"):
        artefacts.identities.decrypt((data[at : at + 1000] for at in range(0, len(data), 1000)), taken.append)
    with pytest.raises(EncryptionError, match=r"header has more than 8192|is no age file"):
        artefacts.identities.open_sealed(base64.b64encode(data).decode())
    assert not taken


def test_all_of_a_refused_age_file_is_consumed(artefacts: Artefacts) -> None:
    chunks = iter([b"no age", b" file", b" at all"])
    with pytest.raises(EncryptionError):
        artefacts.identities.decrypt(chunks, lambda _: None)
    assert next(chunks, None) is None


def test_a_configuration_is_not_read_beyond_its_limits(artefacts: Artefacts) -> None:
    settings = target("settings")
    for data in (b"a." * 16_000 + b"a = 1", b"# \n" * 30_000):
        with pytest.raises(ConfigError):
            settings.read(artefacts, data)


def test_a_receipt_against_a_journal_that_cannot_be_used_is_refused(artefacts: Artefacts) -> None:
    records = target("records-recover")
    records.feed(artefacts, changed("segment", bytes="many")(artefacts))
    layout = type(artefacts.layout)(artefacts.work / "vault")
    receipt = json.loads(artefacts.one("receipt.json"))
    names = {path.name for path in layout.recordings.iterdir()} - {receipt["recording_id"]}
    for name in sorted(names):  # the other one has no segment record, and is sealed by this start
        (layout.recording(name) / "recording.json").write_bytes(b"{}")
        with pytest.raises(StoreError, match="cannot be used"):
            check_receipt(PosixFilesystem(), layout, {**receipt, "recording_id": name})


def test_a_fingerprint_is_printed_letter_by_letter(
    artefacts: Artefacts, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """rich takes ":AB:" and ":CD:" for names of pictures: one certificate in four was shown with one."""
    fingerprint = ":".join(["AB", "CD"] * 16)
    monkeypatch.setattr("agent.verify.report.fingerprint_text", lambda _: fingerprint)
    path = artefacts.work / "fingerprint.mp4"
    path.write_bytes(artefacts.one("stream.mp4"))
    verify([path], root=None, as_json=False)
    assert fingerprint in "".join(capsys.readouterr().out.split())  # it stands on two lines
