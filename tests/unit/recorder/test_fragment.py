"""Fragments, judged by PyAV's and stock ffprobe's reading of `init` + fragments."""

from __future__ import annotations

import copy
import gc
from io import BytesIO
from itertools import accumulate, pairwise
from pathlib import Path
from random import Random

import pytest
from av.container import OutputContainer
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import EncoderError
from agent.media.mp4 import TrackFragment, fragment_info, walk, whole_fragments, whole_fragments_bytes
from agent.media.packets import AudioPacket, VideoFormat, VideoPacket
from agent.media.units import ns_to_90k, samples_to_ns
from agent.recorder.fragment import AUDIO_TRACK_ID, VIDEO_TRACK_ID, Fragmenter, MediaTracks
from tests.unit.encode.pictures import FRAME_NS, START_NS, encode_numbered, video_settings
from tests.unit.recorder.media import (
    AUDIO,
    RATE,
    VIDEO,
    audio_config,
    decode_file,
    ffprobe,
    file_of,
    fragments_of,
    gops,
    packets_of,
    tone,
)

MS = 1_000_000
WITH_AUDIO = MediaTracks(VIDEO, AUDIO, audio_config())


def steady(count: int) -> list[int]:
    return [START_NS + number * FRAME_NS for number in range(count)]


def expected_90k(times_ns: list[int]) -> list[int]:
    """The formula of docs/evidence-format.md, in its own words."""
    return [round((time_ns - START_NS) * 9 / 100_000) for time_ns in times_ns]


def check_timeline(times_ns: list[int], video: list[VideoPacket]) -> None:
    fragments = fragments_of(video)
    decoded = decode_file(file_of(fragments))
    assert decoded.numbers == list(range(len(times_ns)))
    assert decoded.times_90k == expected_90k(times_ns)
    for fragment, gop in zip(fragments, gops(video), strict=True):
        assert [box.type for box in walk(fragment.data)] == [b"moof", b"mdat"]
        assert fragment.frames == len(gop)
    assert [fragment.first_media_90k for fragment in fragments[1:]] == [f.end_media_90k for f in fragments[:-1]]


def test_every_frame_of_a_steady_camera_is_there_at_its_time() -> None:
    check_timeline(steady(95), encode_numbered(steady(95)))


def test_every_frame_of_an_unsteady_camera_is_there_at_its_time() -> None:
    random = Random(7)
    times_ns = list(accumulate((random.randint(15 * MS, 250 * MS) for _ in range(99)), initial=START_NS))
    check_timeline(times_ns, encode_numbered(times_ns))


def test_gops_of_one_frame() -> None:
    times_ns = steady(6)
    video = encode_numbered(times_ns, keyframes=frozenset(range(6)))
    assert len(gops(video)) == 6
    check_timeline(times_ns, video)


def test_hours_into_a_recording_times_are_still_exact() -> None:
    """36 h: past 32 bits of 90 kHz."""
    late_ns = 36 * 3600 * 1_000 * MS
    times_ns = [time_ns + late_ns for time_ns in steady(40)]
    fragments = fragments_of(encode_numbered(times_ns))
    assert fragments[0].first_media_90k == ns_to_90k(late_ns) > 1 << 32
    assert decode_file(file_of(fragments)).times_90k == expected_90k(times_ns)


def test_sample_durations_are_the_distances_between_frames() -> None:
    times_ns = [START_NS + at * MS for at in (0, 20, 80, 100, 333)]
    (fragment,) = fragments_of(encode_numbered(times_ns, video_settings(gop_ms=2000)))
    last = expected_90k([times_ns[-1] + FRAME_NS])[0] - 333 * 90
    # Not by ffprobe: up to 5.1 it shows the nominal frame rate's duration instead of the file's.
    assert packets_of(file_of([fragment])) == [
        (0, 1800), (1800, 5400), (7200, 1800), (9000, 20970), (29970, last),
    ]  # fmt: skip
    assert fragment.end_media_90k == 333 * 90 + last


def test_fragments_from_the_middle_on_play_with_the_init() -> None:
    times_ns = steady(95)
    fragments = fragments_of(encode_numbered(times_ns))
    decoded = decode_file(file_of(fragments[2:]))
    assert decoded.numbers == list(range(60, 95))
    assert decoded.times_90k == expected_90k(times_ns)[60:]


def test_sound_lies_where_it_was_captured() -> None:
    times_ns = steady(120)
    audio, _ = tone(4, START_NS + 5 * MS, beep_at=2.5)
    fragments = fragments_of(encode_numbered(times_ns), audio)
    decoded = decode_file(file_of(fragments))
    assert decoded.numbers == list(range(120))
    assert decoded.times_90k == expected_90k(times_ns)
    assert abs(decoded.beep_sample() / RATE - 2.505) < 0.002
    assert sum(fragment.audio_frames for fragment in fragments) == len(decoded.sound)
    assert all(abs(later - earlier - 1024) <= 1 for earlier, later in pairwise(decoded.sound))


