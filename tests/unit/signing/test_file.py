"""Files: what a muxer made of a signed stream reads the same, and ONVIF's own validator agrees where it is at hand."""

from __future__ import annotations

import os
import subprocess
from io import BytesIO
from pathlib import Path

import av
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.capture.synthetic import SyntheticCamera
from agent.clock import SimulatedClock
from agent.encode.video import VideoEncoder
from agent.errors import EvidenceDamagedError
from agent.media.packets import VideoPacket
from agent.recorder.fragment import MediaTracks
from agent.settings.schema import VideoSettings
from agent.signing.file import read_file
from agent.signing.finding import GopFinding, GopState
from agent.signing.signer import StreamSigner
from agent.trust.certificates import pem
from tests.unit.encode.pictures import START_NS
from tests.unit.recorder.media import AUDIO, VIDEO, audio_config, file_of, fragments_of, tone
from tests.unit.signing.streams import (
    DEVICE,
    GOP_FRAMES,
    GOPS,
    VENDOR,
    SlowDesk,
    flipped,
    gops_of,
    sign,
    slow,
    unsigned_stream,
)
from tests.unit.trust.identities import identity

VALIDATOR = os.environ.get("ONVIF_MEDIA_SIGNING_VALIDATOR")


def fragmented(packets: list[VideoPacket]) -> bytes:
    """`cat init.mp4 *.m4s`, without sound."""
    return file_of(fragments_of(packets, origin_ns=packets[0].pts_ns))


def with_sound(packets: list[VideoPacket]) -> bytes:
    sound, _ = tone((packets[-1].pts_ns - packets[0].pts_ns) / 1e9 + 0.1, packets[0].pts_ns)
    return file_of(fragments_of(packets, sound, packets[0].pts_ns, MediaTracks(VIDEO, AUDIO, audio_config())))


def plain(data: bytes) -> bytes:
    """The same samples in a plain MP4, as any remuxing tool makes it."""
    made = BytesIO()
    with av.open(BytesIO(data), "r") as source, av.open(made, "w", format="mp4") as target:
        streams = {stream.index: target.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.size:
                packet.stream = streams[packet.stream.index]
                target.mux(packet)
    return made.getvalue()


def byte_stream(packets: list[VideoPacket]) -> bytes:
    return b"".join(packet.data for packet in packets)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("start", [0, 5])
def test_every_container_reads_the_same(threads: int, start: int) -> None:
    packets = [packet for gop in gops_of(sign(unsigned_stream(threads), slow(3)))[start:] for packet in gop]
    for data in (fragmented(packets), with_sound(packets), plain(with_sound(packets)), byte_stream(packets)):
        findings: list[GopFinding] = []
        report = read_file(BytesIO(data), findings.append)
        assert report.is_valid
        assert report.chain == identity(DEVICE).signer.chain
        assert "".join(finding.state[0] for finding in findings) == "v" * (GOPS - start - 1) + "p"
        assert [finding.frames for finding in findings] == [GOP_FRAMES] * (GOPS - start)


def test_the_first_bad_gop_has_its_media_time(tmp_path: Path) -> None:
    whole = gops_of(sign(unsigned_stream()))
    whole[7][2] = flipped(whole[7][2], 9)
    path = tmp_path / "changed.mp4"
    path.write_bytes(fragmented([packet for gop in whole for packet in gop]))
    report = read_file(path)
    assert report.first_bad is not None
    assert (report.first_bad.number, report.first_bad.state) == (8, GopState.INVALID)
    assert report.first_bad.start_s == pytest.approx((whole[7][0].pts_ns - START_NS) / 1e9, abs=1e-3)
    assert report.first_bad.reason == "Its pictures are not those that were signed."


def test_a_file_whose_video_is_something_else_or_nothing(tmp_path: Path) -> None:
    text = tmp_path / "note.mp4"
    text.write_text("this is no video")
    with pytest.raises(EvidenceDamagedError):
        read_file(text)
    with pytest.raises(EvidenceDamagedError):
        read_file(tmp_path / "absent.mp4")


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_damaged_file_is_read_or_refused_and_never_better_than_it_is(data: st.DataObject) -> None:
    whole = bytearray(fragmented(sign(unsigned_stream())))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        report = read_file(BytesIO(bytes(whole)))
    except EvidenceDamagedError:
        return
    assert report.counts[GopState.VALID] <= GOPS - 1


def run_validator(path: Path, root: Path) -> str:
    assert VALIDATOR is not None
    subprocess.run([VALIDATOR, "-b", "-C", str(root), str(path)], cwd=path.parent, check=True, capture_output=True)
    return (path.parent / "validation_results.txt").read_text()


@pytest.mark.skipif(VALIDATOR is None, reason="ONVIF_MEDIA_SIGNING_VALIDATOR names no validator program")
# Not (45, refused): cut where an unsigned SEI comes more than a GOP late, it takes that SEI for the first GOP it sees.
@pytest.mark.parametrize(("pictures", "refused"), [(0, ()), (6, ()), (45, ()), (0, (2, 3)), (6, (2, 3))])
@pytest.mark.parametrize("size", [(192, 128), (640, 480), (1280, 720)])
def test_onvif_s_own_validator(tmp_path: Path, size: tuple[int, int], pictures: int, refused: tuple[int, ...]) -> None:
    """github.com/onvif/media-signing-framework, examples/apps/validator; build it with -fno-strict-aliasing."""
    device = identity(DEVICE)
    clock = SimulatedClock()
    camera = SyntheticCamera(clock, *size, 30)
    encoder = VideoEncoder(VideoSettings(encoder="libx264", preset="ultrafast", bitrate_bps=800_000), camera.open())
    desk = SlowDesk(device.signer, pictures, refused)
    signer = StreamSigner(device.signer, clock, VENDOR, desk=desk)
    packets = []
    for _ in range(240):
        for packet in encoder.encode(camera.read()):
            packets.append(signer.push(packet))
            desk.picture()
    (tmp_path / "root.pem").write_bytes(pem([device.root]))
    for start in (0, 3):
        cut = [packet for gop in gops_of(packets)[start:] for packet in gop]
        tracks = MediaTracks(encoder.format, AUDIO, audio_config())
        sound, _ = tone(len(cut) / 30, cut[0].pts_ns)
        data = file_of(fragments_of(cut, sound, cut[0].pts_ns, tracks))
        for name, content in (("fragmented.mp4", data), ("plain.mp4", plain(data))):
            (tmp_path / name).write_bytes(content)
            said = run_validator(tmp_path / name, tmp_path / "root.pem")
            assert "PUBLIC KEY IS VALID!" in said
            assert "VIDEO IS VALID!" in said
            assert f"Number of received frames : {len(cut)}" in said
            assert f"Number of pending frames  : {30 if pictures < 30 else 60}" in said
