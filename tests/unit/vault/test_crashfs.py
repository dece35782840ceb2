"""CrashFilesystem: what it promises to the tests that trust it. A crash harness that forgives proves nothing."""

from __future__ import annotations

import errno
import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.clock import SimulatedClock
from agent.errors import StorageError
from agent.vault.filesystem import AppendFile, Filesystem
from tests.support.crashfs import FOREVER, CallSite, CrashFilesystem, OpKind, Outcome, PowerCut, SyncSite
from tests.support.disk_model import PAGE_BYTES

VAULT = Path("/vault")
A = VAULT / "a"
B = VAULT / "b"


def tree(fs: CrashFilesystem, folder: Path = VAULT) -> dict[str, bytes | None]:
    """Every path below a folder with its content, None for a folder."""
    found: dict[str, bytes | None] = {}
    for name in fs.list_dir(folder):
        path = folder / name
        if fs.size_bytes(path) is None:
            found[str(path)] = None
            found.update(tree(fs, path))
        else:
            found[str(path)] = fs.read(path)
    return found


def states(fs: CrashFilesystem, limit: int = 64, seed: int = 0) -> list[dict[str, bytes | None]]:
    return [tree(state) for state in fs.states_after_cut(limit, seed)]


def write_durably(fs: Filesystem, path: Path, data: bytes) -> None:
    file = fs.create(path)
    file.write(data)
    file.datasync()
    file.close()
    fs.sync_dir(path.parent)


# What survives.


def test_what_was_synced_by_data_and_name_is_the_only_state() -> None:
    fs = CrashFilesystem()
    write_durably(fs, A, b"evidence")
    assert states(fs) == [{"/vault/a": b"evidence"}]


def test_syncing_data_does_not_keep_the_name() -> None:
    fs = CrashFilesystem()
    file = fs.create(A)
    file.write(b"x")
    file.datasync()
    assert states(fs) == [{}, {"/vault/a": b"x"}]
    fs.sync_file(A)
    assert states(fs) == [{}, {"/vault/a": b"x"}]


def test_syncing_the_name_does_not_keep_the_data() -> None:
    fs = CrashFilesystem()
    file = fs.create(A)
    file.write(b"data")
    fs.sync_dir(VAULT)
    found = states(fs)
    assert found[0] == {"/vault/a": b""}
    assert found[1] == {"/vault/a": b"data"}
    assert all(set(state) == {"/vault/a"} for state in found)


def test_a_folder_whose_name_was_not_synced_vanishes_with_all_it_holds() -> None:
    fs = CrashFilesystem()
    fs.make_dir(VAULT / "d")
    write_durably(fs, VAULT / "d" / "f", b"x")
    assert states(fs) == [{}, {"/vault/d": None, "/vault/d/f": b"x"}]
    fs.sync_dir(VAULT)
    assert states(fs) == [{"/vault/d": None, "/vault/d/f": b"x"}]


def test_syncing_a_file_through_its_folders_path_keeps_no_names() -> None:
    fs = CrashFilesystem()
    fs.create(A)
    fs.sync_file(VAULT)
    assert {} in states(fs)


def test_names_survive_independently_of_the_order_they_were_made_in() -> None:
    fs = CrashFilesystem()
    fs.create(A)
    fs.create(B)
    assert {frozenset(state) for state in states(fs)} == {
        frozenset(names) for names in ([], ["/vault/a"], ["/vault/b"], ["/vault/a", "/vault/b"])
    }


def test_an_unsynced_tail_may_be_torn_zeroed_garbled_or_full_of_holes() -> None:
    fs = CrashFilesystem()
    synced, loose = b"S" * 100, b"L" * (5 * PAGE_BYTES)
    write_durably(fs, A, synced)
    file = fs.create(B)
    file.write(synced)
    file.datasync()
    fs.sync_dir(VAULT)
    file.write(loose)
    shapes = set()
    for state in states(fs, limit=300):
        assert state["/vault/a"] == synced
        content = state["/vault/b"]
        assert content is not None
        assert content.startswith(synced)
        assert len(content) <= len(synced + loose)
        tail = content[len(synced) :]
        kept = len(tail) - len(tail.lstrip(b"L"))
        rest = tail[kept:]
        if not rest:
            shapes.add("none" if not kept else "all" if tail == loose else "torn")
        elif b"L" * 1000 in rest:
            shapes.add("pages out of order")
        else:
            filler = "zeros" if not rest.strip(b"\0") else "garbage"
            shapes.add(f"{filler} {'only' if not kept else 'after a part'}")
            shapes.add(f"{'whole' if len(tail) == len(loose) else 'shorter'} length")
    assert shapes == {
        "none", "all", "torn", "pages out of order", "zeros only", "zeros after a part",
        "garbage only", "garbage after a part", "whole length", "shorter length",
    }  # fmt: skip