def test_sound_that_starts_half_a_minute_late_changes_no_init(tmp_path: Path) -> None:
    """A pre-event buffer without sound: 30 s of video alone, then both."""
    times_ns = [START_NS + number * 200 * MS for number in range(175)]
    audio, _ = tone(5, START_NS + 30_000 * MS, beep_at=2.0)
    video = encode_numbered(times_ns)
    fragments = fragments_of(video, audio)
    assert len({fragment.init for fragment in fragments}) == 1
    assert [fragment.audio_frames for fragment in fragments[:29]] == [0] * 29
    assert all(AUDIO_TRACK_ID not in tracks_in(f.data) for f in fragments[:29])
    decoded = decode_file(file_of(fragments))
    assert decoded.times_90k == expected_90k(times_ns)
    assert abs(decoded.beep_sample() / RATE - 32.0) < 0.002
    path = tmp_path / "recording.mp4"
    path.write_bytes(file_of(fragments))
    shown = ffprobe(path, "-count_frames", "-show_streams", "-show_format")
    picture, sound = shown["streams"]
    assert float(picture["start_time"]) == 0
    assert int(picture["nb_read_frames"]) == 175
    assert int(sound["nb_read_frames"]) == len(decoded.sound)
    # The stream's start_time stays 0 there: ffprobe does not look 30 s ahead for it.
    heard = ffprobe(path, "-show_packets", "-select_streams", "a")["packets"]
    assert float(heard[0]["pts_time"]) == pytest.approx(30.0 - 1024 / RATE, abs=1e-4)
    shown_times = [packet["pts"] for packet in ffprobe(path, "-show_packets", "-select_streams", "v")["packets"]]
    assert shown_times == expected_90k(times_ns)


def tracks_in(data: bytes) -> dict[int, TrackFragment]:
    moof = next(walk(data))
    return fragment_info(data[: moof.end]).tracks


def test_what_stock_ffprobe_says_of_a_recording(tmp_path: Path) -> None:
    audio, _ = tone(4, START_NS - 500 * MS)
    fragments = fragments_of(encode_numbered(steady(90)), audio)
    path = tmp_path / "recording.mp4"
    path.write_bytes(file_of(fragments))
    shown = ffprobe(path, "-count_frames", "-show_streams", "-show_format")
    picture, sound = shown["streams"]
    assert (picture["codec_name"], picture["width"], picture["height"]) == ("h264", 192, 128)
    assert (picture["time_base"], picture["start_time"], picture["nb_read_frames"]) == ("1/90000", "0.000000", "90")
    assert picture["has_b_frames"] == 0
    assert (sound["codec_name"], sound["profile"], sound["time_base"]) == ("aac", "LC", f"1/{RATE}")
    assert (sound["sample_rate"], sound["channels"]) == (str(RATE), 1)
    assert 0 <= float(sound["start_time"]) < 1024 / RATE
    assert abs(float(shown["format"]["duration"]) - 3) < 0.05


def test_the_init_describes_both_tracks_in_full() -> None:
    audio, config = tone(1, START_NS)
    (first, *_) = fragments_of(encode_numbered(steady(31)), audio)
    boxes = list(walk(first.init))
    assert [box.type for box in boxes] == [b"ftyp", b"moov"]
    assert b"cmfc" in first.init[: boxes[0].end]
    at = first.init.index(b"avcC") + 4
    # AVCDecoderConfigurationRecord, ISO/IEC 14496-15, 5.3.3.1: version 1, 4-byte lengths, one SPS
    assert first.init[at] == 1
    assert first.init[at + 4] & 3 == 3
    assert first.init[at + 5] & 31 == 1
    assert first.init[at + 8] & 31 == 7, "the SPS itself"
    assert config in first.init[first.init.index(b"esds") :]
    assert b"edts" not in first.init, "an edit list would shift the timeline"


def test_a_config_that_is_not_the_template_encoders_own_is_kept() -> None:
    config = bytes.fromhex("1190")  # AAC-LC, 48 kHz, two channels, without the sync extension
    fragmenter = Fragmenter(MediaTracks(VIDEO, AUDIO, config), START_NS)
    fragment = fragmenter.fragment(1, encode_numbered(steady(2)), [], START_NS + 2 * FRAME_NS)
    esds = fragment.init[fragment.init.index(b"esds") :]
    assert b"\x05\x80\x80\x80\x02" + config in esds, "DecoderSpecificInfo, ISO/IEC 14496-1, 7.2.6.7"


