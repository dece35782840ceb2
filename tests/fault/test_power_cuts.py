"""Invariants 3 and 4: power goes at any operation; what was promised is there, the rest is sealed as it lies."""

from __future__ import annotations

import ast
import errno
import functools
from pathlib import Path

import pytest

import agent
from agent.clock import NS_PER_MS, NS_PER_S, SimulatedClock
from agent.controller.events import ButtonEdge
from agent.settings.schema import Settings
from tests.support.bench import VAULT, Bench, bench_settings
from tests.support.campaign import Shift, Violation, check, next_boot, recover
from tests.support.crashfs import FOREVER, CrashFilesystem, OpKind, SyncSite
from tests.support.evidence_key import EVIDENCE
from tests.support.playback import journal_records, of_type, play, recording_bytes

SETTINGS = bench_settings(hold_ms=1000, double_press_ms=200, pre_event_s=2)
ENCRYPTED = bench_settings(
    hold_ms=1000, double_press_ms=200, pre_event_s=2, recipients=(EVIDENCE.recipient,), wearer="Zoë Ångström"
)


@functools.cache
def whole_shift(*, encrypted: bool = False) -> Shift:
    """Start, two overlapping recordings with a marker, a stop, a SIGTERM in the middle of a third.

    encrypted: and the recorder hears of the first stop when all up to it is written: no fragment was then known as the
    last, and the encrypted file has to be ended by itself.
    """
    shift = Shift(CrashFilesystem(VAULT), ENCRYPTED if encrypted else SETTINGS)
    bench = shift.bench.start()
    bench.run_for(3.5)
    now_ns = bench.clock.boottime_ns()
    bench.double_press(now_ns + 500 * NS_PER_MS)
    bench.single_press(now_ns + 1500 * NS_PER_MS)
    if encrypted:
        # The button's thread was held up: the press is heard when the GOP behind its recognition has begun.
        pressed = ButtonEdge(True, now_ns + 2550 * NS_PER_MS)
        bench.at(now_ns + 3700 * NS_PER_MS, lambda: bench.daemon.post(pressed))
        bench.edge(False, now_ns + 3800 * NS_PER_MS)
    else:
        bench.hold(now_ns + 5 * NS_PER_S)
    bench.double_press(now_ns + 6 * NS_PER_S)
    bench.hold(now_ns + 8 * NS_PER_S)
    bench.double_press(now_ns + 10 * NS_PER_S)
    bench.at(now_ns + 12 * NS_PER_S, bench.terminate)
    bench.run_until(now_ns + 13 * NS_PER_S).run_until_idle()
    assert bench.daemon.exit is not None
    assert bench.daemon.exit.clean
    assert len(shift.closed) == 3
    return shift


def test_after_a_cut_at_any_operation_every_promise_holds(tmp_path: Path) -> None:
    shift = whole_shift()
    states = 0
    for n, dead in enumerate(shift.filesystem.cuts()):
        for index, state in enumerate(dead.states_after_cut(limit=8, seed=n)):
            check(
                state,
                shift,
                shift.promised_before(n),
                clock=next_boot(shift),
                decode=index < 2,
                tmp=tmp_path if index == n % 8 else None,
            )
            states += 1
    assert states > 500


def test_encrypted_after_a_cut_at_any_operation_every_promise_holds(tmp_path: Path) -> None:
    """The recovered part opens, frame by frame, with the evidence system's key; the camera itself cannot."""
    shift = whole_shift(encrypted=True)
    for n, dead in enumerate(shift.filesystem.cuts()):
        for index, state in enumerate(dead.states_after_cut(limit=4, seed=n)):
            check(
                state,
                shift,
                shift.promised_before(n),
                clock=next_boot(shift),
                decode=index < 1,
                tmp=tmp_path if index == n % 4 else None,
            )


