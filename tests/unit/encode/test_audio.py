"""The audio encoder, judged by where a decoder puts what was heard."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from random import Random

import av
import numpy as np
import numpy.typing as npt
import pytest
from av.audio.codeccontext import AudioCodecContext
from hypothesis import given
from hypothesis import strategies as st

from agent.capture.microphone import AudioChunk
from agent.encode.audio import FRAME_SAMPLES, HOLE_NS, AudioEncoder, FrameTimes
from agent.errors import EncoderError
from agent.media.packets import AudioFormat, AudioPacket
from agent.media.units import samples_to_ns
from agent.settings.schema import AudioSettings

RATE = 48_000
START_NS = 7_000_000_321
MS = 1_000_000
Sound = npt.NDArray[np.float32]


def quiet_noise(samples: int, channels: int = 1) -> Sound:
    """Something that is not digital silence."""
    return (np.random.default_rng(5).standard_normal((channels, samples)) * 1e-3).astype(np.float32)


def with_burst(sound: Sound, at: int, rate_hz: int = RATE) -> Sound:
    """5 ms of a loud tone that begins at sample `at`."""
    length = rate_hz // 200
    sound[:, at : at + length] = 0.8 * np.sin(np.arange(length) * 2 * np.pi * 1000 / rate_hz)
    return sound


def chunks_of(sound: Sound, sizes: Iterable[int], rate_hz: float = RATE) -> list[AudioChunk]:
    """Cut up; the last chunk is what is left. rate_hz: the sound card's true rate on the boot clock."""
    chunks, at = [], 0
    for size in sizes:
        if at >= sound.shape[1]:
            break
        chunks.append(AudioChunk(sound[:, at : at + size], START_NS + round(at / rate_hz * 1e9)))
        at += size
    return chunks


def encode(
    chunks: Sequence[AudioChunk],
    channels: int = 1,
    rate_hz: int = RATE,
    silence: list[tuple[int, int]] | None = None,
) -> tuple[list[AudioPacket], bytes]:
    encoder = AudioEncoder(AudioSettings(), AudioFormat(rate_hz, channels))
    packets = [packet for chunk in chunks for packet in encoder.encode(chunk)]
    if silence is not None:
        silence += encoder.take_silence()
    return packets + encoder.flush(), encoder.config


def decode_frames(packets: Sequence[AudioPacket], config: bytes) -> list[Sound]:
    """What each packet decodes to, by a decoder that knows only the AudioSpecificConfig."""
    decoder = av.CodecContext.create("aac", "r")
    assert isinstance(decoder, AudioCodecContext)
    decoder.extradata = config
    frames = []
    for packet in packets:
        (frame,) = decoder.decode(av.Packet(packet.data))
        frames.append(frame.to_ndarray().astype(np.float32))
    return frames


def burst_ns(packets: Sequence[AudioPacket], config: bytes, rate_hz: int = RATE) -> int:
    """Capture time of the first loud sample, by the packet that holds it."""
    for packet, frame in zip(packets, decode_frames(packets, config), strict=True):
        loud = np.flatnonzero(np.abs(frame[0]) > 0.3)
        if loud.size:
            return packet.pts_ns + samples_to_ns(int(loud[0]), rate_hz)
    raise AssertionError("no burst was decoded")


@pytest.mark.parametrize(("rate_hz", "channels"), [(48_000, 1), (48_000, 2), (44_100, 1), (16_000, 1), (8_000, 2)])
@pytest.mark.parametrize("chunk", [1024, 480, 1000, 4801])
def test_a_burst_comes_out_where_it_was_captured(rate_hz: int, channels: int, chunk: int) -> None:
    at = rate_hz // 2 + 77
    sound = with_burst(quiet_noise(rate_hz, channels), at, rate_hz)
    packets, config = encode(chunks_of(sound, [chunk] * 1000, rate_hz), channels, rate_hz)
    assert abs(burst_ns(packets, config, rate_hz) - START_NS - samples_to_ns(at, rate_hz)) < 2 * MS