def test_sequence_numbers_and_times_are_in_the_moof() -> None:
    audio, _ = tone(3, START_NS)
    fragments = fragments_of(encode_numbered(steady(65)), audio)
    for number, fragment in enumerate(fragments, 1):
        moof = next(walk(fragment.data))
        info = fragment_info(fragment.data[: moof.end])
        assert info.sequence_number == number
        assert info.tracks[VIDEO_TRACK_ID] == (
            fragment.first_media_90k,
            fragment.frames,
            fragment.end_media_90k - fragment.first_media_90k,
        )
        assert info.tracks[AUDIO_TRACK_ID].sample_count == fragment.audio_frames


def test_a_segment_of_fragments_is_found_whole_and_torn() -> None:
    audio, _ = tone(3, START_NS)
    fragments = fragments_of(encode_numbered(steady(65)), audio)
    segment = b"".join(fragment.data for fragment in fragments)
    spans = list(whole_fragments(BytesIO(segment)))
    assert [segment[span.offset : span.end] for span in spans] == [fragment.data for fragment in fragments]
    assert [span.info.tracks[VIDEO_TRACK_ID].sample_count for span in spans] == [30, 30, 5]
    first_two = len(fragments[0].data) + len(fragments[1].data)
    for torn in (first_two, first_two + 1, first_two + 7, first_two + 100, len(segment) - 1):
        assert whole_fragments_bytes(BytesIO(segment[:torn])) == first_two
        zero_filled = segment[:torn] + bytes(len(segment) - torn)
        if torn < first_two + 100:
            assert whole_fragments_bytes(BytesIO(zero_filled)) == first_two


def test_the_same_gop_makes_the_same_fragment_and_packets_are_left_alone() -> None:
    """A fragment whose write failed is made again for the next segment."""
    video = encode_numbered(steady(31))[:30]
    audio, _ = tone(1, START_NS + 25 * MS)
    before = copy.deepcopy((video, audio))
    fragmenter = Fragmenter(WITH_AUDIO, START_NS)
    first = fragmenter.fragment(3, video, audio[:40], START_NS + 30 * FRAME_NS)
    assert fragmenter.fragment(3, video, audio[:40], START_NS + 30 * FRAME_NS) == first
    assert Fragmenter(WITH_AUDIO, START_NS).fragment(3, video, audio[:40], START_NS + 30 * FRAME_NS) == first
    assert (video, audio) == before


def test_sound_may_begin_before_the_gop_and_end_behind_it() -> None:
    audio, _ = tone(4, START_NS, beep_at=1.5)
    video = gops(encode_numbered(steady(90)))
    fragmenter = Fragmenter(WITH_AUDIO, START_NS)
    late = [
        fragmenter.fragment(1, video[0], [], video[1][0].pts_ns),
        fragmenter.fragment(2, video[1], audio[1:60], video[2][0].pts_ns),
        fragmenter.fragment(3, video[2], audio[60:], START_NS + 90 * FRAME_NS),
    ]
    decoded = decode_file(file_of(late))
    assert decoded.numbers == list(range(90))
    assert decoded.times_90k == expected_90k(steady(90))
    assert abs(decoded.beep_sample() / RATE - 1.5) < 0.002
    assert len(decoded.sound) == len(audio) - 1


def test_a_hole_in_the_sound_stays_a_hole() -> None:
    early, _ = tone(1, START_NS)
    late, _ = tone(1, START_NS + 2_500 * MS, beep_at=0.5)
    fragments = fragments_of(encode_numbered(steady(120)), early + late[1:])
    decoded = decode_file(file_of(fragments))
    assert abs(decoded.beep_sample() / RATE - 3.0) < 0.002


def test_frames_less_than_a_tick_apart_still_make_a_fragment() -> None:
    times_ns = [START_NS, START_NS + 2_000, START_NS + 4_000, START_NS + FRAME_NS]
    (fragment,) = fragments_of(encode_numbered(times_ns))
    decoded = decode_file(file_of([fragment]))
    assert decoded.times_90k == [0, 1, 2, 3000]
    assert decoded.numbers == [0, 1, 2, 3]


