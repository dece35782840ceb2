"""The support sheet: what it says stands in the log under the record it names, and it says what a person asks for."""

from __future__ import annotations

import hashlib
import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from agent.clock import NS_PER_S, SimulatedClock, WallObservation
from agent.media.packets import VideoPacket
from agent.offload.extract import chained_records
from agent.offload.store import PackageObject
from agent.offload.support import MAX_LISTED, SupportSheet, described_certificates
from agent.offload.support_lines import WIDTH
from agent.trust.certificates import fingerprint_hex, pem
from agent.vault.layout import kept_chain_name
from agent.vault.record import ZERO_HASH, encode_json, parse_line
from agent.verify.evidence import locate
from agent.verify.index import IndexedRecording, read_index
from tests.support.evidence_key import EVIDENCE
from tests.support.identity import make_identity
from tests.support.packages import offloaded
from tests.support.stamping import stamp
from tests.support.vault_builder import FRAME_NS, Running, VaultBuilder, gop_data


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
    recording = read_index(locate(package)).recordings[package.name]
    first = package / "device" / "chain.pem"
    chains = [first, *sorted(set((package / "device").glob("chain*.pem")) - {first})]
    sheet = SupportSheet(recording, described_certificates(path.read_bytes() for path in chains))
    files = [(path.name, path.read_bytes()) for path in sorted((package / "journal").iterdir())]
    for record in chained_records([PackageObject(name, len(data), "", partial(iter, (data,))) for name, data in files]):
        sheet.take(record)
    return sheet.to_json(), sheet.to_text()


def records_of(package: Path) -> dict[int, dict[str, Any]]:
    lines = [line for path in sorted((package / "journal").iterdir()) for line in path.read_bytes().splitlines()]
    records = [parse_line(line) for line in lines if b"\t" in line]  # a torn tail has none
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


def without_frames(vault: VaultBuilder, running: Running, *left_out: int) -> None:
    """A second of which the camera did not give these frames."""
    for index, data in enumerate(gop_data()):
        if index not in left_out:
            running.ring.push_video(VideoPacket(data, running.next_ns + index * FRAME_NS, is_keyframe=index == 0))
    running.next_ns += NS_PER_S
    vault.clock.sleep_until_ns(running.next_ns)
    vault.work()


def plain(vault: VaultBuilder) -> str:
    """With everything that a run of the daemon says, a marker, and a clock that is set while it runs."""
    vault.journal.append(
        "config", config_sha256="ab" * 32, profile="bench", pre_event_s=1, pre_event_audio=True, segment_s=2
    )
    vault.journal.append("self-test", passed=True, tests=[{"name": "journal-read-back", "passed": True, "found": "x"}])
    vault.journal.append("clock", reason="start", step_ms=None)
    vault.journal.append("ready", buffered_ms=200, camera="imx708", encoder="libx264", width=192, height=128, fps=10)

    def meanwhile(running: Running) -> None:
        vault.mark(running)
        vault.clock.step_wall_ns(3 * NS_PER_S)
        vault.journal.append("clock", reason="step", step_ms=3000)
        vault.journal.append("fault", component="microphone", message="The microphone is gone")

    return vault.record(5, sound=True, meanwhile=meanwhile)


def power_cut(vault: VaultBuilder) -> str:
    running = vault.begin(sound=True)
    vault.feed(running, 4)
    segment = vault.layout.recording(running.recording_id) / "000002.m4s"
    segment.write_bytes(segment.read_bytes() + b"\0\0\0\x10torn")
    with max(vault.layout.journal.iterdir()).open("ab") as file:
        file.write(b'{"v":1,"seq":')
    vault.restart()
    return running.recording_id


def gap(vault: VaultBuilder) -> str:
    running = vault.begin(max_bytes=60_000, pad_bytes=20_000)
    vault.feed(running, 1)
    vault.push(running, 5)
    vault.work()
    return vault.stop(running)


def missed(vault: VaultBuilder) -> str:
    running = vault.begin()
    vault.feed(running, 1)
    without_frames(vault, running, 3, 4)
    without_frames(vault, running, 5)
    vault.feed(running, 1)
    without_frames(vault, running, 5)
    vault.feed(running, 1)
    return vault.stop(running)


def stamped(vault: VaultBuilder) -> str:
    stamp(vault)
    vault.shut_down()
    vault.restart()
    recording_id = vault.record(2)
    stamp(vault)
    return recording_id


