"""The examiner's page is run as printed: an examiner who types it in must get these answers."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from agent.clock import SimulatedClock
from agent.trust.certificates import fingerprint_hex, make_device_certificate, pem
from agent.trust.cms import encode_detached, sign_detached
from agent.vault.layout import journal_name
from agent.vault.record import PENDING, ZERO_HASH, encode_json, sha256_hex
from tests.unit.trust.identities import NOW, identity, new_key

PAGE = Path(__file__).parents[3] / "docs" / "examiner.md"
RECORDING = "01990000-0000-7000-8000-000000000001"
PREV_FILE_BYTES = re.compile(rb'"prev_file_bytes":(\d+)')
MEDIA = {"init.mp4": b"init", "000001.m4s": b"first segment", "000002.m4s": b"second segment"}


def script(name: str) -> str:
    blocks: list[str] = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    (found,) = [block for block in blocks if block.startswith(f"#!/bin/sh\n# {name} ")]
    return found


@dataclass
class Writer:
    """A small journal, written record by record."""

    folder: Path
    clock: SimulatedClock = field(default_factory=SimulatedClock)
    seq: int = 0
    prev: str = ZERO_HASH
    number: int = 0
    sign: Callable[[bytes], bytes] = lambda data: sign_detached(identity().signer, data)
    certificate_sha256: str = field(default_factory=lambda: fingerprint_hex(identity().leaf))

    @property
    def path(self) -> Path:
        return self.folder / journal_name(self.number)

    def add(self, type_: str, *, pending: bool = False, **fields: Any) -> None:
        self.seq += 1
        self.clock.advance_ns(10**9)
        data = encode_json(self.seq, self.prev, type_, self.clock.observe(), self.clock.boot_id, fields)
        self.prev = sha256_hex(data)
        column = PENDING.encode() if pending else base64.b64encode(self.sign(data))
        with self.path.open("ab") as file:
            file.write(data + b"\t" + column + b"\n")

    def open(self, reason: str = "rotated", torn: bytes = b"", *, exact: bool = True) -> None:
        before = self.path if self.number else None
        ends = before.stat().st_size if before else 0
        if before and torn:
            with before.open("ab") as file:
                file.write(torn)
        named = torn if exact else b""
        self.number += 1
        fields: dict[str, Any] = {
            "file": self.path.name,
            "reason": reason,
            "prev_file": before.name if before else None,
            "prev_file_bytes": ends,
            "torn_bytes": len(named),
            "torn_sha256": hashlib.sha256(named).hexdigest(),
            "torn_exact": exact,
            "device_id": "CAM-0001",
            "certificate_sha256": self.certificate_sha256,
            "key": "software (exportable)",
        }
        self.add("journal-open", pending=False, **fields)


@pytest.fixture
def vault(tmp_path: Path) -> Path:
    """Three journal files: an ordinary one with a torn tail, one after a failed write, and one cut off just now.

    What the page writes lies beside the vault, as the page says.
    """
    folder = tmp_path / "vault"
    identity().write(folder / "device")
    (tmp_path / "root.pem").write_bytes(pem([identity().root]))
    (folder / "journal").mkdir()
    media = folder / "recordings" / RECORDING
    media.mkdir(parents=True)
    for name, content in MEDIA.items():
        (media / name).write_bytes(content)
    with (media / "000002.m4s").open("ab") as file:
        file.write(b"in flight")
    (media / "recording.json").write_text("{}")

    writer = Writer(folder / "journal")
    writer.open("first")
    writer.add("boot", software="bodycam-agent", version="0 \\u00e4\\n%s", pid=1)
    writer.add(
        "recording-open",
        recording_id=RECORDING,
        init_file="init.mp4",
        init_bytes=len(MEDIA["init.mp4"]),
        init_sha256=sha256_hex(MEDIA["init.mp4"]),
    )
    for name in ("000001.m4s", "000002.m4s"):
        half = len(MEDIA[name]) // 2
        for end in (half, len(MEDIA[name])):
            vouched = MEDIA[name][:end]
            writer.add(
                "checkpoint",
                pending=end == half,
                recording_id=RECORDING,
                file=name,
                bytes=end,
                sha256=sha256_hex(vouched),
            )
        if name == "000001.m4s":
            first: dict[str, Any] = {"bytes": len(MEDIA[name]), "sha256": sha256_hex(MEDIA[name])}
            writer.add("segment", recording_id=RECORDING, file=name, state="whole", **first)
    writer.open("recovered", b'{"v":1,"seq":9,"prev":"')
    writer.add("fault", component="storage", message="The card is full.")
    writer.open("write-failed", b'{"v":1}\tAAAA\nwhatever the disk kept\x00\n{"v', exact=False)
    writer.add("fault-cleared", pending=True, component="storage", message="It is not.")
    writer.add("shutdown", reason="signal")
    with writer.path.open("ab") as file:
        file.write(b'{"v":1,"seq":99,"pr')
    return folder


def names_in(folder: Path) -> set[str]:
    """Every file and folder in it, at any depth."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def check(vault: Path, shell: str = "sh", **environment: str) -> subprocess.CompletedProcess[str]:
    (vault.parent / "check-journal.sh").write_text(script("check-journal.sh"), encoding="utf-8")
    before = names_in(vault)
    result = subprocess.run(
        [shell, "../check-journal.sh", "journal", "device", "../root.pem", "../records.json"],
        cwd=vault, capture_output=True, text=True, check=False, env=os.environ | environment,
    )  # fmt: skip
    assert names_in(vault) == before
    return result


