"""`bodycam scrub`: bits that flip, files that cannot be read, pauses, restarts, and how fast it may be."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from agent.clock import NS_PER_S, SimulatedClock
from agent.daemon.scrub_reports import PAUSE_NS as PAUSE_BETWEEN_NS
from agent.errors import ControlError, EvidenceNotFound, StorageError
from agent.scrub.card import BUFFER_BYTES, Card, FileDamagedError
from agent.scrub.pace import ASK_NS, PAUSE_NS, Pace
from agent.scrub.position import MAX_DIFFERENCES, PositionFile
from agent.scrub.scrub import KEEP_NS, TELL_NS, Scrub
from tests.support.vault_builder import VaultBuilder

RATE = 1_000_000


@dataclass
class FakeDaemon:
    """Answers as `run` does. busy_asks: how many more times it says that it records."""

    busy_asks: int = 0
    down: bool = False
    reports: list[dict[str, Any]] = field(default_factory=list)
    asked: int = 0
    clock: SimulatedClock | None = None
    taken_ns: int | None = None

    def __call__(self, message: dict[str, Any]) -> dict[str, Any]:
        if self.down:
            raise ControlError("The daemon does not answer.")
        if message["command"] == "scrub":
            if self.clock is not None:
                before_ns, self.taken_ns = self.taken_ns, self.clock.boottime_ns()
                if before_ns is not None and self.taken_ns < before_ns + PAUSE_BETWEEN_NS:
                    self.taken_ns = before_ns
                    raise ControlError("A report was journalled a moment ago; wait a moment.")
            self.reports.append(message)
            return {}
        assert message == {"command": "status"}
        self.asked += 1
        if self.busy_asks:
            self.busy_asks -= 1
            return {"shows": "recording", "recording": "x", "finishing": []}
        return {"shows": "ready", "recording": None, "finishing": []}


@dataclass
class CountingCard(Card):
    """The real one; failing: names of files whose reading fails."""

    read: list[str] = field(default_factory=list)
    failing: set[str] = field(default_factory=set)
    stop_after: int | None = None

    def sha256(self, path: Path, count: int, after_read: Callable[[int], None]) -> str:
        if self.stop_after is not None and len(self.read) >= self.stop_after:
            raise KeyboardInterrupt
        self.read.append(f"{path.parent.name}/{path.name}")
        if path.name in self.failing:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return super().sha256(path, count, after_read)


@dataclass
class Bench:
    vault: VaultBuilder
    ids: list[str]
    state: Path
    clock: SimulatedClock = field(default_factory=SimulatedClock)
    daemon: FakeDaemon = field(default_factory=FakeDaemon)
    card: CountingCard = field(default_factory=CountingCard)
    said: list[str] = field(default_factory=list)

    def scrub(self, *, alone: bool = False, rate: int = RATE) -> Scrub:
        return Scrub(
            self.vault.root,
            card=self.card,
            clock=self.clock,
            bytes_per_s=rate,
            positions=PositionFile(self.state),
            ask=None if alone else self.daemon,
            say=self.said.append,
        )

    @property
    def sealed(self) -> list[Path]:
        folders = [self.vault.layout.recording(recording_id) for recording_id in sorted(self.ids)]
        return [path for folder in folders for path in sorted(folder.iterdir()) if path.suffix in (".m4s", ".mp4")]

    @property
    def sealed_bytes(self) -> int:
        return sum(path.stat().st_size for path in self.sealed)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Two recordings of two segments each, and one that is cut off while its second segment is open."""
    vault = VaultBuilder(tmp_path / "vault")
    ids = [vault.record(4, pad_bytes=50_000), vault.record(3, pad_bytes=50_000)]
    running = vault.begin()
    vault.feed(running, 4)
    assert (vault.layout.recording(running.recording_id) / "000002.m4s").is_file()
    return Bench(vault, ids, tmp_path / "scrub" / "position.json")


def flip(path: Path, at: int = -1) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_a_good_card_is_read_whole_and_said_to_be_good(bench: Bench) -> None:
    report = bench.scrub().run()
    # Of the recording that runs, init.mp4 and the first segment are sealed.
    assert len(bench.card.read) == report["files"] == len(bench.sealed) + 2
    assert bench.card.read == sorted(bench.card.read)
    assert report["bytes"] > bench.sealed_bytes
    assert (report["recordings"], report["differing"], report["differences"]) == (3, 0, [])
    assert bench.daemon.reports == [{"command": "scrub", **report}]
    assert report["finished"] is True
    assert not bench.state.exists()
    assert bench.said == []


