"""A signer that fails or hangs never stops a recording: the gap is explicit, and the next signature covers it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest
from cryptography import x509

from agent.clock import NS_PER_MS, NS_PER_S, SimulatedClock
from agent.controller.signals import Cue, Indication
from agent.errors import DeviceKeyError, SignerBusyError
from agent.settings.schema import DeviceSettings
from agent.signing.file import read_file
from agent.trust.records import CmsRecordSigner
from agent.trust.timed import TimedSigner
from agent.vault.filesystem import PosixFilesystem
from agent.vault.record import Record
from agent.verify.finding import Code
from tests.support.bench import Bench, bench_settings, rebooted
from tests.support.identity import BENCH_IDENTITY
from tests.support.playback import journal_records, of_type, play, recording_bytes
from tests.unit.verify.tampering import check, fails, notes, verdicts, warns

BUDGET_S = 2.0
"""Far more than a healthy signer needs, however busy the machine is; only a hang waits it out, once."""


class Unwell:
    """A real key whose owner fails or hangs when told to. Its answers come on the real clock."""

    def __init__(self) -> None:
        self.failing = False
        self.answering = threading.Event()
        self.answering.set()
        self.asked = 0
        self.timed = TimedSigner(self, BUDGET_S)

    @property
    def certificate(self) -> x509.Certificate:
        return BENCH_IDENTITY.signer.certificate

    @property
    def chain(self) -> tuple[x509.Certificate, ...]:
        return BENCH_IDENTITY.signer.chain

    @property
    def description(self) -> str:
        return "unwell"

    def sign(self, data: bytes) -> bytes:
        self.asked += 1
        assert self.answering.wait(600)
        if self.failing:
            raise DeviceKeyError("The token answers nonsense.")
        return BENCH_IDENTITY.signer.sign(data)

    def fail(self) -> None:
        self.failing = True

    def hang(self) -> None:
        self.answering.clear()

    def be_well(self) -> None:
        """Answer again, and let what hung come back, which takes no simulated time."""
        self.failing = False
        self.answering.set()
        for _ in range(2000):
            try:
                self.timed.sign(b"anything")
            except SignerBusyError:
                time.sleep(0.005)
            else:
                return
        raise AssertionError("The signer never came back.")


@pytest.fixture
def unwell() -> Iterator[Unwell]:
    signer = Unwell()
    yield signer
    signer.answering.set()
    signer.timed.close()


def make_bench(tmp_path: Path, unwell: Unwell, clock: SimulatedClock | None = None) -> Bench:
    settings = bench_settings(hold_ms=1000, double_press_ms=200, pre_event_s=2, vault=tmp_path / "vault")
    settings = replace(settings, device=DeviceSettings(id="CAM-TEST"))
    identity = replace(BENCH_IDENTITY, record_signer=CmsRecordSigner(unwell.timed))
    bench = Bench(PosixFilesystem(), settings, identity=identity, clock=clock)
    identity.install(bench.layout)
    return bench


def record(bench: Bench, seconds: float) -> tuple[int, int]:
    """One recording; returns the boot times of trigger and stop."""
    trigger_ns = bench.clock.boottime_ns() + 400 * NS_PER_MS
    bench.double_press(trigger_ns)
    bench.hold(trigger_ns + round(seconds * NS_PER_S))
    bench.run_until(trigger_ns + round(seconds * NS_PER_S)).run_until_idle(20)
    return trigger_ns, trigger_ns + round(seconds * NS_PER_S)


def records_of(bench: Bench) -> list[Record]:
    return journal_records(bench.filesystem, bench.layout)


def assert_every_frame(bench: Bench) -> None:
    records = records_of(bench)
    (opened,) = of_type(records, "recording-open")
    (stop,) = of_type(records, "stop")
    counters = play(recording_bytes(bench.filesystem, bench.layout.recording(opened["recording_id"]))).counters
    first_ns, last_ns = opened["media_origin_boottime_ns"], stop["stop_boottime_ns"]
    assert counters == [number for ns, number in bench.frame_counters if first_ns <= ns <= last_ns]
    assert of_type(records, "gap") == []


def shut_down(bench: Bench) -> None:
    """The end of `run`."""
    bench.settle()
    assert bench.recorder is not None
    bench.recorder.end("test")
    bench.recorder.close()


@pytest.mark.parametrize("trouble", ["fail", "hang"])
def test_trouble_in_the_middle_of_a_recording(tmp_path: Path, unwell: Unwell, trouble: str) -> None:
    bench = make_bench(tmp_path, unwell).start()
    bench.run_for(3)
    now_ns = bench.clock.boottime_ns()
    bench.at(now_ns + 2400 * NS_PER_MS, getattr(unwell, trouble))
    bench.at(now_ns + 5400 * NS_PER_MS, unwell.be_well)
    during: list[dict[str, str]] = []
    bench.at(now_ns + 5300 * NS_PER_MS, lambda: during.append(bench.daemon.status()["faults"]))
    record(bench, 7)
    bench.run_for(6)
    shut_down(bench)
    assert_every_frame(bench)
    assert set(during[0]) == {"signer", "stream-signer"}
    assert during[0]["stream-signer"].endswith("So far 3 GOPs have no signature of their own.")
    assert bench.daemon.status()["faults"] == {}
    assert Indication.RECORDING_UNSAFE not in {shown for _, shown in bench.panel.shown}

    records = records_of(bench)
    pending = [record for record in records if record.signature is None]
    assert len([record for record in pending if record.type == "checkpoint"]) in (2, 3, 4)
    assert pending[-1].seq < records[-1].seq
    both = ["signer", "stream-signer"]
    assert sorted(fields["component"] for fields in of_type(records, "fault")) == both
    assert sorted(fields["component"] for fields in of_type(records, "fault-cleared")) == both
    (cleared,) = [fields for fields in of_type(records, "fault-cleared") if fields["component"] == "stream-signer"]
    assert cleared["unsigned_gops"] == 3
    (folder,) = bench.layout.recordings.iterdir()
    assert read_file(BytesIO(recording_bytes(bench.filesystem, folder))).is_valid  # the signature behind them covers it
    assert [cue for _, cue in bench.panel.played].count(Cue.FAULT) == 1
    report = check(bench.layout.root)
    assert report.ok
    assert set(verdicts(report).values()) == {"verified"}
    assert notes(report) == {Code.SIGNATURE_PENDING}
    assert warns(report) == set()


@pytest.mark.parametrize("trouble", ["fail", "hang"])
def test_a_camera_that_never_gets_a_signature_records_all_the_same(
    tmp_path: Path, unwell: Unwell, trouble: str
) -> None:
    getattr(unwell, trouble)()
    bench = make_bench(tmp_path, unwell).start()
    bench.run_for(3)
    record(bench, 4)
    shut_down(bench)
    assert unwell.asked == 1 or trouble == "fail"  # a signer that hangs is asked once, and costs one budget
    assert_every_frame(bench)
    assert all(record.signature is None for record in records_of(bench))
    report = check(bench.layout.root)
    assert fails(report) == {Code.SIGNATURE_UNCOVERED}

    # The next start with a key that works covers it all, as the record says that was late.
    unwell.be_well()
    bench = make_bench(tmp_path, unwell, rebooted(bench.clock))
    bench.open_vault()
    shut_down(bench)
    report = check(bench.layout.root)
    assert report.ok
    assert set(verdicts(report).values()) == {"verified"}
    assert notes(report) == {Code.SIGNATURE_PENDING, Code.SIGNATURE_LATE}
    assert warns(report) == {Code.SIGNATURE_LATE}, "who wrote what is only covered now, no signature can tell"


def test_a_fault_of_the_key_outlives_the_camera_session_and_says_at_the_end_what_it_cost(
    tmp_path: Path, unwell: Unwell
) -> None:
    bench = make_bench(tmp_path, unwell).start()
    bench.run_for(2.5)
    unwell.fail()
    bench.run_for(3)
    bench.end_stream("The camera went away.")
    bench.run_for(0.5)
    bench.reopen_camera()
    bench.run_for(3.5)
    assert "stream-signer" in bench.daemon.status()["faults"]
    bench.terminate()
    bench.run_for(1)
    assert bench.daemon.exit is not None
    shut_down(bench)
    begun, ended = (fields for fields in of_type(records_of(bench), "fault") if fields["component"] == "stream-signer")
    assert begun["message"] == "The video is not signed in itself: The token answers nonsense."
    assert "unsigned_gops" not in begun
    # 2 to 5 s of the first session, and what its last GOP never got; 0 to 3 s of the second.
    assert ended["unsigned_gops"] == 6
    assert of_type(records_of(bench), "fault-cleared") == [
        fields for fields in of_type(records_of(bench), "fault-cleared") if fields["component"] == "camera"
    ]


def test_a_key_that_is_slower_than_the_pictures_is_one_fault_and_not_one_for_each_gop(
    tmp_path: Path, unwell: Unwell
) -> None:
    """Every other GOP is signed, for a minute; then all are."""
    bench = make_bench(tmp_path, unwell).start()
    start_ns = bench.clock.boottime_ns()
    for number in range(30):
        bench.at(start_ns + (2 * number * 1000 + 1500) * NS_PER_MS, unwell.fail)
        bench.at(start_ns + (2 * number * 1000 + 2500) * NS_PER_MS, unwell.be_well)
    bench.run_for(70)
    shut_down(bench)
    about = [
        (record.type, record.fields.get("unsigned_gops"))
        for record in records_of(bench)
        if record.fields.get("component") == "stream-signer"
    ]
    assert about == [("fault", None), ("fault-cleared", 30)]
