"""Real encoders and decoders around the synthetic scene, for tests that must see what a player would see."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

from agent.capture.image import luma_of
from agent.capture.scene import Scene, Tone


def h264_round_trip(
    frames: Iterable[av.VideoFrame], width: int, height: int, fps: int, bitrate_bps: int
) -> Iterator[av.VideoFrame]:
    """Frames through libx264 (zerolatency, one GOP a second, VBV of one second) and the H.264 decoder, in order."""
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
    encoder.time_base, encoder.framerate = Fraction(1, fps), Fraction(fps)
    encoder.bit_rate = bitrate_bps
    rate = str(bitrate_bps)
    encoder.thread_count = 1  # with VBV, x264's threads make its output depend on their timing
    encoder.options = {"preset": "superfast", "tune": "zerolatency", "g": str(fps), "maxrate": rate, "bufsize": rate}
    decoder = av.CodecContext.create("h264", "r")
    for index, frame in enumerate(frames):
        frame.pts = index
        for packet in encoder.encode(frame):
            yield from decoder.decode(packet)
    for packet in encoder.encode(None):
        yield from decoder.decode(packet)
    yield from decoder.decode(None)


def aac_round_trip(samples: npt.NDArray[np.float32], sample_rate_hz: int, bitrate_bps: int) -> npt.NDArray[np.float32]:
    """Mono PCM, shape (samples,), through AAC-LC; the encoder's 1024 samples of priming are cut off again."""
    encoder = av.CodecContext.create("aac", "w")
    encoder.sample_rate, encoder.layout, encoder.format, encoder.bit_rate = sample_rate_hz, "mono", "fltp", bitrate_bps
    encoder.open()
    decoder = av.CodecContext.create("aac", "r")
    decoder.extradata = encoder.extradata
    decoded: list[npt.NDArray[np.float32]] = []
    packets: list[bytes] = []
    for start in range(0, samples.size - 1023, 1024):
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[None, start : start + 1024]), "fltp", "mono")
        frame.sample_rate, frame.pts = sample_rate_hz, start
        packets += [bytes(packet) for packet in encoder.encode(frame)]
    packets += [bytes(packet) for packet in encoder.encode(None)]
    for packet in packets:
        decoded += [frame.to_ndarray()[0].astype(np.float32) for frame in decoder.decode(av.Packet(packet))]
    return np.concatenate(decoded)[1024:]


def write_scene_file(
    path: Path,
    *,
    width: int = 96,
    height: int = 64,
    fps: int = 10,
    frames: int = 25,
    sound_s: float | None = None,
    sound_rate_hz: int = 44_100,
    sound_layout: str = "stereo",
    sound_starts_s: float = 0.0,
    pixel_format: str = "yuv420p",
) -> None:
    """An MP4 of the scene, frame k with counter k; with `sound_s` seconds of its tone, marks in step with the picture.

    sound_starts_s: the audio stream begins that much after (or, negative, before) the first picture.
    """
    scene = Scene(width, height, fps, mark_every_s=1)
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=fps, options={"preset": "ultrafast", "qp": "18", "bf": "0"})
        video.width, video.height, video.pix_fmt = width, height, pixel_format
        video.codec_context.time_base = Fraction(1, fps)
        audio = None
        if sound_s is not None:
            audio = container.add_stream("aac", rate=sound_rate_hz, layout=sound_layout)
            audio.bit_rate = 64_000
        for slot in range(frames):
            picture = av.VideoFrame.from_ndarray(scene.draw(slot, slot), "yuv420p")
            if pixel_format != "yuv420p":
                picture = picture.reformat(format=pixel_format, dst_color_range=2)
            picture.pts = slot + max(0, round(-sound_starts_s * fps))
            container.mux(video.encode(picture))
        container.mux(video.encode(None))
        if audio is not None and sound_s is not None:
            channels = 2 if sound_layout == "stereo" else 1
            first = round(sound_starts_s * sound_rate_hz)
            wave = Tone(sound_rate_hz, channels, mark_every_s=1).samples(max(0, first), round(sound_s * sound_rate_hz))
            for start in range(0, wave.shape[1] - 1023, 1024):
                sound = av.AudioFrame.from_ndarray(
                    np.ascontiguousarray(wave[:, start : start + 1024]), "fltp", sound_layout
                )
                sound.sample_rate, sound.pts = sound_rate_hz, start + max(0, first)
                container.mux(audio.encode(sound))
            container.mux(audio.encode(None))


def luma_copy(frame: av.VideoFrame) -> npt.NDArray[np.uint8]:
    """The luma plane of a frame that may borrow its memory, as an own array."""
    return luma_of(frame).copy()