def rotated(vault: VaultBuilder) -> str:
    successor = make_identity()
    for identity in (vault.identity, successor):
        chain = vault.layout.device / kept_chain_name(identity.record_signer.certificate_sha256)
        chain.write_bytes(pem(identity.signer.chain))
    running = vault.begin()
    vault.feed(running, 1)
    signer = successor.record_signer
    vault.journal.append("certificate-changed", certificate_sha256=signer.certificate_sha256, key=signer.description)
    vault.journal.commit()
    vault.layout.chain.write_bytes(pem(successor.signer.chain))
    vault.journal.change_signer(signer)
    vault.feed(running, 1)
    return vault.stop(running)


def renamed(vault: VaultBuilder) -> str:
    stamp(vault)
    vault.shut_down()
    vault.device_id = "CAM-RENAMED"
    vault.restart()
    return vault.record(2)


def encrypted(vault: VaultBuilder) -> str:
    vault.shut_down()
    vault.recipients, vault.wearer = (EVIDENCE.recipient,), "Jane Doe"
    vault.restart()
    return vault.record(3, sound=True)


def never_stored(vault: VaultBuilder) -> str:
    running = vault.begin()
    vault.journal.commit()
    folder = vault.layout.recording(running.recording_id)
    folder.mkdir()
    (folder / "init.mp4").write_bytes(b"init")  # the power failed before the first checkpoint
    vault.restart()
    return running.recording_id


CASES = (plain, power_cut, gap, missed, stamped, rotated, renamed, encrypted, never_stored)


def packed(vault: VaultBuilder, folder: Path, recording_id: str) -> Path:
    offloaded(vault, folder)
    (package,) = (folder / "store").glob(f"*/{recording_id}")
    return package


@pytest.mark.parametrize("case", CASES)
def test_whoever_has_the_package_makes_the_same_sheet(case: Any, vault: VaultBuilder, tmp_path: Path) -> None:
    package = packed(vault, tmp_path, case(vault))
    assert remade(package) == ((package / "support.json").read_bytes(), (package / "support.txt").read_bytes())
    lines = (package / "support.txt").read_text(encoding="ascii").splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert not any(character < " " for line in lines for character in line)
    # What made it unusable: raw ticks, boot times, process numbers, the hash of nothing.
    text = text_of(package)
    for dump in ("90k", "boottime", "pid", hashlib.sha256().hexdigest(), "None", "{", "\\"):
        assert dump not in text
    first_page = text.partition("APPENDIX")[0]
    cited = {int(number) for number in re.findall(r"records? (\d+)", first_page)}
    assert cited <= set(records_of(package))


def test_read_aloud_a_recording_as_it_should_be(vault: VaultBuilder, tmp_path: Path) -> None:
    package = packed(vault, tmp_path, plain(vault))
    text = text_of(package)
    trigger, _ = record_of(package, "trigger")
    opened, _ = record_of(package, "recording-open")
    close, _ = record_of(package, "recording-close")
    marker, _ = record_of(package, "marker")
    stop, _ = record_of(package, "stop")
    fault, _ = record_of(package, "fault")
    step, _ = record_of(package, "clock", reason="step")
    for said in (
        f"In short: 00:05.000 (minutes and seconds) of video with sound, not encrypted, whose first picture was taken "
        f"at 2026-09-21 14:13:20.000 UTC by the camera's own clock (records {trigger}, {opened} and {close}).",
        "The camera's log gives it the name CAM-TEST (record 1).",
        "What hardware and operating system it ran on was not logged at its start (record 2).",
        "bodycam-agent, version 0.",
        "Its settings: profile bench; 1 s of pre-event, with sound; files of about 2 s (record 3).",
        f"The SHA-256 of the whole configuration was {'ab' * 32}",
        "journal-read-back passed (record 4).",
        "camera imx708, encoder libx264, 192 x 128 pixels, 10 frames a second, 0.200 s already in memory (record 6).",
        "was kept by network time (ntp), with an uncertainty of 0.010 s",
        f"the time of day moved by +3.000 s against the stopwatch (records {trigger} and {close}).",
        "by +3.000 s, during the recording; from then on it was 2026-09-21 14:13:24.000 UTC",
        f"uncertainty of 0.010 s (record {step}).",
        f"It was triggered at 2026-09-21 14:13:21.000 UTC by the camera's button (2 changes of its contact) "
        f"(record {trigger}).",
        f"The trigger is at 00:01.000 of the recording. The first 1.000 s are pre-event: pictures that were in the "
        f"camera's memory when it was triggered; 1.000 s were set (record {opened}).",
        f"A marker was set at 00:01.000 of the recording, 2026-09-21 14:13:21.000 UTC, by the camera's button "
        f"(record {marker}).",
        f"It was stopped at 00:04.999 of the recording, 2026-09-21 14:13:27.999 UTC, by the camera's button "
        f"(record {stop}).",
        "with 50 frames in 5 fragments and 3 media files, up to 00:05.000",
        f"Nothing: no gap, no missed frame, no shortened pre-event, no cut file (record {close}).",
        f"A fault began, of microphone, 2026-09-21 14:13:24.000 UTC: The microphone is gone. (record {fault})",
        "The recording is not encrypted: whoever has its files can play them.",
        "Where it was copied to does not stand in this package",
        "joined in order (`cat`, or `bodycam export`)",
    ):
        assert said in text, said


