"""Encoded packets and the formats they come in.

A packet's time is the capture time of its first sample or frame on the boot clock, in ns; it is turned into
track units only when a recording gives it an origin.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class VideoFormat:
    """What the encoder makes. `fps` is nominal; real frame times are in the packets."""

    width: int
    height: int
    fps: float


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """What the AAC encoder makes."""

    sample_rate_hz: int
    channels: int


@dataclass(frozen=True, slots=True)
class VideoPacket:
    """One access unit of H.264, Annex B (ITU-T H.264 Annex B), SPS and PPS in front of every keyframe.

    data: read back from the ring it is a view into the bytes of a whole GOP; what takes a buffer takes it. pts_ns:
    capture time of the frame on the boot clock. There are no B-frames, so decode order is this order.
    """

    data: bytes
    pts_ns: int
    is_keyframe: bool


@dataclass(frozen=True, slots=True)
class AudioPacket:
    """One raw AAC-LC frame (1024 samples a channel, ISO/IEC 14496-3), without ADTS header.

    pts_ns: capture time of its first sample on the boot clock. duration_ns: 1024 samples.
    """

    data: bytes
    pts_ns: int
    duration_ns: int
