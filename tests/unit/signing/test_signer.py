"""The stream signer: no picture waits, each GOP has its SEI, and it reads as the specification says."""

from __future__ import annotations

import threading
from dataclasses import replace
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from agent.clock import SimulatedClock
from agent.errors import EncoderError
from agent.media.packets import VideoPacket
from agent.signing.desk import InlineDesk, ThreadDesk
from agent.signing.reader import MAX_PENDING_GOPS
from agent.signing.sei import MAX_CERTIFICATES, SeiError, parse_sei
from agent.signing.signer import MAX_WAITING_GOPS, StreamSigner
from agent.trust.software import SoftwareSigner
from tests.unit.encode.pictures import FRAME_NS, START_NS, numbers_of
from tests.unit.recorder.media import file_of, fragments_of
from tests.unit.signing.streams import (
    BOOTTIME_NS,
    DEVICE,
    GOP_FRAMES,
    GOPS,
    UTC_NS,
    VENDOR,
    FailingSigner,
    gops_of,
    is_ours,
    make_signer,
    read,
    seis_of,
    sign,
    slow,
    states,
    units_of,
    unsigned_stream,
    without_seis,
)
from tests.unit.trust.identities import identity


def slices(packet: VideoPacket) -> list[bytes]:
    return [data for unit, data in units_of(packet) if unit.type in (1, 5)]


@pytest.mark.parametrize("threads", [1, 2])
def test_statements_are_what_the_specification_asks_for(threads: int) -> None:
    """Hashes made anew here, by the specification's text and nothing of the package's."""
    packets = unsigned_stream(threads)
    seis = [parse_sei(unit) for unit in seis_of(sign(packets))]
    assert len(seis) == GOPS - 1
    linked = bytes(32)
    for number, (gop, sei) in enumerate(zip(gops_of(packets), seis, strict=False)):
        units = [unit for packet in gop for unit in slices(packet)]
        anchor = sha256(units[0]).digest()
        listed = [anchor] + [sha256(anchor + sha256(unit).digest()).digest() for unit in units[1:]]
        assert sei is not None
        assert sei.statement is not None
        assert sei.hash_list == b"".join(listed)
        assert sei.statement.gop_hash == sha256(b"".join(listed)).digest()
        assert sei.statement.linked_hash == linked
        assert (sei.statement.counter, sei.statement.nal_units) == (number, GOP_FRAMES * threads)
        start_ns = UTC_NS - BOOTTIME_NS + START_NS + number * GOP_FRAMES * FRAME_NS
        assert sei.statement.start_utc_ns == start_ns // 100 * 100
        assert sei.statement.end_utc_ns == (start_ns + GOP_FRAMES * FRAME_NS) // 100 * 100
        assert sei.vendor == VENDOR
        assert sei.signature is not None
        key = identity(DEVICE).key.public_key()
        key.verify(sei.signature, sei.document, ec.ECDSA(hashes.SHA256()))
        linked = anchor


@pytest.mark.parametrize("pictures", [0, 1, 3, 6, 14])
def test_no_picture_is_changed_moved_or_held_back(pictures: int) -> None:
    packets = unsigned_stream()
    signed = sign(packets, slow(pictures))
    assert [without_seis(packet).data for packet in signed] == [packet.data for packet in packets]
    assert [(packet.pts_ns, packet.is_keyframe) for packet in signed] == [
        (packet.pts_ns, packet.is_keyframe) for packet in packets
    ]
    assert numbers_of(signed) == list(range(len(packets)))


def test_a_slow_signer_delays_its_sei_and_nothing_else() -> None:
    """200 ms are 6 pictures: the SEI of each GOP comes so much later, in order."""
    prompt, late = sign(unsigned_stream(), slow(0)), sign(unsigned_stream(), slow(5))

    def places(packets: list[VideoPacket]) -> list[int]:
        return [number for number, packet in enumerate(packets) if seis_of([packet])]

    assert places(prompt) == [GOP_FRAMES * gop + 1 for gop in range(1, GOPS)]
    assert places(late) == [GOP_FRAMES * gop + 5 for gop in range(1, GOPS)]
    assert states(late) == "v" * (GOPS - 1) + "p"