def test_read_aloud_a_recording_over_a_power_cut(vault: VaultBuilder, tmp_path: Path) -> None:
    package = packed(vault, tmp_path, power_cut(vault))
    text = text_of(package)
    close, _ = record_of(package, "recording-close", recovered=True)
    segment, sealed = record_of(package, "segment", state="recovered")
    for said in (
        "it was cut off and sealed at the camera's next start",
        "The camera's software was started again at",
        "At that start the log ended in 13 bytes of an interrupted line",
        "the two clocks cannot be compared across the recording",
        "No stop was logged: it was cut off, as by a power failure. At its next start, at ",
        f"000002.m4s was not finished; it holds 00:02.000 to 00:03.000 of the recording. Its first "
        f"{sealed['checkpointed_bytes']:,} bytes had been signed while they were recorded, the 8 bytes behind them "
        f"only at the next start; 8 bytes at its end are no whole fragment (record {segment}).",
        f"the log cannot say how much that was (record {close}).",
        "00:02.000 to 00:03.000, recovered",
    ):
        assert said in text, said
    assert "Nothing: no gap" not in text


def test_read_aloud_what_is_missing(vault: VaultBuilder, tmp_path: Path) -> None:
    package = packed(vault, tmp_path / "gap", gap(vault))
    number, fields = record_of(package, "gap")
    said = (
        "From 00:00.000 to 00:04.000 of the recording (2026-09-21 14:13:20.000 UTC) 40 frames could not be kept: the "
        f"memory in which they waited for the storage was full (record {number})."
    )
    assert said in text_of(package)
    entry = next(entry for entry in sheet_of(package)["recording"] if entry["type"] == "gap")
    assert (entry["from_media_ms"], entry["to_media_ms"], entry["from_boottime_ns"]) == (
        0, 4000, fields["from_boottime_ns"],
    )  # fmt: skip

    other = VaultBuilder(tmp_path / "missed" / "vault")
    package = packed(other, tmp_path / "missed", missed(other))
    close, _ = record_of(package, "recording-close", missed_frames=4)
    numbers = [record_of(package, "checkpoint", fragment=fragment)[0] for fragment in (2, 3, 5)]
    said = (
        f"4 frames never came, by the times of those that did (record {close}). By the checkpoints, 4 frames fewer "
        f"than their length makes lie in these fragments: 00:01.000 to 00:03.000 (3 frames; records {numbers[0]} to "
        f"{numbers[1]}), 00:04.000 to 00:05.000 (1 frame; record {numbers[2]})."
    )
    assert said in text_of(package)
    assert [place["frames"] for place in sheet_of(package)["fewer_frames"]["places"]] == [3, 1]