def refused(vault: Path, why: str, shell: str = "sh", **environment: str) -> None:
    result = check(vault, shell, **environment)
    assert result.returncode != 0, result.stdout
    assert "OK: " not in result.stdout
    assert why in result.stderr, result.stderr


def edit(vault: Path, number: int, change: Callable[[bytes], bytes]) -> None:
    path = vault / "journal" / journal_name(number)
    before = path.read_bytes()
    path.write_bytes(change(before))
    assert path.read_bytes() != before


def edit_first(vault: Path, change: Callable[[bytes], bytes]) -> None:
    """Change the first file and what the second says of its length, so that the records are put to the test."""
    path = vault / "journal" / journal_name(1)
    before_bytes = path.stat().st_size
    edit(vault, 1, change)
    grown = path.stat().st_size - before_bytes
    if grown:
        edit(vault, 2, lambda data: PREV_FILE_BYTES.sub(lambda m: b'"prev_file_bytes":%d' % (int(m[1]) + grown), data))


def lines_of(vault: Path) -> list[bytes]:
    return (vault / "journal" / journal_name(1)).read_bytes().splitlines(keepends=True)


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_a_sound_journal_passes_with_its_torn_tails_named(vault: Path, shell: str) -> None:
    result = check(vault, shell)
    assert result.returncode == 0, result.stderr
    assert "OK: 13 records" in result.stdout
    assert "000001.journal ends with 23 bytes" in result.stdout
    assert "000003.journal ends with 19 bytes" in result.stdout
    records = (vault.parent / "records.json").read_bytes().splitlines()
    assert len(records) == 13
    assert records[1] == lines_of(vault)[1].split(b"\t")[0]
    assert sha256_hex(records[-1]) in result.stdout


def test_a_changed_record_is_found(vault: Path) -> None:
    edit(vault, 1, lambda data: data.replace(b'"pid":1', b'"pid":2'))
    refused(vault, "signature of record 2 does not verify")


def test_a_changed_pending_record_is_found_through_the_next(vault: Path) -> None:
    edit(vault, 3, lambda data: data.replace(b"It is not.", b"It is now."))
    refused(vault, "record 13 is missing, moved, or follows a changed one")


