"""A failing card under an encrypting recorder: no frame lost, every confirmed byte opens, no thread left behind."""

from __future__ import annotations

import gc
import threading
from pathlib import Path

import pytest

from agent.clock import NS_PER_MS
from agent.verify.verify import verify_path
from tests.fault.test_storage_errors import TROUBLES, assert_lights_told_the_truth, assert_nothing_lost, disk, shift
from tests.support.bench import bench_settings
from tests.support.evidence_key import EVIDENCE, opened
from tests.support.identity import BENCH_IDENTITY
from tests.support.playback import journal_records, of_type
from tests.support.vault_builder import VaultBuilder

SETTINGS = bench_settings(
    hold_ms=1000, double_press_ms=200, pre_event_s=2, recipients=(EVIDENCE.recipient,), wearer="Jane Doe"
)


def operations_of_an_untroubled_shift() -> int:
    filesystem, _ = shift(disk, settings=SETTINGS)
    return len(filesystem.operations)


COUNT = operations_of_an_untroubled_shift()


@pytest.mark.parametrize("trouble", ["full-once", "error-and-pages-dropped", "errors-in-a-row"])
def test_trouble_at_any_operation_loses_no_frame(trouble: str, tmp_path: Path) -> None:
    before = threading.active_count()
    torn = 0
    for n in range(COUNT):
        filesystem, bench = shift(TROUBLES[trouble](n), settings=SETTINGS)
        try:
            assert_nothing_lost(filesystem, bench, tmp_path if n % 6 == 0 else None)
            assert_lights_told_the_truth(bench)
        except AssertionError as error:
            raise AssertionError(f"{trouble} at operation {n}: {filesystem.operations[n].label}") from error
        for segment in of_type(journal_records(filesystem, bench.layout), "segment"):
            folder = bench.layout.recording(segment["recording_id"])
            if not segment["bytes"]:
                continue
            plain = opened(filesystem.read(folder / segment["file"])[: segment["bytes"]])
            assert len(plain) == segment["plain_bytes"]
            torn += segment["state"] == "torn"
    assert torn > 0
    del filesystem, bench
    gc.collect()
    assert threading.active_count() <= before + 1


@pytest.mark.parametrize("fails", [False, True])
def test_the_end_of_a_file_whose_last_fragment_was_not_known_as_the_last(tmp_path: Path, fails: bool) -> None:
    """The recorder hears of a stop when all up to it is written: age's mark of the end is written by itself."""
    vault = VaultBuilder(tmp_path / "vault", recipients=(EVIDENCE.recipient,), segment_s=10)
    running = vault.begin(pad_bytes=100_000)
    vault.feed(running, 2)
    stop_ns = running.next_ns - 1050 * NS_PER_MS
    if fails:
        vault.filesystem.fail_next_sync_of = "000001.m4s"
    vault.recorder.stop(running.number, stop_ns=stop_ns, reason="button")
    vault.work()
    vault.retry()
    records = journal_records(vault.filesystem, vault.layout)
    (segment,) = of_type(records, "segment")
    (checkpoint,) = of_type(records, "checkpoint")
    (close,) = of_type(records, "recording-close")
    assert close["frames"] == segment["frames"] == 10
    if fails:
        assert segment["state"] == "torn"
        assert (segment["bytes"], segment["unconfirmed_bytes"]) == (checkpoint["bytes"], 24)
    else:
        assert segment["state"] == "whole"
        assert segment["bytes"] == checkpoint["bytes"] + 24  # an empty box and age's tag
        assert segment["plain_bytes"] == checkpoint["plain_bytes"] + 8
    for identities in (None, EVIDENCE.identities):
        assert verify_path(vault.root, roots=[BENCH_IDENTITY.root], identities=identities).ok
