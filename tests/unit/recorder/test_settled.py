"""Which folders a start looks at, in a vault that lies there as a camera left it; and what that costs, counted."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import agent.recorder.settled
import agent.verify.journal
from agent.clock import NS_PER_S, SimulatedClock
from agent.daemon.vault_opening import open_recorder
from agent.recorder.recovery import Recovered
from agent.recorder.settled import names_sha256
from agent.settings.load import LoadedSettings
from agent.trust.own_keys import OwnKeys
from agent.vault import journal_end, record
from agent.vault.filesystem import PosixFilesystem
from agent.vault.layout import RECORDING_JSON_NAME
from agent.vault.record import Record, parse_line, sha256_hex
from agent.verify.evidence import locate
from agent.verify.index import read_index
from agent.verify.verify import verify_path
from tests.support.bench import bench_settings
from tests.support.identity import BENCH_IDENTITY
from tests.support.large_vault import LargeVault
from tests.support.playback import journal_records
from tests.support.vault_builder import VaultBuilder
from tests.unit.daemon.test_storage import Listener


@dataclass
class CountingFilesystem(PosixFilesystem):
    """The real one. touched: folders of recordings that anything was asked of, or of what is in them."""

    recordings: Path
    touched: set[str] = field(default_factory=set)
    operations: Counter[str] = field(default_factory=Counter)
    read_bytes: int = 0

    def _note(self, operation: str, path: Path) -> None:
        self.operations[operation] += 1
        if path.is_relative_to(self.recordings) and path != self.recordings:
            self.touched.add(path.relative_to(self.recordings).parts[0])

    def list_dir(self, path: Path) -> list[str]:
        self._note("list_dir", path)
        return super().list_dir(path)

    def read(self, path: Path) -> bytes:
        self._note("read", path)
        data = super().read(path)
        self.read_bytes += len(data)
        return data

    def is_link(self, path: Path) -> bool:
        self._note("is_link", path)
        return super().is_link(path)

    def size_bytes(self, path: Path) -> int | None:
        self._note("size_bytes", path)
        return super().size_bytes(path)

    def sync_dir(self, path: Path) -> None:
        self._note("sync_dir", path)
        super().sync_dir(path)


@dataclass
class Camera:
    """Starts on one vault, each one with a clock of its own."""

    vault: VaultBuilder
    boots: int = 100

    def start(self, *, power_was_off: bool = True) -> tuple[CountingFilesystem, Recovered]:
        """What `run` does with the vault, up to where it could record; then it is gone without an end."""
        self.boots += power_was_off
        filesystem = CountingFilesystem(self.vault.layout.recordings)
        clock = SimulatedClock(
            boottime_ns=20 * NS_PER_S,
            utc_ns=self.vault.clock.utc_ns() + 3600 * NS_PER_S,
            boot_id=f"00000000-0000-4000-8000-{self.boots:012d}",
        )
        loaded = LoadedSettings(bench_settings(vault=self.vault.root), (), "0" * 64)
        signer = BENCH_IDENTITY.record_signer
        recorder, recovered = open_recorder(filesystem, self.vault.layout, signer, clock, Listener(), loaded)
        recorder.close()
        return filesystem, recovered

    def record(self, *, cut: bool = False) -> str:
        """A recording by a run in between; with cut it has no end."""
        self.vault.restart()
        running = self.vault.begin()
        self.vault.feed(running, 2)
        if not cut:
            self.vault.stop(running)
        return running.recording_id

    def json(self, recording_id: str) -> Path:
        return self.vault.layout.recording(recording_id) / RECORDING_JSON_NAME

    def records(self, type_: str) -> list[dict[str, Any]]:
        return [
            found.fields for found in journal_records(self.vault.filesystem, self.vault.layout) if found.type == type_
        ]


@pytest.fixture
def camera(tmp_path: Path) -> Camera:
    """With three closed recordings, and one start that looked at them."""
    vault = VaultBuilder(tmp_path / "vault")
    for _ in range(3):
        vault.record(2)
    vault.shut_down()
    made = Camera(vault)
    filesystem, _ = made.start()
    assert len(filesystem.touched) == 3
    return made


def names(camera: Camera) -> list[str]:
    return sorted(path.name for path in camera.vault.layout.recordings.iterdir())


def test_what_one_start_found_closed_the_next_does_not_touch(camera: Camera) -> None:
    (said,) = camera.records("settled")
    assert (said["recordings"], said["unsettled"]) == (3, [])
    listed = "".join(f"{name}\n" for name in names(camera))
    assert said["names_sha256"] == names_sha256(names(camera)) == sha256_hex(listed.encode())
    for _ in range(3):
        filesystem, recovered = camera.start()
        assert filesystem.touched == set()
        assert recovered.recording_ids == ()
    assert len(camera.records("settled")) == 4


def test_what_was_begun_since_is_looked_at_and_nothing_else(camera: Camera) -> None:
    recording_id = camera.record(cut=True)
    filesystem, recovered = camera.start()
    assert recovered.recording_ids == (recording_id,)
    assert filesystem.touched == {recording_id}
    filesystem, recovered = camera.start()
    assert recovered.recording_ids == ()
    assert filesystem.touched == {recording_id}  # what the start before wrote there is only now known to be on flash
    filesystem, _ = camera.start()
    assert filesystem.touched == set()


@pytest.mark.parametrize("change", ["a folder more", "a folder less"])
def test_when_the_folders_are_not_those_that_were_settled_all_are_looked_at(camera: Camera, change: str) -> None:
    gone = names(camera)[0]
    if change == "a folder less":
        shutil.rmtree(camera.vault.layout.recording(gone))
    else:  # power went before a record of it was on flash
        more = camera.vault.layout.recording("01890a5d-ac96-774b-bcce-b302099a8057")
        more.mkdir()
    filesystem, recovered = camera.start()
    assert filesystem.touched == set(names(camera))
    assert recovered.recording_ids == (() if change == "a folder less" else (more.name,))
    filesystem, _ = camera.start()
    assert filesystem.touched == (set() if change == "a folder less" else {more.name})


def test_a_link_among_them_is_looked_at_each_time_and_the_others_are_not(camera: Camera, tmp_path: Path) -> None:
    name = "01890a5d-ac96-774b-bcce-b302099a8057"
    camera.vault.layout.recording(name).symlink_to(tmp_path)
    camera.start()
    for _ in range(2):
        filesystem, recovered = camera.start()
        assert filesystem.touched == {name}
        assert recovered.ignored == (name,)


def test_nothing_is_settled_before_the_power_was_off(camera: Camera) -> None:
    """A `recording.json` that is seen may still be only in memory: a later cut takes it, and it must be made again."""
    recording_id = camera.record()
    camera.boots = int(camera.vault.clock.boot_id.rpartition("-")[2])
    for _ in range(2):
        filesystem, _ = camera.start(power_was_off=False)
        assert filesystem.touched == {recording_id}
    camera.json(recording_id).unlink()
    camera.boots = 1001
    filesystem, recovered = camera.start()
    assert recovered.recording_ids == (recording_id,)
    assert camera.json(recording_id).is_file()


def plant(camera: Camera, edit: dict[str, Any], *, signed: bool) -> None:
    """A `settled` record behind the newest, linked as it must be, by somebody without the key (or with it)."""
    path = sorted(camera.vault.layout.journal.iterdir())[-1]
    last = parse_line(path.read_bytes().splitlines()[-1])
    common = {name: last.fields[name] for name in record.COMMON_FIELDS}
    document = common | {"seq": last.seq + 1, "prev": last.sha256, "type": "settled"} | edit
    data = json.dumps(document, separators=(",", ":")).encode()
    made = Record(data, BENCH_IDENTITY.record_signer.sign_record(data) if signed else None, document)
    path.write_bytes(path.read_bytes() + made.line())


@pytest.mark.parametrize("signed", [False, True])
def test_a_planted_record_hides_nothing_without_the_key(camera: Camera, signed: bool) -> None:
    recording_id = camera.record(cut=True)
    names_now = names(camera)
    said = {"recordings": len(names_now), "names_sha256": names_sha256(names_now), "unsettled": []}
    plant(camera, said, signed=signed)
    _, recovered = camera.start()
    assert recovered.recording_ids == (() if signed else (recording_id,))


@pytest.mark.parametrize(
    "edit",
    [
        {},
        {"recordings": "3", "names_sha256": "", "unsettled": []},
        {"recordings": 3, "names_sha256": 7, "unsettled": []},
        {"recordings": 3, "names_sha256": "", "unsettled": "all"},
        {"recordings": 3, "names_sha256": "", "unsettled": [[], {}, None]},
    ],
)
def test_a_record_that_makes_no_sense_settles_nothing(camera: Camera, edit: dict[str, Any]) -> None:
    plant(camera, edit, signed=True)
    filesystem, _ = camera.start()
    assert filesystem.touched == set(names(camera))


def test_more_than_can_be_named_are_not(camera: Camera, monkeypatch: pytest.MonkeyPatch) -> None:
    camera.record(cut=True)
    camera.start()
    before = len(camera.records("settled"))
    monkeypatch.setattr(agent.recorder.settled, "MAX_UNSETTLED", 0)
    camera.record(cut=True)  # whose own start leaves nothing open
    assert len(camera.records("settled")) == before + 1
    camera.start()
    assert len(camera.records("settled")) == before + 1


# Scale


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LargeVault]:
    """Two hundred recordings in a first run, then one with a long journal and ten more."""
    made = LargeVault.begin(tmp_path_factory.mktemp("large") / "vault")
    made.run(200, filler_bytes=300_000)
    made.run(10, filler_bytes=600_000, ended=False)
    yield made
    shutil.rmtree(made.root.parent)


def test_a_start_reads_the_newest_run_once_and_touches_what_is_new(
    large: LargeVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Work, and not time: bytes read, lines parsed in full, signatures checked, folders looked into."""
    counts: Counter[str] = Counter()
    strict, checked = record.parse_line, OwnKeys.signed

    def parsing(line: bytes) -> Record:
        counts["parsed"] += 1
        return strict(line)

    def checking(*arguments: Any) -> bool:
        counts["checked"] += 1
        return checked(*arguments)

    monkeypatch.setattr(journal_end, "parse_line", parsing)
    monkeypatch.setattr(OwnKeys, "signed", checking)
    filesystem = CountingFilesystem(large.layout.recordings)
    loaded = LoadedSettings(bench_settings(vault=large.root), (), "0" * 64)
    clock = SimulatedClock(utc_ns=large.clock.utc_ns(), boot_id="00000000-0000-4000-8000-000000000999")
    newest = sorted(large.layout.journal.iterdir())[-1]
    assert large.journal_bytes > 2_000_000
    assert newest.stat().st_size > 600_000
    signer = BENCH_IDENTITY.record_signer
    recorder, recovered = open_recorder(filesystem, large.layout, signer, clock, Listener(), loaded)
    recorder.close()
    assert recovered.recording_ids == ()
    assert len(filesystem.touched) == 10
    assert filesystem.operations["size_bytes"] + filesystem.operations["is_link"] <= 3 * 10 + 5
    # The newest run's file, and what this start wrote itself and reads back.
    assert filesystem.read_bytes <= newest.stat().st_size + 20_000
    assert counts["parsed"] <= 30
    assert counts["checked"] == 1