@pytest.mark.parametrize("settings", [SETTINGS, ENCRYPTED], ids=["clear", "encrypted"])
def test_a_cut_in_a_steady_recording_loses_at_most_the_gop_in_flight(settings: Settings) -> None:
    """Every frame captured more than one GOP (and the frame that ended it) before the cut is decoded after it.

    Encryption costs nothing on top: no part of a checkpointed fragment is still held back by age.
    """
    shift = Shift(CrashFilesystem(VAULT), settings)
    bench = shift.bench.start()
    bench.run_for(3.5)
    begin_ns = bench.clock.boottime_ns() + 500 * NS_PER_MS
    bench.double_press(begin_ns)
    newest: list[int] = []
    for _ in range(80):
        bench.run_for(0.1)
        while len(newest) < len(shift.filesystem.operations):
            newest.append(bench.frame_counters[-1][0])
    steady_from = next(promise.operations for promise in shift.promises if promise.fragment == 4)
    worst_ns = 0
    for n in range(steady_from, len(newest)):
        state = shift.filesystem.cut_before(n).smallest_state()
        recover(state, settings, next_boot(shift))
        (recording_id,) = state.list_dir(bench.layout.recordings)
        counters = play(recording_bytes(state, bench.layout.recording(recording_id))).counters
        last = counters[-1]
        assert last is not None
        last_ns = next(ns for ns, number in bench.frame_counters if number == last)
        worst_ns = max(worst_ns, newest[n] - last_ns)
    frame_ns = NS_PER_S // settings.camera.fps
    assert worst_ns <= NS_PER_S + frame_ns, f"{worst_ns / NS_PER_MS} ms lost"
    assert worst_ns > 0


def test_an_interrupted_recording_is_recovered_and_a_linked_one_goes_on() -> None:
    shift = whole_shift()
    ids = [fields["recording_id"] for fields in of_type(shift.records, "recording-open")]
    first_promise = next(promise for promise in shift.promises if promise.number == 1)
    state = shift.filesystem.cut_before(first_promise.operations + 1).smallest_state()
    bench = recover(state, SETTINGS, next_boot(shift))
    assert bench.recovered.resume_from == ids[0]
    bench.open_camera()
    bench.run_for(2)
    assert bench.recorder is not None
    assert bench.recorder.active
    bench.terminate()
    bench.run_for(2)
    opens = of_type(journal_records(state, bench.layout), "recording-open")
    assert opens[-1]["linked_from"] == ids[0]
    closes = of_type(journal_records(state, bench.layout), "recording-close")
    assert [(close["recovered"], close.get("interrupted")) for close in closes] == [(True, True), (False, None)]


@pytest.mark.parametrize("after_s", [-400.0, 3600.0])
def test_long_ago_or_before_a_clock_that_went_back_nothing_resumes_by_itself(after_s: float) -> None:
    shift = whole_shift()
    first_promise = next(promise for promise in shift.promises if promise.number == 1)
    state = shift.filesystem.cut_before(first_promise.operations + 1).smallest_state()
    clock = next_boot(shift)
    clock.step_wall_ns(int(after_s * NS_PER_S))
    bench = recover(state, SETTINGS, clock)
    assert bench.recovered.recording_ids
    assert bench.recovered.resume_from is None


def test_a_stopped_recording_does_not_resume() -> None:
    shift = whole_shift()
    stop_seq = next(record.seq for record in shift.records if record.type == "stop")
    for n in range(len(shift.filesystem.operations)):
        state = shift.filesystem.cut_before(n).smallest_state()
        if len(journal_records(state, shift.bench.layout)) == stop_seq:
            bench = recover(state, SETTINGS, next_boot(shift))
            assert bench.recovered.recording_ids
            assert bench.recovered.resume_from is None
            return
    raise AssertionError("No cut leaves a journal that ends with the stop.")