@pytest.mark.parametrize("file", range(6))
def test_a_flipped_bit_is_found_in_any_file(bench: Bench, file: int) -> None:
    path = bench.sealed[file]
    flip(path)
    report = bench.scrub().run()
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    assert report["differences"] == [
        {"recording": path.parent.name, "file": path.name, "found_sha256": found, "error": None}
    ]
    assert report["differing"] == 1
    assert path.name in bench.said[0]


def test_bytes_behind_what_is_vouched_for_are_none_of_its_business(tmp_path: Path) -> None:
    vault = VaultBuilder(tmp_path / "vault")
    running = vault.begin()
    vault.feed(running, 2)
    vault.filesystem.fail_next_sync_of = ".m4s"
    vault.feed(running, 1)
    vault.retry()
    recording_id = vault.stop(running)
    torn = vault.layout.recording(recording_id) / "000001.m4s"
    bench = Bench(vault, [recording_id], tmp_path / "position.json")
    assert "torn" in vault.layout.recording(recording_id).joinpath("recording.json").read_text()
    flip(torn)
    assert bench.scrub().run()["differing"] == 0
    flip(torn, 10)
    assert bench.scrub().run()["differing"] == 1


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (lambda path: path.unlink(), "it is not there"),
        (lambda path: path.write_bytes(path.read_bytes()[:-3]), "it is 3 bytes shorter than the journal says"),
        (
            lambda path: (path.rename(path.with_suffix(".x")), path.symlink_to(path.with_suffix(".x"))),
            "a symbolic link",
        ),
        (pipe, "not a plain file"),
        (lambda path: (path.unlink(), path.mkdir()), "not a plain file"),
    ],
)
def test_a_file_that_is_not_as_it_was_left(bench: Bench, spoil: Callable[[Path], object], error: str) -> None:
    spoil(bench.sealed[1])
    (difference,) = bench.scrub().run()["differences"]
    assert difference["found_sha256"] is None
    assert error in difference["error"]


def test_a_file_that_the_card_does_not_give_back_holds_up_no_other(bench: Bench) -> None:
    bench.card.failing = {"000001.m4s"}
    report = bench.scrub().run()
    assert report["differing"] == 3
    assert {entry["error"] for entry in report["differences"]} == {"it cannot be read (Input/output error)"}
    assert report["files"] == len(bench.card.read)


def test_a_folder_that_is_gone_is_told_once(bench: Bench) -> None:
    folder = bench.vault.layout.recording(bench.ids[0])
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    (difference,) = bench.scrub().run()["differences"]
    assert (difference["recording"], difference["error"]) == (bench.ids[0], "it is not there")


