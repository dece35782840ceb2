"""Encrypted evidence: verified without a key as it is, with the key inside; what the two can and cannot see."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.cli.export import export
from agent.clock import NS_PER_MS
from agent.encryption.identity import Identities
from agent.encryption.recipients import Recipients
from agent.errors import ConfigError, EncryptionError, EvidenceDamagedError
from agent.media.mp4 import walk
from agent.recorder.segment_body import EncryptedBody
from agent.vault.record import Record, parse_line, sha256_hex
from agent.verify.finding import Code
from agent.verify.report import Report
from agent.verify.verify import verify_path
from tests.support.evidence_key import EVIDENCE, EvidenceKey, opened, stock_age
from tests.support.identity import BENCH_IDENTITY
from tests.support.playback import journal_records, of_type, play, recording_bytes
from tests.support.vault_builder import VaultBuilder
from tests.unit.verify import tampering
from tests.unit.verify.tampering import fails, first, flip, forge, index_of, lines_of, verdicts

Documents = list[dict[str, Any]]
NOT_THE_MATTER = {Code.RUN_NOT_ENDED, Code.RECORDING_JSON_DIFFERS}
"""These vaults' runs go on, and recording.json is not rewritten with the journal."""


def warns(report: Report) -> set[Code]:
    return tampering.warns(report) - NOT_THE_MATTER


def notes(report: Report) -> set[Code]:
    return tampering.notes(report) - NOT_THE_MATTER


@pytest.fixture
def vault(tmp_path: Path) -> VaultBuilder:
    return VaultBuilder(tmp_path / "vault", recipients=(EVIDENCE.recipient,), wearer="Jane Doe")


def check(vault: VaultBuilder, identities: Identities | None = EVIDENCE.identities) -> Report:
    return verify_path(vault.root, roots=[BENCH_IDENTITY.root], identities=identities)


def segments(vault: VaultBuilder, recording_id: str) -> list[Path]:
    return sorted(vault.layout.recording(recording_id).glob("0*"))


def records(vault: VaultBuilder, type_: str) -> list[dict[str, Any]]:
    return of_type(journal_records(vault.filesystem, vault.layout), type_)


def exported(vault: VaultBuilder, tmp_path: Path, recording: str = "latest") -> bytes:
    output = tmp_path / "out.mp4"
    output.unlink(missing_ok=True)
    assert export(vault.root, recording, output, identity=EVIDENCE.write(tmp_path / "key.txt")) == 0
    return output.read_bytes()


def rewrite(vault: VaultBuilder, edit: Callable[[Documents], object]) -> None:
    """The camera itself lies: records edited, and signed again with its own key."""

    def edited(documents: Documents) -> Documents:
        edit(documents)
        return documents

    forge(vault.layout.journal / "000001.journal", edited, BENCH_IDENTITY.record_signer)


def test_it_verifies_without_a_key_and_says_what_it_did_not_see(vault: VaultBuilder) -> None:
    recording_id = vault.record(5, sound=True, pad_bytes=150_000)
    report = check(vault, None)
    assert report.ok
    assert notes(report) == {Code.NOT_DECRYPTED}
    assert not warns(report)
    assert verdicts(report) == {recording_id: "verified"}
    assert report.recordings[0].frames == 50


def test_with_the_key_it_sees_fragments_and_names(vault: VaultBuilder) -> None:
    vault.record(5, sound=True, pad_bytes=150_000)
    report = check(vault)
    assert report.ok
    assert notes(report) == {Code.SEALED}
    assert not warns(report)
    assert any("wearer: Jane Doe" in finding.sentence for finding in report.findings)


def test_nothing_on_flash_can_be_read_by_who_has_the_card(vault: VaultBuilder) -> None:
    recording_id = vault.record(3, sound=True)
    for path in vault.root.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert b"Jane" not in data
            assert b"moof" not in data, path
            assert b"SECRET" not in data
    assert [path.name for path in segments(vault, recording_id)] == ["000001.m4s.age", "000002.m4s.age"]


def test_another_key_is_told_apart_from_damage(vault: VaultBuilder) -> None:
    vault.record(3)
    report = check(vault, EvidenceKey.generate().identities)
    assert report.ok
    assert Code.IDENTITY in notes(report)
    assert not warns(report)