def test_recovery_itself_can_be_cut_anywhere_and_twice() -> None:
    shift = whole_shift()
    promised_ns = [promise.operations for promise in shift.promises]
    for cut in (promised_ns[0] - 1, promised_ns[1] - 2, promised_ns[len(promised_ns) // 2] - 1):
        for start in shift.filesystem.cut_before(cut).states_after_cut(limit=3, seed=cut):
            promised = shift.promised_before(cut)
            recover(start, SETTINGS, next_boot(shift))
            for n, dead in enumerate(start.cuts()):
                for state in dead.states_after_cut(limit=3, seed=n):
                    check(state, shift, promised, clock=next_boot(shift), decode=False)
                    if n % 5 == 0:
                        for again in state.cut_before(len(state.operations) // 2).states_after_cut(limit=2):
                            check(again, shift, promised, clock=next_boot(shift), decode=False)


def test_a_killed_process_is_recovered_by_the_next_and_then_power_may_go() -> None:
    """kill -9 leaves bytes in the page cache; recovery must not vouch for what a later cut can still take."""
    shift = whole_shift()
    for cut in range(12, len(shift.filesystem.operations), 3):
        alive = shift.filesystem.cut_before(cut).after_kill()
        promised = shift.promised_before(cut)
        recover(alive, SETTINGS, shift_clock(shift))
        for state in alive.cut_before(len(alive.operations)).states_after_cut(limit=3):
            check(state, shift, promised, clock=next_boot(shift), decode=False)


def shift_clock(shift: Shift) -> SimulatedClock:
    """A later start in the same boot."""
    clock = next_boot(shift)
    clock._boot_id = shift.bench.clock.boot_id
    clock.advance_ns(shift.bench.clock.boottime_ns())
    return clock


@functools.cache
def product_sites() -> tuple[SyncSite, ...]:
    """Every line of the product that syncs, of a whole shift and of a recovery."""
    shift = whole_shift()
    sites = [*shift.filesystem.sync_sites(), *whole_shift(encrypted=True).filesystem.sync_sites()]
    for cut in range(len(shift.filesystem.operations)):
        alive = shift.filesystem.cut_before(cut).after_kill()
        recover(alive, SETTINGS, shift_clock(shift))
        sites += alive.sync_sites()
    return tuple(dict.fromkeys(sites))


def test_every_sync_of_the_product_is_seen_by_the_campaign() -> None:
    asked = {(Path(site.site.file).name, site.site.line) for site in product_sites()}
    root = Path(agent.__file__).parent
    written = set()
    for path in [
        *(root / "recorder").glob("*.py"),
        *(root / "vault").glob("*.py"),
        root / "daemon" / "vault_opening.py",
    ]:
        if path.name == "filesystem.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            if node.func.attr in ("datasync", "sync_file", "sync_dir"):
                written.add((path.name, node.lineno))
    assert written <= asked, f"never reached: {sorted(written - asked)}"


def _violated(without: SyncSite, shift: Shift) -> bool:
    for n, dead in enumerate(shift.filesystem.cuts(without_sync=without)):
        for state in dead.states_after_cut(limit=2, seed=n):
            try:
                check(state, shift, shift.promised_before(n), clock=next_boot(shift), decode=False)
            except Violation:
                return True
    return False


def _violated_in_recovery(without: SyncSite) -> bool:
    shift = whole_shift()
    for cut in range(12, len(shift.filesystem.operations)):
        alive = shift.filesystem.cut_before(cut).after_kill()
        alive.disable_sync(without)
        recover(alive, SETTINGS, shift_clock(shift))
        for dead in (alive.cut_before(n) for n in range(len(alive.operations), 0, -2)):
            try:
                check(dead.smallest_state(), shift, shift.promised_before(cut), clock=next_boot(shift), decode=False)
            except Violation:
                return True
    return False


@pytest.mark.parametrize("site", product_sites(), ids=str)
def test_without_any_one_sync_a_promise_breaks(site: SyncSite) -> None:
    shifts = [shift for shift in (whole_shift(), whole_shift(encrypted=True)) if site in shift.filesystem.sync_sites()]
    needed = any(_violated(site, shift) for shift in shifts) or _violated_in_recovery(site)
    assert needed, f"nothing needs {site}; take it out or test what it is for"


def test_a_recording_that_cannot_be_read_keeps_nothing_from_starting() -> None:
    shift = whole_shift()
    first_promise = next(promise for promise in shift.promises if promise.number == 1)
    state = shift.filesystem.cut_before(first_promise.operations + 1).smallest_state()
    state.fail_at(0, errno.EIO, times=FOREVER, kinds=[OpKind.SYNC_FILE])
    bench = Bench(state, SETTINGS, clock=next_boot(shift))
    sync_file = state.sync_file

    def rotten(path: Path) -> None:
        if path.suffix == ".m4s":
            sync_file(path)  # the journal's file can be read, the segment cannot

    state.sync_file = rotten  # type: ignore[method-assign]
    bench.start()
    bench.run_for(3.5)
    bench.record(3)
    records = journal_records(state, bench.layout)
    assert "recovery" in {fields["component"] for fields in of_type(records, "fault")}
    (close,) = of_type(records, "recording-close")
    assert close["recovered"] is False