def test_a_torn_tail_may_end_at_any_byte() -> None:
    fs = CrashFilesystem()
    file = fs.create(A)
    fs.sync_dir(VAULT)
    file.write(b"ABCD")
    file.write(b"EFGH")
    ends = {state["/vault/a"] for state in states(fs, limit=300)}
    assert {b"ABCDEFGH"[:length] for length in range(9)} <= ends


@given(old=st.binary(max_size=9), new=st.binary(min_size=1, max_size=9), seed=st.integers(0, 99))
def test_an_unsynced_rename_leaves_the_old_or_the_new_target_whole(old: bytes, new: bytes, seed: int) -> None:
    fs = CrashFilesystem()
    write_durably(fs, B, old)
    write_durably(fs, A, new)
    fs.rename(A, B)
    assert tree(fs) == {"/vault/b": new}
    found = states(fs, seed=seed)
    assert found == [{"/vault/a": new, "/vault/b": old}, {"/vault/b": new}]
    fs.sync_dir(VAULT)
    assert states(fs, seed=seed) == [{"/vault/b": new}]


def test_a_renamed_file_whose_data_was_not_synced_may_replace_the_old_one_by_nothing() -> None:
    fs = CrashFilesystem()
    write_durably(fs, B, b"old")
    fs.create(A).write(b"new")
    fs.rename(A, B)
    fs.sync_dir(VAULT)
    assert tree(fs.smallest_state()) == {"/vault/b": b""}


def test_a_rename_between_folders_needs_both_folders_synced() -> None:
    fs = CrashFilesystem()
    fs.make_dir(A)
    fs.make_dir(B)
    fs.sync_dir(VAULT)
    write_durably(fs, A / "f", b"x")
    fs.rename(A / "f", B / "f")
    ends = [{path for path, data in state.items() if data is not None} for state in states(fs)]
    assert sorted(map(sorted, ends)) == [[], ["/vault/a/f"], ["/vault/a/f", "/vault/b/f"], ["/vault/b/f"]]
    fs.sync_dir(B)
    assert {"/vault/a", "/vault/a/f", "/vault/b", "/vault/b/f"} in [set(state) for state in states(fs)]
    fs.sync_dir(A)
    assert [set(state) for state in states(fs)] == [{"/vault/a", "/vault/b", "/vault/b/f"}]


class Expectation:
    """An oracle that knows nothing of the model: for each file, what POSIX promises, tracked by hand."""

    def __init__(self) -> None:
        self.folder_is_kept: dict[str, bool] = {}
        self.name_is_kept: dict[Path, bool] = {}
        self.written: dict[Path, bytes] = {}
        self.synced_bytes: dict[Path, int] = {}

    def must_exist(self, path: Path) -> bool:
        return self.folder_is_kept[path.parent.name] and self.name_is_kept[path]


actions = st.one_of(
    st.tuples(st.just("create"), st.sampled_from("de"), st.sampled_from("fg")),
    st.tuples(st.just("write"), st.integers(0, 3), st.binary(min_size=1, max_size=8)),
    st.tuples(st.just("datasync"), st.integers(0, 3)),
    st.tuples(st.just("sync_file"), st.integers(0, 3)),
    st.tuples(st.just("sync_dir"), st.sampled_from(["", "d", "e"])),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(actions, max_size=20), st.integers(0, 1000))
