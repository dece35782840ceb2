"""The benchmarks' own arithmetic: a figure that cannot fail would be worse than none."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from agent.capture import counter
from tests.benchmarks.figure import Figure, percentile
from tests.benchmarks.frames import Seen, read_back
from tests.benchmarks.process import cpu_s, memory
from tests.benchmarks.source import FPS


@pytest.mark.parametrize(
    ("relation", "value", "ok"),
    [("<=", 1.0, True), ("<=", 1.1, False), (">=", 1.0, True), (">=", 0.9, False), ("==", 1.0, True), ("==", 2, False)],
)
def test_a_bar_is_passed_or_missed(relation: str, value: float, ok: bool) -> None:
    assert Figure("b", "n", value, "", (relation, 1.0)).ok is ok


def test_a_figure_without_a_bar_is_neither() -> None:
    assert Figure("b", "n", 1.0, "").ok is None


def test_the_99th_percentile_of_few_values_is_the_largest() -> None:
    values = [float(value) for value in range(32)]
    assert percentile(values, 99) == 31
    assert percentile(values, 50) == 15
    assert percentile([7.0], 50) == 7


def film(path: Path, slots: Iterable[int], unreadable: int = -1) -> Path:
    """A small film of the frames in these slots; the one numbered `unreadable` has no counter."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"bf": "0"})
        stream.width, stream.height, stream.pix_fmt = 192, 128, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 90_000)
        for slot in slots:
            image = np.full((192, 192), 128, np.uint8)
            if slot != unreadable:
                counter.paint(image[:128], slot % 120)
            frame = av.VideoFrame.from_ndarray(image, format="yuv420p")
            frame.pts, frame.time_base = slot * 3000, stream.time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def test_a_recording_with_every_frame_reads_back_whole(tmp_path: Path) -> None:
    assert read_back(film(tmp_path / "f.mp4", range(110, 140))) == Seen(30, 0, 0)


def test_a_missing_frame_is_seen(tmp_path: Path) -> None:
    slots = [slot for slot in range(30) if slot != 17]
    assert read_back(film(tmp_path / "f.mp4", slots)) == Seen(29, 0, 1)


def test_a_missing_turn_of_the_source_is_seen_by_its_time(tmp_path: Path) -> None:
    assert read_back(film(tmp_path / "f.mp4", [0, 1, 2, 123, 124])).wrong_steps == 1


def test_an_unreadable_frame_is_seen(tmp_path: Path) -> None:
    assert read_back(film(tmp_path / "f.mp4", range(10), unreadable=4)).unreadable == 1


def test_the_source_file_does_not_count_as_memory(tmp_path: Path) -> None:
    path = tmp_path / "source"
    path.write_bytes(b"\1" * 8_000_000)
    before = memory(os.getpid(), path).rss_bytes
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        assert sum(mapped[::4096]) == -(-len(mapped) // 4096)
        without, whole = memory(os.getpid(), path), memory(os.getpid(), tmp_path / "another")
    assert abs(without.rss_bytes - before) < 4_000_000
    assert whole.rss_bytes - without.rss_bytes == pytest.approx(8_000_000, abs=500_000)
    assert without.rss_bytes >= without.pss_bytes >= without.uss_bytes > 0


def test_cpu_time_counts_what_was_worked() -> None:
    before_s, worked_s = cpu_s(os.getpid()), os.times()
    while os.times().user - worked_s.user < 0.1:
        sum(range(1000))
    assert 0.08 <= cpu_s(os.getpid()) - before_s < 1
