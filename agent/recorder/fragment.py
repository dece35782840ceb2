"""One GOP in, one fragment out: `moof` + `mdat` on the recording's one timeline, and the `ftyp` + `moov` of them all.

A fresh libavformat muxer for each GOP: nothing is carried from one to the next, so an I/O error leaves nothing to
repair and the GOP at the stop needs no keyframe behind it. CMAF: ISO/IEC 23000-19; fragments: ISO/IEC 14496-12, 8.8.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from typing import cast

import av
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.error import FFmpegError
from av.stream import Stream

from agent.errors import EncoderError
from agent.media.mp4 import FragmentInfo, Mp4Error, TrackFragment, fragment_info, walk
from agent.media.packets import AudioFormat, AudioPacket, VideoFormat, VideoPacket
from agent.media.units import VIDEO_TIMESCALE_90K, ns_to_90k, ns_to_samples

VIDEO_TRACK_ID = 1
AUDIO_TRACK_ID = 2

_VIDEO_TIME_BASE = Fraction(1, VIDEO_TIMESCALE_90K)
_BUFFER_BYTES = 1 << 18
_MOVFLAGS = "cmaf+empty_moov+default_base_moof+frag_custom+frag_discont+skip_trailer"
_LAYOUTS = {1: "mono", 2: "stereo"}


@dataclass(frozen=True, slots=True)
class MediaTracks:
    """What every fragment of a recording holds. audio_config: AudioSpecificConfig, empty without audio."""

    video: VideoFormat
    audio: AudioFormat | None
    audio_config: bytes


@dataclass(frozen=True, slots=True)
class Fragment:
    """One fragment. init: `ftyp` + `moov`, the same bytes in every fragment of a recording; data: `moof` + `mdat`.

    first_media_90k, end_media_90k: of its video, 90 kHz ticks since the recording's origin; end is exclusive.
    """

    init: bytes
    data: bytes
    first_media_90k: int
    end_media_90k: int
    frames: int
    audio_frames: int


class Fragmenter:
    """Makes the fragments of one recording. Keeps nothing between calls but the `init` they must all share."""

    def __init__(self, tracks: MediaTracks, origin_ns: int) -> None:
        """origin_ns: boot time of media time 0, the capture of the recording's first video frame.

        Raises EncoderError when the audio track cannot be described.
        """
        self._tracks = tracks
        self._origin_ns = origin_ns
        self._init: bytes | None = None
        self._audio_template = None if tracks.audio is None else _audio_template(tracks.audio, tracks.audio_config)

    def fragment(
        self, number: int, video: Sequence[VideoPacket], audio: Sequence[AudioPacket], end_ns: int
    ) -> Fragment:
        """One closed GOP with its audio as a fragment.

        number: from 1, becomes the `moof`'s sequence number. video: a keyframe and what follows on it. audio: in order
        of time; may begin a little before and end a little after the video. end_ns: where the last frame's duration
        ends, the next keyframe's pts or the stop. The packets are only read.

        A frame lies at round((pts_ns - origin_ns) * 9 / 100000); frames that would share a tick are moved to the next.
        Raises ValueError for packets that break these terms, EncoderError when the muxer made something else of them.
        """
        video_90k, end_90k = self._video_ticks(video, end_ns)
        audio_ticks = self._audio_ticks(audio)
        try:
            muxed = self._mux(number, video, [*video_90k, end_90k], audio, audio_ticks)
            init, data, info = _split(muxed)
        except (FFmpegError, Mp4Error) as error:
            raise EncoderError(
                f"Fragment {number} could not be made ({error}); the recording must be closed."
            ) from error
        expected = {VIDEO_TRACK_ID: TrackFragment(video_90k[0], len(video), end_90k - video_90k[0])}
        if audio_ticks:
            sound_ticks = audio_ticks[-1] - audio_ticks[0] + self._audio_duration(audio[-1])
            expected[AUDIO_TRACK_ID] = TrackFragment(audio_ticks[0], len(audio), sound_ticks)
        found = {track_id: track for track_id, track in info.tracks.items() if track.sample_count}
        if info.sequence_number != number or found != expected:
            raise EncoderError(
                f"Fragment {number} came out of the muxer as number {info.sequence_number} with {found} instead of "
                f"{expected}; the recording must be closed."
            )
        if self._init is None:
            self._init = init
        elif init != self._init:
            raise EncoderError(
                f"Fragment {number} does not fit the recording's {len(self._init)} bytes of init: the encoder's format "
                "changed. Close this recording and open a new one."
            )
        return Fragment(self._init, data, video_90k[0], end_90k, len(video), len(audio))

    def _video_ticks(self, video: Sequence[VideoPacket], end_ns: int) -> tuple[list[int], int]:
        if not video or not video[0].is_keyframe:
            raise ValueError("A fragment begins with a keyframe.")
        if video[0].pts_ns < self._origin_ns:
            raise ValueError(f"A frame lies {self._origin_ns - video[0].pts_ns} ns before the recording's origin.")
        times_ns = [packet.pts_ns for packet in video] + [end_ns]
        if any(later <= earlier for earlier, later in pairwise(times_ns)):
            raise ValueError("The frames of a fragment, and its end, do not follow on one another in time.")
        ticks: list[int] = []
        for time_ns in times_ns:
            tick = ns_to_90k(time_ns - self._origin_ns)
            ticks.append(tick if not ticks else max(tick, ticks[-1] + 1))
        return ticks[:-1], ticks[-1]

    def _audio_ticks(self, audio: Sequence[AudioPacket]) -> list[int]:
        if not audio:
            return []
        if self._tracks.audio is None:
            raise ValueError("This recording has no audio track.")
        if audio[0].pts_ns < self._origin_ns:
            raise ValueError(f"Sound lies {self._origin_ns - audio[0].pts_ns} ns before the recording's origin.")
        rate = self._tracks.audio.sample_rate_hz
        ticks = [ns_to_samples(packet.pts_ns - self._origin_ns, rate) for packet in audio]
        if any(later <= earlier for earlier, later in pairwise(ticks)):
            raise ValueError("The audio packets of a fragment do not follow on one another in time.")
        return ticks

    def _audio_duration(self, packet: AudioPacket) -> int:
        return 0 if self._tracks.audio is None else ns_to_samples(packet.duration_ns, self._tracks.audio.sample_rate_hz)

    def _mux(
        self,
        number: int,
        video: Sequence[VideoPacket],
        video_90k_and_end: Sequence[int],
        audio: Sequence[AudioPacket],
        audio_ticks: Sequence[int],
    ) -> bytes:
        sink = _Sink()
        options = {
            "movflags": _MOVFLAGS,
            "fragment_index": str(number),
            # Times are absolute already: nothing may shift them.
            "avoid_negative_ts": "disabled",
            "use_editlist": "0",
            # The GOP is complete and in order; waiting for the other track would only hold it back.
            "max_interleave_delta": "0",
        }
        with av.open(sink, "w", format="mp4", buffer_size=_BUFFER_BYTES, options=options) as container:
            fps = Fraction(self._tracks.video.fps).limit_denominator(1001)
            # No codec context of our own: libavformat then builds the `avcC` from the SPS and PPS in the keyframe.
            video_stream = container.add_mux_stream(
                "h264", rate=fps, width=self._tracks.video.width, height=self._tracks.video.height
            )
            video_stream.time_base = _VIDEO_TIME_BASE
            packets: list[tuple[Fraction, av.Packet[Stream]]] = []
            for index, source in enumerate(video):
                pts, following = video_90k_and_end[index], video_90k_and_end[index + 1]
                packet = _packet(source.data, video_stream, pts, following - pts, _VIDEO_TIME_BASE)
                packet.is_keyframe = source.is_keyframe
                packets.append((pts * _VIDEO_TIME_BASE, packet))
            if self._audio_template is not None and self._tracks.audio is not None:
                audio_stream = container.add_stream_from_template(self._audio_template.stream)
                time_base = Fraction(1, self._tracks.audio.sample_rate_hz)
                for sound, pts in zip(audio, audio_ticks, strict=True):
                    packet = _packet(sound.data, audio_stream, pts, self._audio_duration(sound), time_base)
                    packet.is_keyframe = True
                    packets.append((pts * time_base, packet))
            packets.sort(key=lambda timed: timed[0])
            for _, packet in packets:
                container.mux_one(packet)
        return bytes(sink.written)


def _packet(data: bytes, stream: Stream, pts: int, duration: int, time_base: Fraction) -> av.Packet[Stream]:
    """A packet of the muxer's own around the same immutable bytes: `mux` rewrites times in place."""
    packet = av.Packet(data)
    packet.stream = stream
    packet.time_base = time_base
    packet.pts = packet.dts = pts
    packet.duration = duration
    return packet


