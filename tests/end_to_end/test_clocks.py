"""The time of day stepped, slewed, lost and found again, and the device suspended, at random moments of random shifts.

Whatever the wall clock does: each frame keeps its place to the frame, files and records keep their order, and what the
records say of the time of day is what the camera could know when they were written.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest

from agent.clock import NS_PER_MS, NS_PER_S, SimulatedClock
from agent.controller.signals import Indication
from agent.daemon.clock_watch import CLOCK_STEP_NS
from agent.daemon.daemon import TICK_NS
from agent.media.units import VIDEO_TIMESCALE_90K
from agent.vault.filesystem import PosixFilesystem
from agent.verify.finding import Code, Severity
from agent.verify.times import STEP_NOTED_NS
from agent.verify.verify import verify_path
from tests.support.bench import Bench, bench_settings
from tests.support.identity import BENCH_IDENTITY
from tests.support.playback import journal_records, of_type, play, recording_bytes

YEAR_NS = 365 * 86_400 * NS_PER_S
STEPS_NS = (YEAR_NS, -YEAR_NS, 3600 * NS_PER_S, -3600 * NS_PER_S, 700 * NS_PER_MS, -700 * NS_PER_MS)
SLEW_PPM = 500
"""As fast as the kernel slews (adjtime(3))."""
FRAME_NS = 100 * NS_PER_MS


@dataclass
class Shift:
    """A bench that records a few times while things happen to its clock. steps: (boot time, ns) of wall-clock steps."""

    bench: Bench
    rng: random.Random
    steps: list[tuple[int, int]] = field(default_factory=list)
    slewed_ns: int = 0

    def step(self, delta_ns: int) -> None:
        self.bench.clock.step_wall_ns(delta_ns)
        self.steps.append((self.bench.clock.boottime_ns(), delta_ns))

    def slew(self) -> None:
        """A tenth of a second of it; again until the shift is over."""
        clock = self.bench.clock
        clock.step_wall_ns(SLEW_PPM * TICK_NS // 1_000_000)
        self.slewed_ns += SLEW_PPM * TICK_NS // 1_000_000
        self.bench.at(clock.boottime_ns() + TICK_NS, self.slew)

    def found(self) -> None:
        """A time server is reached."""
        self.bench.clock.source, self.bench.clock.uncertainty_ms = "ntp", 20
        wrong_ns = 1_790_000_000 * NS_PER_S - self.bench.clock.utc_ns()
        self.step(wrong_ns)

    def plan(self, from_ns: int, seconds: float) -> None:
        """Up to four steps within that time."""
        for _ in range(self.rng.randint(1, 4)):
            delta_ns = self.rng.choice(STEPS_NS)
            if self.bench.clock.source == "ntp":
                self.bench.at(from_ns + self.rng.randrange(round(seconds * NS_PER_S)), partial(self.step, delta_ns))

    def record(self, seconds: float) -> None:
        """Press, and hold so that it stops after so long; the clock has its steps meanwhile."""
        begin_ns = self.bench.clock.boottime_ns() + 500 * NS_PER_MS
        self.plan(begin_ns, seconds)
        self.bench.double_press(begin_ns)
        self.bench.hold(begin_ns + round(seconds * NS_PER_S))
        self.bench.run_for(seconds + 1).run_until_idle()


def made(tmp_path: Path, clock: SimulatedClock, seed: int) -> Shift:
    bench = Bench(PosixFilesystem(), bench_settings(vault=tmp_path / "vault", hold_ms=1000), clock=clock)
    BENCH_IDENTITY.install(bench.layout)
    return Shift(bench.start(), random.Random(seed))


def frames_are_where_they_were_captured(bench: Bench) -> int:
    """Of every recording; how many there were. The painted counter says which capture a frame is of."""
    captured_ns = {number: at_ns for at_ns, number in bench.frame_counters}
    records = journal_records(bench.filesystem, bench.layout)
    frames = 0
    for opened in of_type(records, "recording-open"):
        played = play(recording_bytes(bench.filesystem, bench.layout.recording(opened["recording_id"])))
        for time_s, number in played.frames:
            assert number is not None
            since_ns = captured_ns[number] - opened["media_origin_boottime_ns"]
            assert abs(time_s - since_ns / NS_PER_S) <= 1.5 / VIDEO_TIMESCALE_90K
            frames += 1
        checkpoints = of_type(records, "checkpoint", opened["recording_id"])
        assert [one["first_media_90k"] for one in checkpoints] == sorted(one["first_media_90k"] for one in checkpoints)
        assert [one["file"] for one in checkpoints] == sorted(one["file"] for one in checkpoints)
    return frames


def records_are_in_order(bench: Bench) -> None:
    records = journal_records(bench.filesystem, bench.layout)
    assert [record.seq for record in records] == list(range(1, len(records) + 1))
    times = [record.fields["boottime_ns"] for record in records if record.type != "journal-open"]
    assert times == sorted(times)


@pytest.mark.parametrize("seed", range(6))
def test_steps_at_any_moment_move_no_frame_and_are_named(tmp_path: Path, seed: int) -> None:
    shift = made(tmp_path, SimulatedClock(), seed)
    bench = shift.bench
    bench.run_for(3)
    for _ in range(3):
        shift.record(shift.rng.uniform(2, 6))
        bench.run_for(shift.rng.uniform(0.2, 2))
    assert frames_are_where_they_were_captured(bench) >= 3 * 20
    records_are_in_order(bench)
    records = journal_records(bench.filesystem, bench.layout)
    told = [fields for fields in of_type(records, "clock") if fields["reason"] == "step"]
    assert sum(fields["step_ms"] for fields in told) == sum(ns for _, ns in shift.steps) // NS_PER_MS
    for fields in told:
        due_ns = max(at_ns for at_ns, _ in shift.steps if at_ns <= fields["boottime_ns"])
        assert fields["boottime_ns"] - due_ns <= TICK_NS

    report = verify_path(bench.layout.root, roots=[BENCH_IDENTITY.root])
    assert report.ok, report.findings
    codes = {finding.code for finding in report.findings if finding.severity is not Severity.NOTE}
    assert codes <= {Code.TIME_OUTSIDE_CERTIFICATE, Code.RUN_NOT_ENDED, Code.CERT_NAME}  # the bench has another name
    noted = [finding for finding in report.findings if finding.code is Code.TIME_STEP]
    wall = [(record.fields["boottime_ns"], record.fields["utc"]) for record in records if record.type != "journal-open"]
    jumps = [
        (after_utc_ns - before_utc_ns) - (after_ns - before_ns)
        for (before_ns, before_utc_ns), (after_ns, after_utc_ns) in pairwise((at, _utc_ns(utc)) for at, utc in wall)
    ]
    assert len(noted) == sum(abs(jump) >= STEP_NOTED_NS for jump in jumps)
    assert bool(noted) is any(abs(ns) >= 3600 * NS_PER_S for _, ns in shift.steps)


def _utc_ns(text: str) -> int:
    return (datetime.fromisoformat(text) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000


def test_without_a_clock_it_is_1970_until_a_server_is_reached_and_the_records_say_so(tmp_path: Path) -> None:
    clock = SimulatedClock(utc_ns=37 * NS_PER_S)
    clock.source, clock.uncertainty_ms = "unsynchronised", None
    shift = made(tmp_path, clock, 1)
    bench = shift.bench
    bench.run_for(3)
    shift.record(4)
    bench.at(clock.boottime_ns() + 2 * NS_PER_S, shift.found)
    shift.record(6)
    shift.record(3)
    assert frames_are_where_they_were_captured(bench)
    records_are_in_order(bench)
    opened = of_type(journal_records(bench.filesystem, bench.layout), "recording-open")
    assert [fields["clock_source"] for fields in opened] == ["unsynchronised", "unsynchronised", "ntp"]
    assert [fields["clock_uncertainty_ms"] for fields in opened] == [None, None, 20]
    assert [fields["utc"][:4] for fields in opened] == ["1970", "1970", "2026"]
    report = verify_path(bench.layout.root, roots=[BENCH_IDENTITY.root])
    assert report.ok, report.findings
    unsure = {finding.recording_id for finding in report.findings if finding.code is Code.TIME_UNSYNCHRONISED}
    assert unsure == {fields["recording_id"] for fields in opened[:2]}
    (outside,) = (finding for finding in report.findings if finding.code is Code.TIME_OUTSIDE_CERTIFICATE)
    assert outside.severity is Severity.WARN
    assert "1970-01-01" in outside.sentence
    assert "clock was wrong" in outside.sentence


def test_a_clock_that_is_slewed_is_no_step_and_no_frame_moves(tmp_path: Path) -> None:
    shift = made(tmp_path, SimulatedClock(), 2)
    shift.slew()
    shift.bench.run_for(3)
    shift.rng = random.Random(0)
    shift.bench.clock.source = "unsynchronised"  # plans no steps
    shift.record(20)
    assert shift.slewed_ns > 10 * NS_PER_MS
    assert frames_are_where_they_were_captured(shift.bench)
    records = journal_records(shift.bench.filesystem, shift.bench.layout)
    assert [fields["reason"] for fields in of_type(records, "clock")] == ["start"]
    report = verify_path(shift.bench.layout.root, roots=[BENCH_IDENTITY.root])
    assert Code.TIME_STEP not in {finding.code for finding in report.findings}
    assert shift.slewed_ns < CLOCK_STEP_NS


@pytest.mark.parametrize("asleep_s", [1.5, 60.0, 3600.0])
def test_a_suspended_device_goes_on_where_time_is_and_says_what_is_missing(tmp_path: Path, asleep_s: float) -> None:
    """CLOCK_BOOTTIME runs on in suspend, and so does media time; CLOCK_MONOTONIC does not, and is used for nothing."""
    shift = made(tmp_path, SimulatedClock(), 3)
    bench = shift.bench
    bench.run_for(4)
    begin_ns = bench.clock.boottime_ns() + 500 * NS_PER_MS
    bench.double_press(begin_ns)
    bench.at(begin_ns + 3 * NS_PER_S, lambda: bench.clock.advance_ns(round(asleep_s * NS_PER_S)))
    bench.hold(begin_ns + round((6 + asleep_s) * NS_PER_S))
    bench.run_for(7 + asleep_s).run_until_idle()
    assert bench.daemon.exit is None
    assert bench.panel.now is Indication.READY
    assert frames_are_where_they_were_captured(bench) >= 60
    records_are_in_order(bench)
    records = journal_records(bench.filesystem, bench.layout)
    (closed,) = of_type(records, "recording-close")
    assert abs(closed["end_media_90k"] / VIDEO_TIMESCALE_90K - (9 + asleep_s)) < 1.1
    assert abs(closed["missed_frames"] - (asleep_s * NS_PER_S // FRAME_NS)) <= 5
    assert [fields["reason"] for fields in of_type(records, "stop")] == ["button"]
    report = verify_path(bench.layout.root, roots=[BENCH_IDENTITY.root])
    assert report.ok, report.findings
    codes = {finding.code for finding in report.findings}
    assert Code.FRAMES_MISSED in codes
    assert Code.TIME_STEP not in codes
    assert Code.TIME_BACKWARDS not in codes
