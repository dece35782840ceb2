"""Every recording of a shift decoded and held against what went into the encoder: the examiner's side, from the files.

A frame may be missing where the journal says so and nowhere else: in a `gap`, or behind the end of a recording that was
cut off by a kill and says that it was `recovered`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from agent.clock import NS_PER_MS, NS_PER_S
from agent.media.units import VIDEO_TIMESCALE_90K
from agent.ring.ring import missed_between
from agent.vault.filesystem import PosixFilesystem
from agent.vault.layout import VaultLayout
from agent.vault.record import Record
from tests.soak.camera_life import FRAMES_NAME, soak_settings
from tests.soak.frame_log import Frames
from tests.soak.story import Life, Story
from tests.support.playback import journal_records, of_type, play, recording_bytes

SURE_BEFORE_NS = 1_500 * NS_PER_MS
SURE_BEHIND_NS = 2_000 * NS_PER_MS
"""A press counts as one that the camera must have felt when its process lived for so long on both sides of it."""


@dataclass
class ReadBack:
    """What was found. Wrong things are sentences, so that whoever repeats the shift knows where to look.

    frames: decoded and where they belong. lost: neither there nor named as missing. doubled: there, and not expected or
    more than once. journalled: missing, as `gap` records say. cut_off: missing behind the end of recovered recordings.
    unread: of the frames those whose picture hid the counter, and which only their times vouch for.
    """

    recordings: int = 0
    recovered: int = 0
    empty: int = 0
    frames: int = 0
    unread: int = 0
    lost: int = 0
    doubled: int = 0
    gaps: int = 0
    journalled: int = 0
    cut_off: int = 0
    longest_cut_ms: float = 0.0
    missed: int = 0
    short_pre_events: int = 0
    late_starts: int = 0
    presses: int = 0
    presses_lost: int = 0
    worst_time_us: float = 0.0
    media_s: float = 0.0
    wrong: list[str] = field(default_factory=list)


class Reader:
    """Of one shift's folder."""

    def __init__(self, folder: Path, story: Story) -> None:
        self._folder = folder
        self._story = story
        self._settings = soak_settings(folder)
        self._layout = VaultLayout(self._settings.vault.path)
        self._filesystem = PosixFilesystem()
        self._records = journal_records(self._filesystem, self._layout)
        self._frames: dict[str, Frames] = {}
        self._frame_ns = NS_PER_S // self._settings.camera.fps
        self.found = ReadBack()

    @property
    def records(self) -> list[Record]:
        """The journal."""
        return self._records

    def read(self) -> ReadBack:
        """All recordings, all presses."""
        by_recording: dict[str, list[Record]] = {}
        for record in self._records:
            if isinstance(recording_id := record.fields.get("recording_id"), str):
                by_recording.setdefault(recording_id, []).append(record)
        for recording_id, records in by_recording.items():
            self.found.recordings += 1
            self._recording(recording_id, records)
        self._presses()
        return self.found

    def _recording(self, recording_id: str, records: list[Record]) -> None:
        opened = of_type(records, "recording-open")
        closed = of_type(records, "recording-close")
        if not closed:
            self.found.wrong.append(f"{recording_id} was never closed.")
            return
        recovered = bool(closed[0]["recovered"])
        self.found.recovered += recovered
        if not opened:
            self.found.empty += 1
            if not recovered and closed[0]["frames"]:
                self.found.wrong.append(f"{recording_id} has frames and was never opened.")
            return
        self._compare(recording_id, opened[0], closed[0], records)

    def _compare(
        self, recording_id: str, opened: dict[str, Any], closed: dict[str, Any], records: list[Record]
    ) -> None:
        found = self.found
        origin_ns = opened["media_origin_boottime_ns"]
        stops = of_type(records, "stop")
        life = self._life_of(opened["boot_id"], opened["boottime_ns"])
        end_ns = stops[0]["stop_boottime_ns"] if stops else life.to_ns
        asked = self._of_boot(opened["boot_id"]).between(origin_ns, end_ns)
        gaps = [(gap["from_boottime_ns"], gap["to_boottime_ns"]) for gap in of_type(records, "gap")]
        kept = asked.without(gaps)
        found.gaps += len(gaps)
        found.journalled += len(asked) - len(kept)
        if (said := sum(gap["frames"] for gap in of_type(records, "gap"))) != len(asked) - len(kept):
            found.wrong.append(f"{recording_id}: its gaps name {said} frames, {len(asked) - len(kept)} are in them.")

        vouched = {
            segment["file"]: segment["bytes"] - segment.get("torn_bytes", 0) for segment in of_type(records, "segment")
        }
        data = recording_bytes(self._filesystem, self._layout.recording(recording_id), until=vouched)
        played = play(data).frames
        if closed["recovered"]:
            kept = self._cut_off(recording_id, kept, len(played), life)
        self._pair(recording_id, origin_ns, kept, played)
        if closed["frames"] != len(played):
            found.wrong.append(f"{recording_id}: {closed['frames']} frames by its record, {len(played)} in its files.")
        self._missed(recording_id, closed, kept, gaps)
        self._began(recording_id, opened)
        found.media_s += closed["end_media_90k"] / VIDEO_TIMESCALE_90K

    def _cut_off(self, recording_id: str, kept: Frames, count: int, life: Life) -> Frames:
        """What was in memory only when the process was killed: no more than the journal admits, and not much."""
        missing = len(kept) - count
        if missing <= 0:
            return kept
        self.found.cut_off += missing
        # A frame that came late counts from the one before it: nothing was there to be written in between.
        cut_ms = missing * self._frame_ns / NS_PER_MS
        self.found.longest_cut_ms = max(self.found.longest_cut_ms, cut_ms)
        limit = (self._settings.video.gop_ms * NS_PER_MS) // self._frame_ns + 2
        if life.rested and missing > limit:
            self.found.lost += missing - limit
            self.found.wrong.append(f"{recording_id}: a kill with a healthy card took {missing} frames.")
        return Frames(kept.captured_ns[:count], kept.number[:count], kept.readable[:count])

    def _pair(self, recording_id: str, origin_ns: int, kept: Frames, played: list[tuple[float, int | None]]) -> None:
        """By media time, which is capture time: then each picture must show the counter that was painted then."""
        found = self.found
        waiting = {round(int(ns - origin_ns) * 9 / 100_000): n for n, ns in enumerate(kept.captured_ns)}
        for time_s, shown in played:
            at_90k = round(time_s * VIDEO_TIMESCALE_90K)
            index = next((waiting.pop(at) for at in (at_90k, at_90k - 1, at_90k + 1) if at in waiting), None)
            if index is None:
                found.doubled += 1
                found.wrong.append(f"{recording_id}: the frame at {time_s:.3f} s was not captured then, or is twice.")
                continue
            off_ns = abs(time_s * NS_PER_S - int(kept.captured_ns[index] - origin_ns))
            found.worst_time_us = max(found.worst_time_us, off_ns / 1000)
            if not kept.readable[index]:
                found.unread += 1
            elif shown != kept.number[index]:
                found.doubled += 1
                found.wrong.append(
                    f"{recording_id}: the frame at {time_s:.3f} s shows {shown}, not {kept.number[index]}."
                )
                continue
            found.frames += 1
        found.lost += len(waiting)
        if waiting:
            first = min(waiting.values())
            found.wrong.append(
                f"{recording_id}: {len(waiting)} frames are missing, the first of them number {kept.number[first]} at "
                f"{(int(kept.captured_ns[first]) - origin_ns) / NS_PER_S:.3f} s."
            )

    def _missed(self, recording_id: str, closed: dict[str, Any], kept: Frames, gaps: list[tuple[int, int]]) -> None:
        """What never came, by the times of what did: the journal must say the same number."""
        if closed["recovered"]:
            return
        times = kept.captured_ns.tolist()
        missed = sum(
            missed_between(before, after, self._frame_ns)
            for before, after in pairwise(times)
            if not any(before < to_ns and from_ns <= after for from_ns, to_ns in gaps)
        )
        self.found.missed += missed
        if closed["missed_frames"] != missed:
            self.found.wrong.append(
                f"{recording_id} says that {closed['missed_frames']} frames never came; it were {missed}."
            )

    def _began(self, recording_id: str, opened: dict[str, Any]) -> None:
        wanted_ns = opened["trigger_boottime_ns"] - opened["configured_pre_event_ms"] * NS_PER_MS
        origin_ns = opened["media_origin_boottime_ns"]
        if opened["pre_event_short_reason"] is not None:
            self.found.short_pre_events += 1
        if origin_ns <= wanted_ns:
            return
        before = self._of_boot(opened["boot_id"]).between(wanted_ns - NS_PER_S, origin_ns - 1)
        # Short is right when the session began with this frame, or memory was full; the record says which.
        if opened["pre_event_short_reason"] is None or (
            opened["pre_event_short_reason"] == "camera-started" and len(before) and not self._begins_session(opened)
        ):
            self.found.late_starts += 1
            self.found.wrong.append(
                f"{recording_id} begins later than its pre-event asks for, and says no good reason."
            )

    def _begins_session(self, opened: dict[str, Any]) -> bool:
        first = self._of_boot(opened["boot_id"]).between(*[opened["media_origin_boottime_ns"]] * 2)
        return len(first) == 1 and int(first.number[0]) == 0

    def _presses(self) -> None:
        answered: set[tuple[str, int]] = set()
        for record in self._records:
            name = {"marker": "at_boottime_ns"}.get(record.type, "trigger_boottime_ns")
            if record.type in ("trigger", "trigger-pending", "trigger-dropped", "marker"):
                answered.add((record.fields["boot_id"], record.fields[name]))
        for press in self._story.presses:
            sure = any(
                life.boot_id == press.boot_id
                and life.from_ns <= press.at_ns - SURE_BEFORE_NS
                and press.at_ns + SURE_BEHIND_NS <= life.to_ns
                for life in self._story.lives
            )
            self.found.presses += sure
            if sure and (press.boot_id, press.at_ns) not in answered:
                self.found.presses_lost += 1
                self.found.wrong.append(f"No record answers the start gesture at {press.at_ns} ns of {press.boot_id}.")

    def _of_boot(self, boot_id: str) -> Frames:
        if boot_id not in self._frames:
            self._frames[boot_id] = Frames.read(self._folder / FRAMES_NAME, boot_id)
        return self._frames[boot_id]

    def _life_of(self, boot_id: str, at_ns: int) -> Life:
        return next(life for life in reversed(self._story.lives) if life.boot_id == boot_id and life.from_ns <= at_ns)
