"""Pictures that carry a number, and what a decoder makes of packets."""

from __future__ import annotations

from collections.abc import Sequence

import av
import numpy as np
import numpy.typing as npt
from av.video.codeccontext import VideoCodecContext

from agent.capture.camera import CameraFormat, CameraFrame
from agent.encode.video import VideoEncoder
from agent.media.packets import VideoPacket
from agent.settings.schema import VideoSettings

WIDTH, HEIGHT, FPS = 192, 128, 30
BITS = 12
BLOCK = 16
FRAME_NS = 33_333_333
START_NS = 5_000_000_123

Plane = npt.NDArray[np.uint8]


def numbered_luma(number: int, width: int = WIDTH, height: int = HEIGHT) -> Plane:
    """A grey slope that moves, with `number` as black and white blocks along the top."""
    x = np.arange(width)[None, :] + np.arange(height)[:, None] + 3 * number
    luma = (64 + x % 128).astype(np.uint8)
    for bit in range(BITS):
        luma[:BLOCK, bit * BLOCK : (bit + 1) * BLOCK] = 235 if number >> bit & 1 else 16
    return luma


def read_number(luma: npt.NDArray[np.uint8]) -> int:
    """The number back from a decoded luma plane."""
    return sum(
        1 << bit for bit in range(BITS) if luma[4 : BLOCK - 4, bit * BLOCK + 4 : (bit + 1) * BLOCK - 4].mean() > 125
    )


def numbered_array(number: int, pixel_format: str = "yuv420p", padding: int = 0) -> Plane:
    """The picture's buffer in a camera's layout, with `padding` bytes of rubbish behind each luma line."""
    luma = numbered_luma(number)
    chroma_u, chroma_v = 100, 150
    full = np.full((HEIGHT * 3 // 2, WIDTH + padding), 0xEE, np.uint8)
    full[:HEIGHT, :WIDTH] = luma
    if pixel_format == "nv12":
        full[HEIGHT:, 0:WIDTH:2] = chroma_u
        full[HEIGHT:, 1:WIDTH:2] = chroma_v
        return full
    # yuv420p: chroma lines are half as long, two to a row of the array
    chroma = full[HEIGHT:].reshape(HEIGHT, (WIDTH + padding) // 2)
    chroma[: HEIGHT // 2, : WIDTH // 2] = chroma_u
    chroma[HEIGHT // 2 :, : WIDTH // 2] = chroma_v
    return full


def numbered_picture(number: int, pixel_format: str = "yuv420p", padding: int = 0) -> av.VideoFrame:
    """The picture as a camera hands it out: borrowing the array's memory."""
    return av.VideoFrame.from_numpy_buffer(
        numbered_array(number, pixel_format, padding), format=pixel_format, width=WIDTH
    )


def video_settings(encoder: str = "libx264", gop_ms: int = 1000, bitrate_bps: int = 400_000) -> VideoSettings:
    """Small and quick."""
    return VideoSettings(encoder=encoder, gop_ms=gop_ms, bitrate_bps=bitrate_bps, preset="ultrafast", threads=1)


def camera_format(pixel_format: str = "yuv420p", fps: float = FPS) -> CameraFormat:
    """The camera of these pictures."""
    return CameraFormat(WIDTH, HEIGHT, fps, pixel_format)


def encode_numbered(
    times_ns: Sequence[int], settings: VideoSettings | None = None, keyframes: frozenset[int] = frozenset()
) -> list[VideoPacket]:
    """One packet a time; picture n carries n. `keyframes`: numbers whose keyframe is forced."""
    encoder = VideoEncoder(settings or video_settings(), camera_format())
    packets: list[VideoPacket] = []
    for number, time_ns in enumerate(times_ns):
        frame = CameraFrame(numbered_picture(number), time_ns)
        packets += encoder.encode(frame, force_keyframe=number in keyframes)
    return packets + encoder.flush()


def decode(packets: Sequence[VideoPacket]) -> list[av.VideoFrame]:
    """The packets through a fresh decoder, which knows nothing but what is in them."""
    decoder = av.CodecContext.create("h264", "r")
    assert isinstance(decoder, VideoCodecContext)
    frames: list[av.VideoFrame] = []
    for packet in packets:
        frames += decoder.decode(av.Packet(bytes(packet.data)))
    return frames + decoder.decode(None)


def luma_of(frame: av.VideoFrame) -> Plane:
    """The luma plane alone, without padding."""
    plane = frame.planes[0]
    lines: Plane = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)
    return lines[:, : plane.width]


def numbers_of(packets: Sequence[VideoPacket]) -> list[int]:
    """What numbers a decoder reads out of the packets."""
    return [read_number(luma_of(frame)) for frame in decode(packets)]
