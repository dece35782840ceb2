"""A shift of minutes with everything in it, and that each bar is missed when what it is there for is broken."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.clock import NS_PER_S
from agent.recorder.recorder import Recorder
from agent.recorder.recording import RecordingWriter
from agent.ring.gop import Gop
from agent.ring.ring import Cursor
from agent.verify.finding import Code, Finding, Severity
from tests.soak.expected import unexplained
from tests.soak.judge import Judgement, judge
from tests.soak.read_back import ReadBack, Reader
from tests.soak.shift import STORY_NAME, Shift
from tests.soak.steadiness import allowed_mb_per_h, longest_life, memory_slope_mb_per_h, slope_per_h, spread
from tests.soak.story import Press, Story
from tests.soak.vitals import Vitals, own_vitals

HOURS = 0.4
ROOT = Path(__file__).parents[2]


def missed(judgement: Judgement) -> set[str]:
    return {figure.name for figure in judgement.figures if figure.ok is False}


@pytest.mark.timeout(600)
def test_24_minutes_with_everything_in_them_miss_no_bar(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.soak.shift", str(tmp_path), str(HOURS), "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    judgement = judge(tmp_path)
    assert missed(judgement) == set(), judgement.wrong
    assert judgement.wrong == []


# Broken on purpose


def short_shift(folder: Path, seconds: float = 60, *, prepare: Callable[[Shift], None] = lambda _: None) -> ReadBack:
    """Two recordings and nothing that goes wrong by itself."""
    shift = Shift(folder, 1, 1)
    life = shift.life
    prepare(shift)
    life.start()
    for begin_s in (14, 36):
        life.after(begin_s, lambda: life.bench.double_press(life.clock.boottime_ns() + NS_PER_S))
        life.after(begin_s + 15, lambda: life.bench.hold(life.clock.boottime_ns() + 3 * NS_PER_S))
    life.live(seconds)
    life.end()
    shift.story.write(folder / STORY_NAME)
    return Reader(folder, shift.story).read()


def test_two_recordings_of_a_healthy_camera_are_whole(tmp_path: Path) -> None:
    found = short_shift(tmp_path)
    assert found.wrong == []
    assert (found.recordings, found.recovered, found.lost, found.doubled) == (2, 0, 0, 0)
    assert found.frames > 2 * 25 * 5


def test_a_frame_that_the_ring_loses_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pushed = 0
    append = Gop.append

    def leaky(self: Gop, packet: Any) -> None:
        nonlocal pushed
        pushed += 1
        if pushed % 60:
            append(self, packet)

    monkeypatch.setattr(Gop, "append", leaky)
    found = short_shift(tmp_path)
    assert found.lost > 0
    assert any("missing" in sentence for sentence in found.wrong)


def test_a_fragment_that_the_recorder_loses_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, reads = Cursor.read, 0

    def leaky(self: Cursor, after: Any = None) -> Any:
        nonlocal reads
        found = read(self, after)
        if found is not None and len(found.video) > 2:
            reads += 1
            if reads % 10 == 0:
                return dataclasses.replace(found, video=found.video[:-1])
        return found

    monkeypatch.setattr(Cursor, "read", leaky)
    assert short_shift(tmp_path).lost > 0


def dead_card(shift: Shift) -> None:
    """Away for longer than memory lasts, while it records."""
    shift.life.settings = replace(shift.life.settings, buffer=replace(shift.life.settings.buffer, max_bytes=250_000))
    card = shift.life.card
    shift.life.after(20, lambda: setattr(card, "error", 5))
    shift.life.after(50, card.heal)


def test_a_gap_that_is_not_journalled_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = short_shift(tmp_path / "told", 90, prepare=dead_card)
    assert told.wrong == []
    assert told.lost == 0
    assert told.gaps > 0
    assert told.journalled > 0

    def untold(self: RecordingWriter, to_ns: int | None) -> None:
        del to_ns
        self._gap_pending = None

    monkeypatch.setattr(RecordingWriter, "_note_gap", untold)
    assert short_shift(tmp_path / "untold", 90, prepare=dead_card).lost > 0


def pressed_again(shift: Shift) -> None:
    """Somebody who wants to be sure: a start gesture while it records is a marker."""
    life = shift.life

    def press() -> None:
        at_ns = life.clock.boottime_ns() + NS_PER_S
        life.bench.double_press(at_ns)
        shift.story.presses.append(Press(life.clock.boot_id, at_ns))

    life.after(22, press)


def test_a_press_that_nobody_hears_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard = short_shift(tmp_path / "heard", prepare=pressed_again)
    assert (heard.presses, heard.presses_lost) == (1, 0)
    monkeypatch.setattr(Recorder, "mark", lambda *_, **__: None)
    unheard = short_shift(tmp_path / "unheard", prepare=pressed_again)
    assert (unheard.presses, unheard.presses_lost) == (1, 1)


def vitals_of(rss_mb: list[float], *, every_s: float = 60.0) -> list[Vitals]:
    return [Vitals(number * every_s, 0, round(mb * 1e6), 6, 4) for number, mb in enumerate(rss_mb)]


def test_a_leak_of_100_kb_a_trigger_is_a_slope_and_noise_is_none() -> None:
    noise = [80 + 0.2 * ((number * 7) % 5) for number in range(250)]
    assert abs(memory_slope_mb_per_h(vitals_of(noise))) < 0.1
    leak = [mb + 0.1 * number / 2 for number, mb in enumerate(noise)]  # a trigger every two minutes
    assert memory_slope_mb_per_h(vitals_of(leak)) == pytest.approx(3.0, abs=0.2)
    assert allowed_mb_per_h(vitals_of(leak)) == 1.0
    # A shift of minutes: a trigger every half a minute.
    minutes = vitals_of([mb + 0.1 * 2 * number for number, mb in enumerate(noise[:15])])
    assert allowed_mb_per_h(minutes) == pytest.approx(6.4, abs=0.1)
    assert memory_slope_mb_per_h(minutes) > 1.5 * allowed_mb_per_h(minutes)


def test_one_high_sample_makes_no_slope() -> None:
    assert slope_per_h([(0, 1), (60, 1), (120, 90), (180, 1), (240, 1)]) == 0
    assert slope_per_h([(0, 1)]) == 0


def test_vitals_see_memory_and_descriptors(tmp_path: Path) -> None:
    before = own_vitals(0, 0)
    held = bytearray(b"x" * 8_000_000)
    with (tmp_path / "open").open("wb"):
        after = own_vitals(1, 0)
    assert after.rss_bytes - before.rss_bytes > 0.9 * len(held)
    assert spread([before.descriptors, after.descriptors]) == 1


def test_the_longest_life_is_the_one_with_most_samples() -> None:
    vitals = [Vitals(at, life, 1, 6, 4) for at, life in enumerate((0, 0, 1, 1, 1, 2))]
    assert [one.at_s for one in longest_life(vitals)] == [2, 3, 4]


def test_only_what_a_shift_did_explains_a_finding() -> None:
    gap = Finding(Code.GAP, Severity.NOTE, "a recording", "Frames are missing.")
    wrong = Finding(Code.SEGMENT_HASH, Severity.FAIL, "a file", "It is not what was signed.")
    calm, troubled = Story(1, 1), Story(1, 1, counts={"fault: card dead for a while": 1})
    assert len(unexplained([gap], calm)) == 1
    assert unexplained([gap], troubled) == []
    assert len(unexplained([wrong], troubled)) == 1
