"""Everything that can be done to a signed stream, and what the reader says of it."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.media.packets import VideoPacket
from agent.signing.desk import SigningDesk
from agent.signing.finding import BAD_STATES, GopFinding, GopState
from agent.signing.nal import NalError, split_byte_stream
from agent.signing.reader import MAX_PENDING_GOPS, StreamReader
from tests.unit.signing.streams import (
    GOP_FRAMES,
    GOPS,
    flipped,
    gops_of,
    joined,
    read,
    seis_of,
    sign,
    slow,
    states,
    still_stream,
    unsigned_stream,
    with_sei,
    without_seis,
)

WHOLE = "v" * (GOPS - 1) + "p"


def gops(desk: SigningDesk | None = None, name: str = "CAM-0001") -> list[list[VideoPacket]]:
    return gops_of(sign(unsigned_stream(), desk, name))


DESKS = {"prompt": lambda: slow(0), "slow": lambda: slow(4), "slower": lambda: slow(8)}


@pytest.fixture(params=DESKS)
def signed(request: pytest.FixtureRequest) -> list[list[VideoPacket]]:
    """A stream as signers of three speeds leave it; the slowest one answers more than a GOP later."""
    return gops(DESKS[request.param]())


def first_bad(packets: list[VideoPacket]) -> int | None:
    report, _ = read(packets)
    return report.first_bad.number if report.first_bad else None


def test_untouched(signed: list[list[VideoPacket]]) -> None:
    report, findings = read(joined(signed))
    pending = [finding for finding in findings if finding.state is GopState.PENDING]
    assert report.is_valid
    assert report.counts[GopState.VALID] + len(pending) == GOPS
    assert 1 <= len(pending) <= 2
    assert all(finding.reason == "" for finding in findings if finding.state is GopState.VALID)


@pytest.mark.parametrize("start", range(GOPS - 3))
def test_a_stream_cut_at_any_keyframe_is_valid(signed: list[list[VideoPacket]], start: int) -> None:
    """A recording begins at whatever keyframe the pre-event reaches back to."""
    report, _ = read(joined(signed[start:]))
    assert report.is_valid
    assert report.counts[GopState.VALID] >= GOPS - start - 2


@pytest.mark.parametrize("length", range(1, GOP_FRAMES * 3))
def test_an_end_cut_off_anywhere_is_pending_and_no_more(length: int) -> None:
    """What the stream cannot tell: that pictures are gone from its end. The journal can."""
    packets = joined(gops())[: -length or None]
    found = states(packets)
    assert set(found) == {"v", "p"}
    assert found.count("p") <= 2


@pytest.mark.parametrize("start", [0, 4])
@pytest.mark.parametrize("gop", [0, 1, 5, -3])
@pytest.mark.parametrize("picture", [0, 1, GOP_FRAMES - 1])
@pytest.mark.parametrize("threads", [1, 2])
def test_one_bit_names_its_gop_and_no_other(start: int, gop: int, picture: int, threads: int) -> None:
    whole = gops_of(sign(unsigned_stream(threads)))[start:]
    gop %= len(whole)
    whole[gop][picture] = flipped(whole[gop][picture], 13)
    expected = "v" * gop + "i" + "v" * (len(whole) - gop - 2) + "p"
    assert states(joined(whole)) == expected


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_bit_of_any_slice(data: st.DataObject) -> None:
    whole = gops()
    gop = data.draw(st.integers(0, GOPS - 3))
    picture = data.draw(st.integers(0, GOP_FRAMES - 1))
    packet = whole[gop][picture]
    unit = next(unit for unit in split_byte_stream(packet.data) if unit.type in (1, 5))
    at = data.draw(st.integers(unit.start, unit.end - 1))
    changed = bytearray(packet.data)
    changed[at] ^= 1 << data.draw(st.integers(0, 7))
    whole[gop][picture] = replace(packet, data=bytes(changed))
    try:
        found = first_bad(joined(whole))
    except NalError:
        return  # no longer a byte stream: of a file's sample that says `unreadable`
    # A bit that turns the keyframe into something else leaves its pictures in the GOP before.
    assert found in (gop, gop + 1)


@pytest.mark.parametrize("gop", [0, 3, GOPS - 3])
@pytest.mark.parametrize("picture", range(2, GOP_FRAMES))
def test_a_dropped_picture_is_missing(gop: int, picture: int) -> None:
    whole = gops()
    del whole[gop][picture]
    report, findings = read(joined(whole))
    assert [finding.state for finding in findings if finding.state in BAD_STATES] == [GopState.MISSING]
    assert report.first_bad is not None
    assert report.first_bad.number == gop + 1
    assert report.first_bad.reason == "Pictures that were signed are missing in it, or parts of them."


@pytest.mark.parametrize("gop", [0, 3, GOPS - 3])
def test_a_doubled_or_moved_picture_is_invalid(gop: int) -> None:
    doubled, moved = gops(), gops()
    doubled[gop].insert(3, doubled[gop][2])
    moved[gop][3], moved[gop][4] = moved[gop][4], moved[gop][3]
    for whole in (doubled, moved):
        report, _ = read(joined(whole))
        assert report.first_bad is not None
        assert (report.first_bad.number, report.first_bad.state) == (gop + 1, GopState.INVALID)


@pytest.mark.parametrize("gop", range(1, GOPS - 2))
def test_a_dropped_gop_is_named_where_it_is_missing(signed: list[list[VideoPacket]], gop: int) -> None:
    del signed[gop]
    found = first_bad(joined(signed))
    # Its own SEIs went with it: the GOPs that those were for have no signature any more.
    assert found is not None
    assert gop - 1 <= found <= gop + 1


def test_two_dropped_gops_in_the_middle_leave_the_rest_valid() -> None:
    whole = gops()
    del whole[4:6]
    _, findings = read(joined(whole))
    assert "".join(finding.state[0] for finding in findings) == "vvvui" + "v" * 4 + "p"
    assert "2 GOPs are missing before it." in {finding.reason for finding in findings}


def test_swapped_gops_are_found(signed: list[list[VideoPacket]]) -> None:
    signed[4], signed[5] = signed[5], signed[4]
    found = first_bad(joined(signed))
    assert found is not None
    assert 3 <= found <= 6


def test_swapped_gops_with_their_signatures_moved_along_are_found() -> None:
    """The pictures swap, the SEIs stay: each GOP is genuine, each signature comes, the order is wrong."""
    whole = gops()
    bare = [[without_seis(packet) for packet in gop] for gop in whole]
    seis = [seis_of(gop) for gop in whole]
    bare[4], bare[5] = bare[5], bare[4]
    seis[5], seis[6] = seis[6], seis[5]
    for gop, units in zip(bare, seis, strict=True):
        for unit in units:
            gop[1] = with_sei(gop[1], unit)
    found = first_bad(joined(bare))
    assert found is not None
    assert 4 <= found <= 6


def test_a_doubled_gop_is_found() -> None:
    whole = gops()
    whole.insert(5, whole[4])
    assert first_bad(joined(whole)) in (5, 6)


def test_a_foreign_gop_put_in_is_found() -> None:
    whole, other = gops(), gops(name="CAM-0002")
    whole.insert(5, other[7])
    assert first_bad(joined(whole)) in (5, 6)


def test_all_seis_stripped() -> None:
    packets = [without_seis(packet) for packet in joined(gops())]
    report, _ = read(packets)
    assert states(packets) == "u" * (GOPS - MAX_PENDING_GOPS) + "p" * MAX_PENDING_GOPS
    assert not report.is_valid
    assert report.first_bad is not None
    assert report.first_bad.number == 1


def test_no_signature_at_all_is_never_valid_however_short() -> None:
    report, _ = read([without_seis(packet) for packet in joined(gops()[:2])])
    assert not report.is_valid


@pytest.mark.parametrize("gop", [1, 4, GOPS - 2])
def test_one_sei_stripped_leaves_one_gop_unsigned(gop: int) -> None:
    whole = gops()
    whole[gop] = [without_seis(packet) for packet in whole[gop]]
    expected = list(WHOLE)
    expected[gop - 1] = "u"
    assert states(joined(whole)) == "".join(expected)


def test_a_replayed_sei_in_the_place_of_the_right_one() -> None:
    whole = gops()
    old = seis_of(whole[3])[0]
    whole[6] = [without_seis(packet) for packet in whole[6]]
    whole[6][1] = with_sei(whole[6][1], old)
    assert first_bad(joined(whole)) == 6


def test_a_replayed_sei_beside_the_right_one() -> None:
    whole = gops()
    whole[6][3] = with_sei(whole[6][3], seis_of(whole[3])[0])
    report, _ = read(joined(whole))
    assert report.first_bad is not None
    assert (report.first_bad.number, report.first_bad.state) == (7, GopState.INVALID)


def test_the_same_sei_twice_is_the_specification_s_redundancy() -> None:
    whole = gops()
    for gop in whole[1:]:
        gop[3] = with_sei(gop[3], seis_of(gop)[0])
    assert states(joined(whole)) == WHOLE


def test_gops_of_another_key_are_invalid() -> None:
    whole, other = gops(), gops(name="CAM-0002")
    mixed = whole[:6] + other[6:]
    report, findings = read(joined(mixed))
    # The pictures are the same; the signature of the sixth GOP came already from the other camera.
    assert "".join(finding.state[0] for finding in findings) == "vvvvv" + "i" * (GOPS - 6) + "p"
    assert "another certificate" in findings[5].reason
    assert report.chain[0].subject.rfc4514_string().find("CAM-0001") >= 0


def test_a_whole_stream_of_another_key_says_whose_it_is() -> None:
    report, _ = read(joined(gops(name="CAM-0002")))
    assert report.is_valid
    assert "CAM-0002" in report.chain[0].subject.rfc4514_string()


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_bit_of_a_sei(data: st.DataObject) -> None:
    whole = gops()
    gop = data.draw(st.integers(1, GOPS - 2))
    sei = seis_of(whole[gop])[0]
    changed = bytearray(sei)
    at = data.draw(st.integers(0, len(sei) - 1))
    changed[at] ^= 1 << data.draw(st.integers(0, 7))
    whole[gop][1] = replace(whole[gop][1], data=whole[gop][1].data.replace(sei, bytes(changed)))
    try:
        found = first_bad(joined(whole))
    except NalError:
        return
    is_padding = sei[at : at + 1] == b"\x01" and at >= len(sei) - 4
    assert found is not None or is_padding
    assert found is None or gop <= found <= gop + 1


def test_a_signature_of_another_key_under_the_right_certificate() -> None:
    whole, other = gops(), gops(name="CAM-0002")
    ours, theirs = seis_of(whole[5])[0], seis_of(other[5])[0]
    forged = ours[:-76] + theirs[-76:]
    whole[5][1] = replace(whole[5][1], data=whole[5][1].data.replace(ours, forged))
    report, _ = read(joined(whole))
    assert report.first_bad is not None
    assert report.first_bad.number == 5


def test_unsigned_seis_count_only_under_a_signature() -> None:
    """The unsigned SEI of GOP 4 lies in GOP 5; with GOP 5 changed nothing vouches for either."""
    whole = gops(slow(0, refused=(3,)))
    assert states(joined(whole)) == WHOLE
    whole[4][4] = flipped(whole[4][4], 9)
    assert states(joined(whole))[3:6] == "uiv"


def test_a_forged_unsigned_sei_vouches_for_nothing() -> None:
    """Signed SEIs replaced by unsigned ones for changed pictures: nothing that is signed ever covers them."""
    forged = gops_of(sign(unsigned_stream(), slow(0, refused=range(GOPS))))
    report, findings = read(joined(forged))
    assert not report.is_valid
    assert {finding.state for finding in findings} == {GopState.UNCOVERED, GopState.PENDING}
    assert report.counts[GopState.PENDING] <= MAX_PENDING_GOPS


def test_a_signer_that_fails_for_longer_than_is_remembered() -> None:
    packets = sign(unsigned_stream(gops=80), slow(0, refused=range(1, 79)))
    report, findings = read(packets)
    assert findings[0].state is GopState.VALID
    assert findings[2].state is GopState.UNCOVERED
    assert report.first_bad is not None
    assert "came in time" in report.first_bad.reason


def test_a_tail_that_was_signed_and_then_changed_is_not_pending() -> None:
    whole = gops()
    whole[GOPS - 2][0] = flipped(whole[GOPS - 2][0], 9)
    assert states(joined(whole)) == "v" * (GOPS - 2) + "ip"


def test_a_short_stream_changed_everywhere_is_not_pending() -> None:
    whole = gops()[4:8]
    for gop in whole:
        gop[0] = flipped(gop[0], 9)
    report, _ = read(joined(whole))
    assert not report.is_valid
    assert report.first_bad is not None
    assert report.first_bad.number == 1


def test_pictures_in_front_of_the_first_keyframe() -> None:
    whole = joined(gops())[2:]
    report, _ = read(whole)
    assert states(whole) == "i" + WHOLE[1:]
    assert report.first_bad is not None
    assert report.first_bad.reason == "It begins without a keyframe."


@pytest.mark.parametrize("type_", [2, 3, 4, 19, 20, 21])
def test_pictures_that_no_signature_covers_are_not_passed_over(type_: int) -> None:
    whole = gops()
    whole[4][2] = replace(whole[4][2], data=whole[4][2].data + bytes([0, 0, 1, 0x40 | type_, 0x88, 0x80]))
    report, _ = read(joined(whole))
    assert report.first_bad is not None
    assert (report.first_bad.number, report.first_bad.state) == (5, GopState.INVALID)


def test_an_unreadable_sample_is_invalid() -> None:
    reader = StreamReader()
    findings: list[GopFinding] = []
    for number, packet in enumerate(joined(gops())):
        if number == 20:
            findings += reader.unreadable("cut off", None)
        else:
            findings += reader.picture(packet.data, split_byte_stream(packet.data), None)
    findings += reader.end()
    assert [finding.number for finding in findings if finding.state in BAD_STATES] == [4]
    assert findings[3].start_s is None


def test_findings_come_as_the_signatures_do() -> None:
    """Not at the end: a recording of hours must not be kept in memory."""
    reader = StreamReader()
    seen = 0
    for number, packet in enumerate(joined(gops())):
        seen += len(list(reader.picture(packet.data, split_byte_stream(packet.data), None)))
        assert seen >= number // GOP_FRAMES - (number % GOP_FRAMES == 0)


def test_nothing_at_all() -> None:
    report, findings = read([])
    assert (report.gops, findings, report.is_valid) == (0, [], False)


def endless(unit: list[VideoPacket], times: int) -> Iterator[VideoPacket]:
    for _ in range(times):
        yield from unit


@pytest.mark.parametrize("stripped", [False, True])
def test_memory_does_not_grow_with_a_stream_that_nothing_fits(stripped: bool) -> None:
    unit = [without_seis(packet) if stripped else packet for packet in joined(gops())]

    def peak_bytes(times: int) -> int:
        reader = StreamReader()
        tracemalloc.start()
        for packet in endless(unit, times):
            for _ in reader.picture(packet.data, split_byte_stream(packet.data), None):
                pass
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return peak

    peak_bytes(2)
    few, many = peak_bytes(20), peak_bytes(60)
    assert many < few * 1.2 + 50_000


def test_two_sessions_of_one_camera_spliced_with_their_signatures_moved_along() -> None:
    """Same key, counters that go on, each GOP genuine: only the linked hash tells that they never were one stream."""
    whole = gops()
    other = gops_of(sign([flipped(packet, 9) for packet in unsigned_stream()]))
    last_sei = seis_of(whole[5])[0]
    other[5] = [without_seis(packet) for packet in other[5]]
    other[5][1] = with_sei(other[5][1], last_sei)
    report, findings = read(joined(whole[:5] + other[5:]))
    assert "".join(finding.state[0] for finding in findings) == "vvvvvi" + "v" * (GOPS - 7) + "p"
    assert report.first_bad is not None
    assert report.first_bad.reason == "It was signed behind another GOP than the one before it."


def test_slices_without_end_are_invalid_and_not_kept() -> None:
    whole = gops()
    whole[4][2] = replace(whole[4][2], data=whole[4][2].data + b"\x00\x00\x01\x41\x1a\x80" * 66_000)
    report, findings = read(joined(whole))
    assert [finding.number for finding in findings if finding.state in BAD_STATES] == [5]
    assert report.first_bad is not None
    assert report.first_bad.reason == "It has more than 65535 slices."


STILLS = [(0, 11), (0, 7), (4, 11), (3, 8), (6, 7)]


def test_some_gops_of_a_still_picture_are_the_same() -> None:
    keyframes = [gop[0].data for gop in gops_of(still_stream(0, 11))]
    assert len(set(keyframes)) < len(keyframes) - 2


@pytest.mark.parametrize("still", STILLS)
@pytest.mark.parametrize("lag", [0, 4, 8, 11])
@pytest.mark.parametrize("refused", [(), (3, 6, 7)])
def test_a_picture_that_does_not_change_is_no_contradiction(
    still: tuple[int, int], lag: int, refused: tuple[int, ...]
) -> None:
    """Behind a covered lens: which of the equal GOPs a signature is for cannot be told, wherever a film was cut out."""
    signed = gops_of(sign(still_stream(*still), slow(lag, refused)))
    for start in range(GOPS - 1):
        part = joined(signed[start:])
        for left_out in range(GOP_FRAMES * 2 if start < GOPS - 2 else GOP_FRAMES):
            found = states(part[: len(part) - left_out])
            assert set(found) <= {"v", "p"}, (start, left_out, found)
            assert found.count("v") >= GOPS - start - 6 - len(refused)


def carrying(gop: list[VideoPacket], *seis: bytes) -> list[VideoPacket]:
    """A GOP with these SEIs in it, and none of its own."""
    bare = [without_seis(packet) for packet in gop]
    for sei in seis:
        bare[1] = with_sei(bare[1], sei)
    return bare


@pytest.mark.parametrize("back", [1, 2, 5])
def test_a_gop_from_elsewhere_in_the_second_place_is_found_with_its_signature_moved_along(back: int) -> None:
    """That signatures may be mistaken at a film's beginning must not cover what never shows its own."""
    signed = gops_of(sign(unsigned_stream(), slow(0)))
    sei = {number: seis_of(signed[number + 1])[0] for number in range(GOPS - 1)}
    film = [carrying(signed[5]), carrying(signed[5 - back]), carrying(signed[7], sei[5 - back], sei[5])]
    film += [carrying(signed[number], sei[number - 1]) for number in range(8, GOPS)]
    report, found = read(joined(film))
    assert not report.is_valid
    assert found[1].state in BAD_STATES