def test_what_was_synced_survives_in_every_state_and_nothing_else_is_sure(
    program: list[tuple[object, ...]], seed: int
) -> None:
    fs, expectation = CrashFilesystem(), Expectation()
    for name in "de":
        fs.make_dir(VAULT / name)
        expectation.folder_is_kept[name] = False
    opened: list[tuple[Path, AppendFile]] = []
    for action, *arguments in program:
        if action == "create":
            path = VAULT / str(arguments[0]) / str(arguments[1])
            if path in expectation.written:
                continue
            opened.append((path, fs.create(path)))
            expectation.written[path], expectation.synced_bytes[path] = b"", 0
            expectation.name_is_kept[path] = False
        elif action == "sync_dir":
            fs.sync_dir(VAULT / str(arguments[0]))
            if arguments[0]:
                for path in expectation.written:
                    if path.parent.name == arguments[0]:
                        expectation.name_is_kept[path] = True
            else:
                expectation.folder_is_kept = dict.fromkeys("de", True)
        else:
            number = arguments[0]
            assert isinstance(number, int)
            if number >= len(opened):
                continue
            path, file = opened[number]
            if action == "write":
                assert isinstance(arguments[1], bytes)
                file.write(arguments[1])
                expectation.written[path] += arguments[1]
            else:
                if action == "datasync":
                    file.datasync()
                else:
                    fs.sync_file(path)
                expectation.synced_bytes[path] = len(expectation.written[path])

    found = list(fs.states_after_cut(limit=24, seed=seed))
    for state in found:
        for path, written in expectation.written.items():
            synced = written[: expectation.synced_bytes[path]]
            if expectation.must_exist(path):
                assert state.read(path).startswith(synced), state.origin
            if state.size_bytes(path) is not None:
                content = state.read(path)
                assert content.startswith(synced), state.origin
                assert len(content) <= len(written), state.origin
    smallest = {
        str(path): written[: expectation.synced_bytes[path]]
        for path, written in expectation.written.items()
        if expectation.must_exist(path)
    }
    largest = {str(path): written for path, written in expectation.written.items()}
    assert {path: data for path, data in tree(found[0]).items() if data is not None} == smallest
    assert {
        path: data for path, data in tree(found[-1 if len(found) == 1 else 1]).items() if data is not None
    } == largest


# Failed syncs.


def three_parts(fs: CrashFilesystem) -> None:
    """ "AAAA" synced, "BBBB" whose datasync fails, "CCCC" synced again although the seam forbids it."""
    file = fs.create(A)
    fs.sync_dir(VAULT)
    file.write(b"AAAA")
    file.datasync()
    file.write(b"BBBB")
    with pytest.raises(StorageError, match="fdatasync failed") as caught:
        file.datasync()
    assert caught.value.errno == errno.EIO
    assert caught.value.filename == str(A)
    file.write(b"CCCC")
    file.datasync()


def test_a_failed_datasync_loses_data_that_a_later_one_claims_to_have_kept() -> None:
    fs = CrashFilesystem()
    fs.fail_at(5, errno.EIO, data_lost=True)
    three_parts(fs)
    assert fs.read(A) == b"AAAABBBBCCCC"  # the page cache still shows it
    contents = [state["/vault/a"] for state in states(fs)]
    assert all(content[:4] == b"AAAA" and content[8:] == b"CCCC" for content in contents if content is not None)
    assert not any(b"BBBB" in content for content in contents if content is not None)
    assert b"AAAA\0\0\0\0CCCC" in contents
    assert len(set(contents)) > 1  # garbage in the hole as well


def test_data_lost_at_the_end_is_gone_with_its_length() -> None:
    fs = CrashFilesystem()
    write_durably(fs, B, b"")
    file = fs.create(A)
    fs.sync_dir(VAULT)
    fs.fail_at(len(fs.operations) + 1, errno.EIO, data_lost=True)
    file.write(b"BBBB")
    with pytest.raises(StorageError):
        file.datasync()
    file.datasync()
    assert fs.read(A) == b"BBBB"
    contents = [state["/vault/a"] for state in states(fs)]
    assert contents[0] == b""
    assert b"\0\0\0\0" in contents  # or the length was kept after all
    assert not any(b"B" * 2 in content for content in contents if content is not None)


def test_syncing_a_file_by_name_shows_what_the_disk_holds() -> None:
    fs = CrashFilesystem()
    fs.fail_at(5, errno.EIO, data_lost=True)
    three_parts(fs)
    fs.sync_file(A)
    assert fs.read(A) == b"AAAA\0\0\0\0CCCC"
    assert states(fs) == [{"/vault/a": b"AAAA\0\0\0\0CCCC"}]