def test_read_aloud_timestamps_of_both_sides(vault: VaultBuilder, tmp_path: Path) -> None:
    package = packed(vault, tmp_path, stamped(vault))
    sheet, text = sheet_of(package), text_of(package)
    assert [one["when"] for one in sheet["timestamps"]] == ["before", "after"]
    for one, word in zip(sheet["timestamps"], ("Before", "After"), strict=True):
        moment = one["gen_time"].replace("T", " ").removesuffix("Z")
        assert (
            f"{word}: CN=Test TSA signed that record {one['head_seq']} existed at {moment} UTC by its own clock" in text
        )
        assert f"(record {one['record']})" in text
    assert "response" not in sheet["timestamps"][0]

    late = VaultBuilder(tmp_path / "late" / "vault")
    recording_id = late.record(2)
    # Asked for before the recording ended: says nothing of its end.
    late.journal.append("timestamp", head_seq=2, head_sha256="0" * 64, gen_time="2026-09-21T14:13:21Z", authority="x")
    late.journal.commit()
    stamp(late)
    package = packed(late, tmp_path / "late", recording_id)
    close, _ = record_of(package, "recording-close")
    said = [(one["when"], one["head_seq"] > close) for one in sheet_of(package)["timestamps"]]
    assert said == [("during", False), ("after", True)]
    assert "1 timestamp asked for while it was recorded" in text_of(package)
    bare = VaultBuilder(tmp_path / "bare" / "vault")
    text = text_of(packed(bare, tmp_path / "bare", bare.record(2)))
    assert "No timestamp before it is in this package." in text
    assert "No timestamp behind its end is in this package." in text


def test_read_aloud_whom_it_is_encrypted_to(vault: VaultBuilder, tmp_path: Path) -> None:
    package = packed(vault, tmp_path, encrypted(vault))
    number, _ = record_of(package, "encryption")
    text = text_of(package)
    for said in (
        f"encrypted (age-encryption.org/v1) to 1 recipient (record {number}): {EVIDENCE.recipient}",
        "Without one nobody can, the camera included",
        "Fields that name people, such as who wore the camera, are sealed to the same keys",
        "joining the .age files as they lie gives nothing that plays",
    ):
        assert said in text, said
    assert "(`cat`, or" not in text
    assert "Jane" not in text


@pytest.mark.parametrize("case", [rotated, renamed])
def test_read_aloud_which_certificate_and_name_each_record_has(case: Any, vault: VaultBuilder, tmp_path: Path) -> None:
    package = packed(vault, tmp_path, case(vault))
    text, records = text_of(package), records_of(package)
    opens = {seq: fields for seq, fields in records.items() if fields["type"] == "journal-open"}
    first, second = opens
    name = "" if case is rotated else ", under the name CAM-TEST,"
    what = "name as that of their key the certificate with the SHA-256 fingerprint"
    for begin, end, named in ((first, second - 1, name), (second, max(records), "")):
        sha256 = opens[begin]["certificate_sha256"]
        assert f"Records {begin} to {end} of the log{named} {what} (record {begin}) {sha256}" in text
    if case is renamed:
        assert f"The camera's log gives it the name CAM-RENAMED (record {second})." in text


def test_what_a_log_says_cannot_reach_a_terminal_or_end_the_sheet() -> None:
    """Signed or not, a record can hold any type and any text."""
    recording = IndexedRecording("01a0c450-6c00-7000-8000-000000000001", "CAM\x1b[2J", "000001.journal")
    sheet = SupportSheet(recording, [])
    clock = SimulatedClock()
    nonsense: tuple[Any, ...] = (None, -1, "x\x1b]0;\n\ud800" * 200, [{}, 1, [None]], {"a": [1]}, True, 1 << 70, 1.5)
    fields = {
        "journal-open": ("file", "reason", "torn_bytes", "certificate_sha256", "key", "device_id"),
        "boot": ("software", "version", "software_sha256", "hardware_model", "os_name"),
        "config": ("profile", "pre_event_s", "config_sha256"),
        "self-test": ("tests", "passed", "source"),
        "encryption": ("recipients",),
        "ready": ("buffered_ms", "fps"),
        "clock": ("reason", "step_ms"),
        "fault": ("component", "message"),
        "trigger": ("source", "trigger_boottime_ns", "gesture_boottime_ns"),
        "recording-open": (
            "media_origin_boottime_ns", "video", "audio", "actual_pre_event_ms", "pre_event_short_reason", "init_file",
            "init_sha256", "init_bytes", "linked_from",
        ),
        "checkpoint": ("first_media_90k", "end_media_90k", "frames"),
        "marker": ("at_boottime_ns", "source"),
        "gap": ("from_boottime_ns", "to_boottime_ns", "frames", "reason"),
        "segment": ("file", "state", "bytes", "sha256", "first_media_90k"),
        "timestamp": ("gen_time", "authority", "head_seq"),
        "stop": ("stop_boottime_ns", "reason"),
        "offload": ("store", "objects"),
        "recording-close": ("recovered", "missed_frames", "end_media_90k", "interrupted"),
    }  # fmt: skip
    states = {"journal-open": {"reason": "started", "file": "000001.journal"}, "segment": {"state": "recovered"}}
    for value in nonsense:
        sheet = SupportSheet(recording, [])
        for seq, (type_, names) in enumerate(fields.items(), 1):
            own = dict.fromkeys(names, value) | states.get(type_, {}) | {"recording_id": recording.recording_id}
            if type_ == "segment":
                own |= {"file": "000001.m4s.age"}
            observed = WallObservation(clock.utc_ns(), clock.boottime_ns(), "ntp\x07", None)
            data = encode_json(seq, ZERO_HASH, type_, observed, clock.boot_id, own)
            sheet.take(parse_line(data + b"\t-"))
        json.loads(sheet.to_json())
        lines = sheet.to_text().decode("ascii").splitlines()
        assert max(map(len, lines)) <= WIDTH
        assert all(" " <= character <= "~" for line in lines for character in line)