def test_pictures_in_front_of_a_gop_that_has_its_signature_are_not_waiting_for_theirs() -> None:
    signed = gops_of(sign(unsigned_stream(), slow(0)))
    forged = gops_of([flipped(packet, 9) for packet in unsigned_stream()])
    film = [carrying(gop) for gop in forged[:4]] + [carrying(signed[4]), signed[5]]
    assert states(joined(film)) == "uuuuvp"


def test_of_a_still_picture_no_more_is_missed_than_can_be_mistaken() -> None:
    signed = gops_of(sign(still_stream(0, GOPS - 1), slow(0)))
    for gone in range(1, 4):
        kept: list[bytes] = []
        film: list[list[VideoPacket]] = []
        for number, gop in enumerate(signed):
            kept += seis_of(gop)
            if number % 4 < gone and number > 2:
                continue
            film.append(carrying(gop, *reversed(kept)) if kept else gop)
            kept = []
        report, found = read(joined(film))
        assert not report.is_valid or GOPS - len(found) <= 6


@pytest.mark.parametrize("lag", [1, 3, 5])
def test_a_signature_that_never_comes_leaves_an_honest_end_pending(lag: int) -> None:
    packets = sign(unsigned_stream(), slow(lag, (), (4,)))
    for length in range(GOP_FRAMES * 10, GOP_FRAMES * GOPS):
        assert set(states(packets[:length])) <= {"v", "p"}, length


