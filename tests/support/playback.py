"""What an examiner sees: recordings read back from the files alone."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av

from agent.capture import counter
from agent.capture.image import luma_of
from agent.vault.filesystem import Filesystem
from agent.vault.journal_end import JournalEnd
from agent.vault.layout import VaultLayout
from agent.vault.record import Record
from tests.support.evidence_key import opened


@dataclass
class Playback:
    """A decoded recording: (media time in s, painted counter or None) of each frame, and its sound's packet times."""

    frames: list[tuple[float, int | None]]
    audio_starts_s: list[float]

    @property
    def counters(self) -> list[int | None]:
        """The painted counters in order."""
        return [number for _, number in self.frames]


def journal_records(filesystem: Filesystem, layout: VaultLayout) -> list[Record]:
    """Every chained record, in order."""
    newest_first = list(JournalEnd(filesystem, layout.journal))
    return [file.record(index) for file in reversed(newest_first) for index in range(len(file))]


def of_type(records: list[Record], type_: str, recording_id: str | None = None) -> list[dict[str, Any]]:
    """The fields of all records of a type."""
    return [
        record.fields
        for record in records
        if record.type == type_ and (recording_id is None or record.fields.get("recording_id") == recording_id)
    ]


def recording_bytes(filesystem: Filesystem, folder: Path, *, until: dict[str, int] | None = None) -> bytes:
    """`cat init.mp4 *.m4s`, each segment cut to `until[name]` bytes where given; encrypted ones opened by EVIDENCE."""
    data = filesystem.read(folder / "init.mp4")
    for name in filesystem.list_dir(folder):
        if is_segment(name):
            segment = filesystem.read(folder / name)
            segment = segment if until is None else segment[: until.get(name, 0)]
            data += opened(segment) if name.endswith(".age") else segment
    return data


def is_segment(name: str) -> bool:
    """Whether a file is a segment, encrypted or not."""
    return name.endswith((".m4s", ".m4s.age"))


def play(data: bytes, *, decode: bool = True) -> Playback:
    """Demux and decode; every frame's counter is read from its picture."""
    frames: list[tuple[float, int | None]] = []
    audio: list[float] = []
    with av.open(io.BytesIO(data), "r") as container:
        for packet in container.demux():
            if packet.pts is None or packet.time_base is None:
                if decode and packet.stream.type == "video":
                    for frame in packet.decode():
                        frames.append(_read(frame))  # type: ignore[arg-type]
                continue
            if packet.stream.type == "audio":
                audio.append(float(packet.pts * packet.time_base))
            elif decode:
                for frame in packet.decode():
                    frames.append(_read(frame))  # type: ignore[arg-type]
            else:
                frames.append((float(packet.pts * packet.time_base), None))
    return Playback(frames, audio)


def _read(frame: av.VideoFrame) -> tuple[float, int | None]:
    assert frame.time is not None
    return frame.time, counter.read(luma_of(frame))