def test_a_receipt_in_the_extract_says_where_it_was_copied_to(vault: VaultBuilder, tmp_path: Path) -> None:
    recording_id = vault.record(2)
    objects = [{"name": "init.mp4", "bytes": 754, "sha256": "0" * 64, "read_back": "o_direct"}]
    vault.journal.append("offload", recording_id=recording_id, store="/media/store", objects=objects)
    vault.journal.commit()
    stamp(vault)
    package = packed(vault, tmp_path, recording_id)
    number, fields = record_of(package, "offload")
    moment = fields["utc"].replace("T", " ")[:23]
    assert (
        "It was copied to the store /media/store: 1 file with 754 bytes were read back (o_direct) and compared, as "
        f"logged at {moment} UTC (record {number})." in text_of(package)
    )


def test_a_step_of_the_clock_is_not_crowded_out(vault: VaultBuilder, tmp_path: Path) -> None:
    vault.journal.append("clock", reason="step", step_ms=-7000)
    for _ in range(MAX_LISTED + 5):
        vault.journal.append("clock", reason="periodic", step_ms=0)
    package = packed(vault, tmp_path, vault.record(2))
    assert "by -7.000 s, before the recording; from then on it was" in text_of(package)


def test_hardware_and_operating_system_are_named_where_the_log_has_them() -> None:
    recording = IndexedRecording("01a0c450-6c00-7000-8000-000000000001", "CAM-TEST", "000001.journal")
    sheet, clock = SupportSheet(recording, []), SimulatedClock()
    machine = {
        "hardware_model": "Raspberry Pi Zero 2 W Rev 1.0", "machine": "aarch64", "kernel_release": "6.12.25",
        "os_name": "Debian GNU/Linux 12 (bookworm)", "python_version": "3.11.2",
    }  # fmt: skip
    opening = {"file": "000001.journal", "reason": "started", "device_id": "CAM-TEST", "key": "software (exportable)"}
    for seq, (type_, own) in enumerate((("journal-open", opening), ("boot", {"software": "x"} | machine)), 7):
        data = encode_json(seq, ZERO_HASH, type_, clock.observe(), clock.boot_id, own)
        sheet.take(parse_line(data + b"\t-"))
    text = " ".join(sheet.to_text().decode("ascii").split())
    assert (
        "It ran, by its own account, on: hardware: Raspberry Pi Zero 2 W Rev 1.0, processor: aarch64, operating "
        "system: Debian GNU/Linux 12 (bookworm), kernel: 6.12.25, Python: 3.11.2 (record 8)." in text
    )
    assert machine.items() <= sheet.to_document()["runs"][0]["boot"].items()


def test_faults_that_were_over_are_counted_and_one_that_was_not_is_told(vault: VaultBuilder, tmp_path: Path) -> None:
    vault.journal.append("fault", component="microphone", message="No microphone.")
    vault.journal.append("fault-cleared", component="microphone", message="Sound is back.")
    vault.journal.append("fault", component="signer", message="The token is away.")
    package = packed(vault, tmp_path, vault.record(2))
    number, _ = record_of(package, "fault", component="signer")
    page, _, appendix = text_of(package).partition("APPENDIX")
    assert "When it began there was a fault of signer," in page
    assert f"The token is away. (record {number})" in page
    assert "No microphone." not in page
    assert "No microphone." in appendix
    assert "1 fault of the same run had been over before it began" in page
