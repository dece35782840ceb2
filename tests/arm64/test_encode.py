"""What encoding gives on arm64 and here: the same bytes where floating point has no say in it, else the same video.

Two things in libx264 depend on the processor. Its rate control computes in floating point, and a last bit more or less
now and then becomes another quantiser; and above `ultrafast` it chooses between equally good ways of coding a block as
suits the processor's instructions (what its option `cpu-independent` is there to forbid). FFmpeg's AAC encoder is all
floating point. None of this has to be equal: no camera encodes again what another one has. Decoding H.264 has to be, to
the last bit, and is.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.audio.resampler import AudioResampler

from agent.capture.scene import find_bursts
from tests.arm64.camera import join
from tests.arm64.machine import Machine
from tests.arm64.programs.encode import FPS, SAMPLE_RATE_HZ, SECONDS, SETS
from tests.support.playback import play


@dataclass(frozen=True)
class Encoded:
    """What programs/encode.py left in `folder`."""

    folder: Path
    facts: dict[str, Any]

    def video(self, name: str) -> Path:
        """One set as a file that plays."""
        return join(self.folder / name, self.folder / f"{name}.mp4")


@pytest.fixture(scope="module")
def encoded(machines: tuple[Machine, ...], tmp_path_factory: pytest.TempPathFactory) -> tuple[Encoded, ...]:
    """Of this machine and of arm64."""
    made = []
    for number, machine in enumerate(machines):
        folder = tmp_path_factory.mktemp(f"encoded-{number}")
        machine.run("tests.arm64.programs.encode", folder)
        made.append(Encoded(folder, json.loads((folder / "facts.json").read_text())))
    return tuple(made)


def test_both_were_given_the_same_pictures_and_the_same_sound(encoded: tuple[Encoded, ...]) -> None:
    host, arm64 = encoded
    for name in SETS:
        for what in ("painted", "heard"):
            assert host.facts[name][what] == arm64.facts[name][what]


def test_what_the_rate_control_has_no_say_in_is_the_same_to_the_byte(encoded: tuple[Encoded, ...]) -> None:
    """Pictures of libx264 and the fragments that our own muxing makes of them."""
    host, arm64 = (files(made.folder / "unbounded") for made in encoded)
    assert list(host) == [*(f"{number:06}.m4s" for number in range(1, SECONDS + 1)), "init.mp4"]
    assert host == arm64


def test_elsewhere_it_is_the_same_video_in_other_bytes(encoded: tuple[Encoded, ...]) -> None:
    host, arm64 = (made.facts["bounded"]["video"] for made in encoded)
    assert len(host) == SECONDS * FPS
    assert [packet[:2] for packet in host] == [packet[:2] for packet in arm64]
    # The buffer of the rate control holds a second: neither strays further than that from what was asked for.
    for packets in (host, arm64):
        assert sum(size for _, _, size in packets) * 8 < SETS["bounded"].bitrate_bps * (SECONDS + 1)
    for made in encoded:
        assert play(made.video("bounded").read_bytes()).counters == list(range(SECONDS * FPS))
    # Sizes and times apart, how the tracks are described is the same: the SPS, the PPS, the AudioSpecificConfig.
    first, second = ((made.folder / "bounded" / "init.mp4").read_bytes() for made in encoded)
    assert first == second


def test_each_decodes_what_either_encoded_to_the_same_pictures(
    encoded: tuple[Encoded, ...], machines: tuple[Machine, ...]
) -> None:
    videos = [made.video(name) for made in encoded for name in SETS]
    here, there = (json.loads(machine.run("tests.arm64.programs.decode", *videos)) for machine in machines)
    assert [len(pictures) for pictures in here] == [SECONDS * FPS] * len(videos)
    assert here == there


def test_sound_is_other_bytes_with_the_same_times_and_the_same_bursts(encoded: tuple[Encoded, ...]) -> None:
    host, arm64 = (made.facts["bounded"] for made in encoded)
    assert [packet[:2] for packet in host["audio"]] == [packet[:2] for packet in arm64["audio"]]
    assert host["audio_config"] == arm64["audio_config"]
    assert host["audio"]
    bursts = [find_bursts(sound_of(made.video("bounded")), SAMPLE_RATE_HZ) for made in encoded]
    assert len(bursts[0]) == len(bursts[1]) > 0
    assert max(abs(here - there) for here, there in zip(*bursts, strict=True)) < 0.001


def test_ffprobe_reads_what_arm64_muxed(encoded: tuple[Encoded, ...]) -> None:
    for made in encoded:
        facts = made.facts["bounded"]
        # The encoder's priming lies in front of the first picture and is left out.
        sound = [pts_ns for pts_ns, _, _ in facts["audio"] if pts_ns >= facts["video"][0][0]]
        shown = ffprobe(made.video("bounded"))
        assert [(stream["codec_name"], int(stream["nb_read_frames"])) for stream in shown] == [
            ("h264", SECONDS * FPS),
            ("aac", len(sound)),
        ]


def ffprobe(video: Path) -> list[dict[str, Any]]:
    """Codec and decoded frames of each stream, by the program; it must have nothing to complain of."""
    done = subprocess.run(
        ["ffprobe", "-v", "error", "-count_frames", "-show_entries", "stream=codec_name,nb_read_frames", "-of", "json",
         str(video)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stderr == ""
    streams: list[dict[str, Any]] = json.loads(done.stdout)["streams"]
    return streams


def files(folder: Path) -> dict[str, bytes]:
    """Every file in a folder by its name."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def sound_of(video: Path) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Its decoded samples, mono."""
    resampler = AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE_HZ)
    with av.open(str(video)) as container:
        parts = [part.to_ndarray()[0] for frame in container.decode(audio=0) for part in resampler.resample(frame)]
    return np.concatenate(parts).astype(np.float32)
