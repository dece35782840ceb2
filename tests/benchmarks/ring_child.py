"""Run by the memory benchmark: how much a process grows when a ring fills. Prints JSON.

The packets have the sizes that the encoders really make of the source, and are made as the encoders make them: bytes
copied out of an FFmpeg packet. Sizes are measured in a child process, so that no memory freed by an encoder is there to
be used again. Three times the ring's length is pushed: what eviction leaves unused between packets counts too.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
from itertools import cycle, islice
from pathlib import Path

import av

from agent.clock import NS_PER_S
from agent.daemon.memory import bound_memory
from agent.media.packets import AudioPacket, VideoPacket
from agent.media.units import samples_to_ns
from agent.ring.ring import PacketRing
from tests.benchmarks.source import FPS, FRAMES, HEIGHT, WIDTH

AUDIO_BYTES = 171
"""An AAC frame of 64 kbit/s at 48 kHz."""

_AUDIO_NS = samples_to_ns(1024, 48_000)


def video_sizes(source: Path) -> list[tuple[int, bool]]:
    """Size and keyframe flag of each packet of one turn of the source at 6 Mbit/s."""
    from agent.capture.raw import RawFileCamera
    from agent.clock import SimulatedClock
    from agent.encode.video import VideoEncoder
    from agent.settings.schema import VideoSettings

    camera = RawFileCamera(SimulatedClock(), source, WIDTH, HEIGHT, FPS)
    encoder = VideoEncoder(VideoSettings(encoder="libx264"), camera.open())
    sizes = []
    for _ in range(FRAMES):
        sizes += [(len(packet.data), packet.is_keyframe) for packet in encoder.encode(camera.read())]
    return sizes


def anonymous_bytes() -> int:
    """Resident memory that belongs to this process alone and to no file (proc(5), smaps_rollup)."""
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Anonymous:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("This kernel has no Anonymous line in smaps_rollup; use Linux 4.14 or later.")


def _push(ring: PacketRing, sizes: list[tuple[int, bool]], seconds: int) -> None:
    audio_ns = 0
    for number, (size, is_keyframe) in enumerate(islice(cycle(sizes), seconds * FPS)):
        pts_ns = number * NS_PER_S // FPS
        ring.push_video(VideoPacket(_bytes(size), pts_ns, is_keyframe))
        while audio_ns < pts_ns:
            ring.push_audio(AudioPacket(_bytes(AUDIO_BYTES), audio_ns, _AUDIO_NS))
            audio_ns += _AUDIO_NS


def _bytes(size: int) -> bytes:
    return bytes(av.Packet(size))


def main() -> None:
    """Arguments: the source, and how many seconds the ring holds."""
    bound_memory()  # as the daemon does first of all
    source, seconds = Path(sys.argv[1]), int(sys.argv[2])
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        sizes = pool.apply(video_sizes, (source,))

    def ring() -> PacketRing:
        return PacketRing(
            keep_ns=seconds * NS_PER_S, max_bytes=1 << 30, frame_ns=NS_PER_S // FPS, audio_before_trigger=True
        )

    warm = ring()
    _push(warm, sizes, 2)
    before = anonymous_bytes()
    filled = ring()
    _push(filled, sizes, 3 * seconds)
    print(  # noqa: T201
        json.dumps(
            {
                "grown_bytes": anonymous_bytes() - before,
                "payload_bytes": filled.payload_bytes,
                "packets": round(filled.buffered_ns / NS_PER_S * FPS + filled.buffered_ns / _AUDIO_NS),
            }
        )
    )


if __name__ == "__main__":
    main()