def test_all_of_the_sound_comes_out_in_frames_of_1024_behind_one_of_priming() -> None:
    sound = (0.5 * np.sin(np.arange(RATE) * 2 * np.pi * 440 / RATE)).astype(np.float32)[None, :]
    packets, config = encode(chunks_of(sound, [777] * 100))
    assert packets[0].pts_ns == START_NS - samples_to_ns(FRAME_SAMPLES, RATE)
    assert [packet.duration_ns for packet in packets] == [samples_to_ns(FRAME_SAMPLES, RATE)] * len(packets)
    frames = decode_frames(packets, config)
    decoded = np.concatenate(frames[1:], axis=1)[0, :RATE]
    assert decoded.shape == (RATE,)
    assert np.sqrt(np.mean((decoded[2048:-2048] - sound[0, 2048:-2048]) ** 2)) < 0.05, "what AAC loses at 64 kbit/s"
    for number, packet in enumerate(packets):
        assert abs(packet.pts_ns - START_NS - samples_to_ns((number - 1) * FRAME_SAMPLES, RATE)) < 100


def test_how_chunks_are_cut_changes_nothing() -> None:
    sound = with_burst(quiet_noise(RATE // 2), 9_000)
    random = Random(2)
    whole, _ = encode(chunks_of(sound, [sound.shape[1]]))
    for sizes in ([1] * 3000 + [RATE], [random.randint(1, 5000) for _ in range(200)]):
        cut, _ = encode(chunks_of(sound, sizes))
        assert [packet.data for packet in cut] == [packet.data for packet in whole]
        assert all(abs(a.pts_ns - b.pts_ns) < 1_000 for a, b in zip(cut, whole, strict=True))


@pytest.mark.parametrize("ppm", [-500, 500])
def test_a_sound_card_that_runs_off_is_followed(ppm: int) -> None:
    """After 60 s at 500 ppm the sample count is 30 ms off; the packets must not be."""
    true_rate = RATE * (1 + ppm / 1e6)
    samples = 60 * RATE
    sound = with_burst(quiet_noise(samples), samples - 5000)
    packets, config = encode(chunks_of(sound, [960] * 10_000, true_rate))
    captured_ns = START_NS + round((samples - 5000) / true_rate * 1e9)
    assert abs(burst_ns(packets, config) - captured_ns) < 2 * MS
    steps = {b.pts_ns - a.pts_ns for a, b in pairwise(packets)}
    assert max(steps) - min(steps) < MS // 10, "followed frame by frame and not in jumps"


def test_jitter_of_single_stamps_is_not_passed_on_in_full() -> None:
    random = Random(4)
    plain = chunks_of(quiet_noise(5 * RATE), [960] * 1000)
    chunks = [AudioChunk(chunk.samples, chunk.captured_ns + random.randint(-4 * MS, 4 * MS)) for chunk in plain]
    packets, _ = encode(chunks)
    frame_ns = samples_to_ns(FRAME_SAMPLES, RATE)
    assert all(abs(b.pts_ns - a.pts_ns - frame_ns) < MS for a, b in pairwise(packets))
    for number, packet in enumerate(packets):
        assert abs(packet.pts_ns - START_NS - samples_to_ns((number - 1) * FRAME_SAMPLES, RATE)) < 5 * MS


@pytest.mark.parametrize("hole_ms", [101, 130, 5_000, 40_000])
@pytest.mark.parametrize("extra", [0, 300])
@pytest.mark.parametrize("rate_hz", [48_000, 8_000])
def test_sound_behind_a_hole_stays_where_it_was_captured(hole_ms: int, extra: int, rate_hz: int) -> None:
    """Up to 30 s by silence that is named, longer ones by a jump of the times."""
    before = quiet_noise(FRAME_SAMPLES * 8 + extra)
    after = with_burst(quiet_noise(rate_hz), rate_hz // 2, rate_hz)
    resume_ns = START_NS + samples_to_ns(before.shape[1], rate_hz) + hole_ms * MS
    chunks = [AudioChunk(before, START_NS)]
    for at in range(0, rate_hz, 700):
        chunks.append(AudioChunk(after[:, at : at + 700], resume_ns + samples_to_ns(at, rate_hz)))
    silence: list[tuple[int, int]] = []
    packets, config = encode(chunks, rate_hz=rate_hz, silence=silence)
    assert abs(burst_ns(packets, config, rate_hz) - resume_ns - samples_to_ns(rate_hz // 2, rate_hz)) < 2 * MS
    times = [packet.pts_ns for packet in packets]
    assert all(earlier < later for earlier, later in pairwise(times))
    longest_ns = max(later - earlier for earlier, later in pairwise(times))
    if hole_ms <= 30_000:
        assert silence == [(resume_ns - hole_ms * MS, resume_ns)]
        assert longest_ns < samples_to_ns(FRAME_SAMPLES, rate_hz) + 2 * MS, "players see one unbroken track"
    else:
        assert silence == []
        assert longest_ns > (hole_ms - 200) * MS
        assert resume_ns in times, "the first sample behind the hole begins a frame"


def test_time_that_falls_back_never_turns_the_packets_back() -> None:
    sound = quiet_noise(RATE)
    chunks = chunks_of(sound, [960] * 100)
    chunks = chunks[:20] + [AudioChunk(chunk.samples, chunk.captured_ns - 400 * MS) for chunk in chunks[20:]]
    packets, _ = encode(chunks)
    assert all(a.pts_ns < b.pts_ns for a, b in pairwise(packets))


@given(st.lists(st.integers(-300 * MS, 300 * MS), max_size=60), st.sampled_from([8_000, 16_000, 44_100, 48_000]))
def test_frame_times_are_monotone_and_never_far_ahead(errors_ns: list[int], rate_hz: int) -> None:
    times = FrameTimes(rate_hz)
    frame_ns = samples_to_ns(FRAME_SAMPLES, rate_hz)
    measured_ns, last = START_NS, None
    for error_ns in errors_ns:
        measured_ns += frame_ns
        time_ns = times.next(measured_ns + error_ns)
        if last is not None:
            assert time_ns - last >= frame_ns // 3
        assert time_ns <= measured_ns + max(errors_ns) + frame_ns + HOLE_NS
        last = time_ns


def test_a_session_of_hours_keeps_no_times() -> None:
    encoder = AudioEncoder(AudioSettings(), AudioFormat(RATE, 1))
    for chunk in chunks_of(quiet_noise(10 * RATE), [4800] * 1000):
        encoder.encode(chunk)
    assert len(encoder._frame_ns_by_number) < 4


def test_the_config_names_aac_lc_rate_and_channels() -> None:
    """AudioSpecificConfig, ISO/IEC 14496-3, 1.6.2.1: 5 bits object type, 4 bits rate index, 4 bits channels."""
    for rate_hz, rate_index, channels in ((48_000, 3, 1), (44_100, 4, 2), (16_000, 8, 1)):
        config = AudioEncoder(AudioSettings(), AudioFormat(rate_hz, channels)).config
        bits = int.from_bytes(config[:2], "big")
        assert (bits >> 11, bits >> 7 & 15, bits >> 3 & 15) == (2, rate_index, channels)


@pytest.mark.parametrize(("rate_hz", "channels"), [(48_000, 3), (10_000, 1), (48_000, 0)])
def test_what_aac_cannot_hold_is_refused_with_what_to_set(rate_hz: int, channels: int) -> None:
    with pytest.raises(EncoderError, match=r"set audio\."):
        AudioEncoder(AudioSettings(), AudioFormat(rate_hz, channels))


def test_samples_of_a_wrong_shape_are_refused() -> None:
    encoder = AudioEncoder(AudioSettings(), AudioFormat(RATE, 2))
    with pytest.raises(EncoderError, match="for 2 channels"):
        encoder.encode(AudioChunk(quiet_noise(960), START_NS))


def test_a_closed_encoder_says_so() -> None:
    encoder = AudioEncoder(AudioSettings(), AudioFormat(RATE, 1))
    encoder.encode(AudioChunk(quiet_noise(960), START_NS))
    encoder.flush()
    encoder.close()
    with pytest.raises(EncoderError, match="was closed"):
        encoder.encode(AudioChunk(quiet_noise(960), START_NS))
