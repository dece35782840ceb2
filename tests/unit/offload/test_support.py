"""The support sheet: what it says stands in the log under the record it names, and it says what a person asks for."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from agent.offload.extract import chained_records
from agent.offload.store import PackageObject
from agent.offload.support import MAX_LISTED
from agent.trust.certificates import fingerprint_hex
from agent.vault.record import parse_line
from tests.support.packages import offloaded
from tests.support.vault_builder import VaultBuilder


def sheet_of(package: Path) -> dict[str, Any]:
    sheet: dict[str, Any] = json.loads((package / "support.json").read_bytes())
    return sheet


def text_of(package: Path) -> str:
    """support.txt as it is read aloud, without its line breaks."""
    return " ".join((package / "support.txt").read_text(encoding="ascii").split())


def record_of(package: Path, type_: str, **own: Any) -> tuple[int, dict[str, Any]]:
    """Number and fields of the one record of this type that says this."""
    ((seq, fields),) = [
        (seq, fields)
        for seq, fields in records_of(package).items()
        if fields["type"] == type_ and own.items() <= fields.items()
    ]
    return seq, fields


def remade(package: Path) -> tuple[bytes, bytes]:
    """Both files as somebody makes them who has the package and nothing else."""
    (recording,) = read_index(Evidence.at(package)).recordings.values()
    chains = [path.read_bytes() for path in sorted((package / "device").glob("chain*.pem"), key=chain_order)]
    sheet = SupportSheet(recording, described_certificates(chains))
    for record in chained_records([from_file(path) for path in sorted((package / "journal").iterdir())]):
        sheet.take(record)
    return sheet.to_json(), sheet.to_text()


def records_of(package: Path) -> dict[int, dict[str, Any]]:
    lines = [line for path in sorted((package / "journal").iterdir()) for line in path.read_bytes().splitlines()]
    records = [parse_line(line) for line in lines]
    return {record.seq: record.fields for record in records}


@pytest.fixture
def vault(tmp_path: Path) -> VaultBuilder:
    return VaultBuilder(tmp_path / "vault")


def test_every_fact_stands_in_the_record_that_it_names(vault: VaultBuilder, tmp_path: Path) -> None:
    vault.journal.append(
        "config", config_sha256="ab" * 32, profile="bench", pre_event_s=1, pre_event_audio=True, segment_s=2
    )
    vault.journal.append(
        "self-test", passed=True, tests=[{"name": "sha256-known-answer", "passed": True, "found": "x"}]
    )
    vault.journal.append("clock", reason="start", step_ms=None)
    recording_id = vault.record(5, sound=True, meanwhile=vault.mark)
    vault.clock.step_wall_ns(3_000_000_000)
    package = offloaded(vault, tmp_path)[recording_id]
    sheet, records = sheet_of(package), records_of(package)
    met = 0

    def compare(node: Any) -> None:
        nonlocal met
        if isinstance(node, dict):
            if (seq := node.get("record")) is not None:
                met += 1
                fields = records[seq]
                for name in set(node) & set(fields) - {"record"}:
                    assert node[name] == fields[name], (name, seq)
            for value in node.values():
                compare(value)
        elif isinstance(node, list):
            for item in node:
                compare(item)

    compare(sheet)
    assert met > 10
    (run,) = sheet["runs"]
    assert run["boot"]["software"] == "bodycam-agent"
    assert run["configuration"]["config_sha256"] == "ab" * 32
    assert run["self_test"]["passed"] is True
    assert sheet["clock"][0]["clock_source"] == "ntp"
    opened = next(entry for entry in sheet["recording"] if entry["type"] == "recording-open")
    assert opened["utc_minus_boottime_ms"] == (vault.clock.utc_ns() - vault.clock.boottime_ns()) // 10**6 - 3000
    assert {entry["type"] for entry in sheet["recording"]} == {
        "trigger", "recording-open", "marker", "stop", "recording-close",
    }  # fmt: skip
    assert sheet["certificates"][0]["sha256"] == fingerprint_hex(vault.identity.signer.certificate)
    assert sheet["log"]["last_record"] == max(records)


def examine(vault: VaultBuilder, found: str) -> None:
    test = {"name": "camera", "passed": True, "found": found, "state": "ok"}
    vault.journal.append("self-test", passed=True, tests=[test], source="doctor")
    vault.journal.commit()


def test_the_last_examination_before_the_recording_is_listed_and_no_later_one(
    vault: VaultBuilder, tmp_path: Path
) -> None:
    tests = [{"name": "sha256-known-answer", "passed": True, "found": "x"}]
    vault.journal.append("self-test", passed=True, tests=tests)
    examine(vault, "The first.")
    examine(vault, "The second.")
    recording_id = vault.record(3, meanwhile=lambda _running: examine(vault, "Too late."))
    package = offloaded(vault, tmp_path)[recording_id]
    sheet = sheet_of(package)
    listed = sheet["last_examination"]
    assert listed["tests"][0]["found"] == "The second."
    assert records_of(package)[listed["record"]]["utc"] == listed["utc"]
    assert any("Too late." in str(fields) for fields in records_of(package).values())
    assert sheet["runs"][0]["self_test"]["tests"] == tests
    moment = listed["utc"].replace("T", " ")[:23]
    said = f"between that start and the recording was at {moment} UTC: 1 test, 1 in order (record {listed['record']})."
    assert said in text_of(package)
    assert "camera, ok: The second." in text_of(package)


def test_without_an_examination_the_sheet_says_so(vault: VaultBuilder, tmp_path: Path) -> None:
    recording_id = vault.record(2)
    package = offloaded(vault, tmp_path)[recording_id]
    assert sheet_of(package)["last_examination"] is None
    assert "No examination (`bodycam doctor --record`) was logged" in text_of(package)


def test_the_hashes_are_those_of_all_media_files(vault: VaultBuilder, tmp_path: Path) -> None:
    recording_id = vault.record(5)
    package = offloaded(vault, tmp_path)[recording_id]
    listed = {entry["file"]: (entry["bytes"], entry["sha256"]) for entry in sheet_of(package)["files"]}
    media = [path for path in package.iterdir() if path.suffix in (".m4s", ".mp4")]
    assert listed == {path.name: (path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest()) for path in media}


def test_it_says_that_it_is_no_evidence_and_claims_nothing(vault: VaultBuilder, tmp_path: Path) -> None:
    recording_id = vault.record(2)
    package = offloaded(vault, tmp_path)[recording_id]
    text = text_of(package)
    assert "is derived from that log and is no evidence itself" in text
    assert "no evidence itself" in sheet_of(package)["note"]
    assert "No claim about the law" in text
    assert recording_id in text
    assert not any(word in text.lower() for word in ("compliant", "complies", "admissible", "authenticated"))
    for entry in sheet_of(package)["files"]:
        assert entry["sha256"] in text


def test_a_recording_over_a_power_cut_shows_both_runs_and_no_record_twice(vault: VaultBuilder, tmp_path: Path) -> None:
    running = vault.begin()
    vault.feed(running, 2)
    vault.filesystem.fail_next_sync_of = ".journal"  # what was written stands there, and again in the next file
    vault.feed(running, 1)
    vault.retry()
    vault.feed(running, 1)
    vault.restart()
    package = offloaded(vault, tmp_path)[running.recording_id]
    sheet = sheet_of(package)
    assert [run["boot"]["record"] for run in sheet["runs"]] == sorted(run["boot"]["record"] for run in sheet["runs"])
    assert len(sheet["runs"]) == 2
    assert [entry["reason"] for entry in sheet["journal_files"]] == ["first", "write-failed", "started"]
    numbers = [entry["record"] for entry in sheet["recording"]]
    assert numbers == sorted(set(numbers))
    assert [entry["type"] for entry in sheet["events"]] == ["fault", "fault-cleared"]


def test_long_lists_are_cut_and_say_so(vault: VaultBuilder, tmp_path: Path) -> None:
    for number in range(MAX_LISTED + 5):
        vault.journal.append("fault", component="microphone", message=f"Fault {number}.")
        vault.journal.commit()
    recording_id = vault.record(2)
    package = offloaded(vault, tmp_path)[recording_id]
    sheet = sheet_of(package)
    assert len(sheet["events"]) == MAX_LISTED
    assert sheet["entries_left_out"] == 5
    assert sheet["events"][-1]["message"] == f"Fault {MAX_LISTED + 4}.", "the newest are those that matter"
    assert "5 entries are not listed here" in text_of(package)


def test_it_is_the_same_to_the_byte_each_time(vault: VaultBuilder, tmp_path: Path) -> None:
    recording_id = vault.record(2)
    packages = [offloaded(vault, tmp_path / name)[recording_id] for name in ("one", "two")]
    assert len({(package / "SHA256SUMS").read_bytes() for package in packages}) == 1


def test_lines_that_are_no_records_are_passed_over() -> None:
    line = b'{"v":1}\t-\n' + b"x" * (3 << 20)
    item = PackageObject("journal/000001.journal", len(line), "", lambda: iter((line[:5], line[5:])))
    assert list(chained_records([item])) == []
