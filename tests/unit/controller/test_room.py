"""How long the card lasts: levels, what the wearer is told at each, and what is done when there is no room."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.clock import NS_PER_S
from agent.controller.effects import JournalRecord, Play, Show, StartRecording, StopRecording
from agent.controller.events import (
    FragmentDurable,
    RecordingClosed,
    ResumeWanted,
    StorageMeasured,
    StreamEnded,
    StreamStarted,
)
from agent.controller.room import STOP_S, Room, StorageLevel, judge_room
from agent.controller.signals import Cue, Indication
from agent.settings.rate import recording_bytes_per_s
from tests.unit.controller.drive import SETTINGS, Drive, of, ready

RATE = recording_bytes_per_s(SETTINGS)
MINUTE = 60 * RATE
STOP_BYTES = (SETTINGS.buffer.pre_event_s + STOP_S) * RATE


def measured(drive: Drive, spare_bytes: int, bytes_per_s: int | None = RATE) -> list[str]:
    """The level that is journalled, and the cues that are played."""
    effects = drive.send(StorageMeasured(spare_bytes, bytes_per_s))
    levels = [effect.fields["room"] for effect in of(effects, JournalRecord) if effect.type == "storage"]
    return levels + [effect.cue.value for effect in of(effects, Play)]


@pytest.mark.parametrize(
    ("spare_bytes", "level"),
    [
        (60 * MINUTE, StorageLevel.PLENTY),
        (60 * MINUTE - 1, StorageLevel.LOW),
        (30 * MINUTE, StorageLevel.LOW),
        (30 * MINUTE - 1, StorageLevel.VERY_LOW),
        (STOP_BYTES, StorageLevel.VERY_LOW),
        (STOP_BYTES - 1, StorageLevel.FULL),
        (0, StorageLevel.FULL),
        (-5_000_000, StorageLevel.FULL),
    ],
)
def test_levels(spare_bytes: int, level: StorageLevel) -> None:
    assert judge_room(SETTINGS, spare_bytes, RATE, None).level is level
    assert judge_room(SETTINGS, spare_bytes, None, None).level is level, "unmeasured counts as configured"


def test_minutes_are_at_the_rate_of_now_within_bounds() -> None:
    assert judge_room(SETTINGS, 100 * MINUTE, RATE, None).minutes_left == 100
    assert judge_room(SETTINGS, 100 * MINUTE, RATE * 5 // 4, None).minutes_left == 80
    assert judge_room(SETTINGS, 100 * MINUTE, 1, None).minutes_left == 200, "a dark scene ends"
    assert judge_room(SETTINGS, 100 * MINUTE, 100 * RATE, None).minutes_left == 50
    assert judge_room(SETTINGS, -1, RATE, None).minutes_left == 0


@given(st.lists(st.tuples(st.integers(0, 100 * MINUTE), st.integers(0, 3 * RATE) | st.none()), min_size=1, max_size=30))
def test_it_is_never_better_than_it_is_nor_worse_than_a_tenth_explains(observed: list[tuple[int, int | None]]) -> None:
    room: Room | None = None
    order = list(StorageLevel)
    for spare_bytes, rate in observed:
        room = judge_room(SETTINGS, spare_bytes, rate, room)
        plain = judge_room(SETTINGS, spare_bytes, rate, None)
        eased = judge_room(SETTINGS, spare_bytes * 100 // 110, rate, None)
        assert order.index(plain.level) <= order.index(room.level) <= order.index(eased.level)


@given(st.sampled_from([60 * MINUTE, 30 * MINUTE, STOP_BYTES]), st.lists(st.booleans(), max_size=50))
def test_a_rate_that_wavers_around_a_limit_is_told_once(limit: int, above: list[bool]) -> None:
    drive = ready()
    told = measured(drive, limit - 1)
    assert told
    for side in above:
        assert measured(drive, limit + limit // 50 if side else limit - limit // 50) == []


def test_the_wearer_is_told_at_an_hour_and_at_half_an_hour() -> None:
    drive = ready()
    assert measured(drive, 200 * MINUTE) == []
    assert measured(drive, 59 * MINUTE) == ["low", "storage-low"]
    assert measured(drive, 58 * MINUTE) == []
    assert drive.shows(Indication.READY)
    assert measured(drive, 29 * MINUTE) == ["very-low", "storage-low"]
    assert measured(drive, 100 * MINUTE) == ["plenty"], "somebody made room: written down, and no alarm"


def test_a_camera_that_starts_with_little_room_says_so() -> None:
    assert measured(ready(), 20 * MINUTE) == ["very-low", "storage-low"]


def test_no_room_stops_what_runs_and_alarms() -> None:
    drive = ready()
    measured(drive, 200 * MINUTE)
    drive.double_press()
    drive.run_ms(500)
    drive.send(FragmentDurable(1))
    effects = drive.send(StorageMeasured(STOP_BYTES - 1, RATE))
    assert of(effects, StopRecording) == [StopRecording(1, drive.now_ns, "storage-full")]
    assert Play(Cue.STORAGE_FULL) in effects
    assert Show(Indication.FAULT) in effects
    drive.send(RecordingClosed(1))
    alarms = [effect for effect in drive.run_ms(11_000) if effect == Play(Cue.FAULT)]
    assert len(alarms) >= 2, "the alarm is repeated"
    assert drive.shows(Indication.FAULT)


def test_without_room_a_press_is_refused_and_written_down() -> None:
    drive = ready()
    measured(drive, STOP_BYTES - 1)
    effects = drive.double_press()
    assert not of(effects, StartRecording)
    assert Play(Cue.STORAGE_FULL) in effects
    assert Play(Cue.START) not in effects
    (dropped,) = [effect for effect in of(effects, JournalRecord) if effect.type == "trigger-dropped"]
    assert dropped.fields["reason"] == "storage-full"
    assert drive.state.pending is None
    measured(drive, 200 * MINUTE)
    drive.run_ms(500)
    assert drive.shows(Indication.READY)
    assert of(drive.double_press(), StartRecording)


def test_what_waited_for_the_camera_or_was_cut_off_does_not_begin_without_room() -> None:
    drive = Drive()
    drive.double_press()
    assert drive.state.pending is not None
    measured(drive, STOP_BYTES - 1)
    effects = drive.send(StreamStarted())
    assert not of(effects, StartRecording)
    assert [effect.type for effect in of(effects, JournalRecord)] == ["trigger-dropped"]
    assert not of(drive.send(ResumeWanted("before")), StartRecording)


def test_a_camera_that_is_lost_while_there_is_no_room_is_not_resumed() -> None:
    drive = ready()
    drive.double_press()
    drive.send(StreamEnded("unplugged", drive.now_ns))
    assert drive.state.pending is not None
    measured(drive, 0)
    drive.run_ms(1000)
    assert not of(drive.send(StreamStarted()), StartRecording)


def test_the_stop_fits_into_what_is_left() -> None:
    """All that can wait in memory is written behind the stop: the pre-event that just began, and what follows."""
    short = replace(SETTINGS, buffer=replace(SETTINGS.buffer, pre_event_s=120))
    room = judge_room(short, (120 + STOP_S) * RATE, RATE, None)
    assert room.level is StorageLevel.VERY_LOW
    assert judge_room(short, (120 + STOP_S) * RATE - 1, RATE, None).level is StorageLevel.FULL
    assert 2 * short.video.gop_ms * 1_000_000 < STOP_S * NS_PER_S
