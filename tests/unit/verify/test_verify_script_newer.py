"""verify.sh on packages with encryption, several keys, timestamps, missed frames and every other type of record."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from agent.trust.certificates import pem
from agent.vault.layout import kept_chain_name
from agent.verify.finding import Code
from agent.verify.verify import verify_path
from tests.support.evidence_key import EVIDENCE, EvidenceKey
from tests.support.identity import BENCH_IDENTITY, BenchIdentity, make_identity
from tests.support.packages import offloaded, renew_sums
from tests.support.record_schema import assert_documented
from tests.support.second_verifier import Refused, verify_package
from tests.support.vault_builder import VaultBuilder
from tests.unit.verify.tampering import check, fails, first, flip, forge, notes, warns
from tests.unit.verify.test_verify_script import ONLY_PYTHON, Said, journal, run

ENCRYPTED = {"NOT_DECRYPTED", "EXTRACT"}


def alike(package: Path) -> Said:
    """What the script says, once it has said the same as the verifier and the package's records fit the schema."""
    said, report = run(package), check(package)
    only_python = {code.value for code in ONLY_PYTHON}
    for severity, found in (("fail", fails(report)), ("warn", warns(report)), ("note", notes(report))):
        assert said.codes(severity) == {code.value for code in found} - only_python, (said.text, report.findings)
    try:  # the third reader, which knows nothing but the page
        verify_package(package, [BENCH_IDENTITY.root])
    except Refused:
        assert not report.ok
    else:
        assert report.ok
    return said


def one(vault: VaultBuilder, folder: Path, recording_id: str) -> Path:
    package = offloaded(vault, folder)[recording_id]
    assert_documented(package / "journal")
    return package


def rotate(vault: VaultBuilder, successor: BenchIdentity, *, introduce: bool = True) -> None:
    """As `run` does when another key takes over."""
    for identity in (vault.identity, successor):
        name = kept_chain_name(identity.record_signer.certificate_sha256)
        (vault.layout.device / name).write_bytes(pem(identity.signer.chain))
    if introduce:
        signer = successor.record_signer
        vault.journal.append(
            "certificate-changed", certificate_sha256=signer.certificate_sha256, key=signer.description
        )
    vault.journal.commit()
    vault.layout.chain.write_bytes(pem(successor.signer.chain))
    vault.layout.root_certificate.write_bytes(pem([vault.identity.root, successor.root]))
    vault.journal.change_signer(successor.record_signer)


@pytest.fixture
def encrypted(tmp_path: Path) -> VaultBuilder:
    return VaultBuilder(tmp_path / "vault", recipients=(EVIDENCE.recipient,), wearer="Jane Doe")


@pytest.mark.parametrize("torn", [False, True])
def test_encrypted_segments_are_checked_as_they_lie(encrypted: VaultBuilder, tmp_path: Path, torn: bool) -> None:
    running = encrypted.begin(pad_bytes=150_000)
    encrypted.feed(running, 2)
    if torn:
        encrypted.filesystem.fail_next_sync_of = "000001.m4s"
        encrypted.feed(running, 1)
        encrypted.retry()
    encrypted.feed(running, 2)
    package = one(encrypted, tmp_path, encrypted.stop(running))
    said = alike(package)
    assert said.codes("note") == ENCRYPTED
    assert "What they hold was not looked into" in said.text
    assert said.verdicts() == {"integrity": "holds", "origin": "holds", "time": "open", "completeness": "holds"}

    flip(package / "000001.m4s.age", 70_000)
    renew_sums(package)
    assert {"CHECKPOINT_HASH", "SEGMENT_HASH"} == alike(package).codes("fail")


def test_an_encrypted_recording_that_was_cut_off(encrypted: VaultBuilder, tmp_path: Path) -> None:
    running = encrypted.begin()
    encrypted.feed(running, 4)
    segment = encrypted.layout.recording(running.recording_id) / "000002.m4s.age"
    segment.write_bytes(segment.read_bytes() + b"a torn write")
    encrypted.restart()
    encrypted.shut_down()
    said = alike(one(encrypted, tmp_path, running.recording_id))
    assert said.codes("note") == ENCRYPTED | {"RECOVERED"}
    assert said.codes("warn") == {"UNSIGNED_MEDIA"}
    assert said.verdicts()["completeness"] == "limited"