def test_no_sei_stands_in_front_of_an_idr_picture() -> None:
    """As a file's first NAL unit, ONVIF's validator would judge it without a picture."""
    for pictures in range(9):
        signed = sign(unsigned_stream(), slow(pictures))
        assert not [packet for packet in signed if packet.is_keyframe and seis_of([packet])]


def test_a_stream_of_keyframes_only_is_signed_too() -> None:
    packets = [packet for packet in unsigned_stream() if packet.is_keyframe]
    signed = sign(packets)
    assert len(seis_of(signed)) >= len(packets) - 2
    assert states(signed) == "v" * (len(packets) - 2) + "pp"


def test_a_sei_stands_behind_headers_and_in_front_of_slices() -> None:
    for packet in sign(unsigned_stream(2)):
        types = [6.5 if is_ours(data) else unit.type for unit, data in units_of(packet)]
        if 6.5 in types:
            assert types[types.index(6.5) + 1] in (1, 5)


def test_every_gop_makes_the_same_moov_signed_or_not() -> None:
    """libavformat takes a zero behind the PPS for a part of it: a SEI must not change the start code there.

    Without a GOP of its own for the SEIs the recorder would close the recording; here half of the GOPs has none, and
    the stream of keyframes carries them in front of IDR pictures.
    """
    keyframes = [packet for packet in unsigned_stream() if packet.is_keyframe]
    for packets in (sign(unsigned_stream(), slow(8)), sign(keyframes, slow(2))):
        assert len(file_of(fragments_of(packets))) > 1000


def test_failures_leave_a_gop_without_signature_which_the_next_one_covers() -> None:
    answers: list[str | None] = []
    desk = slow(1, refused=(2, 3, 7))
    signer = make_signer(desk, on_answer=answers.append)
    signed = []
    for packet in unsigned_stream():
        signed.append(signer.push(packet))
        desk.picture()
    seis = [parse_sei(unit) for unit in seis_of(signed)]
    assert [sei is not None and sei.signature is None for sei in seis] == [n in (2, 3, 7) for n in range(GOPS - 1)]
    assert states(signed) == "v" * (GOPS - 1) + "p"
    refusal = "The secure element did not answer."
    assert answers == [refusal if n in (2, 3, 7) else None for n in range(GOPS - 1)]
    status = signer.status
    assert (status.gops, status.signed_gops, status.unsigned_gops) == (GOPS - 1, GOPS - 4, 3)
    assert (status.unsigned_in_a_row, status.last_refusal) == (0, None)


def test_a_signer_that_hangs_for_good_leaves_everything_unsigned_and_bounded() -> None:
    answers: list[str | None] = []
    desk = slow(0, hanging=range(5, 10_000))
    signer = make_signer(desk, on_answer=answers.append)
    signed = []
    for packet in unsigned_stream(gops=30):
        signed.append(signer.push(packet))
        desk.picture()
        assert len(signer._waiting) <= MAX_WAITING_GOPS + 1
    status = signer.status
    assert status.signed_gops == 5
    assert status.unsigned_gops == 29 - 5 - MAX_WAITING_GOPS
    assert status.unsigned_in_a_row == status.unsigned_gops
    assert [answer is None for answer in answers] == [True] * 5 + [False] * status.unsigned_gops
    assert states(signed) == "v" * 5 + "u" * (25 - MAX_PENDING_GOPS) + "p" * MAX_PENDING_GOPS


def test_a_signer_that_comes_back_covers_what_went_out_unsigned() -> None:
    signed = sign(unsigned_stream(), slow(0, hanging=(3,)))
    seis = [parse_sei(unit) for unit in seis_of(signed)]
    assert [sei is not None and sei.signature is None for sei in seis] == [n == 3 for n in range(len(seis))]
    assert states(signed) == "v" * (GOPS - 1) + "p"


def test_push_never_waits_for_a_signer_that_sleeps() -> None:
    """With a real thread, and a signer that answers nothing before the last picture went through."""
    all_pushed = threading.Event()
    in_time: list[bool] = []

    class Sleepy(FailingSigner):
        def sign(self, data: bytes) -> bytes:
            in_time.append(all_pushed.wait(60))  # whoever waits for this call comes here only after a minute
            return super().sign(data)

    sleepy = Sleepy(identity(DEVICE).signer)
    sleepy.failing = False
    signer = make_signer(ThreadDesk(sleepy))
    pushed = [signer.push(packet) for packet in unsigned_stream()]
    all_pushed.set()
    signer.close()
    assert len(pushed) == GOPS * GOP_FRAMES
    assert False not in in_time