def test_a_failed_datasync_without_loss_leaves_the_data_to_the_next() -> None:
    fs = CrashFilesystem()
    fs.fail_at(5, errno.EIO)
    three_parts(fs)
    assert states(fs) == [{"/vault/a": b"AAAABBBBCCCC"}]


def test_a_failed_folder_sync_keeps_no_name() -> None:
    fs = CrashFilesystem()
    fs.create(A)
    fs.fail_at(1, errno.EIO)
    with pytest.raises(StorageError, match="/vault"):
        fs.sync_dir(VAULT)
    assert states(fs) == [{}, {"/vault/a": b""}]


# Faults, stalls, a full card.


def test_a_fault_hits_the_nth_operation_and_then_passes() -> None:
    fs = CrashFilesystem()
    fs.fail_at(2, errno.EIO, times=2)
    file = fs.create(A)
    file.write(b"1")
    for data in (b"2", b"3"):
        with pytest.raises(StorageError, match="Writing failed") as caught:
            file.write(data)
        assert caught.value.errno == errno.EIO
    file.write(b"4")
    assert fs.read(A) == b"14"
    assert [operation.outcome for operation in fs.operations] == [
        Outcome.DONE, Outcome.DONE, Outcome.FAILED, Outcome.FAILED, Outcome.DONE,
    ]  # fmt: skip


def test_a_fault_can_last_until_healed_and_be_of_some_kinds_only() -> None:
    fs = CrashFilesystem()
    fs.fail_at(0, errno.EROFS, FOREVER, kinds={OpKind.CREATE, OpKind.MAKE_DIR})
    for _ in range(3):
        with pytest.raises(StorageError) as caught:
            fs.create(A)
        assert caught.value.errno == errno.EROFS
        fs.sync_dir(VAULT)
    with pytest.raises(StorageError):
        fs.make_dir(A)
    fs.heal()
    fs.create(A)
    assert tree(fs) == {"/vault/a": b""}


def test_a_failing_write_may_leave_a_part() -> None:
    fs = CrashFilesystem()
    fs.fail_at(1, errno.EIO, partial_bytes=3)
    file = fs.create(A)
    with pytest.raises(StorageError):
        file.write(b"abcdef")
    assert fs.read(A) == b"abc"
    assert fs.operations[1].written_bytes == 3


def test_what_has_happened_cannot_be_arranged_any_more() -> None:
    fs = CrashFilesystem()
    fs.create(A)
    arrangements: list[Callable[[], None]] = [
        lambda: fs.fail_at(0, errno.EIO),
        lambda: fs.stop_at(0),
        lambda: fs.stall_at(0, 1, SimulatedClock()),
        lambda: fs.put(B, b""),
    ]
    for arrange in arrangements:
        with pytest.raises(ValueError, match=r"already|before the first operation"):
            arrange()


def test_a_full_card_takes_what_fits_and_raises_enospc() -> None:
    fs = CrashFilesystem(capacity_bytes=10)
    file = fs.create(A)
    file.write(b"1234567")
    assert fs.free_bytes(VAULT) == 3
    with pytest.raises(StorageError, match="No space left") as caught:
        file.write(b"89abcdef")
    assert caught.value.errno == errno.ENOSPC
    assert fs.read(A) == b"123456789a"
    assert fs.free_bytes(VAULT) == 0
    fs.set_free_bytes(100)
    file.write(b"more")
    assert fs.free_bytes(VAULT) == 96
    file.datasync()
    fs.sync_dir(VAULT)
    assert fs.smallest_state().free_bytes(VAULT) == 96


def test_replacing_a_file_frees_its_bytes() -> None:
    fs = CrashFilesystem(capacity_bytes=10)
    write_durably(fs, A, b"12345")
    write_durably(fs, B, b"123")
    fs.rename(B, A)
    assert fs.free_bytes(VAULT) == 7


def test_a_stall_takes_its_time_on_the_clock() -> None:
    fs, clock = CrashFilesystem(), SimulatedClock()
    start_ns = clock.boottime_ns()
    fs.stall_at(1, 2_000_000_000, clock)
    fs.stall_at(2, 5, clock, times=2)
    file = fs.create(A)
    assert clock.boottime_ns() == start_ns
    file.write(b"x")
    assert clock.boottime_ns() == start_ns + 2_000_000_000
    for _ in range(3):
        file.datasync()
    assert clock.boottime_ns() == start_ns + 2_000_000_010


