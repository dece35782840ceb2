"""A card that was pulled out, or whose file system has to be mended, while it was being recorded on.

The camera lets go of it, so that it can be unmounted; writes on when it is back; and never on another one.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.clock import NS_PER_MS, NS_PER_S
from agent.controller.signals import Indication
from agent.errors import VaultLockedError
from agent.recorder.recorder import LAST_RETRY_NS
from agent.vault.filesystem import PosixFilesystem
from agent.vault.layout import VaultLayout
from agent.vault.lock import VaultLock
from agent.verify.verify import verify_path
from tests.support.bench import Bench, bench_settings
from tests.support.failing_card import FailingCard
from tests.support.identity import BENCH_IDENTITY
from tests.support.playback import journal_records, of_type, play, recording_bytes

LET_GO_S = 2 * LAST_RETRY_NS / NS_PER_S
"""After so long everything has failed often enough."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "card" / "vault"
    made.mkdir(parents=True)
    BENCH_IDENTITY.install(VaultLayout(made))
    return made


@pytest.fixture
def card() -> FailingCard:
    return FailingCard()


@pytest.fixture
def bench(root: Path, card: FailingCard) -> Bench:
    """Records, and holds the vault."""
    made = Bench(card, bench_settings(vault=root, hold_ms=1000, double_press_ms=200))
    made.vault_hold = VaultLock(root)
    made.start().run_for(4)
    made.double_press(made.clock.boottime_ns() + 300 * NS_PER_MS)
    made.run_for(3)
    assert shows(made) is Indication.RECORDING
    return made


def open_below(folder: Path) -> list[str]:
    """What this process has open there, the folder itself included."""
    links = [link.readlink() if link.is_symlink() else Path() for link in Path("/proc/self/fd").iterdir()]
    return [str(link) for link in links if link.is_relative_to(folder)]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def shows(bench: Bench) -> Indication | None:
    """What the lights say now."""
    return bench.panel.now


def finish(bench: Bench, root: Path, recordings: int = 1) -> None:
    """Stop; so many recordings, sound, in which no frame is missing and none there twice."""
    bench.hold(bench.clock.boottime_ns() + 1100 * NS_PER_MS)
    bench.run_for(2).run_until_idle(30)
    bench.terminate()
    bench.run_for(0.5)
    report = verify_path(root, roots=[BENCH_IDENTITY.root])
    assert report.ok, report.findings
    assert len(report.recordings) == recordings
    records = journal_records(PosixFilesystem(), bench.layout)
    assert not of_type(records, "gap")
    for recording in report.recordings:
        segments = of_type(records, "segment", recording.recording_id)
        vouched = {segment["file"]: int(segment["bytes"]) for segment in segments}
        film = recording_bytes(PosixFilesystem(), bench.layout.recording(recording.recording_id), until=vouched)
        numbers = play(film).counters
        assert numbers[0] is not None
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def test_a_card_that_fails_for_long_is_let_go_of_and_held_again_before_it_is_written(
    bench: Bench, card: FailingCard, root: Path
) -> None:
    card.fails = True
    bench.run_for(1)
    assert open_below(root), "a moment's failure is no reason"
    bench.run_for(LET_GO_S)
    assert shows(bench) is Indication.RECORDING_UNSAFE
    assert not open_below(root), "so that it can be unmounted"
    card.fails = False
    bench.run_for(LET_GO_S)
    assert shows(bench) is Indication.RECORDING
    with pytest.raises(VaultLockedError):
        VaultLock(root)
    finish(bench, root)


def test_a_card_on_which_another_process_records_by_now_is_left_to_it(
    bench: Bench, card: FailingCard, root: Path
) -> None:
    card.fails = True
    bench.run_for(LET_GO_S)
    others = VaultLock(root)
    card.fails = False
    before = contents(root)
    bench.run_for(LET_GO_S)
    assert shows(bench) is Indication.RECORDING_UNSAFE
    assert contents(root) == before
    others.release()
    bench.run_for(LET_GO_S)
    finish(bench, root)


def test_another_card_is_not_written_and_with_the_own_one_it_goes_on(
    bench: Bench, card: FailingCard, root: Path, tmp_path: Path
) -> None:
    card.fails = True
    bench.run_for(LET_GO_S)
    root.parent.rename(tmp_path / "own")
    other = Bench(PosixFilesystem(), bench_settings(vault=root, hold_ms=1000, double_press_ms=200))
    root.mkdir(parents=True)
    BENCH_IDENTITY.install(VaultLayout(root))
    other.start().run_for(4)
    other.terminate()
    other.run_for(0.5)
    before = contents(root)
    card.fails = False
    # Not for a recording that begins now, either.
    bench.hold(bench.clock.boottime_ns() + 1100 * NS_PER_MS)
    bench.double_press(bench.clock.boottime_ns() + 2000 * NS_PER_MS)
    bench.run_for(LET_GO_S)
    assert shows(bench) is Indication.RECORDING_UNSAFE
    assert contents(root) == before
    root.parent.rename(tmp_path / "other")
    (tmp_path / "own").rename(root.parent)
    bench.run_for(LET_GO_S)
    assert shows(bench) is Indication.RECORDING
    finish(bench, root, recordings=2)
