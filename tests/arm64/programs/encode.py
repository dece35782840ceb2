"""The painted scene and its tone through the agent's encoders and its muxing, into the folder that is named.

`SET/init.mp4` and `SET/000001.m4s` … for each set of settings; what went in and came out in facts.json.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agent.capture.synthetic import SyntheticCamera, SyntheticMicrophone
from agent.clock import NS_PER_S, SimulatedClock
from agent.encode.audio import AudioEncoder
from agent.encode.video import VideoEncoder
from agent.media.packets import AudioPacket, VideoPacket
from agent.recorder.fragment import Fragmenter, MediaTracks
from agent.settings.schema import AudioSettings, VideoSettings

WIDTH, HEIGHT, FPS = 320, 180, 15
SECONDS = 4
SAMPLE_RATE_HZ = 48_000
SETS = {
    # More bits than the finest quantiser takes: the rate control has nothing to decide.
    "unbounded": VideoSettings(encoder="libx264", bitrate_bps=50_000_000, preset="ultrafast", threads=1),
    # The preset that cameras use, at a bit rate that binds.
    "bounded": VideoSettings(encoder="libx264", bitrate_bps=300_000, threads=1),
}


def main() -> None:
    """Encode every set, and the sound for the last one."""
    folder = Path(sys.argv[1])
    facts: dict[str, Any] = {}
    for name, settings in SETS.items():
        facts[name] = encode(folder / name, settings, with_sound=name == "bounded")
    (folder / "facts.json").write_text(json.dumps(facts))


def encode(folder: Path, settings: VideoSettings, *, with_sound: bool) -> dict[str, Any]:
    """One set; returns what went in and came out."""
    folder.mkdir(parents=True)
    clock = SimulatedClock()
    camera = SyntheticCamera(clock, WIDTH, HEIGHT, FPS)
    camera_format = camera.open()
    video_encoder = VideoEncoder(settings, camera_format)
    start_ns = clock.boottime_ns()
    end_ns = start_ns + SECONDS * NS_PER_S
    painted = hashlib.sha256()
    video: list[VideoPacket] = []
    for _ in range(SECONDS * FPS):
        frame = camera.read()
        painted.update(frame.image.to_ndarray().tobytes())
        video += video_encoder.encode(frame)
    video += video_encoder.flush()

    heard = hashlib.sha256()
    audio: list[AudioPacket] = []
    tracks = MediaTracks(video_encoder.format, None, b"")
    if with_sound:
        # A clock of its own, so that it begins with the pictures and not behind them.
        beside = SyntheticCamera(SimulatedClock(), WIDTH, HEIGHT, FPS)
        beside.open()
        microphone = SyntheticMicrophone(beside.time_base, SAMPLE_RATE_HZ, 1)
        audio_settings = AudioSettings(source="camera", sample_rate_hz=SAMPLE_RATE_HZ)
        sound_encoder = AudioEncoder(audio_settings, microphone.open())
        for _ in range(SECONDS * 50):  # of 20 ms
            chunk = microphone.read()
            heard.update(chunk.samples.tobytes())
            audio += sound_encoder.encode(chunk)
        tracks = MediaTracks(video_encoder.format, sound_encoder.format, sound_encoder.config)

    fragmenter = Fragmenter(tracks, video[0].pts_ns)
    for number, (gop, gop_end_ns) in enumerate(gops(video, end_ns), start=1):
        sound = [packet for packet in audio if max(gop[0].pts_ns, video[0].pts_ns) <= packet.pts_ns < gop_end_ns]
        fragment = fragmenter.fragment(number, gop, sound, gop_end_ns)
        (folder / "init.mp4").write_bytes(fragment.init)
        (folder / f"{number:06}.m4s").write_bytes(fragment.data)
    return {
        "painted": painted.hexdigest(),
        "heard": heard.hexdigest(),
        "video": [[packet.pts_ns, packet.is_keyframe, len(packet.data)] for packet in video],
        "audio": [[packet.pts_ns, packet.duration_ns, len(packet.data)] for packet in audio],
        "audio_sha256": hashlib.sha256(b"".join(bytes(packet.data) for packet in audio)).hexdigest(),
        "audio_config": tracks.audio_config.hex(),
    }


def gops(video: list[VideoPacket], end_ns: int) -> Iterator[tuple[list[VideoPacket], int]]:
    """Each closed GOP and where it ends."""
    starts = [index for index, packet in enumerate(video) if packet.is_keyframe]
    for start, following in zip(starts, [*starts[1:], None], strict=True):
        yield video[start:following], end_ns if following is None else video[following].pts_ns


if __name__ == "__main__":
    main()