# Power cuts.


def test_a_cut_comes_before_the_operation_and_nothing_works_after_it() -> None:
    fs = CrashFilesystem()
    fs.stop_at(2)
    file = fs.create(A)
    fs.sync_dir(VAULT)
    with pytest.raises(PowerCut, match=r"write /vault/a of 4 bytes at tests/unit/vault/test_crashfs\.py:"):
        file.write(b"data")
    assert fs.is_off
    assert fs.operations[2].outcome is Outcome.CUT
    calls: list[Callable[[], object]] = [
        lambda: file.write(b"x"),
        file.datasync,
        lambda: fs.create(B),
        lambda: fs.sync_file(A),
        lambda: fs.make_dir(B),
        lambda: fs.sync_dir(VAULT),
        lambda: fs.rename(A, B),
        lambda: fs.list_dir(VAULT),
        lambda: fs.read(A),
        lambda: list(fs.read_chunks(A)),
        lambda: fs.open_read(A),
        lambda: fs.size_bytes(A),
        lambda: fs.free_bytes(VAULT),
    ]
    for call in calls:
        with pytest.raises(PowerCut):
            call()
    file.close()
    assert len(fs.operations) == 3
    assert states(fs) == [{"/vault/a": b""}]
    assert not issubclass(PowerCut, Exception)


def test_a_write_can_be_cut_half_way() -> None:
    fs = CrashFilesystem()
    fs.stop_at(2, written_bytes=2)
    file = fs.create(A)
    fs.sync_dir(VAULT)
    with pytest.raises(PowerCut):
        file.write(b"data")
    found = states(fs)
    assert found[:2] == [{"/vault/a": b""}, {"/vault/a": b"da"}]
    assert all(content is not None and len(content) <= 2 for state in found for content in state.values())


def test_a_cut_sync_made_nothing_durable() -> None:
    fs = CrashFilesystem()
    fs.stop_at(1)
    fs.create(A)
    with pytest.raises(PowerCut):
        fs.sync_dir(VAULT)
    assert states(fs) == [{}, {"/vault/a": b""}]


def test_the_next_boot_is_fresh_durable_and_can_lose_power_itself() -> None:
    fs = CrashFilesystem()
    fs.create(A).write(b"x" * 10)
    boot = list(fs.states_after_cut())[1]
    assert boot.operations == []
    assert states(boot) == [{"/vault/a": b"x" * 10}]  # what a boot found is on the disk
    boot.stop_at(1)
    boot.rename(A, B)
    with pytest.raises(PowerCut):
        boot.sync_dir(VAULT)
    assert states(boot) == [{"/vault/a": b"x" * 10}, {"/vault/b": b"x" * 10}]
    assert tree(fs) == {"/vault/a": b"x" * 10}  # and the boot before it is untouched


def test_states_are_the_same_for_the_same_seed_and_keep_to_the_limit() -> None:
    fs = CrashFilesystem()
    for number in range(5):
        fs.create(VAULT / str(number)).write(b"x" * 100)
    assert states(fs, 20, seed=1) == states(fs, 20, seed=1)
    assert states(fs, 20, seed=1) != states(fs, 20, seed=2)
    assert states(fs, 20, seed=1)[:2] == states(fs, 20, seed=2)[:2]
    assert len(states(fs, 20)) == 20
    assert len(states(fs, 1)) == 1


def test_each_single_loss_among_many_names_is_tried() -> None:
    fs = CrashFilesystem()
    names = {f"/vault/{number}" for number in range(12)}
    for name in names:
        fs.create(Path(name))
    found = [set(state) for state in states(fs, limit=2 + 4 * len(names))]
    for name in names:
        assert names - {name} in found
        assert {name} in found


def test_the_origin_of_a_state_says_what_was_lost() -> None:
    fs = CrashFilesystem()
    fs.create(A).write(b"x" * 10)
    origin = fs.smallest_state().origin
    assert "cut after #1 write /vault/a of 10 bytes at tests/unit/vault/test_crashfs.py" in origin
    assert "names lost: a" in origin
    assert "kept 0" in origin


# A small product with everything a writer must do, to try the campaign's tools on.