def test_a_signature_made_pending_over_a_change_is_found(vault: Path) -> None:
    lines = lines_of(vault)
    json_bytes = lines[1].split(b"\t")[0].replace(b'"pid":1', b'"pid":2')
    edit_first(vault, lambda data: data.replace(lines[1], json_bytes + b"\t-\n"))
    refused(vault, "record 3 is missing")


@pytest.mark.parametrize("index", range(1, 8))
def test_a_removed_record_is_found(vault: Path, index: int) -> None:
    lines = lines_of(vault)
    edit_first(vault, lambda data: data.replace(lines[index], b""))
    refused(vault, f"record {index + 1} is missing")


def test_swapped_records_are_found(vault: Path) -> None:
    lines = lines_of(vault)
    edit_first(vault, lambda data: data.replace(lines[3] + lines[4], lines[4] + lines[3]))
    refused(vault, "record 4 is missing, moved")


def test_a_doubled_record_is_found(vault: Path) -> None:
    lines = lines_of(vault)
    edit_first(vault, lambda data: data.replace(lines[3], lines[3] + lines[3]))
    refused(vault, "record 5 is missing, moved")


@pytest.mark.parametrize(("number", "why"), [(1, "record 1 is missing"), (2, "does not follow")])
def test_a_removed_file_is_found(vault: Path, number: int, why: str) -> None:
    (vault / "journal" / journal_name(number)).unlink()
    refused(vault, why)


def test_renamed_and_absent_files_are_found(vault: Path) -> None:
    (vault / "journal" / "000003.journal").rename(vault / "journal" / "000004.journal")
    refused(vault, "000004.journal does not begin with its own")
    for path in (vault / "journal").iterdir():
        path.unlink()
    refused(vault, "no journal in this folder")


def test_a_torn_tail_that_was_named_exactly_cannot_change(vault: Path) -> None:
    edit(vault, 1, lambda data: data[:-1])
    refused(vault, "what follows the records of 000001.journal changed")


def test_a_torn_tail_of_a_failed_write_may_be_anything(vault: Path) -> None:
    edit(vault, 2, lambda data: data[:-1])
    assert check(vault).returncode == 0


def test_moving_records_into_the_torn_tail_is_found(vault: Path) -> None:
    edit(vault, 2, lambda data: re.sub(rb'"prev_file_bytes":\d+', b'"prev_file_bytes":100', data))
    refused(vault, "NOT OK")


@pytest.mark.parametrize("junk", [b"\x00", b"\r", b"\x80"])
def test_invisible_bytes_are_found(vault: Path, junk: bytes) -> None:
    lines = lines_of(vault)
    edit_first(vault, lambda data: data.replace(lines[1], lines[1].replace(b'"boot"', b'"bo' + junk + b'ot"')))
    refused(vault, "a line that is no record")


def test_a_second_tab_is_found(vault: Path) -> None:
    edit(vault, 3, lambda data: data.replace(b"\t", b"\t\t"))
    refused(vault, "a line that is no record")


def test_unsigned_records_at_the_end_are_found(vault: Path) -> None:
    writer = Writer(vault / "journal", seq=13, prev=sha256_hex(b""), number=3)
    path = vault / "journal" / "000003.journal"
    whole = path.read_bytes().splitlines(keepends=True)[:3]
    writer.prev = sha256_hex(whole[-1].split(b"\t")[0])
    path.write_bytes(b"".join(whole))
    writer.add("marker", pending=True, recording_id=RECORDING)
    refused(vault, "the last 1 record(s) have no signature")


def test_another_root_is_refused(vault: Path) -> None:
    (vault.parent / "root.pem").write_bytes(pem([identity("other").root]))
    refused(vault, "signature of record 1 does not verify")