@settings(max_examples=40, deadline=None)
@given(
    steps_ns=st.lists(st.integers(11_112, 400 * MS), min_size=1, max_size=25),
    offset_ns=st.integers(0, 10**15),
    number=st.integers(1, 2**31 - 1),
)
def test_any_timing_keeps_the_formula(steps_ns: list[int], offset_ns: int, number: int) -> None:
    """Steps from one 90 kHz tick up, anywhere in 11 days of recording; the muxer does not look into the pictures."""
    (keyframe, *_, other) = encode_two()
    times_ns = list(accumulate(steps_ns, initial=START_NS + offset_ns))
    video = [
        VideoPacket((other if at else keyframe).data, time_ns, at == 0) for at, time_ns in enumerate(times_ns[:-1])
    ]
    fragment = Fragmenter(MediaTracks(VIDEO, None, b""), START_NS).fragment(number, video, [], times_ns[-1])
    ticks = [(time_ns - START_NS) * 9 for time_ns in times_ns]
    nearest = [(tick + 50_000) // 100_000 for tick in ticks]
    (span,) = whole_fragments(BytesIO(fragment.data))
    assert span.info.sequence_number == number
    assert span.info.tracks == {VIDEO_TRACK_ID: (nearest[0], len(video), nearest[-1] - nearest[0])}
    assert (fragment.first_media_90k, fragment.end_media_90k) == (nearest[0], nearest[-1])


def encode_two(cache: list[VideoPacket] = []) -> list[VideoPacket]:  # noqa: B006 - encoded once for all examples
    if not cache:
        cache += encode_numbered(steady(2))
    return cache


class TestRefused:
    video = staticmethod(lambda: encode_numbered(steady(5)))
    end_ns = START_NS + 5 * FRAME_NS

    def sound(self, *times_ns: int) -> list[AudioPacket]:
        return [AudioPacket(b"\x01\x02", time_ns, samples_to_ns(1024, RATE)) for time_ns in times_ns]

    def test_no_frames_or_no_keyframe_first(self) -> None:
        fragmenter = Fragmenter(WITH_AUDIO, START_NS)
        for video in ([], self.video()[1:]):
            with pytest.raises(ValueError, match="begins with a keyframe"):
                fragmenter.fragment(1, video, [], self.end_ns)

    def test_times_out_of_order(self) -> None:
        fragmenter = Fragmenter(WITH_AUDIO, START_NS)
        video = self.video()
        with pytest.raises(ValueError, match="do not follow"):
            fragmenter.fragment(1, [video[0], video[2], video[1]], [], self.end_ns)
        with pytest.raises(ValueError, match="do not follow"):
            fragmenter.fragment(1, video, [], video[-1].pts_ns)
        with pytest.raises(ValueError, match="do not follow"):
            fragmenter.fragment(1, video, self.sound(START_NS + 1_000, START_NS), self.end_ns)

    def test_what_lies_before_the_origin(self) -> None:
        with pytest.raises(ValueError, match="1 ns before the recording's origin"):
            Fragmenter(WITH_AUDIO, START_NS + 1).fragment(1, self.video(), [], self.end_ns)
        with pytest.raises(ValueError, match="Sound lies 1 ns before"):
            Fragmenter(WITH_AUDIO, START_NS).fragment(1, self.video(), self.sound(START_NS - 1), self.end_ns)

    def test_sound_without_a_track(self) -> None:
        with pytest.raises(ValueError, match="no audio track"):
            Fragmenter(MediaTracks(VIDEO, None, b""), START_NS).fragment(
                1, self.video(), self.sound(START_NS), self.end_ns
            )

    def test_a_format_that_changes_under_way(self) -> None:
        fragmenter = Fragmenter(WITH_AUDIO, START_NS)
        fragmenter.fragment(1, self.video(), [], self.end_ns)
        other = [
            VideoPacket(bytes(p.data).replace(b"\x68", b"\x68\xee", 1), p.pts_ns, p.is_keyframe) for p in self.video()
        ]
        with pytest.raises(EncoderError, match="does not fit the recording's"):
            fragmenter.fragment(2, other, [], self.end_ns)

    def test_bytes_that_are_no_h264(self) -> None:
        with pytest.raises(EncoderError):
            Fragmenter(WITH_AUDIO, START_NS).fragment(1, [VideoPacket(b"", START_NS, True)], [], self.end_ns)

    def test_an_audio_track_that_cannot_be(self) -> None:
        with pytest.raises(EncoderError, match=r"set audio\.channels"):
            Fragmenter(MediaTracks(VideoFormat(64, 64, 30), type(AUDIO)(RATE, 5), b""), START_NS)


def containers() -> int:
    return sum(isinstance(thing, OutputContainer) for thing in gc.get_objects())


def test_a_recording_with_sound_leaves_no_encoder_behind() -> None:
    """PyAV's container and stream refer to one another: what is dropped stays until cycles are looked for."""
    video = gops(encode_numbered(steady(3)))[0]
    gc.collect()
    gc.disable()
    try:
        Fragmenter(WITH_AUDIO, START_NS).fragment(1, video, [], START_NS + 3 * FRAME_NS)
        before = containers()
        for _ in range(5):
            Fragmenter(WITH_AUDIO, START_NS).fragment(1, video, [], START_NS + 3 * FRAME_NS)
        assert containers() == before
    finally:
        gc.enable()
