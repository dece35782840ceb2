"""What hardware encoders do with headers, keyframes and pictures that they drop."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.encode.access_unit import AccessUnit, AccessUnits, ParameterSets, complete_access_unit
from agent.errors import EncoderError
from agent.media.packets import VideoPacket

LONG, SHORT = b"\x00\x00\x00\x01", b"\x00\x00\x01"
SPS, PPS = LONG + b"\x67\x64\x00\x28", LONG + b"\x68\xee\x3c"
PPS_2 = LONG + b"\x68\x11\x22"
AUD, SEI = LONG + b"\x09\xf0", SHORT + b"\x06\x05\x01"
IDR, SLICE = LONG + b"\x65\x88\x80\x10", LONG + b"\x41\x9a\x02"
IDR_2 = SHORT + b"\x65\x01"  # second slice of the same picture


def run(*packets: bytes) -> list[AccessUnit]:
    sets, units = ParameterSets(), []
    for packet in packets:
        sets, unit = complete_access_unit(sets, packet)
        if unit is not None:
            units.append(unit)
    return units


def test_a_complete_stream_passes_unchanged() -> None:
    packets = [SPS + PPS + SEI + IDR, SLICE, SLICE, SPS + PPS + IDR + IDR_2]
    assert run(*packets) == [AccessUnit(packet, packet is packets[0] or packet is packets[3]) for packet in packets]


def test_headers_alone_are_merged_into_the_keyframe_behind_them() -> None:
    assert run(SPS + PPS, IDR, SLICE) == [AccessUnit(SPS + PPS + IDR, True), AccessUnit(SLICE, False)]
    assert run(SPS, PPS, IDR) == [AccessUnit(SPS + PPS + IDR, True)]
    assert run(SPS + PPS, AUD + IDR) == [AccessUnit(AUD + SPS + PPS + IDR, True)]


def test_later_keyframes_get_the_stored_headers() -> None:
    units = run(SPS + PPS, IDR, SLICE, IDR, AUD + SEI + IDR + IDR_2)
    assert [unit.data for unit in units[2:]] == [SPS + PPS + IDR, AUD + SPS + PPS + SEI + IDR + IDR_2]
    assert all(unit.is_keyframe for unit in units[2:])


def test_new_headers_replace_the_stored_ones_and_all_pps_are_kept() -> None:
    new_sps = LONG + b"\x67\x42\x00\x1f"
    units = run(SPS + PPS + IDR, new_sps + PPS + PPS_2 + IDR, IDR)
    assert units[2].data == new_sps + PPS + PPS_2 + IDR


def test_a_header_of_its_own_in_front_of_another_picture_is_kept() -> None:
    assert run(SPS + PPS + IDR, SEI, SLICE)[1] == AccessUnit(SEI + SLICE, False)


def test_a_keyframe_without_any_headers_ever_is_refused() -> None:
    with pytest.raises(EncoderError, match="never its SPS and PPS"):
        run(IDR)
    with pytest.raises(EncoderError, match="never its SPS and PPS"):
        run(SPS, IDR)


@pytest.mark.parametrize("data", [b"", b"\x00\x00\x00\x05\x65\x88\x80\x10\x00", b"\x00\x00\x01"])
def test_what_is_no_byte_stream_is_refused(data: bytes) -> None:
    with pytest.raises(EncoderError, match=r"no H\.264 byte stream"):
        run(data)


@given(st.lists(st.sampled_from([SPS, PPS, SPS + PPS, SEI, IDR, SPS + PPS + IDR, SLICE, AUD + IDR, IDR + IDR_2])))
def test_nothing_is_lost_and_every_keyframe_is_complete(packets: list[bytes]) -> None:
    sets = ParameterSets()
    given_bytes = kept_bytes = 0
    for packet in packets:
        given_bytes += len(packet)
        try:
            sets, unit = complete_access_unit(sets, packet)
        except EncoderError:
            assert b"\x67" not in b"".join(packets) or b"\x68" not in b"".join(packets) or not sets.sps or not sets.pps
            return
        if unit is None:
            continue
        kept_bytes += len(unit.data)
        assert unit.data.endswith(packet[-4:])
        if unit.is_keyframe:
            before = unit.data[: unit.data.index(b"\x65")]
            assert b"\x67" in before
            assert b"\x68" in before
        assert kept_bytes >= given_bytes, "what came in has come out"


def test_times_are_looked_up_by_pts_and_survive_a_dropped_picture() -> None:
    units = AccessUnits()
    for pts in (10, 20, 30, 40):
        units.picture_in(pts, pts * 1_000 + 7)
    assert units.packet_out(SPS + PPS, 0) is None, "headers alone have no picture's pts"
    assert units.packet_out(IDR, 10) == VideoPacket(SPS + PPS + IDR, 10_007, True)
    assert units.packet_out(SLICE, 40) == VideoPacket(SLICE, 40_007, False)
    assert units.in_flight == 0, "20 and 30 were dropped and must not be kept for ever"


@pytest.mark.parametrize("pts", [None, 11, 10])
def test_a_picture_that_never_went_in_is_refused(pts: int | None) -> None:
    units = AccessUnits()
    units.picture_in(10, 1)
    units.picture_in(20, 2)
    units.packet_out(SPS + PPS + IDR, 10)
    with pytest.raises(EncoderError, match="capture time is not known"):
        units.packet_out(SLICE, pts)
