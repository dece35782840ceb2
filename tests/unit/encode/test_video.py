"""The video encoder, judged by what a decoder makes of its packets."""

from __future__ import annotations

import itertools
from functools import partial
from random import Random
from typing import Literal

import av
import numpy as np
import numpy.typing as npt
import pytest
from av.stream import Stream
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType
from av.video.reformatter import ColorRange

from agent.capture.camera import CameraFormat, CameraFrame
from agent.encode.video import VideoEncoder, slice_threads, tightly_packed
from agent.errors import EncoderError
from agent.media.packets import VideoFormat, VideoPacket
from agent.settings.schema import VideoSettings
from tests.unit.encode.pictures import (
    BLOCK,
    FPS,
    FRAME_NS,
    HEIGHT,
    START_NS,
    WIDTH,
    camera_format,
    decode,
    encode_numbered,
    luma_of,
    numbered_array,
    numbered_luma,
    numbered_picture,
    numbers_of,
    read_number,
    video_settings,
)

SPS, PPS, IDR = 7, 8, 5


def steady(count: int) -> list[int]:
    return [START_NS + number * FRAME_NS for number in range(count)]


def nal_types(data: bytes) -> list[int]:
    """By a plain search of its own, not the encoder's."""
    return [data[at + 3] & 0x1F for at in range(len(data) - 3) if data[at : at + 3] == b"\x00\x00\x01"]


def keyframe_numbers(packets: list[VideoPacket]) -> list[int]:
    return [number for number, packet in enumerate(packets) if packet.is_keyframe]


def test_each_picture_comes_out_of_its_own_call_with_its_own_time() -> None:
    random = Random(1)
    times_ns = list(itertools.accumulate((random.randint(1_001, 90_000_000) for _ in range(80)), initial=START_NS))
    encoder = VideoEncoder(video_settings(), camera_format())
    for number, time_ns in enumerate(times_ns):
        packets = encoder.encode(CameraFrame(numbered_picture(number), time_ns))
        assert [packet.pts_ns for packet in packets] == [time_ns]
    assert encoder.flush() == []
    assert encoder.name == "libx264"
    assert encoder.format == VideoFormat(WIDTH, HEIGHT, FPS)


def test_pictures_less_than_an_encoder_tick_apart_keep_their_exact_times() -> None:
    times_ns = [START_NS, START_NS + 1, START_NS + 300, START_NS + 2_000]
    assert [packet.pts_ns for packet in encode_numbered(times_ns)] == times_ns


@pytest.mark.parametrize("threads", [1, 2])
def test_every_frame_decodes_in_order_with_no_delay_on_any_number_of_threads(threads: int) -> None:
    settings = VideoSettings(encoder="libx264", bitrate_bps=400_000, preset="superfast", threads=threads)
    encoder = VideoEncoder(settings, camera_format())
    decoder = av.CodecContext.create("h264", "r")
    assert isinstance(decoder, VideoCodecContext)
    decoder.flags |= 1 << 19  # AV_CODEC_FLAG_LOW_DELAY: a stream with reordering would come out late or wrong
    decoder.thread_count = 1
    for number, time_ns in enumerate(steady(45)):
        (packet,) = encoder.encode(CameraFrame(numbered_picture(number), time_ns))
        (frame,) = decoder.decode(av.Packet(bytes(packet.data)))
        assert read_number(luma_of(frame)) == number
        assert frame.pict_type != PictureType.B


def test_a_gop_begins_each_second_and_carries_its_headers() -> None:
    packets = encode_numbered(steady(95))
    assert keyframe_numbers(packets) == [0, 30, 60, 90]
    for packet in packets:
        types = nal_types(bytes(packet.data))
        assert packet.is_keyframe == (IDR in types)
        if packet.is_keyframe:
            assert types.index(SPS) < types.index(PPS) < types.index(IDR)


def test_each_gop_decodes_by_itself() -> None:
    packets = encode_numbered(steady(70))
    assert numbers_of(packets[60:]) == list(range(60, 70))
    assert numbers_of(packets[30:60]) == list(range(30, 60))


@pytest.mark.parametrize(("step_ms", "expected"), [(100, 10), (66, 15), (31, 30)])
def test_gops_keep_their_length_in_time_when_the_camera_slows_down(step_ms: int, expected: int) -> None:
    """A camera set to 30 frames/s gives 10 in the dark; GOPs of 30 pictures would then take 3 s."""
    packets = encode_numbered([START_NS + number * step_ms * 1_000_000 for number in range(70)])
    assert keyframe_numbers(packets)[:3] == [0, expected, 2 * expected]