def test_what_the_computer_trusts_for_other_purposes_does_not_count(vault: Path) -> None:
    """A forger with an e-mail certificate from a public CA must not pass, so the default trust store is shut out."""
    store = vault.parent / "store"
    store.mkdir()
    (store / "root.pem").write_bytes(pem([identity().root]))
    subprocess.run(["openssl", "rehash", str(store)], check=True, capture_output=True)
    (vault.parent / "root.pem").write_bytes(pem([identity("other").root]))
    everything = {"SSL_CERT_DIR": str(store), "SSL_CERT_FILE": str(store / "root.pem")}
    refused(vault, "signature of record 1 does not verify", **everything)


def sibling() -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    """Another camera under the same root."""
    key = new_key()
    root = identity()
    return key, make_device_certificate(key.public_key(), "CAM-0002", "2", root.root_key, root.root, NOW)


def forge(vault: Path, sign: Callable[[bytes], bytes]) -> None:
    for path in (vault / "journal").iterdir():
        path.unlink()
    writer = Writer(vault / "journal", sign=sign)
    writer.open("first")
    writer.add("shutdown", reason="signal")


def test_another_camera_of_the_department_cannot_pose_as_this_one(vault: Path) -> None:
    key, certificate = sibling()
    forge(vault, lambda data: encode_detached(certificate, key.sign(data, ec.ECDSA(hashes.SHA256()))))
    refused(vault, "signature of record 1 does not verify")
    (vault / "device" / "chain.pem").write_bytes(pem([identity().leaf, certificate]))
    refused(vault, "signed by another certificate")
    (vault / "device" / "chain.pem").write_bytes(pem([certificate]))
    refused(vault, "names a camera certificate that is not in device")


def change_key(vault: Path, *, introduce: str, renewed: bool = False) -> None:
    """Go on under another certificate. introduce: "signed", "pending", "other" (another certificate), or "no"."""
    key, certificate = sibling()
    if renewed:
        key, root = identity().key, identity()
        certificate = make_device_certificate(key.public_key(), "CAM-0001", "1", root.root_key, root.root, NOW)
    for path in (vault / "journal").iterdir():
        path.unlink()
    writer = Writer(vault / "journal")
    writer.open("first")
    new = fingerprint_hex(certificate)
    if introduce != "no":
        named = new if introduce != "other" else "0" * 64
        writer.add("certificate-changed", pending=introduce == "pending", certificate_sha256=named, key="software")
        writer.add("shutdown", reason="signal")
    writer.sign = lambda data: encode_detached(certificate, key.sign(data, ec.ECDSA(hashes.SHA256())))
    writer.certificate_sha256 = new
    writer.open("started")
    writer.add("shutdown", reason="signal")
    (vault / "device" / f"chain-{new}.pem").write_bytes(pem([certificate]))


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_a_new_key_that_the_old_one_introduced_passes(vault: Path, shell: str) -> None:
    change_key(vault, introduce="signed")
    result = check(vault, shell)
    assert result.returncode == 0, result.stderr
    assert "OK: 5 records" in result.stdout
    assert "from 000002.journal on another certificate signs; the key before introduced it" in result.stdout
    assert result.stdout.count("Fingerprint=") == 2


@pytest.mark.parametrize("introduce", ["no", "pending", "other"])
def test_a_new_key_that_nobody_introduced_is_told_in_capitals(vault: Path, introduce: str) -> None:
    change_key(vault, introduce=introduce)
    result = check(vault)
    assert result.returncode == 0, result.stderr
    assert "WARNING: from 000002.journal on another key signs, and NO record" in result.stdout


def test_a_renewed_certificate_for_the_same_key_needs_no_introduction(vault: Path) -> None:
    change_key(vault, introduce="no", renewed=True)
    assert "from 000002.journal on another certificate signs; it is for the same key" in check(vault).stdout


def test_the_old_chain_is_needed_for_the_old_records(vault: Path) -> None:
    change_key(vault, introduce="signed")
    (vault / "device" / "chain.pem").unlink()
    refused(vault, "000001.journal names a camera certificate that is not in device")