class _Sink(io.RawIOBase):
    """Where the muxer writes. Not seekable, so that it never goes back over what it has written."""

    def __init__(self) -> None:
        self.written = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        chunk = cast(bytes, data)
        self.written += chunk
        return len(chunk)


@dataclass(frozen=True, slots=True)
class _AudioTemplate:
    """A described AAC stream; `container` owns it and must live as long."""

    container: OutputContainer
    stream: AudioStream


@lru_cache(maxsize=2)
def _audio_template(audio: AudioFormat, config: bytes) -> _AudioTemplate:
    """PyAV takes extradata for a muxed stream only from another stream, and that only from an opened codec context.

    The encoder inside it is never used: `config` is that of the encoder whose packets come. One serves all recordings:
    container and stream refer to one another, so that each would keep its encoder's 200 kB until Python next looks for
    cycles, which is after some fifty recordings.
    """
    try:
        container = av.open(_Sink(), "w", format="mp4", options={"movflags": "empty_moov"})
        stream = container.add_stream("aac", rate=audio.sample_rate_hz, layout=_LAYOUTS[audio.channels])
        stream.codec_context.open()
        stream.codec_context.extradata = config
        container.start_encoding()
    except (FFmpegError, KeyError) as error:
        raise EncoderError(
            f"An AAC track of {audio.channels} channels at {audio.sample_rate_hz} Hz cannot be described ({error}); "
            "set audio.channels to 1 or 2 and audio.sample_rate_hz to one that AAC has."
        ) from error
    return _AudioTemplate(container, stream)


def _split(muxed: bytes) -> tuple[bytes, bytes, FragmentInfo]:
    boxes = list(walk(muxed))
    if [box.type for box in boxes] != [b"ftyp", b"moov", b"moof", b"mdat"]:
        names = ", ".join(box.type.decode("latin-1") for box in boxes)
        raise EncoderError(f"The muxer made {names} of a GOP instead of ftyp, moov, moof, mdat.")
    moof = boxes[2]
    return muxed[: moof.offset], muxed[moof.offset :], fragment_info(muxed[moof.offset : moof.end])