class Ledger:
    """Durable notes: each in a file of its own by temporary file and rename. `notes` are those that were promised."""

    def __init__(self, fs: Filesystem) -> None:
        self._fs = fs
        self.notes: list[bytes] = []

    def open(self) -> None:
        self._fs.make_dir(VAULT / "notes")
        self._fs.sync_dir(VAULT)

    def add(self, note: bytes) -> None:
        number = len(self.notes)
        file = self._fs.create(VAULT / "notes" / f"{number}.part")
        file.write(note[:2])
        file.write(note[2:])
        file.datasync()
        file.close()
        self._fs.rename(VAULT / "notes" / f"{number}.part", VAULT / "notes" / str(number))
        self._fs.sync_dir(VAULT / "notes")
        self.notes.append(note)


NOTES = [b"first note", b"second", b"third and last"]


def broken_promises(fs: CrashFilesystem, promised: int) -> list[str]:
    """Where a state lacks a promised note, or has a note that is neither whole nor unfinished by name."""
    broken = []
    for state in fs.states_after_cut():
        for number, note in enumerate(NOTES):
            path = VAULT / "notes" / str(number)
            present = state.size_bytes(path) is not None
            if (present and state.read(path) != note) or (number < promised and not present):
                broken.append(state.origin)
    return broken


def ledger_run(fs: CrashFilesystem) -> list[int]:
    """Run the ledger; how many operations had been made when each note was promised."""
    ledger = Ledger(fs)
    ledger.open()
    promised_after = []
    for note in NOTES:
        ledger.add(note)
        promised_after.append(len(fs.operations))
    return promised_after


def test_a_correct_writer_keeps_its_promises_at_every_cut() -> None:
    fs = CrashFilesystem()
    promised_after = ledger_run(fs)
    for n, dead in enumerate(fs.cuts()):
        assert len(dead.operations) == n
        assert broken_promises(dead, sum(after <= n for after in promised_after)) == []


def test_each_sync_that_is_taken_away_breaks_a_promise() -> None:
    fs = CrashFilesystem()
    promised_after = ledger_run(fs)
    sites = fs.sync_sites()
    assert [(site.kind, site.site.function) for site in sites] == [
        (OpKind.SYNC_DIR, "Ledger.open"),
        (OpKind.DATASYNC, "Ledger.add"),
        (OpKind.SYNC_DIR, "Ledger.add"),
    ]
    for site in sites:
        assert any(
            broken_promises(dead, sum(after <= n for after in promised_after))
            for n, dead in enumerate(fs.cuts(without_sync=site))
        ), site
    assert not any(  # and the history itself was not changed by looking
        broken_promises(dead, sum(after <= n for after in promised_after)) for n, dead in enumerate(fs.cuts())
    )


def test_disabling_a_sync_before_the_run_is_the_same_as_replaying_without_it() -> None:
    plain = CrashFilesystem()
    ledger_run(plain)
    for site in plain.sync_sites():
        disabled = CrashFilesystem()
        disabled.disable_sync(site)
        ledger_run(disabled)
        assert [operation.label for operation in disabled.operations] == [
            operation.label for operation in plain.operations
        ]
        assert states(disabled) == states(plain.cut_before(len(plain.operations), without_sync=site))
        assert states(disabled) != states(plain)


def test_a_disabled_sync_is_disabled_in_the_next_boot_as_well() -> None:
    fs = CrashFilesystem()
    fs.disable_sync(lambda operation: operation.kind is OpKind.SYNC_DIR and operation.path == VAULT)
    boot = fs.smallest_state()
    write_durably(boot, A, b"x")
    assert tree(boot.smallest_state()) == {}


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_replaying_to_a_cut_is_the_same_as_running_into_it(data: st.DataObject) -> None:
    fault = data.draw(st.integers(0, 16))
    lost = data.draw(st.booleans())

    def run(fs: CrashFilesystem) -> None:
        fs.put(VAULT / "old", b"from before")
        fs.set_free_bytes(len(b"".join(NOTES)) + 5)
        fs.fail_at(fault, errno.EIO, partial_bytes=1, data_lost=lost)
        ledger = Ledger(fs)
        for step in (ledger.open, *(lambda note=note: ledger.add(note) for note in NOTES * 2)):
            try:
                step()
            except StorageError:
                ledger.notes.append(b"failed")

    whole = CrashFilesystem()
    run(whole)
    replays = list(whole.cuts())
    assert len(replays) == len(whole.operations) + 1
    n = data.draw(st.integers(0, len(whole.operations) - 1))
    cut = CrashFilesystem()
    cut.stop_at(n)
    with pytest.raises(PowerCut):
        run(cut)
    for replayed in (replays[n], whole.cut_before(n)):
        assert replayed.is_off
        assert states(replayed) == states(cut)
    assert states(replays[-1]) == states(whole)