def test_large_lists_are_left_out_and_the_stream_still_reads() -> None:
    """Four slices a picture at a low bit rate: the list alone would take percents."""
    many = [
        replace(packet, data=packet.data + b"".join(b"\x00\x00\x01\x41\x1a%c\x80" % (n + 1) for n in range(20)))
        for packet in unsigned_stream()
    ]
    signed = sign(many)
    seis = [parse_sei(unit) for unit in seis_of(signed)]
    assert all(sei is not None and sei.hash_list == b"" for sei in seis)
    assert states(signed) == "v" * (GOPS - 1) + "p"
    small = [parse_sei(unit) for unit in seis_of(sign(unsigned_stream()))]
    assert all(sei is not None and sei.hash_list for sei in small)


def test_frames_before_the_first_keyframe_pass_untouched() -> None:
    packets = unsigned_stream()[3:]
    signed = sign(packets)
    assert signed[:3] == list(packets[:3])
    assert states(signed[3:]) == "v" * (GOPS - 2) + "p"


def test_what_is_no_byte_stream_is_the_encoder_s_fault() -> None:
    with pytest.raises(EncoderError, match="choose the other"):
        make_signer().push(VideoPacket(b"\x00\x00\x00\x05hello", START_NS, True))


def test_headers_alone_pass() -> None:
    packet = VideoPacket(b"\x00\x00\x00\x01\x67\x42", START_NS, False)
    assert make_signer().push(packet) is packet


def test_a_gop_without_end_is_the_encoder_s_fault() -> None:
    signer = make_signer()
    key, *rest = unsigned_stream()[:2]
    signer.push(key)
    many = replace(rest[0], data=rest[0].data + b"\x00\x00\x01\x41\x1a\x80" * 30_000)
    signer.push(many)
    signer.push(many)
    with pytest.raises(EncoderError, match="without a keyframe"):
        signer.push(many)


def test_a_chain_that_no_validator_takes_is_refused() -> None:
    device = identity(DEVICE)
    signer = SoftwareSigner(device.key, (device.leaf,) * (MAX_CERTIFICATES + 1))
    with pytest.raises(SeiError, match="certificates"):
        StreamSigner(signer, SimulatedClock(), VENDOR, desk=InlineDesk(signer))


def test_cost_in_bytes_at_the_usual_setting() -> None:
    """1080p30 at 6 Mbit/s: 750 kB a GOP, one or two slices a picture."""
    key, delta = unsigned_stream()[:2]
    body = b"\x55" * 25_000
    for slices_a_picture in (1, 2, 4):
        packets = []
        for number in range(90):
            source = key if number % 30 == 0 else delta
            extra = b"".join(
                b"\x00\x00\x01\x41\x1a" + body[: 25_000 // slices_a_picture] + b"\x80"
                for _ in range(slices_a_picture - 1)
            )
            data = source.data[:-1] + body[: 25_000 // slices_a_picture] + b"\x80" + extra
            packets.append(VideoPacket(data, START_NS + number * FRAME_NS, number % 30 == 0))
        before = sum(len(packet.data) for packet in packets[30:])
        after = sum(len(packet.data) for packet in sign(packets)[30:])
        assert 0.001 < after / before - 1 <= 0.005


def test_reader_and_signer_agree_on_what_the_camera_believed() -> None:
    report, findings = read(sign(unsigned_stream()))
    assert report.is_valid
    assert report.chain == identity(DEVICE).signer.chain
    assert report.vendor == VENDOR
    first_ns = (UTC_NS - BOOTTIME_NS + START_NS) // 100 * 100
    assert report.first_utc_ns == first_ns
    assert report.last_utc_ns is not None
    assert abs(report.last_utc_ns - first_ns - (GOPS - 1) * GOP_FRAMES * FRAME_NS) <= 100
    assert [finding.number for finding in findings] == list(range(1, GOPS + 1))
    assert findings[1].start_s == pytest.approx(GOP_FRAMES * FRAME_NS / 1e9)
    assert report.gops == GOPS
    assert sum(report.frames.values()) == GOPS * GOP_FRAMES
