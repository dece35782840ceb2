"""What is said of a tampering is true, names the right thing, and nothing that was not done."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from agent.offload.support_again import support_again
from agent.verify.finding import Code, Finding, Severity
from agent.verify.media_job import Checkpoint
from agent.verify.missed_frames import MAX_PLACES, MissedFrames
from agent.verify.report import Report
from agent.verify.verify import verify_path
from tests.support.evidence_key import EVIDENCE, EvidenceKey
from tests.support.identity import BENCH_IDENTITY, make_identity
from tests.support.packages import offloaded, renew_sums
from tests.support.vault_builder import VaultBuilder
from tests.unit.verify.tampering import check, edit_lines, fails, index_of, warns


def made(folder: Path, **options: object) -> Path:
    vault = VaultBuilder(folder / "vault", **options)  # type: ignore[arg-type]
    recording_id = vault.record(6, sound=True)
    vault.shut_down()
    return offloaded(vault, folder)[recording_id]


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return made(tmp_path)


def standings(report: Report) -> dict[str, str]:
    return {verdict.aspect.value: verdict.standing.value for verdict in report.recordings[0].aspects}


def integrity(report: Report) -> str:
    return report.recordings[0].aspects[0].reason


def of(report: Report, code: Code) -> list[Finding]:
    return [finding for finding in report.findings if finding.code is code]


GOOD = {"integrity": "holds", "origin": "holds", "time": "open", "completeness": "holds"}


@pytest.mark.parametrize("name", ["README.txt", "VERIFY.txt", "verify.sh", "recording.json", "support.txt"])
def test_a_changed_page_limits_integrity_and_does_not_verify(package: Path, name: str) -> None:
    with (package / name).open("ab") as file:
        file.write(b" ")
    report = check(package)
    assert fails(report) == {Code.PACKAGE_SUM}
    assert standings(report) == GOOD | {"integrity": "limited"}
    assert integrity(report).startswith("The video and the log are what the camera signed; the package around them was")
    assert f"{name} was changed since SHA256SUMS was made" in integrity(report)


@pytest.mark.parametrize("name", ["init.mp4", "000001.m4s", "journal/000001.journal", "device/chain.pem"])
def test_a_wrong_sum_of_evidence_fails_integrity(package: Path, name: str) -> None:
    sums = (package / "SHA256SUMS").read_text().splitlines()
    wrong = [f"{'0' * 64}  {name}" if line.endswith(f"  {name}") else line for line in sums]
    (package / "SHA256SUMS").write_text("\n".join(wrong) + "\n")
    report = check(package)
    assert fails(report) == {Code.PACKAGE_SUM}
    assert standings(report)["integrity"] == "fails"


@pytest.mark.parametrize(("name", "standing"), [("notes.txt", "limited"), ("000009.m4s", "limited")])
def test_a_file_that_no_record_names_limits(package: Path, name: str, standing: str) -> None:
    (package / name).write_text("x")
    report = check(package)
    assert fails(report) == {Code.FILE_UNKNOWN}
    assert standings(report) == GOOD | {"integrity": standing}


def test_media_that_is_not_in_the_sums_fails(package: Path) -> None:
    lines = (package / "SHA256SUMS").read_text().splitlines(keepends=True)
    (package / "SHA256SUMS").write_text("".join(line for line in lines if not line.endswith("  000001.m4s\n")))
    assert standings(check(package))["integrity"] == "fails"


def test_the_label_of_another_camera_has_its_own_code(package: Path) -> None:
    text = (package / "PACKAGE.txt").read_text()
    (package / "PACKAGE.txt").write_text(text.replace("Device: CAM-TEST", "Device: CAM-OTHER"))
    renew_sums(package)
    report = check(package)
    assert fails(report) == {Code.PACKAGE_DEVICE}
    assert standings(report) == GOOD | {"integrity": "limited"}


@pytest.mark.parametrize("name", ["support.txt", "support.json"])
def test_an_edited_support_sheet_is_found_though_its_sum_was_made_anew(package: Path, name: str) -> None:
    def checked() -> Report:
        return verify_path(package, roots=[BENCH_IDENTITY.root], support=support_again)

    assert (fails(checked()), warns(checked())) == (set(), set())
    path = package / name
    path.write_bytes(path.read_bytes().replace(b"CAM-TEST", b"CAM-REST", 1))
    renew_sums(package)
    report = checked()
    assert fails(report) == set()
    (found,) = of(report, Code.SUPPORT_DIFFERS)
    assert found.severity is Severity.WARN
    assert found.sentence.startswith(f"{name} is not what this version of the software makes of the log")
    assert standings(report) == GOOD | {"integrity": "limited"}


def test_a_swapped_chain_is_an_unknown_certificate(package: Path, tmp_path: Path) -> None:
    other = VaultBuilder(tmp_path / "other", identity=make_identity())
    shutil.copy(other.layout.device / "chain.pem", package / "device" / "chain.pem")
    report = check(package)
    (unknown,) = of(report, Code.CERT_UNKNOWN)
    assert standings(report)["integrity"] == "fails"
    assert integrity(report).startswith(unknown.sentence)
    assert not any("still runs" in finding.sentence for finding in report.findings)


def test_exchanged_segments_are_told_as_that(package: Path) -> None:
    first, second = package / "000001.m4s", package / "000002.m4s"
    held = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(held)
    said = [finding.sentence for finding in of(check(package), Code.CHECKPOINT_HASH)]
    assert any("holds what was signed as 000002.m4s, and that file what was signed as this" in text for text in said)
    first.write_bytes(held)
    (sentence,) = (finding.sentence for finding in of(check(package), Code.CHECKPOINT_HASH))
    assert sentence.endswith("It holds what was signed as 000001.m4s.")


def test_exchanged_lines_are_not_called_missing(package: Path) -> None:
    path = package / "journal" / "000001.journal"
    at = index_of(path, "checkpoint", 2)
    edit_lines(path, lambda lines: [*lines[:at], lines[at + 1], lines[at], *lines[at + 2 :]])
    report = check(package)
    said = [finding.sentence for finding in of(report, Code.JOURNAL_SEQ)]
    assert len(said) == 3
    assert not any("missing" in text for text in said)
    assert all("records were moved" in text for text in said)
    assert not report.recordings[0].log_intact


def test_lines_taken_out_doubled_and_in_part_elsewhere(package: Path) -> None:
    path = package / "journal" / "000001.journal"
    lines = path.read_bytes().splitlines(keepends=True)

    def said(changed: list[bytes]) -> list[str]:
        path.write_bytes(b"".join(changed))
        return [finding.sentence for finding in of(check(package), Code.JOURNAL_SEQ)]

    assert said([*lines[:5], *lines[7:]]) == [
        "Records 6 to 7 are missing from the journal: record 8 follows on record 5."
    ]
    (doubled,) = said([*lines[:6], lines[5], *lines[6:]])[:1]
    assert doubled == "Record 6 follows on record 6: records were added to the journal, or doubled."
    assert said([*lines[:5], *lines[7:9], lines[5], *lines[9:]])[0].startswith(
        "Records 6 to 7 are missing from the journal, or stand elsewhere in it"
    )


def test_no_clock_is_read_from_records_that_are_not_what_was_signed(tmp_path: Path) -> None:
    package = made(tmp_path)
    path = package / "journal" / "000001.journal"
    at = index_of(path, "checkpoint", 2)

    def late(lines: list[bytes]) -> list[bytes]:
        head, mark, rest = lines[at].partition(b'"boottime_ns":')
        return [*lines[:at], head + mark + b"9" + rest, *lines[at + 1 :]]

    edit_lines(path, late)
    report = check(package)
    assert Code.SIGNATURE_BAD in fails(report)
    assert not of(report, Code.TIME_BACKWARDS) + of(report, Code.TIME_STEP)


def test_an_identity_that_does_not_open_it_changes_no_verdict(tmp_path: Path) -> None:
    package = made(tmp_path, recipients=(EVIDENCE.recipient,))
    report = verify_path(package, roots=[BENCH_IDENTITY.root], identities=EvidenceKey.generate().identities)
    assert standings(report) == GOOD
    assert {finding.severity for finding in of(report, Code.IDENTITY)} == {Severity.NOTE}


def test_a_certificate_names_the_records_under_it(package: Path) -> None:
    report = check(package)
    (certificate,) = report.certificates
    assert certificate.records == ((report.first_seq, report.last_seq),)
    assert json.loads(json.dumps(report.to_json()))["certificates"][0]["records"] == [[1, report.last_seq]]


def test_where_frames_are_missing() -> None:
    missed = MissedFrames()
    for number in range(MAX_PLACES + 3):
        frames = 30 if number == 0 else 28
        begin, end = number * 90_000, (number + 1) * 90_000
        missed.take(Checkpoint(number, number, 1, "", begin, end, frames, 0), 30.0)
    sentence = missed.sentence(14)
    assert sentence.startswith("14 frames are missing: the camera did not keep up, and says so itself. By its checkp")
    assert "at 00:01.000 to 00:02.000 (2), 00:02.000 to" in sentence
    assert sentence.endswith("00:06.000 (2) and 2 more of the recording.")
    assert MissedFrames().sentence(1).startswith("1 frame is missing: ")