def test_the_gop_length_follows_the_setting() -> None:
    assert keyframe_numbers(encode_numbered(steady(20), video_settings(gop_ms=200))) == [0, 6, 12, 18]


def test_a_forced_keyframe_is_an_idr_picture_and_starts_the_second_anew() -> None:
    packets = encode_numbered(steady(60), keyframes=frozenset({7, 8}))
    assert keyframe_numbers(packets) == [0, 7, 8, 38]
    assert IDR in nal_types(bytes(packets[7].data))
    assert numbers_of(packets[8:38]) == list(range(8, 38))


def test_a_scene_cut_makes_no_keyframe() -> None:
    settings = VideoSettings(encoder="libx264", bitrate_bps=400_000, preset="superfast", threads=1)
    encoder = VideoEncoder(settings, camera_format())
    packets = []
    for number, time_ns in enumerate(steady(20)):
        luma = np.full((HEIGHT * 3 // 2, WIDTH), 20 if number < 10 else 220, np.uint8)
        packets += encoder.encode(CameraFrame(av.VideoFrame.from_numpy_buffer(luma, format="yuv420p"), time_ns))
    assert keyframe_numbers(packets) == [0]


def test_the_picture_types_of_an_old_stream_are_not_obeyed() -> None:
    """Decoded pictures of a file camera say that they were I, P or B."""
    encoder = VideoEncoder(video_settings(), camera_format())
    packets = []
    for number, time_ns in enumerate(steady(12)):
        picture = numbered_picture(number)
        picture.pict_type = PictureType.I if number % 3 == 0 else PictureType.B
        packets += encoder.encode(CameraFrame(picture, time_ns))
    assert keyframe_numbers(packets) == [0]
    assert len(packets) == 12


@pytest.mark.parametrize("pixel_format", ["yuv420p", "nv12"])
@pytest.mark.parametrize("padding", [0, 64])
def test_strides_are_honoured_and_the_buffer_is_free_again_on_return(pixel_format: str, padding: int) -> None:
    encoder = VideoEncoder(video_settings(), camera_format(pixel_format))
    buffer = numbered_array(0, pixel_format, padding)
    packets = []
    for number, time_ns in enumerate(steady(40)):
        buffer[:] = numbered_array(number, pixel_format, padding)
        image = av.VideoFrame.from_numpy_buffer(buffer, format=pixel_format, width=WIDTH)
        packets += encoder.encode(CameraFrame(image, time_ns))
        buffer[:] = 0x55  # the camera is already writing the next picture
    frames = decode(packets)
    assert [read_number(luma_of(frame)) for frame in frames] == list(range(40))
    last = frames[-1].to_ndarray(format="yuv420p")
    assert abs(int(np.median(last[HEIGHT : HEIGHT * 5 // 4])) - 100) < 8
    assert abs(int(np.median(last[HEIGHT * 5 // 4 :])) - 150) < 8
    assert abs(last[:HEIGHT].astype(int) - numbered_luma(39)).mean() < 6


def grey_packets(pixel_format: str, array: npt.NDArray[np.uint8], color_range: int = 0) -> list[VideoPacket]:
    encoder = VideoEncoder(video_settings(), camera_format(pixel_format))
    packets = []
    for time_ns in steady(4):
        image = av.VideoFrame.from_ndarray(array, format=pixel_format)
        if color_range:
            image.color_range = color_range
        packets += encoder.encode(CameraFrame(image, time_ns))
    return packets


def shown_as_rgb(packets: list[VideoPacket]) -> float:
    """The brightness a player would show, 0 to 255."""
    return float(decode(packets)[-1].to_ndarray(format="rgb24")[BLOCK:].mean())


WHITE_FULL = np.full((HEIGHT * 3 // 2, WIDTH), 128, np.uint8)
WHITE_FULL[:HEIGHT] = 255
WHITE_LIMITED = WHITE_FULL.copy()
WHITE_LIMITED[:HEIGHT] = 235
WHITE_YUYV = np.full((HEIGHT, WIDTH, 2), 128, np.uint8)
WHITE_YUYV[:, :, 0] = 235


@pytest.mark.parametrize(
    ("pixel_format", "array", "luma", "full"),
    [
        ("yuv420p", WHITE_LIMITED, 235, False),
        ("yuvj420p", WHITE_FULL, 255, True),
        ("yuyv422", WHITE_YUYV, 235, False),
        ("bgr24", np.full((HEIGHT, WIDTH, 3), 255, np.uint8), 235, False),
        ("yuvj444p", np.stack([np.full((HEIGHT, WIDTH), v, np.uint8) for v in (255, 128, 128)]), 235, False),
    ],
)
def test_white_stays_white_whatever_the_cameras_format_and_range(
    pixel_format: str, array: npt.NDArray[np.uint8], luma: int, full: bool
) -> None:
    packets = grey_packets(pixel_format, array)
    frame = decode(packets)[-1]
    assert abs(float(luma_of(frame).mean()) - luma) <= 1
    assert (frame.color_range == ColorRange.JPEG or frame.format.name == "yuvj420p") == full
    assert shown_as_rgb(packets) >= 253


@pytest.mark.parametrize("pixel_format", ["yuvj420p", "bgr24"])
def test_black_and_grey_are_neither_crushed_nor_lifted(pixel_format: str) -> None:
    for level in (0, 60, 128):
        full_range = WHITE_FULL.copy()
        full_range[:HEIGHT] = level
        rgb = np.full((HEIGHT, WIDTH, 3), level, np.uint8)
        packets = grey_packets(pixel_format, full_range if pixel_format == "yuvj420p" else rgb)
        assert abs(shown_as_rgb(packets) - level) <= 2


def test_full_range_that_only_the_picture_tells_of_is_flagged() -> None:
    dark = WHITE_FULL.copy()
    dark[:HEIGHT] = 60
    assert abs(shown_as_rgb(grey_packets("yuv420p", dark, color_range=int(ColorRange.JPEG))) - 60) <= 2
    assert abs(shown_as_rgb(grey_packets("yuv420p", dark)) - (60 - 16) * 255 / 219) <= 2


def test_full_range_is_squeezed_where_a_conversion_is_needed_anyway() -> None:
    dark = WHITE_YUYV.copy()
    dark[:, :, 0] = 60
    assert abs(shown_as_rgb(grey_packets("yuyv422", dark, color_range=int(ColorRange.JPEG))) - 60) <= 2


def test_the_colours_that_the_camera_names_are_in_the_stream() -> None:
    encoder = VideoEncoder(video_settings(), camera_format())
    packets = []
    for number, time_ns in enumerate(steady(3)):
        picture = numbered_picture(number)
        picture.colorspace = 1  # ITU-T H.273: BT.709
        picture.color_primaries = 1
        picture.color_trc = 1
        picture.color_range = int(ColorRange.MPEG)
        packets += encoder.encode(CameraFrame(picture, time_ns))
    frame = decode(packets)[0]
    assert (frame.colorspace, frame.color_primaries, frame.color_trc, frame.color_range) == (1, 1, 1, 1)


def test_rgb_says_by_which_matrix_it_was_converted() -> None:
    packets = grey_packets("bgr24", np.full((HEIGHT, WIDTH, 3), 255, np.uint8))
    assert decode(packets)[0].colorspace == 6, "SMPTE 170M: BT.601, as a small picture is read"


def test_colours_keep_their_hue_through_the_conversion() -> None:
    red = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    red[:, :, 2] = 200
    shown = decode(grey_packets("bgr24", red))[-1].to_ndarray(format="bgr24").reshape(-1, 3).mean(axis=0)
    assert np.abs(shown - [0, 0, 200]).max() <= 4


def test_bytes_keep_what_seconds_promise() -> None:
    """Stillness, then noise: with a VBV of 1 s no window holds more than its length and one buffer."""
    bitrate_bps = 600_000
    encoder = VideoEncoder(video_settings(bitrate_bps=bitrate_bps), camera_format())
    random = np.random.default_rng(3)
    sizes = []
    for number, time_ns in enumerate(steady(8 * FPS)):
        array = numbered_array(number)
        if number >= 120:
            array[:HEIGHT] = random.integers(70, 180, (HEIGHT, WIDTH), np.uint8)
        image = av.VideoFrame.from_numpy_buffer(array, format="yuv420p")
        sizes += [len(packet.data) for packet in encoder.encode(CameraFrame(image, time_ns))]
    for seconds in (1, 3, 8):
        windows = [sum(sizes[at : at + seconds * FPS]) for at in range(len(sizes) - seconds * FPS + 1)]
        assert max(windows) * 8 <= bitrate_bps * (seconds + 1) * 1.02
    assert sum(sizes[120:]) * 8 > bitrate_bps * 3, "the scene was hard enough to press against the limit"


def test_a_picture_of_another_size_is_refused() -> None:
    encoder = VideoEncoder(video_settings(), camera_format())
    picture = av.VideoFrame(WIDTH // 2, HEIGHT, "yuv420p")
    with pytest.raises(EncoderError, match="96x128 in a session of 192x128"):
        encoder.encode(CameraFrame(picture, START_NS))


@pytest.mark.parametrize("step_ns", [0, -1])
def test_time_that_stands_or_goes_back_is_refused(step_ns: int) -> None:
    encoder = VideoEncoder(video_settings(), camera_format())
    encoder.encode(CameraFrame(numbered_picture(0), START_NS))
    with pytest.raises(EncoderError, match="restart the capture"):
        encoder.encode(CameraFrame(numbered_picture(1), START_NS + step_ns))


@pytest.mark.parametrize(
    ("width", "height", "fps"), [(191, 128, 30.0), (192, 127, 30.0), (0, 0, 30.0), (192, 128, 0.0)]
)
def test_a_format_that_h264_cannot_hold_is_refused(width: int, height: int, fps: float) -> None:
    with pytest.raises(EncoderError, match="even numbers"):
        VideoEncoder(video_settings(), CameraFormat(width, height, fps, "yuv420p"))


def test_auto_falls_back_to_software_where_there_is_no_hardware() -> None:
    encoder = VideoEncoder(video_settings("auto"), camera_format())
    assert encoder.name in {"libx264", "h264_v4l2m2m"}
    assert encoder.encode(CameraFrame(numbered_picture(0), START_NS)) or encoder.flush()


def test_hardware_that_was_asked_for_is_not_replaced_silently(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    create = av.CodecContext.create

    def refuse_hardware(name: str, mode: Literal["w"]) -> object:
        opened.append(name)
        if name == "h264_v4l2m2m":
            raise av.error.ArgumentError(22, "Invalid argument")
        return create(name, mode)

    monkeypatch.setattr(
        "agent.encode.video.av.CodecContext", type("Fake", (), {"create": staticmethod(refuse_hardware)})
    )
    with pytest.raises(EncoderError, match=r'h264_v4l2m2m does not open .* set video.encoder to "auto" or "libx264"'):
        VideoEncoder(video_settings("h264_v4l2m2m"), camera_format())
    assert opened == ["h264_v4l2m2m"]
    assert VideoEncoder(video_settings("auto"), camera_format()).name == "libx264"
    assert opened == ["h264_v4l2m2m", "h264_v4l2m2m", "libx264"]


def test_hardware_is_never_given_a_width_that_it_skews(monkeypatch: pytest.MonkeyPatch) -> None:
    camera = CameraFormat(200, 128, 30.0, "yuv420p")
    with pytest.raises(EncoderError, match="no multiple of 32"):
        VideoEncoder(video_settings("h264_v4l2m2m"), camera)
    create = av.CodecContext.create

    def software_only(name: str, mode: Literal["w"]) -> object:
        assert name == "libx264"
        return create(name, mode)

    monkeypatch.setattr("agent.encode.video.av.CodecContext", type("Fake", (), {"create": staticmethod(software_only)}))
    assert VideoEncoder(video_settings("auto"), camera).name == "libx264"


class HardwareLike:
    """Behaves as h264_v4l2m2m may, around a real libx264: late, headers once and alone, pictures dropped.

    It reads a picture's memory only when its packet is due.
    """

    def __init__(self, delay: int, dropped: frozenset[int]) -> None:
        self._inner = av.CodecContext.create("libx264", "w")
        self._delay, self._dropped = delay, dropped
        self._queue: list[tuple[int, av.VideoFrame]] = []
        self._count = 0
        self._gave_headers = False
        self.line_sizes: set[int] = set()

    def __setattr__(self, name: str, value: object) -> None:
        if not name.startswith("_") and name != "line_sizes":
            setattr(self._inner, name, value)
        super().__setattr__(name, value)

    def open(self) -> None:
        self._inner.options = {"preset": "ultrafast", "tune": "zerolatency"}
        self._inner.open()

    def encode(self, image: av.VideoFrame | None) -> list[av.Packet[Stream]]:
        if image is not None:
            self.line_sizes.add(image.planes[0].line_size)
            if self._count not in self._dropped:
                self._queue.append((self._count, image))
            self._count += 1
        packets: list[av.Packet[Stream]] = []
        while len(self._queue) > (self._delay if image is not None else 0):
            _, due = self._queue.pop(0)
            (packet,) = self._inner.encode(due)
            data = bytes(packet)
            at = data.find(b"\x00\x00\x01\x65")
            if at >= 0:
                if not self._gave_headers:
                    packets.append(av.Packet(data[: data.find(b"\x00\x00\x01\x06")]))
                    self._gave_headers = True
                data = data[at:]
            bare = av.Packet(data)
            bare.pts = packet.pts
            packets.append(bare)
        return packets


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuvj420p"])
@pytest.mark.parametrize("delay", [0, 2, 12])
def test_a_late_forgetful_hardware_encoder_still_gives_whole_packets_with_exact_times(
    monkeypatch: pytest.MonkeyPatch, delay: int, pixel_format: str
) -> None:
    """What of a Pi's encoder can be tried without one: the borrowed buffer is overwritten after each call."""
    hardware = HardwareLike(delay, frozenset({5, 6, 33}))
    fake = type("Fake", (), {"create": staticmethod(lambda *_: hardware)})
    monkeypatch.setattr("agent.encode.video.av.CodecContext", fake)
    encoder = VideoEncoder(video_settings("auto"), camera_format(pixel_format))
    assert encoder.name == "h264_v4l2m2m"
    buffer = numbered_array(0, padding=64)
    times_ns = steady(70)
    times_ns[20] = times_ns[19] + 300  # within one microsecond, the encoder's tick
    packets = []
    for number, time_ns in enumerate(times_ns):
        buffer[:] = numbered_array(number, padding=64)
        image = av.VideoFrame.from_numpy_buffer(buffer, format=pixel_format, width=WIDTH)
        packets += encoder.encode(CameraFrame(image, time_ns))
        buffer[:] = 0x55
    packets += encoder.flush()
    monkeypatch.undo()
    kept = [number for number in range(70) if number not in {5, 6, 33}]
    assert [packet.pts_ns for packet in packets] == [times_ns[number] for number in kept]
    assert numbers_of(packets) == kept
    assert hardware.line_sizes == {WIDTH}
    keyframes = [packet for packet in packets if packet.is_keyframe]
    assert len(keyframes) == 3
    for packet in keyframes:
        types = nal_types(bytes(packet.data))
        assert types.index(SPS) < types.index(PPS) < types.index(IDR)
    assert numbers_of(packets[packets.index(keyframes[1]) :])[0] == 30


def test_unpadded_pictures_are_lent_to_the_hardware_until_it_falls_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies cost; but what is still inside when the camera takes its buffer back must be a copy."""
    copied = []

    def watched(image: av.VideoFrame) -> av.VideoFrame:
        copied.append(image)
        return tightly_packed(image)

    monkeypatch.setattr("agent.encode.video.tightly_packed", watched)
    for delay, copies in ((2, 0), (12, 16)):
        copied.clear()
        hardware = HardwareLike(delay, frozenset())
        fake = type("Fake", (), {"create": staticmethod(partial(lambda made, *_: made, hardware))})
        with monkeypatch.context() as patch:
            patch.setattr("agent.encode.video.av.CodecContext", fake)
            encoder = VideoEncoder(video_settings("auto"), camera_format())
        for number, time_ns in enumerate(steady(20)):
            encoder.encode(CameraFrame(numbered_picture(number), time_ns))
        assert len(copied) == copies


@pytest.mark.parametrize("pixel_format", ["yuv420p", "nv12"])
def test_packing_takes_the_padding_out_and_lets_the_buffer_go(pixel_format: str) -> None:
    buffer = numbered_array(5, pixel_format, padding=64)
    image = av.VideoFrame.from_numpy_buffer(buffer, format=pixel_format, width=WIDTH)
    packed = tightly_packed(image)
    buffer[:] = 0
    assert [plane.line_size for plane in packed.planes] == ([WIDTH, WIDTH] if pixel_format == "nv12" else [192, 96, 96])
    assert np.array_equal(packed.to_ndarray(), numbered_array(5, pixel_format))


@pytest.mark.parametrize(
    ("asked", "width", "height", "fps", "cpus", "expected"),
    [(0, 1920, 1080, 30, 4, 4), (0, 1920, 1080, 30, 16, 4), (0, 1920, 1080, 30, 2, 2), (0, 640, 480, 30, 4, 1),
     (0, 1920, 1080, 5, 4, 1), (3, 640, 480, 30, 4, 3), (1, 1920, 1080, 30, 4, 1)],
)  # fmt: skip
def test_slices_are_for_large_pictures(
    asked: int, width: int, height: int, fps: float, cpus: int, expected: int
) -> None:
    assert slice_threads(asked, width, height, fps, cpus) == expected


def test_a_closed_encoder_says_so() -> None:
    encoder = VideoEncoder(video_settings(), camera_format())
    encoder.encode(CameraFrame(numbered_picture(0), START_NS))
    encoder.flush()
    encoder.close()
    with pytest.raises(EncoderError, match="was closed"):
        encoder.encode(CameraFrame(numbered_picture(1), START_NS + FRAME_NS))
    with pytest.raises(EncoderError, match="was closed"):
        encoder.flush()