def test_verify_and_the_index_of_offload_parse_each_line_once(
    large: LargeVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten times the vault is ten times the work, and nothing is compared with everything."""
    lines = sum(path.read_bytes().count(b"\n") for path in large.layout.journal.iterdir())
    files = len(list(large.layout.journal.iterdir()))
    parsed = 0
    strict = record.parse_line

    def parsing(line: bytes) -> Record:
        nonlocal parsed
        parsed += 1
        return strict(line)

    monkeypatch.setattr(agent.verify.journal, "parse_line", parsing)
    assert len(read_index(locate(large.root)).recordings) >= 210
    assert lines <= parsed <= lines + 2 * files
    parsed = 0
    assert verify_path(large.root, roots=[BENCH_IDENTITY.root]).ok
    assert lines <= parsed <= lines + 2 * files


def test_a_recording_that_was_cut_costs_its_own_records_and_no_others(large: LargeVault) -> None:
    """And what is journalled of it is the same as ever."""
    cut = sorted(path.name for path in large.layout.recordings.iterdir())[0]
    # An old one whose `recording.json` is gone is not missed, as long as nothing else is: no evidence is in it.
    (large.layout.recording(cut) / RECORDING_JSON_NAME).unlink()
    (large.layout.recording("01890a5d-ac96-774b-bcce-b302099a8057")).mkdir()
    filesystem = CountingFilesystem(large.layout.recordings)
    loaded = LoadedSettings(bench_settings(vault=large.root), (), "0" * 64)
    clock = SimulatedClock(utc_ns=large.clock.utc_ns(), boot_id="00000000-0000-4000-8000-000000001000")
    signer = BENCH_IDENTITY.record_signer
    recorder, recovered = open_recorder(filesystem, large.layout, signer, clock, Listener(), loaded)
    recorder.close()
    assert len(filesystem.touched) == 211
    assert set(recovered.recording_ids) == {cut, "01890a5d-ac96-774b-bcce-b302099a8057"}
    assert (large.layout.recording(cut) / RECORDING_JSON_NAME).is_file()