@pytest.mark.parametrize("identities", [None, EVIDENCE.identities], ids=["without", "with"])
@pytest.mark.parametrize("offset", [5, 150, 70_000, -1])
def test_a_changed_byte_is_found_with_and_without_the_key(
    vault: VaultBuilder, identities: Identities | None, offset: int
) -> None:
    recording_id = vault.record(4, pad_bytes=100_000)
    flip(segments(vault, recording_id)[1], offset)
    assert Code.CHECKPOINT_HASH in fails(check(vault, identities))


@pytest.mark.parametrize("field", ["plain_sha256", "plain_bytes", "frames", "end_media_90k", "fragment"])
def test_a_camera_that_signs_other_content_than_it_encrypts_is_found_with_the_key(
    vault: VaultBuilder, field: str
) -> None:
    vault.record(2, pad_bytes=100_000)

    def edit(documents: Documents) -> None:
        checkpoint = first(documents, "checkpoint")
        checkpoint[field] = "0" * 64 if field == "plain_sha256" else checkpoint[field] + 1

    rewrite(vault, edit)
    assert Code.PLAIN_HASH in fails(check(vault))
    if field in ("plain_sha256", "plain_bytes"):
        assert check(vault, None).ok  # nothing outside of the file contradicts it


@pytest.mark.parametrize(
    "wrong",
    [
        {"plain_sha256": "0" * 64},
        {"plain_bytes": 1_000_000},
        {"plain_bytes": 130_000},
    ],
    ids=["hash", "more", "less"],
)
def test_records_that_agree_with_one_another_and_not_with_the_content(
    vault: VaultBuilder, tmp_path: Path, wrong: dict[str, Any]
) -> None:
    recording_id = vault.record(1, pad_bytes=150_000)
    plain = opened(segments(vault, recording_id)[0].read_bytes())
    if wrong.get("plain_bytes", 1_000_000) < len(plain):
        wrong = {**wrong, "plain_sha256": hashlib.sha256(plain[: wrong["plain_bytes"]]).hexdigest()}

    def edit(documents: Documents) -> None:
        for type_ in ("checkpoint", "segment"):
            first(documents, type_).update(wrong)

    rewrite(vault, edit)
    assert check(vault, None).ok
    assert fails(check(vault)) == {Code.PLAIN_HASH}
    with pytest.raises(EvidenceDamagedError, match="--identity"):
        exported(vault, tmp_path)
    assert not (tmp_path / "out.mp4").exists()


def test_a_file_that_holds_more_than_its_records_say(vault: VaultBuilder) -> None:
    """The one place where a segment's record names more than its last checkpoint, left out of the record."""
    vault.segment_s = 10
    vault.restart()
    running = vault.begin(pad_bytes=100_000)
    vault.feed(running, 2)
    vault.recorder.stop(running.number, stop_ns=running.next_ns - 1050 * NS_PER_MS, reason="button")
    vault.work()
    assert check(vault).ok
    path = vault.layout.journal / "000002.journal"
    (checkpoint,) = records(vault, "checkpoint")
    said = {name: checkpoint[name] for name in ("plain_bytes", "plain_sha256")}
    lines = lines_of(path)
    at = index_of(path, "segment")
    document = parse_line(lines[at][:-1]).fields | said
    rewrite_from(path, at, document)
    assert check(vault, None).ok
    assert fails(check(vault)) == {Code.PLAIN_HASH}


def rewrite_from(path: Path, at: int, document: dict[str, Any]) -> None:
    """Put a record in a line's place and chain and sign the rest of the file anew."""
    lines = lines_of(path)
    documents = [document, *(parse_line(line[:-1]).fields for line in lines[at + 1 :])]
    prev = str(document["prev"])
    out = lines[:at]
    for entry in documents:
        data = json.dumps(entry | {"prev": prev}, separators=(",", ":")).encode()
        prev = sha256_hex(data)
        out.append(Record(data, BENCH_IDENTITY.record_signer.sign_record(data), {}).line())
    path.write_bytes(b"".join(out))


def test_records_of_a_file_that_disagree_are_found_without_the_key(vault: VaultBuilder) -> None:
    vault.record(2, pad_bytes=100_000)
    rewrite(vault, lambda documents: first(documents, "segment").update(plain_sha256="0" * 64))
    assert Code.FRAGMENT_COUNT in fails(check(vault, None))