def test_a_cut_must_be_within_the_history() -> None:
    fs = CrashFilesystem()
    fs.create(A)
    for n in (-1, 2):
        with pytest.raises(ValueError, match="1 operations"):
            fs.cut_before(n)


# Labels.


def test_an_operation_knows_the_line_that_called_it() -> None:
    fs = CrashFilesystem()
    line = sys._getframe().f_lineno
    file = fs.create(A)
    file.write(b"x")
    fs.rename(A, B)
    here = "test_an_operation_knows_the_line_that_called_it"
    sites = [operation.site for operation in fs.operations]
    assert sites == [CallSite("tests/unit/vault/test_crashfs.py", here, line + offset) for offset in (1, 2, 3)]
    assert fs.operations[2].label == f"#2 rename /vault/a to /vault/b at {sites[2]}"
    assert str(sites[2]) == f"tests/unit/vault/test_crashfs.py:{here}:{line + 3}"


def test_sync_sites_are_lines_not_calls() -> None:
    fs = CrashFilesystem()
    for name in "xyz":
        write_durably(fs, VAULT / name, b"")
    first, second = fs.sync_sites()
    assert isinstance(first, SyncSite)
    assert (first.kind, second.kind) == (OpKind.DATASYNC, OpKind.SYNC_DIR)
    assert {first.site.function, second.site.function} == {"write_durably"}


# The rest.


def test_put_is_durable_and_costs_space() -> None:
    fs = CrashFilesystem(capacity_bytes=10)
    fs.put(VAULT / "device" / "chain.pem", b"1234")
    fs.put(VAULT / "device" / "chain.pem", b"123456")
    assert fs.free_bytes(VAULT) == 4
    assert states(fs) == [{"/vault/device": None, "/vault/device/chain.pem": b"123456"}]


def test_a_buffer_the_caller_reuses_is_copied() -> None:
    fs = CrashFilesystem()
    buffer = bytearray(b"one")
    fs.create(A).write(buffer)  # type: ignore[arg-type]
    buffer[:] = b"two"
    assert fs.read(A) == b"one"
    assert states(fs.cut_before(2))[1] == {"/vault/a": b"one"}


def test_a_state_can_be_laid_out_for_tools(tmp_path: Path) -> None:
    fs = CrashFilesystem()
    fs.make_dir(VAULT / "d")
    fs.create(VAULT / "d" / "f").write(b"x" * 1000)
    fs.create(A)
    assert fs.materialise(tmp_path / "out") == tmp_path / "out"
    laid_out = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*")}
    assert laid_out == {"a", "d", "d/f"}
    assert (tmp_path / "out" / "d" / "f").read_bytes() == b"x" * 1000


def test_relative_paths_are_refused() -> None:
    fs = CrashFilesystem()
    for path in (Path("a"), Path("/vault/../a")):
        with pytest.raises(ValueError, match="absolute"):
            fs.read(path)


def test_threads_take_turns() -> None:
    fs = CrashFilesystem()

    def write(number: int) -> None:
        file = fs.create(VAULT / str(number))
        for _ in range(300):
            file.write(b"x")
            file.datasync()

    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [Thread(target=write, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval_s)
    assert [operation.index for operation in fs.operations] == list(range(4 * 601))
    assert all(fs.size_bytes(VAULT / str(number)) == 300 for number in range(4))


def test_a_campaign_shares_bytes_instead_of_copying_them() -> None:
    fs = CrashFilesystem()
    fragment = bytes(100_000)
    file = fs.create(A)
    fs.sync_dir(VAULT)
    for _ in range(20):
        file.write(fragment)
        file.datasync()
    boots = [state for dead in fs.cuts() for state in itertools.islice(dead.states_after_cut(), 1)]
    last = list(boots[-1]._disk.find(A).chunks())  # type: ignore[union-attr]
    assert len(last) == 20
    assert all(chunk is fragment for chunk in last)
