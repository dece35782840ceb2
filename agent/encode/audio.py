"""AAC-LC from microphone chunks, timed so that what a decoder gives out lies where it was captured.

FFmpeg's native encoder puts 1024 samples of priming in front (its first packet has pts -1024): decoding packet k gives
the samples of frame k-1. A packet is therefore stamped with the capture time of what it decodes to.
"""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import numpy.typing as npt
from av.audio.codeccontext import AudioCodecContext
from av.error import FFmpegError

from agent.capture.microphone import AudioChunk
from agent.clock import NS_PER_MS, NS_PER_S
from agent.errors import EncoderError
from agent.media.packets import AudioFormat, AudioPacket
from agent.media.units import ns_to_samples, samples_to_ns
from agent.settings.schema import AudioSettings

FRAME_SAMPLES = 1024  # AAC-LC, ISO/IEC 14496-3
HOLE_NS = 100 * NS_PER_MS
MAX_SILENCE_NS = 30 * NS_PER_S
# Share of the distance to the chunks' stamps that is made up in each frame: scheduling jitter of single stamps is
# averaged out, and a sound card 500 ppm off the boot clock is followed 0.2 ms behind.
_FOLLOW_DIVISOR = 16

_LAYOUTS = {1: "mono", 2: "stereo"}


class FrameTimes:
    """Times of successive AAC frames out of the chunks' stamps: strictly increasing, no error adds up."""

    def __init__(self, sample_rate_hz: int) -> None:
        self._frame_ns = samples_to_ns(FRAME_SAMPLES, sample_rate_hz)
        self._last_ns: int | None = None
        self._after_hole = False

    def hole(self) -> None:
        """The next frame begins behind a hole, however little of it the frame before has left open."""
        self._after_hole = True

    def next(self, measured_ns: int) -> int:
        """Time of the next frame; `measured_ns`: capture of its first sample by the stamps. A hole is jumped."""
        if self._last_ns is None:
            self._last_ns = measured_ns
            return measured_ns
        predicted_ns = self._last_ns + self._frame_ns
        off_ns = measured_ns - predicted_ns
        if off_ns > HOLE_NS or (self._after_hole and off_ns > -self._frame_ns // 2):
            self._last_ns = measured_ns
        else:
            # Stamps that fall back cannot take time back: frames only come closer until both meet again.
            self._last_ns = predicted_ns + max(off_ns // _FOLLOW_DIVISOR, -self._frame_ns // 2)
        self._after_hole = False
        return self._last_ns


class AudioEncoder:
    """One encoding session of one microphone session. Used from one thread.

    format: what the packets are. config: AudioSpecificConfig (ISO/IEC 14496-3, 1.6.2.1), for the MP4's `esds`.
    """

    format: AudioFormat
    config: bytes

    def __init__(self, settings: AudioSettings, source: AudioFormat) -> None:
        """Open the encoder. Raises EncoderError when AAC cannot hold this rate or number of channels."""
        if source.channels not in _LAYOUTS:
            raise EncoderError(f"The microphone gives {source.channels} channels; set audio.channels to 1 or 2.")
        self.format = source
        self._times = FrameTimes(source.sample_rate_hz)
        self._waiting: npt.NDArray[np.float32] = np.zeros((source.channels, 0), np.float32)
        self._waiting_ns = 0
        self._begun = False
        self._silence: list[tuple[int, int]] = []
        self._frames_in = 0
        self._frame_ns_by_number: dict[int, int] = {}
        try:
            context = av.CodecContext.create("aac", "w")
            context.sample_rate = source.sample_rate_hz
            context.layout = _LAYOUTS[source.channels]
            context.format = "fltp"
            context.bit_rate = settings.bitrate_bps
            context.time_base = Fraction(1, source.sample_rate_hz)
            context.open()
        except FFmpegError as error:
            raise EncoderError(
                f"AAC cannot be made of {source.channels} channels at {source.sample_rate_hz} Hz ({error}); "
                "set audio.sample_rate_hz to 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025 or 8000."
            ) from error
        if not context.extradata:
            raise EncoderError("The AAC encoder gave no AudioSpecificConfig; install the PyAV release that is locked.")
        self.config = context.extradata
        self._context: AudioCodecContext | None = context

    def encode(self, chunk: AudioChunk) -> list[AudioPacket]:
        """The packets that are ready, up to two frames behind. Raises EncoderError for a wrong shape or a failure.

        A step of more than 100 ms in `captured_ns` is a hole. Up to 30 s it is filled with silence and named in
        `take_silence`, because browsers play the sound behind a jump of times too early; a longer one is jumped.
        """
        context = self._require_open()
        samples = chunk.samples
        if samples.ndim != 2 or samples.shape[0] != self.format.channels:
            raise EncoderError(
                f"The microphone gave samples of shape {samples.shape} for {self.format.channels} channels; "
                "restart the capture."
            )
        packets = self._bridge_hole(context, chunk.captured_ns)
        waiting = self._waiting.shape[1]
        data = np.concatenate((self._waiting, samples), axis=1, dtype=np.float32)

        def captured_ns(position: int) -> int:
            if position < waiting:
                return self._waiting_ns + samples_to_ns(position, self.format.sample_rate_hz)
            return chunk.captured_ns + samples_to_ns(position - waiting, self.format.sample_rate_hz)

        whole = data.shape[1] - data.shape[1] % FRAME_SAMPLES
        for start in range(0, whole, FRAME_SAMPLES):
            packets += self._encode_frame(context, data[:, start : start + FRAME_SAMPLES], captured_ns(start))
        self._waiting_ns = captured_ns(whole)
        self._waiting = data[:, whole:]
        self._begun = True
        return packets

    def take_silence(self) -> list[tuple[int, int]]:
        """Where silence stands for sound that was never captured, as (from, to) boot times, since the last call."""
        silence, self._silence = self._silence, []
        return silence

    def flush(self) -> list[AudioPacket]:
        """What is still inside, filled up with silence to a frame; nothing can be encoded afterwards."""
        context = self._require_open()
        packets: list[AudioPacket] = []
        if self._waiting.shape[1]:
            missing = FRAME_SAMPLES - self._waiting.shape[1]
            packets += self._encode_frame(context, np.pad(self._waiting, ((0, 0), (0, missing))), self._waiting_ns)
        packets += self._packets(context, None)
        self.close()
        return packets

    def close(self) -> None:
        """Free the encoder; may be called twice, and after an error."""
        self._context = None

    def _require_open(self) -> AudioCodecContext:
        if self._context is None:
            raise EncoderError("The audio encoder was closed; open a new one for a new microphone session.")
        return self._context

    def _bridge_hole(self, context: AudioCodecContext, captured_ns: int) -> list[AudioPacket]:
        waiting = self._waiting.shape[1]
        from_ns = self._waiting_ns + samples_to_ns(waiting, self.format.sample_rate_hz)
        hole_ns = captured_ns - from_ns
        if not self._begun or hole_ns <= HOLE_NS:
            return []
        silence = ns_to_samples(hole_ns, self.format.sample_rate_hz)
        if hole_ns <= MAX_SILENCE_NS:
            self._waiting = np.pad(self._waiting, ((0, 0), (0, silence)))
            self._silence.append((from_ns, captured_ns))
            return []
        if not waiting:
            return []
        silence = min(FRAME_SAMPLES - waiting, silence)
        self._waiting = np.pad(self._waiting, ((0, 0), (0, silence)))
        if self._waiting.shape[1] < FRAME_SAMPLES:
            return []
        frame, self._waiting = self._waiting, self._waiting[:, :0]
        packets = self._encode_frame(context, frame, self._waiting_ns)
        self._times.hole()
        return packets

    def _encode_frame(
        self, context: AudioCodecContext, samples: npt.NDArray[np.float32], captured_ns: int
    ) -> list[AudioPacket]:
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(samples), format="fltp", layout=_LAYOUTS[self.format.channels]
        )
        frame.sample_rate = self.format.sample_rate_hz
        frame.pts = self._frames_in * FRAME_SAMPLES
        frame.time_base = Fraction(1, self.format.sample_rate_hz)
        self._frame_ns_by_number[self._frames_in] = self._times.next(captured_ns)
        self._frames_in += 1
        return self._packets(context, frame)

    def _packets(self, context: AudioCodecContext, frame: av.AudioFrame | None) -> list[AudioPacket]:
        try:
            encoded = context.encode(frame)
        except FFmpegError as error:
            raise EncoderError(f"The AAC encoder failed ({error}); the microphone must be restarted.") from error
        rate = self.format.sample_rate_hz
        packets = []
        for raw in encoded:
            if raw.pts is None or raw.pts % FRAME_SAMPLES:
                raise EncoderError(f"The AAC encoder gave a packet with pts {raw.pts}; its time is not known.")
            number = raw.pts // FRAME_SAMPLES
            if number < 0:
                pts_ns = self._frame_ns_by_number[0] + samples_to_ns(raw.pts, rate)
            else:
                # pop, not look up: a session of hours must not keep a time for each frame
                pts_ns = self._frame_ns_by_number.pop(number)
            packets.append(AudioPacket(bytes(raw), pts_ns, samples_to_ns(FRAME_SAMPLES, rate)))
        return packets