def test_more_differences_than_are_named_are_counted(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.scrub.position.MAX_DIFFERENCES", 2)
    for path in bench.sealed:
        flip(path)
    report = bench.scrub().run()
    assert (report["differing"], len(report["differences"])) == (len(bench.sealed), 2)


def test_damage_is_told_when_it_is_found_and_again_at_the_end(bench: Bench) -> None:
    for path in bench.sealed:
        flip(path)
    bench.scrub(rate=100_000_000).run()
    first, last = bench.daemon.reports
    assert (first["finished"], first["differing"]) == (False, 1)
    assert (last["finished"], last["differing"]) == (True, len(bench.sealed))
    bench.daemon.reports.clear()
    slow = bench.sealed[0].stat().st_size * NS_PER_S // TELL_NS
    bench.scrub(rate=slow).run()
    assert len(bench.daemon.reports) > 3


def test_the_last_report_waits_until_the_daemon_takes_another(bench: Bench) -> None:
    flip(bench.sealed[-1])
    bench.daemon.clock = bench.clock
    bench.scrub(rate=1_000_000_000).run()
    assert [report["finished"] for report in bench.daemon.reports] == [False, True]
    assert not bench.state.exists()


def test_it_reads_no_faster_than_asked(bench: Bench) -> None:
    began_ns = bench.clock.boottime_ns()
    report = bench.scrub().run()
    took_s = (bench.clock.boottime_ns() - began_ns) / NS_PER_S
    assert took_s == pytest.approx(report["bytes"] / RATE, rel=0.01)


def test_it_waits_while_the_camera_records_and_makes_nothing_up_for_it(bench: Bench) -> None:
    clock, daemon = bench.clock, bench.daemon
    pace = Pace(clock, RATE, daemon)
    pace.wait_until_idle()
    assert daemon.asked == 1
    for _ in range(3):
        before_ns = clock.boottime_ns()
        pace.after_read(RATE // 4)
        assert clock.boottime_ns() - before_ns == NS_PER_S // 4
    assert daemon.asked == 1  # a quarter of a second each: not asked anew within a second
    daemon.busy_asks = 3
    before_ns = clock.boottime_ns()
    pace.after_read(RATE // 4)
    assert clock.boottime_ns() - before_ns == NS_PER_S // 4 + 3 * PAUSE_NS
    assert pace.pauses == 1
    before_ns = clock.boottime_ns()
    pace.after_read(RATE)
    assert clock.boottime_ns() - before_ns == NS_PER_S
    assert ASK_NS <= NS_PER_S


@pytest.mark.parametrize(
    ("status", "is_busy"),
    [
        ({"shows": "ready", "recording": None, "finishing": []}, False),
        ({"shows": "fault", "recording": None, "finishing": []}, False),
        ({"shows": "accepted", "recording": None, "finishing": []}, True),
        ({"shows": "ready", "recording": "x", "finishing": []}, True),
        ({"shows": "ready", "recording": None, "finishing": ["x"]}, True),
        ({"shows": "stopping", "recording": None, "finishing": []}, True),
    ],
)
def test_what_counts_as_idle(status: dict[str, Any], is_busy: bool) -> None:
    answers = [status, {"shows": "ready"}]
    clock = SimulatedClock()
    pace = Pace(clock, RATE, lambda _message: answers.pop(0))
    pace.wait_until_idle()
    assert pace.pauses == is_busy


def test_a_recording_that_begins_stops_it_within_a_file(bench: Bench) -> None:
    (bench.vault.layout.recording(bench.ids[0]) / "000001.m4s").touch()
    bench.daemon.busy_asks = 2
    scrub = bench.scrub()
    scrub.run()
    assert scrub.pace.pauses == 1
    assert bench.daemon.asked >= 3


def test_a_daemon_that_goes_away_holds_nothing_up_and_is_told_by_the_next_run(bench: Bench) -> None:
    flip(bench.sealed[0])
    bench.daemon.down = True
    report = bench.scrub().run()
    assert report["differing"] == 1
    assert any("did not take the report" in line for line in bench.said)
    assert bench.state.exists()
    bench.daemon.down = False
    read = len(bench.card.read)
    later = bench.scrub().run()
    assert len(bench.card.read) == read
    assert later | {"to_utc": ""} == report | {"to_utc": ""}
    assert bench.daemon.reports[-1]["differing"] == 1
    assert not bench.state.exists()


def test_without_a_daemon_it_only_says(bench: Bench) -> None:
    flip(bench.sealed[0])
    assert bench.scrub(alone=True).run()["differing"] == 1
    assert len(bench.said) == 1
    assert (bench.daemon.reports, bench.daemon.asked) == ([], 0)
    assert not bench.state.exists()


def test_after_a_restart_it_goes_on_where_it_was(bench: Bench) -> None:
    whole = bench.scrub().run()
    every, bench.card.read[:] = list(bench.card.read), []
    flip(bench.sealed[0])
    bench.card.stop_after = 4
    slow = bench.sealed[0].stat().st_size * NS_PER_S // KEEP_NS  # a position is kept behind every larger file
    with pytest.raises(KeyboardInterrupt):
        bench.scrub(rate=slow).run()
    bench.card.stop_after = None
    report = bench.scrub().run()
    assert sorted(set(bench.card.read)) == every
    assert len(bench.card.read) < len(every) + 3  # what was read since the position was last kept is read again
    assert (report["files"], report["bytes"]) == (whole["files"], whole["bytes"])
    assert report["recordings"] == whole["recordings"]
    assert [entry["file"] for entry in report["differences"]] == [bench.sealed[0].name]
    assert report["from_utc"] < report["to_utc"]


def test_a_new_pass_begins_when_one_is_over(bench: Bench) -> None:
    bench.scrub().run()
    bench.card.read.clear()
    bench.clock.advance_ns(86_400 * NS_PER_S)
    again = bench.scrub().run()
    assert len(bench.card.read) == again["files"]


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "null", "[" * 50_000, '{"from_utc":1}',
        '{"from_utc":"x","last":["a"],"recordings":0,"files":0,"bytes":0,"differing":0,"differences":[]}',
        '{"from_utc":"x","last":[1,2],"recordings":0,"files":0,"bytes":0,"differing":0,"differences":[]}',
        '{"from_utc":"x","last":null,"recordings":-1,"files":0,"bytes":0,"differing":0,"differences":[]}',
        '{"from_utc":"x","last":null,"recordings":true,"files":0,"bytes":0,"differing":0,"differences":[]}',
        '{"from_utc":"x","last":null,"recordings":0,"files":0,"bytes":0,"differing":0,"differences":[{"a":1}]}',
        '{"from_utc":7,"last":null,"recordings":0,"files":0,"bytes":0,"differing":0,"differences":[]}',
    ],
)  # fmt: skip
def test_a_position_that_is_none_begins_a_new_pass(bench: Bench, text: str) -> None:
    bench.state.parent.mkdir()
    bench.state.write_text(text)
    assert bench.scrub().run()["files"] == len(bench.card.read) > 4


def test_a_position_that_cannot_be_kept_is_an_error(bench: Bench) -> None:
    bench.state.parent.write_text("a file in its place")
    with pytest.raises(StorageError):
        bench.scrub(rate=1000).run()


def test_a_position_holds_no_more_differences_than_a_report(bench: Bench) -> None:
    bench.state.parent.mkdir()
    entry = {"recording": "r", "file": "f", "found_sha256": None, "error": "e"}
    document = {"from_utc": "x", "last": None, "recordings": 0, "files": 0, "bytes": 0, "differing": 0}
    bench.state.write_text(json.dumps(document | {"differences": [entry] * (MAX_DIFFERENCES + 1)}))
    assert PositionFile(bench.state).load() is None


def test_there_is_no_vault(tmp_path: Path) -> None:
    with pytest.raises(EvidenceNotFound):
        Scrub(
            tmp_path / "none",
            card=Card(),
            clock=SimulatedClock(),
            bytes_per_s=1,
            positions=PositionFile(None),
            ask=None,
            say=print,
        )


# The card


@pytest.mark.parametrize("size", [1, 4095, 4096, 4097, BUFFER_BYTES - 1, BUFFER_BYTES, 3 * BUFFER_BYTES + 17])
@pytest.mark.parametrize("direct", [True, False])
def test_the_card_hashes_what_is_vouched_for(
    tmp_path: Path, size: int, direct: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = os.urandom(size)
    path = tmp_path / "000001.m4s"
    path.write_bytes(data)
    if not direct:
        real = os.open

        def without(name: Path, flags: int, *more: int) -> int:
            if flags & os.O_DIRECT:
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), str(name))
            return real(name, flags, *more)

        monkeypatch.setattr(os, "open", without)
    reads: list[int] = []
    assert Card().sha256(path, size, reads.append) == hashlib.sha256(data).hexdigest()
    assert sum(reads) == size
    assert max(reads) <= BUFFER_BYTES
    assert Card().sha256(path, size // 2, reads.append) == hashlib.sha256(data[: size // 2]).hexdigest()
    with pytest.raises(FileDamagedError, match="shorter"):
        Card().sha256(path, size + 1, reads.append)


def test_reading_asks_the_card_and_leaves_nothing_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each open is past the page cache, or the kernel is told to forget before the first read and behind each."""
    path = tmp_path / "000001.m4s"
    path.write_bytes(bytes(2 * BUFFER_BYTES))
    calls: list[str] = []
    real_open, real_readv, real_advise = os.open, os.readv, os.posix_fadvise

    def opening(name: Path, flags: int, *more: int) -> int:
        if flags & os.O_DIRECT:
            calls.append("direct")
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), str(name))
        return real_open(name, flags, *more)

    def reading(descriptor: int, buffers: Any) -> int:
        calls.append("read")
        return real_readv(descriptor, buffers)

    def advising(descriptor: int, offset: int, length: int, advice: int) -> None:
        assert (offset, length, advice) == (0, 0, os.POSIX_FADV_DONTNEED)
        calls.append("forget")
        real_advise(descriptor, offset, length, advice)

    monkeypatch.setattr(os, "open", opening)
    monkeypatch.setattr(os, "readv", reading)
    monkeypatch.setattr(os, "posix_fadvise", advising)
    Card().sha256(path, 2 * BUFFER_BYTES, lambda _count: None)
    assert calls == ["direct", "forget", "read", "forget", "read", "forget"]
