"""Another card in the slot while the agent runs: it gets nothing, the wearer knows, and the own one loses nothing."""

from __future__ import annotations

import errno
import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import agent.vault.journal
from agent.clock import NS_PER_MS, NS_PER_S, SimulatedClock
from agent.controller.events import InputActivated
from agent.controller.signals import Indication
from agent.errors import JournalError, StorageError, VaultLockedError
from agent.vault.layout import VaultLayout
from agent.vault.lock import VaultLock
from agent.verify.finding import Severity
from agent.verify.verify import verify_path
from tests.support.bench import Bench, bench_settings, rebooted
from tests.support.failing_card import FailingCard
from tests.support.identity import BENCH_IDENTITY
from tests.support.playback import journal_records, of_type, play, recording_bytes


class Slot:
    """A card slot with a camera that has been ready for some seconds, and cards beside it.

    A card is a folder. Another one under the vault's name has another inode, as another file system has another device.
    """

    def __init__(self, folder: Path, clock: SimulatedClock | None = None) -> None:
        self.path = folder / "slot"
        self.path.mkdir()
        self._folder = folder
        self.card = FailingCard()
        settings = bench_settings(pre_event_s=2, hold_ms=1000, double_press_ms=200, vault=self.path)
        self.bench = Bench(self.card, settings, clock=clock)
        self.lock = VaultLock(self.path)
        self.bench.lock = self.lock
        self.bench.start().run_for(4)

    def pull_out(self, name: str) -> None:
        """Nothing is mounted any more."""
        self.path.rename(self._folder / name)

    def put_in(self, name: str) -> None:
        """Mount a card; a new one when there is none of that name."""
        (self._folder / name).mkdir(exist_ok=True)
        (self._folder / name).rename(self.path)

    def exchange(self, out: str, into: str) -> None:
        """One card for another."""
        self.pull_out(out)
        self.put_in(into)

    def showing(self) -> Indication:
        """What the wearer sees."""
        return self.bench.panel.shown[-1][1]

    def contents(self) -> dict[str, str]:
        """Every file and folder on the card in the slot."""
        return {
            str(path.relative_to(self.path)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "/"
            for path in self.path.rglob("*")
        }

    def assert_whole_and_verified(self) -> None:
        """The one recording of this camera has each frame from its pre-event to its stop, and the vault verifies."""
        records = journal_records(self.card, self.bench.layout)
        (opened,) = of_type(records, "recording-open")
        (stop,) = of_type(records, "stop")
        (_closed,) = of_type(records, "recording-close")
        folder = self.bench.layout.recording(opened["recording_id"])
        until = {segment["file"]: segment["bytes"] for segment in of_type(records, "segment")}
        counters = play(recording_bytes(self.card, folder, until=until)).counters
        first_ns, last_ns = opened["media_origin_boottime_ns"], stop["stop_boottime_ns"]
        assert counters == [number for ns, number in self.bench.frame_counters if first_ns <= ns <= last_ns]
        assert opened["actual_pre_event_ms"] >= 2000
        BENCH_IDENTITY.install(VaultLayout(self.path))
        report = verify_path(self.path, roots=[BENCH_IDENTITY.root])
        assert [str(finding) for finding in report.findings if finding.severity is Severity.FAIL] == []


@pytest.fixture
def slot(tmp_path: Path) -> Iterator[Slot]:
    """See there."""
    made = Slot(tmp_path)
    yield made
    made.lock.release()


@pytest.mark.parametrize("other", ["new", "with a vault"])
def test_another_card_while_the_camera_idles_is_told_at_once_and_gets_nothing(
    slot: Slot, tmp_path: Path, other: str
) -> None:
    if other == "with a vault":
        (tmp_path / "aside").mkdir()
        theirs = Slot(tmp_path / "aside", rebooted(slot.bench.clock))
        theirs.bench.record(3)
        theirs.lock.release()
        theirs.path.rename(tmp_path / other)
    assert slot.showing() is Indication.READY
    slot.exchange("own", other)
    before = slot.contents()
    slot.bench.run_for(0.5)
    assert slot.showing() is Indication.FAULT
    assert "put its card back in" in str(slot.bench.daemon.state.storage_fault)
    now_ns = slot.bench.clock.boottime_ns()
    slot.bench.double_press(now_ns + 400 * NS_PER_MS)
    slot.bench.hold(now_ns + 6 * NS_PER_S)
    slot.bench.run_for(9)
    assert Indication.RECORDING not in [shown for _, shown in slot.bench.panel.shown]
    assert Indication.RECORDING_UNSAFE in [shown for _, shown in slot.bench.panel.shown]
    assert slot.contents() == before
    slot.exchange(other, "own")
    slot.bench.run_until_idle().run_for(6)
    assert slot.showing() is Indication.READY
    slot.assert_whole_and_verified()


@pytest.mark.parametrize("away_s", [0.3, 2.0])
def test_another_card_while_recording_loses_no_frame_of_the_own_one(slot: Slot, away_s: float) -> None:
    now_ns = slot.bench.clock.boottime_ns()
    slot.bench.double_press(now_ns + 400 * NS_PER_MS)
    slot.bench.run_for(3.25)
    assert slot.showing() is Indication.RECORDING
    slot.exchange("own", "other")
    slot.bench.run_for(away_s)
    assert slot.contents() == {}
    slot.exchange("other", "own")
    slot.bench.hold(slot.bench.clock.boottime_ns() + 6 * NS_PER_S)
    slot.bench.run_for(7).run_until_idle()
    slot.assert_whole_and_verified()


def test_a_card_that_is_out_while_idle_is_told_at_once(slot: Slot) -> None:
    slot.pull_out("own")
    slot.bench.run_for(0.5)
    assert slot.showing() is Indication.FAULT
    slot.put_in("own")
    slot.bench.run_for(1)
    assert slot.showing() is Indication.READY
    assert of_type(journal_records(slot.card, slot.bench.layout), "fault-cleared")


def test_the_card_that_is_back_is_locked_against_a_second_writer(slot: Slot, tmp_path: Path) -> None:
    """A copy stands for the file system that is mounted anew: the lock on the one before does not reach it."""
    slot.pull_out("own")
    slot.bench.run_for(0.5)
    copy = tmp_path / "mounted anew"
    copy.mkdir()
    for path in (tmp_path / "own").rglob("*"):
        target = copy / path.relative_to(tmp_path / "own")
        target.mkdir(parents=True, exist_ok=True) if path.is_dir() else target.write_bytes(path.read_bytes())
    slot.put_in("mounted anew")
    slot.bench.run_for(1)
    assert slot.showing() is Indication.READY
    with pytest.raises(VaultLockedError):
        VaultLock(slot.path)
    slot.bench.record(3)
    slot.assert_whole_and_verified()


def test_a_second_writer_that_came_first_keeps_the_card_to_itself(slot: Slot, tmp_path: Path) -> None:
    slot.exchange("own", "other")
    slot.bench.run_for(0.5)
    slot.exchange("other", "own")
    # A mount anew: another inode with the same content.
    slot.path.rename(tmp_path / "source")
    slot.path.mkdir()
    for path in list((tmp_path / "source").iterdir()):
        path.rename(slot.path / path.name)
    second = VaultLock(slot.path)
    before = slot.contents()
    slot.bench.run_for(2)
    assert "Another `bodycam run` uses the vault" in str(slot.bench.daemon.state.storage_fault)
    assert slot.contents() == before
    second.release()
    slot.bench.run_for(6)
    assert slot.showing() is Indication.READY


def test_an_older_state_of_the_own_card_ends_the_process(slot: Slot, tmp_path: Path) -> None:
    """Only a start can go on from it, and compare it with what is remembered elsewhere."""
    journal = slot.path / "journal"
    image = {path.name: path.read_bytes() for path in journal.iterdir()}
    slot.bench.record(3)
    slot.pull_out("own")
    for path in (tmp_path / "own" / "journal").iterdir():
        path.write_bytes(image.get(path.name, b""))
    slot.bench.run_for(0.5)
    (tmp_path / "own").rename(tmp_path / "source")
    (tmp_path / "own").mkdir()
    for path in list((tmp_path / "source").iterdir()):
        path.rename(tmp_path / "own" / path.name)
    slot.put_in("own")
    with pytest.raises(JournalError, match="starts again from what is there"):
        slot.bench.run_for(6)


def test_a_folder_that_went_before_it_was_durable_is_made_again(slot: Slot) -> None:
    """The card went between the making of a recording's folder and the sync of its name, and came back without it."""
    sync = slot.card.sync_dir

    def failing(path: Path) -> None:
        if path.parent == slot.bench.layout.recordings:
            slot.card.fails = True
        sync(path)

    slot.card.sync_dir = failing  # type: ignore[method-assign]
    now_ns = slot.bench.clock.boottime_ns()
    slot.bench.double_press(now_ns + 400 * NS_PER_MS)
    slot.bench.hold(now_ns + 6 * NS_PER_S)
    slot.bench.run_for(1)
    assert slot.card.fails
    (folder,) = slot.bench.layout.recordings.iterdir()
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    slot.card.sync_dir = sync  # type: ignore[method-assign]
    slot.card.fails = False
    slot.bench.run_for(6).run_until_idle()
    slot.assert_whole_and_verified()


def test_one_that_never_became_durable_and_whose_folder_went_still_closes(slot: Slot) -> None:
    slot.card.fails = True
    now_ns = slot.bench.clock.boottime_ns()
    slot.bench.double_press(now_ns + 400 * NS_PER_MS)
    slot.bench.hold(now_ns + 4 * NS_PER_S)
    slot.bench.run_for(5)
    slot.card.fails = False
    slot.bench.run_until_idle().run_for(6)
    assert slot.showing() is Indication.READY
    slot.assert_whole_and_verified()


@pytest.mark.parametrize("into_s", [3.25, 3.75, 4.25, 4.75])
def test_what_was_open_on_the_mount_before_is_not_written_any_more(slot: Slot, tmp_path: Path, into_s: float) -> None:
    """Where that one still takes writes, as a lazily unmounted one does, they would be acknowledged and be nowhere."""
    now_ns = slot.bench.clock.boottime_ns()
    slot.bench.double_press(now_ns + 400 * NS_PER_MS)
    slot.bench.run_for(into_s)
    slot.pull_out("own")
    slot.bench.run_for(0.5)
    shutil.copytree(tmp_path / "own", tmp_path / "copy")
    slot.put_in("copy")
    slot.bench.run_for(3)
    slot.bench.hold(slot.bench.clock.boottime_ns() + 2 * NS_PER_S)
    slot.bench.run_for(4).run_until_idle()
    slot.assert_whole_and_verified()


def test_the_room_on_another_card_ends_no_recording(slot: Slot) -> None:

    def free_bytes(path: Path) -> int:
        del path
        return 1 << 40 if slot.lock.in_place() else 0

    slot.card.free_bytes = free_bytes  # type: ignore[method-assign]
    slot.bench.double_press(slot.bench.clock.boottime_ns() + 400 * NS_PER_MS)
    slot.bench.run_for(3)
    slot.exchange("own", "other")
    slot.bench.run_for(12)
    slot.exchange("other", "own")
    slot.bench.run_for(6)
    assert slot.bench.daemon.state.active is not None
    slot.bench.hold(slot.bench.clock.boottime_ns() + 2 * NS_PER_S)
    slot.bench.run_for(4).run_until_idle()
    slot.assert_whole_and_verified()


def test_names_that_cannot_be_made_durable_leave_no_file_open(slot: Slot) -> None:
    failing = 0

    def sync_dir(path: Path) -> None:
        nonlocal failing
        if failing and path.parent == slot.bench.layout.recordings:
            failing -= 1
            raise StorageError(errno.EIO, "fsync failed", str(path))
        FailingCard.sync_dir(slot.card, path)

    slot.card.sync_dir = sync_dir  # type: ignore[method-assign]
    failing = 4
    before = len(list(Path("/proc/self/fd").iterdir()))
    slot.bench.record(8)
    assert failing == 0
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    slot.assert_whole_and_verified()


def chatter(slot: Slot, seconds: float) -> None:
    """A trigger input whose contact is loose: a marker for each edge."""
    for _ in range(round(seconds * 10)):
        slot.bench.daemon.post(InputActivated(5, slot.bench.clock.boottime_ns()))
        slot.bench.run_for(0.1)


@pytest.mark.parametrize("begun", [False, True])
def test_a_card_that_is_away_until_memory_is_full_of_records_costs_none_that_counts(
    slot: Slot, monkeypatch: pytest.MonkeyPatch, begun: bool
) -> None:
    monkeypatch.setattr(agent.vault.journal, "MAX_UNCOMMITTED", 40)
    start_ns = slot.bench.clock.boottime_ns() + 400 * NS_PER_MS
    if begun:
        slot.bench.double_press(start_ns)
        slot.bench.run_for(3)
    slot.card.fails = True
    if not begun:
        slot.bench.double_press(start_ns)
        slot.bench.run_for(1)
    chatter(slot, 12)
    if begun:
        slot.bench.hold(slot.bench.clock.boottime_ns() + 2 * NS_PER_S)
        slot.bench.run_for(3)
    slot.card.fails = False
    slot.bench.run_for(6)
    if not begun:
        slot.bench.hold(slot.bench.clock.boottime_ns() + 2 * NS_PER_S)
        slot.bench.run_for(4).run_until_idle()
    slot.assert_whole_and_verified()
    records = journal_records(slot.card, slot.bench.layout)
    assert of_type(records, "records-lost")
    torn = [segment for segment in of_type(records, "segment") if segment["state"] == "torn"]
    assert len(torn) <= 1, "one for the outage, and not one for each try"


def test_an_end_that_could_not_finish_says_which_recordings(slot: Slot) -> None:
    slot.exchange("own", "other")
    slot.bench.double_press(slot.bench.clock.boottime_ns() + 400 * NS_PER_MS)
    slot.bench.run_for(3)
    slot.bench.terminate()
    slot.bench.run_for(30)
    end = slot.bench.daemon.exit
    assert end is not None
    assert not end.clean
    (lost,) = slot.bench.daemon.unfinished
    assert str(slot.bench.layout.recording(lost)).endswith(lost)
    assert slot.contents() == {}