def test_a_certificate_inside_the_signature_does_not_count(vault: Path) -> None:
    key, certificate = sibling()

    def sign(data: bytes) -> bytes:
        builder = pkcs7.PKCS7SignatureBuilder().set_data(data).add_signer(certificate, key, hashes.SHA256())
        options = [pkcs7.PKCS7Options.DetachedSignature, pkcs7.PKCS7Options.Binary]
        return builder.sign(Encoding.DER, options)

    forge(vault, sign)
    refused(vault, "signature of record 1 does not verify")


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_a_hostile_number_is_no_command(vault: Path, shell: str) -> None:
    hostile = b'"prev_file_bytes":"a[$(touch pwned)]"'
    edit(vault, 2, lambda data: re.sub(rb'"prev_file_bytes":\d+', lambda _: hostile, data))
    refused(vault, "does not say how 000001.journal ends", shell)
    assert not (vault / "pwned").exists()


def check_media(vault: Path) -> tuple[int, list[str]]:
    """Needs the records.json that check() left."""
    (vault.parent / "check-media.sh").write_text(script("check-media.sh"), encoding="utf-8")
    result = subprocess.run(
        ["sh", "../check-media.sh", RECORDING, f"recordings/{RECORDING}", "../records.json"],
        cwd=vault, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return result.returncode, result.stdout.splitlines()


def test_media_is_compared_with_the_last_record_that_vouches_for_it(vault: Path) -> None:
    assert check(vault).returncode == 0
    status, said = check_media(vault)
    assert said == [
        "OK: init.mp4",
        "OK: 000001.m4s",
        "OK: 000002.m4s, but for its last 9 bytes, which are NOT vouched for",
    ]
    assert status == 0


def write_records(vault: Path) -> None:
    """The records.json of a journal that is known to be sound, without the seconds that checking it takes."""
    counts = (8, 2, 3)
    chunks = [(vault / "journal" / journal_name(n + 1)).read_bytes().splitlines()[:c] for n, c in enumerate(counts)]
    (vault.parent / "records.json").write_bytes(
        b"".join(line.split(b"\t")[0] + b"\n" for chunk in chunks for line in chunk)
    )


@pytest.mark.parametrize("name", MEDIA)
@pytest.mark.parametrize("harm", ["change", "cut", "remove"])
def test_harmed_media_is_found(vault: Path, name: str, harm: str) -> None:
    write_records(vault)
    path = vault / "recordings" / RECORDING / name
    if harm == "change":
        path.write_bytes(b"X" + path.read_bytes()[1:])
    elif harm == "cut":
        path.write_bytes(MEDIA[name][:-1])
    else:
        path.unlink()
    status, said = check_media(vault)
    assert status != 0
    assert f"NOT OK: {name}" in said
    assert sum(line.startswith("OK: ") for line in said) == 2


def test_a_media_file_that_no_record_names_is_found(vault: Path) -> None:
    write_records(vault)
    (vault / "recordings" / RECORDING / "000003.m4s").write_bytes(b"planted")
    status, said = check_media(vault)
    assert (status, said[-1]) == (1, "NOT OK: 000003.m4s is in no record")


def test_one_record_by_hand(vault: Path) -> None:
    (block,) = re.findall(r"^```sh\n(sed -n 5p .*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    before = names_in(vault)
    result = subprocess.run(["sh", "-e", "-c", block], cwd=vault, capture_output=True, text=True, check=False)
    assert names_in(vault) == before
    assert result.returncode == 0, result.stderr
    assert "Verification successful" in result.stderr
    assert '"seq": 5' in result.stdout


def test_the_camera_by_hand(vault: Path) -> None:
    (block,) = re.findall(
        r"^```sh\n(openssl x509 .*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    command = ["sh", "-e", "-c", block]
    result = subprocess.run(command, cwd=vault, capture_output=True, text=True, check=False)
    assert "device/chain.pem: OK" in result.stdout
    (vault.parent / "root.pem").write_bytes(pem([identity("other").root]))
    assert subprocess.run(command, cwd=vault, capture_output=True, check=False).returncode != 0