def test_a_gop_without_a_signature_lets_nothing_pile_up_behind_it() -> None:
    signed = gops_of(sign(unsigned_stream(gops=200), slow(0)))
    signed[3] = carrying(signed[3], *seis_of(signed[3]))
    signed[4] = carrying(signed[4])  # so that nothing ever comes for the fourth
    reader = StreamReader()
    waiting = 0
    for packet in joined(signed):
        list(reader.picture(packet.data, split_byte_stream(packet.data), 0.0))
        waiting = max(waiting, len(reader._window))
    assert waiting <= 66


@pytest.mark.parametrize("still", STILLS)
@pytest.mark.parametrize("lag", [0, 8])
@pytest.mark.parametrize("start", [0, 2, 5])
def test_what_is_changed_in_a_still_picture_is_found(still: tuple[int, int], lag: int, start: int) -> None:
    for gop in range(GOPS - start - 4):
        for picture in (0, 3):
            signed = gops_of(sign(still_stream(*still), slow(lag)))[start:]
            signed[gop][picture] = flipped(signed[gop][picture])
            assert first_bad(joined(signed)) == gop + 1, (gop, picture)


@pytest.mark.parametrize("still", STILLS)
@pytest.mark.parametrize("lag", [0, 8])
def test_a_gop_that_is_dropped_with_what_it_carries_is_missed_in_a_still_picture(
    still: tuple[int, int], lag: int
) -> None:
    for gop in range(2, GOPS - 4):
        signed = gops_of(sign(still_stream(*still), slow(lag)))
        del signed[gop]
        report, _ = read(joined(signed))
        assert not report.is_valid, gop