@pytest.mark.parametrize("field", ["plain_bytes", "plain_sha256"])
def test_an_encrypted_file_s_records_say_what_it_opens_to(vault: VaultBuilder, field: str) -> None:
    vault.record(2)
    rewrite(vault, lambda documents: first(documents, "checkpoint").pop(field))
    assert Code.RECORD_INVALID in fails(check(vault, None))


def test_export_gives_every_frame_and_the_names(
    vault: VaultBuilder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recording_id = vault.record(5, sound=True, pad_bytes=150_000)
    data = exported(vault, tmp_path)
    assert data == recording_bytes(vault.filesystem, vault.layout.recording(recording_id))
    assert "wearer = Jane Doe" in capsys.readouterr().out
    probe = [
        "ffprobe",
        "-v",
        "error",
        "-count_packets",
        "-select_streams",
        "v",
        "-show_entries",
        "stream=nb_read_packets",
    ]
    found = subprocess.run([*probe, str(tmp_path / "out.mp4")], capture_output=True, text=True, check=True)
    assert found.stderr == ""
    assert "nb_read_packets=50" in found.stdout


def test_export_needs_the_right_key_and_leaves_nothing_without(vault: VaultBuilder, tmp_path: Path) -> None:
    vault.record(2)
    output = tmp_path / "out.mp4"
    with pytest.raises(EncryptionError, match="--identity"):
        export(vault.root, "latest", output)
    with pytest.raises(EncryptionError, match=r"does not open|do not open"):
        export(vault.root, "latest", output, identity=EvidenceKey.generate().write(tmp_path / "other.txt"))
    assert not output.exists()


@pytest.mark.parametrize("offset", [5, 150, -1])
def test_export_of_a_damaged_file_leaves_nothing(vault: VaultBuilder, tmp_path: Path, offset: int) -> None:
    recording_id = vault.record(2)
    flip(segments(vault, recording_id)[0], offset)
    with pytest.raises(EvidenceDamagedError):
        exported(vault, tmp_path)
    assert not (tmp_path / "out.mp4").exists()


def test_a_torn_file_keeps_what_was_confirmed_and_the_rest_stands_in_the_next(
    vault: VaultBuilder, tmp_path: Path
) -> None:
    running = vault.begin(pad_bytes=150_000)
    vault.feed(running, 2)  # a GOP is known to be complete when the next one begins
    vault.filesystem.fail_next_sync_of = "000001.m4s"
    vault.feed(running, 1)
    vault.retry()
    vault.feed(running, 1)
    recording_id = vault.stop(running)
    torn, *others = records(vault, "segment")
    assert torn["state"] == "torn"
    assert torn["unconfirmed_bytes"] > 0
    assert torn["fragments"] == 1
    assert {other["state"] for other in others} == {"whole"}
    assert sum(segment["frames"] for segment in (torn, *others)) == 40
    path = segments(vault, recording_id)[0]
    assert path.stat().st_size == torn["bytes"] + torn["unconfirmed_bytes"]
    report = check(vault)
    assert report.ok
    assert Code.UNSIGNED_BYTES in notes(report)
    assert len(play(exported(vault, tmp_path), decode=False).frames) == 40
    # Whole boxes also for who joins the files by hand: what opens of the torn one ends where a box does.
    plain = opened(path.read_bytes()[: torn["bytes"]])
    assert [box.type for box in walk(plain)] == [b"moof", b"mdat", b"free"]


@pytest.mark.parametrize("cut_bytes", [0, 1, 30_000, 70_000])
def test_a_file_the_power_cut_verifies_to_its_last_checkpoint_and_opens_as_far_as_it_goes(
    vault: VaultBuilder, tmp_path: Path, cut_bytes: int
) -> None:
    """What was written of the next fragment before the cut was never checkpointed; the camera cannot look at it."""
    vault.segment_s = 10
    vault.restart()
    running = vault.begin(pad_bytes=150_000)
    vault.feed(running, 3)
    path = segments(vault, running.recording_id)[0]
    checkpointed = path.stat().st_size
    *_, journal = sorted(vault.layout.journal.glob("*.journal"))
    before = journal.read_bytes()
    vault.feed(running, 1)
    written = path.stat().st_size
    assert written > checkpointed
    journal.write_bytes(before)  # the fragment got there, its checkpoint did not
    with path.open("r+b") as file:
        file.truncate(written - cut_bytes)
    vault.restart()
    (segment,) = records(vault, "segment")
    assert segment["state"] == "recovered"
    assert (segment["fragments"], segment["frames"]) == (2, 20)
    assert (segment["bytes"], segment["checkpointed_bytes"]) == (written - cut_bytes, checkpointed)
    assert segment["torn_bytes"] == written - cut_bytes - checkpointed
    assert segment["checkpoint_intact"]
    for identities in (None, EVIDENCE.identities):
        report = check(vault, identities)
        assert report.ok, report.findings
        assert Code.RECOVERED in notes(report)
        assert Code.UNSIGNED_MEDIA in warns(report)
    # The fragment behind the last checkpoint is in the export when all of it opens.
    assert len(play(exported(vault, tmp_path), decode=False).frames) == (20 if cut_bytes else 30)
    code, plain, _ = stock_age(path, EVIDENCE.write(tmp_path / "key.txt"))
    assert code == 1  # it has no end, and says so
    assert plain == opened(path.read_bytes())
    assert len(plain) >= segment["plain_bytes"]


def test_the_first_keys_of_a_vault_are_taken_and_others_refused(tmp_path: Path) -> None:
    vault = VaultBuilder(tmp_path / "vault")
    vault.record(2)
    vault.recipients = (EVIDENCE.recipient,)
    vault.restart()
    vault.record(2)
    vault.recipients = ()
    with pytest.raises(ConfigError, match="--no-recipients"):
        vault.restart()
    vault.recipients = (EvidenceKey.generate().recipient,)
    with pytest.raises(ConfigError, match="enroll --recipients"):
        vault.restart()
    vault.recipients = (EVIDENCE.recipient,)
    vault.restart()
    assert [record["reason"] for record in records(vault, "encryption")] == ["first", "unchanged"]
    report = check(vault)
    assert report.ok
    assert Code.ENCRYPTION_CHANGED not in warns(report)


def test_a_re_enrolment_is_named(vault: VaultBuilder) -> None:
    vault.record(2)
    vault.journal.append("encryption", recipients=[], reason="re-enrolled", previous=[EVIDENCE.recipient])
    vault.recipients = ()
    vault.wearer = ""
    vault.journal.commit()
    vault.restart()
    vault.record(2)
    report = check(vault)
    assert report.ok
    assert warns(report) == {Code.ENCRYPTION_CHANGED}
    assert "to nobody since then" in next(f.sentence for f in report.findings if f.code is Code.ENCRYPTION_CHANGED)


def test_a_change_that_was_not_journalled_as_one_refutes(vault: VaultBuilder) -> None:
    vault.record(2)
    vault.restart()
    vault.journal.append("encryption", recipients=[], reason="unchanged")
    vault.journal.commit()
    assert fails(check(vault)) == {Code.RECORD_INVALID}


def test_a_clear_segment_of_a_camera_that_encrypts_refutes(vault: VaultBuilder) -> None:
    vault.recipients = ()
    vault.recorder._recipients = None
    vault.record(2)
    assert Code.RECORD_INVALID in fails(check(vault))


def seal(vault: VaultBuilder, sealed: object) -> None:
    rewrite(vault, lambda documents: first(documents, "recording-open").update(sealed=sealed))


def test_sealed_fields_of_another_key_or_none_are_a_note(vault: VaultBuilder) -> None:
    vault.record(2)
    other = Recipients([EvidenceKey.generate().recipient]).seal({"wearer": "John"})
    for sealed in (other, "no base64", base64.b64encode(b"x").decode()):
        seal(vault, sealed)
        report = check(vault)
        assert report.ok
        assert Code.IDENTITY in notes(report)
        assert not warns(report)
    seal(vault, 7)
    assert Code.RECORD_INVALID in fails(check(vault))


def test_content_that_is_not_fragments_is_found_with_the_key(
    vault: VaultBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A camera that encrypts something else than it says, hashes and all."""
    original = EncryptedBody.write

    def lying(self: EncryptedBody, file: Any, fragments: Any, *, last: bool) -> Any:
        swapped = [data.replace(b"moof", b"MOOF", 1) for data in fragments]
        return original(self, file, swapped, last=last)

    monkeypatch.setattr(EncryptedBody, "write", lying)
    vault.record(2)
    assert check(vault, None).ok
    assert fails(check(vault)) == {Code.PLAIN_HASH}
