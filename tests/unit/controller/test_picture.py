"""When pictures are called bad, and when no longer: one look says nothing, and nothing is said twice."""

from __future__ import annotations

import pytest

from agent.controller.effects import JournalRecord, Play, Show
from agent.controller.events import FragmentDurable, PictureMeasured, StreamEnded, StreamStarted
from agent.controller.picture import CLEAR_LOOKS, PictureFault, PictureState, like, look
from agent.controller.signals import Cue, Indication
from tests.unit.controller.drive import Drive, of, ready

GOOD = PictureMeasured(mean=90.0, detail=25.0, noise=0.4, white=0.02, still=False)
BAD = {
    PictureFault.COVERED: PictureMeasured(mean=4.0, detail=0.1, noise=0.2, white=0.0, still=False),
    PictureFault.OVEREXPOSED: PictureMeasured(mean=250.0, detail=3.0, noise=0.2, white=0.95, still=False),
    PictureFault.FROZEN: PictureMeasured(mean=90.0, detail=25.0, noise=0.4, white=0.02, still=True),
}


def looked(state: PictureState, *seen: PictureMeasured) -> PictureState:
    for one in seen:
        state = look(one, state)
    return state


@pytest.mark.parametrize("fault", PictureFault)
def test_it_takes_some_looks_in_a_row(fault: PictureFault) -> None:
    almost = looked(PictureState(), *[BAD[fault]] * (fault.looks - 1))
    assert almost.fault is None
    assert looked(almost, BAD[fault]).fault is fault
    assert looked(almost, GOOD, *[BAD[fault]] * (fault.looks - 1)).fault is None, "one good look between"


@pytest.mark.parametrize("fault", PictureFault)
def test_it_is_over_after_some_good_looks_in_a_row(fault: PictureFault) -> None:
    told = looked(PictureState(), *[BAD[fault]] * fault.looks)
    almost = looked(told, *[GOOD] * (CLEAR_LOOKS - 1))
    assert almost.fault is fault
    assert looked(almost, BAD[fault], *[GOOD] * (CLEAR_LOOKS - 1)).fault is fault
    assert looked(almost, GOOD).fault is None


def test_what_wavers_about_a_bound_is_one_fault() -> None:
    told = looked(PictureState(), *[BAD[PictureFault.COVERED]] * PictureFault.COVERED.looks)
    for detail in (0.38, 0.5, 0.45, 0.58):
        between = PictureMeasured(mean=70.0, detail=detail, noise=0.1, white=0.0, still=False)
        assert like(between, None) is None or detail < 0.4
        told = looked(told, *[between] * CLEAR_LOOKS)
        assert told.fault is PictureFault.COVERED


def test_one_fault_follows_another() -> None:
    state = looked(PictureState(), *[BAD[PictureFault.COVERED]] * 10, *[BAD[PictureFault.OVEREXPOSED]] * 9)
    assert state.fault is PictureFault.COVERED
    assert looked(state, BAD[PictureFault.OVEREXPOSED]).fault is PictureFault.OVEREXPOSED


def test_a_black_picture_that_stands_still_is_a_covered_lens() -> None:
    assert like(PictureMeasured(0.0, 0.0, 0.0, 0.0, True), None) is PictureFault.COVERED


def test_noise_that_could_be_detail_is_not_taken_for_it() -> None:
    assert like(PictureMeasured(20.0, 0.6, 0.7, 0.0, False), None) is PictureFault.COVERED
    assert like(PictureMeasured(20.0, 0.6, 0.1, 0.0, False), None) is None


# In the controller


def recording() -> Drive:
    drive = ready()
    drive.double_press()
    drive.run_ms(500)
    drive.send(FragmentDurable(1))
    assert drive.shows(Indication.RECORDING)
    return drive


@pytest.mark.parametrize("fault", PictureFault)
def test_it_is_told_once_and_stops_nothing(fault: PictureFault) -> None:
    drive = recording()
    effects = [effect for _ in range(50) for effect in drive.send(BAD[fault])]
    (record,) = of(effects, JournalRecord)
    assert record.type == "fault"
    assert (record.fields["component"], record.fields["kind"]) == (fault.component, fault.value)
    assert record.fields["mean_luma"] == BAD[fault].mean
    assert of(effects, Play) == [Play(Cue.FAULT)]
    assert of(effects, Show) == []
    assert drive.shows(Indication.RECORDING)
    assert drive.state.active is not None
    effects = [effect for _ in range(50) for effect in drive.send(GOOD)]
    (record,) = of(effects, JournalRecord)
    assert (record.type, record.fields["kind"]) == ("fault-cleared", fault.value)
    assert of(effects, Play) == []


def test_good_pictures_say_nothing() -> None:
    drive = recording()
    assert [effect for _ in range(100) for effect in drive.send(GOOD)] == []


def test_looks_at_two_sessions_are_no_row_and_a_fault_outlives_its_session() -> None:
    drive = ready()
    bad = BAD[PictureFault.COVERED]
    for _ in range(9):
        drive.send(bad)
    drive.send(StreamEnded("unplugged", None))
    drive.send(StreamStarted())
    assert of(drive.send(bad), JournalRecord) == []
    for _ in range(9):
        drive.send(bad)
    assert drive.state.picture.fault is PictureFault.COVERED
    drive.send(StreamEnded("unplugged", None))
    assert drive.state.picture.fault is PictureFault.COVERED