@pytest.mark.parametrize(
    ("type_", "fields", "code"),
    [
        ("checkpoint", {"plain_bytes": "1"}, Code.RECORD_INVALID),
        ("segment", {"plain_sha256": "0" * 64}, Code.FRAGMENT_COUNT),
        ("segment", {"file": "000001.m4s"}, Code.RECORD_INVALID),
        ("encryption", {"recipients": []}, Code.RECORD_INVALID),
        ("encryption", {"recipients": "nobody"}, Code.RECORD_INVALID),
        ("encryption", {"reason": "because"}, Code.RECORD_INVALID),
    ],
)
def test_what_a_key_holder_says_wrong_of_encryption(
    encrypted: VaultBuilder, tmp_path: Path, type_: str, fields: dict[str, object], code: Code
) -> None:
    package = one(encrypted, tmp_path, encrypted.record(1))

    def edit(documents: list[dict[str, object]]) -> list[dict[str, object]]:
        first(documents, type_).update(fields)
        return documents

    forge(journal(package), edit, BENCH_IDENTITY.record_signer)
    renew_sums(package)
    assert code in fails(check(package))
    assert code.value in run(package).codes("fail")


def test_other_recipients_inside_one_extract(encrypted: VaultBuilder, tmp_path: Path) -> None:
    """A recording that a power cut ended spans two runs; whoever has the card re-enrols the camera in between."""
    running = encrypted.begin()
    encrypted.feed(running, 2)
    before, encrypted.recipients = encrypted.recipients, (EVIDENCE.recipient, EvidenceKey.generate().recipient)
    encrypted.journal.append(
        "encryption", recipients=list(encrypted.recipients), reason="re-enrolled", previous=list(before)
    )
    encrypted.journal.commit()
    encrypted.restart()
    encrypted.shut_down()
    said = alike(one(encrypted, tmp_path, running.recording_id))
    assert said.codes("warn") == {"ENCRYPTION_CHANGED"}


@pytest.mark.parametrize("introduce", [True, False])
def test_a_key_that_changed_inside_the_extract(tmp_path: Path, introduce: bool) -> None:
    vault, successor = VaultBuilder(tmp_path / "vault"), make_identity()
    vault.record(1)
    rotate(vault, successor, introduce=introduce)
    package = one(vault, tmp_path, vault.record(2))
    assert len(list((package / "device").glob("chain*.pem"))) == 2
    (tmp_path / "root.pem").write_bytes(pem([BENCH_IDENTITY.root, successor.root]))
    said = run(package)
    assert said.status == 0, said.text
    assert "CERT_CHANGED" in said.codes("note") or not introduce
    assert said.codes("warn") == (set() if introduce else {"CERT_NOT_INTRODUCED"})
    assert said.verdicts()["origin"] == ("holds" if introduce else "limited")
    assert said.text.count("SHA-256 ") >= 2
    # The support sheet describes both.
    sheet = (package / "support.txt").read_text()
    assert all(i.record_signer.certificate_sha256 in sheet for i in (BENCH_IDENTITY, successor))

    # Under the key before, no record of the recording stands: that it leads elsewhere is noted.
    (tmp_path / "root.pem").write_bytes(pem([successor.root]))
    said = run(package)
    report = verify_path(package, roots=[successor.root])
    assert said.status == 0
    assert report.ok
    assert {code.value for code in notes(report)} - {"RECORDING_JSON_DIFFERS"} == said.codes("note") >= {"CERT_CHAIN"}
    assert said.verdicts()["origin"] == ("holds" if introduce else "limited")
    assert said.text.count(", none of this recording") == 1
    verify_package(package, [successor.root])
    (tmp_path / "root.pem").write_bytes(pem([BENCH_IDENTITY.root]))
    with pytest.raises(Refused):
        verify_package(package, [BENCH_IDENTITY.root])
    assert run(package).codes("fail") == {code.value for code in fails(check(package))} == {"CERT_CHAIN"}
    (package / "device" / kept_chain_name(successor.record_signer.certificate_sha256)).unlink()
    renew_sums(package)
    assert "CERT_UNKNOWN" in run(package).codes("fail")


def test_missed_frames_and_every_other_type(tmp_path: Path) -> None:
    vault = VaultBuilder(tmp_path / "vault")
    vault.journal.append("sound-missing", from_boottime_ns=1, to_boottime_ns=2)
    vault.journal.append("trigger-dropped", source="button", trigger_boottime_ns=1)
    vault.journal.append("encryption", recipients=[], reason="first")
    package = one(vault, tmp_path, vault.record(2))
    said = alike(package)
    assert (said.status, said.codes("warn"), said.codes("note")) == (0, set(), {"EXTRACT"})

    def edit(documents: list[dict[str, object]]) -> list[dict[str, object]]:
        first(documents, "recording-close").update(missed_frames=3)
        return documents

    forged = tmp_path / "copy" / "store" / "CAM-TEST" / package.name
    shutil.copytree(package, forged)
    shutil.copy(tmp_path / "root.pem", tmp_path / "copy")
    forge(journal(forged), edit, BENCH_IDENTITY.record_signer)
    renew_sums(forged)
    said = alike(forged)
    assert (said.status, said.codes("warn")) == (0, {"FRAMES_MISSED"})
    assert said.verdicts()["completeness"] == "limited"
