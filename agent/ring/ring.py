"""The packet ring: pre-event buffer and write backlog in one place.

Encoded packets go in at one end; each recording reads them by its own cursor. There is one ring for one stream, that is
one session of one camera with one encoder: a camera that comes back gets a new ring, because its format may differ.

Three bounds hold at once. Seconds: the oldest GOP goes as soon as those behind it cover `keep_ns`, unless a cursor
still needs it. Bytes: hard; if a recorder falls behind so far that it is reached, the oldest GOP goes all the same
and the cursor reports a gap. Whole GOPs: nothing else is ever dropped, so that the ring starts on a keyframe.

A packet in the ring belongs to it for good: muxers change packets in place, so readers wrap the bytes in packets of
their own.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from agent.media.packets import AudioPacket, VideoPacket
from agent.ring.gop import Gop


@dataclass(frozen=True, slots=True)
class Gap:
    """Packets that a cursor lost to the byte bound. Frames with from_ns <= pts < to_ns are gone."""

    from_ns: int
    to_ns: int
    frames: int
    payload_bytes: int


@dataclass(frozen=True, slots=True)
class GopRead:
    """What a cursor reads: a GOP's video in order, the audio that has arrived for it, and where it ends.

    end_ns: capture time of the frame behind the last one, or an estimate of it when the stream ended.
    final: nothing of this recording follows. next_audio_number: where the sound of the next read begins.
    """

    number: int
    video: tuple[VideoPacket, ...]
    audio: tuple[AudioPacket, ...]
    end_ns: int
    final: bool
    next_audio_number: int

    @property
    def payload_bytes(self) -> int:
        return sum(len(packet.data) for packet in self.video) + sum(len(packet.data) for packet in self.audio)


def missed_between(before_ns: int, after_ns: int, frame_ns: int) -> int:
    """How many frames of nominal duration frame_ns are missing between two that follow on one another."""
    return max(0, round((after_ns - before_ns) / frame_ns) - 1)


class PacketRing:
    """See the module's text. Thread-safe; `push_*` cost O(1) amortised and never wait for a reader's I/O."""

    def __init__(
        self,
        *,
        keep_ns: int,
        max_bytes: int,
        frame_ns: int,
        audio_before_trigger: bool,
        on_progress: Callable[[], None] | None = None,
    ) -> None:
        """keep_ns: how much is kept when nobody reads. frame_ns: nominal frame duration, for the very last frame.

        audio_before_trigger: False keeps sound out of memory altogether while no recording runs.
        on_progress: called without the lock after a push that a waiting reader may want to know of.
        """
        self._keep_ns = keep_ns
        self._max_bytes = max_bytes
        self._frame_ns = frame_ns
        self._audio_before_trigger = audio_before_trigger
        self._on_progress = on_progress
        self._lock = threading.Lock()
        self._gops: deque[Gop] = deque()
        self._next_gop_number = 0
        self._audio: deque[AudioPacket] = deque()
        self._audio_first_number = 0
        self._payload_bytes = 0
        self._cursors: list[Cursor] = []
        self._newest_video_ns: int | None = None
        self._newest_audio_end_ns: int | None = None
        self._ended = False
        self._evicted_by_bytes = False
        self._dropped_frames = 0
        self._missed_frames = 0

    def push_video(self, packet: VideoPacket) -> None:
        """Append one frame. Frames before the first keyframe cannot be decoded; they are counted and dropped."""
        with self._lock:
            if packet.is_keyframe:
                if self._gops:
                    self._gops[-1].finish()
                self._gops.append(Gop(self._next_gop_number, packet))
                self._next_gop_number += 1
                for cursor in self._cursors:
                    if cursor.origin_ns is None:
                        cursor.origin_ns = packet.pts_ns
            elif not self._gops:
                self._dropped_frames += 1
                return
            else:
                self._gops[-1].append(packet)
            self._payload_bytes += len(packet.data)
            if self._newest_video_ns is not None:
                self._missed_frames += missed_between(self._newest_video_ns, packet.pts_ns, self._frame_ns)
            self._newest_video_ns = packet.pts_ns
            self._evict()
            wake = packet.is_keyframe or any(cursor.stop_ns is not None for cursor in self._cursors)
        if wake and self._on_progress is not None:
            self._on_progress()

    def push_audio(self, packet: AudioPacket) -> None:
        """Append one AAC frame; without a reader and without audio_before_trigger it is not even kept."""
        with self._lock:
            self._newest_audio_end_ns = packet.pts_ns + packet.duration_ns
            if not self._cursors and not self._audio_before_trigger:
                return
            self._audio.append(packet)
            self._payload_bytes += len(packet.data)
            self._evict()
            wake = any(cursor.stop_ns is not None for cursor in self._cursors)
        if wake and self._on_progress is not None:
            self._on_progress()

    def end(self) -> None:
        """No more frames will come: cursors may take the unfinished GOP."""
        with self._lock:
            self._ended = True
        if self._on_progress is not None:
            self._on_progress()

    def open_cursor(self, *, start_ns: int, audio_from_ns: int) -> Cursor:
        """Begin reading at the last keyframe at or before start_ns, or at the oldest one if there is none so old.

        From now on everything from there is kept for this cursor, up to the byte bound. In an empty ring the cursor
        begins with the next keyframe to come.
        """
        with self._lock:
            first: Gop | None = self._gops[0] if self._gops else None
            for gop in reversed(self._gops):
                if gop.start_ns <= start_ns:
                    first = gop
                    break
            cursor = Cursor(
                self,
                self._next_gop_number if first is None else first.number,
                None if first is None else first.start_ns,
                self._audio_first_number,
                audio_from_ns,
            )
            self._cursors.append(cursor)
            return cursor

    @property
    def newest_video_ns(self) -> int | None:
        """Capture time of the newest frame that reached the ring."""
        return self._newest_video_ns

    @property
    def newest_audio_end_ns(self) -> int | None:
        """End of the newest sound that reached the ring, whether it was kept or not."""
        return self._newest_audio_end_ns

    @property
    def ended(self) -> bool:
        """True once no more frames will come."""
        return self._ended

    @property
    def evicted_by_bytes(self) -> bool:
        """True once the byte bound, not the age, made something go: the pre-event buffer is then shorter than asked."""
        return self._evicted_by_bytes

    @property
    def payload_bytes(self) -> int:
        """Sum of the packets' bytes."""
        return self._payload_bytes

    @property
    def dropped_frames(self) -> int:
        """Frames that could not be kept: before the first keyframe, or in a GOP larger than the byte bound."""
        return self._dropped_frames

    @property
    def missed_frames(self) -> int:
        """Frames that never came, by the times of those that did: the camera or the encoder did not keep up."""
        return self._missed_frames

    @property
    def buffered_ns(self) -> int:
        """How far back a trigger would reach now."""
        with self._lock:
            if not self._gops or self._newest_video_ns is None:
                return 0
            return self._newest_video_ns - self._gops[0].start_ns

    def _evict(self) -> None:
        newest_ns = self._newest_video_ns
        while len(self._gops) >= 2 and newest_ns is not None and self._gops[1].start_ns <= newest_ns - self._keep_ns:
            if any(cursor.gop_number <= self._gops[0].number for cursor in self._cursors):
                break
            self._drop_oldest_gop()
        self._trim_audio(even_if_wanted=False)
        while self._payload_bytes > self._max_bytes and (self._gops or self._audio):
            self._evicted_by_bytes = True
            if self._gops:
                if len(self._gops) == 1:
                    # A GOP larger than the whole bound: its later frames are useless without its start.
                    self._dropped_frames += self._gops[0].frames
                self._drop_oldest_gop()
                self._trim_audio(even_if_wanted=True)
            else:
                self._drop_oldest_audio()

    def _drop_oldest_gop(self) -> None:
        gop = self._gops.popleft()
        self._payload_bytes -= gop.payload_bytes
        to_ns = self._gops[0].start_ns if self._gops else gop.last_ns + self._frame_ns
        for cursor in self._cursors:
            cursor.skip_gop(gop.number, Gap(gop.start_ns, to_ns, gop.frames, gop.payload_bytes))

    def _drop_oldest_audio(self) -> None:
        packet = self._audio.popleft()
        self._audio_first_number += 1
        self._payload_bytes -= len(packet.data)

    def _trim_audio(self, *, even_if_wanted: bool) -> None:
        # Sound goes with the picture it belongs to. Late sound of a GOP already written stays for the next fragment.
        if not self._audio:
            return
        oldest_ns = self._gops[0].start_ns if self._gops else self._audio[-1].pts_ns - self._keep_ns
        wanted_from = min((cursor.audio_number for cursor in self._cursors), default=None)
        while self._audio and self._audio[0].pts_ns + self._audio[0].duration_ns <= oldest_ns:
            if not even_if_wanted and wanted_from is not None and wanted_from <= self._audio_first_number:
                break
            self._drop_oldest_audio()

    def _read(self, cursor: Cursor, gop_number: int, audio_number: int) -> GopRead | None:
        with self._lock:
            index = gop_number - self._gops[0].number if self._gops else 0
            if index < 0:
                return None  # overrun between two reads of a batch: the batch ends here, the next one finds the gap
            if index >= len(self._gops):
                if self._ended:
                    return GopRead(gop_number, (), (), self._newest_video_ns or 0, True, audio_number)
                return None
            packets = self._gops[index].packets()
            complete = index + 1 < len(self._gops)
            end_ns = self._gops[index + 1].start_ns if complete else packets[-1].pts_ns + self._frame_ns
            final = self._ended and not complete
            if cursor.stop_ns is not None:
                kept = tuple(packet for packet in packets if packet.pts_ns <= cursor.stop_ns)
                if len(kept) < len(packets):
                    end_ns = packets[len(kept)].pts_ns
                    packets, final = kept, True
                elif complete and end_ns > cursor.stop_ns:
                    final = True
            if not complete and not final:
                return None
            audio = []
            audio_from_ns = max(cursor.audio_from_ns, cursor.origin_ns or 0)
            for number, packet in enumerate(self._audio, self._audio_first_number):
                if packet.pts_ns >= end_ns:
                    break
                if number >= audio_number:
                    audio_number = number + 1
                    if packet.pts_ns >= audio_from_ns:
                        audio.append(packet)
            return GopRead(gop_number, packets, tuple(audio), end_ns, final, audio_number)

    def _advance(self, cursor: Cursor, read: GopRead) -> None:
        with self._lock:
            cursor.gop_number = max(cursor.gop_number, read.number + 1)
            cursor.audio_number = max(cursor.audio_number, read.next_audio_number)
            self._evict()

    def _close(self, cursor: Cursor) -> None:
        with self._lock:
            if cursor in self._cursors:
                self._cursors.remove(cursor)
            if not self._cursors and not self._audio_before_trigger:
                while self._audio:
                    self._drop_oldest_audio()
            self._evict()


@dataclass(slots=True, eq=False)
class Cursor:
    """One reader's place in a ring. `read` looks, `advance` moves on: only after what was read is durable.

    origin_ns: capture time of its first frame, None until there is one. stop_ns: last capture time wanted, when known.
    """

    ring: PacketRing
    gop_number: int
    origin_ns: int | None
    audio_number: int
    audio_from_ns: int
    stop_ns: int | None = None
    gaps: list[Gap] = field(default_factory=list)

    def read(self, after: GopRead | None = None) -> GopRead | None:
        """The GOP at the cursor (or behind `after`) if it is complete, or if it is the last one of a stop or a stream.

        A read with `final` and no video means that nothing follows. None: not yet. Reading moves nothing.
        """
        if after is None:
            return self.ring._read(self, self.gop_number, self.audio_number)
        return self.ring._read(self, after.number + 1, after.next_audio_number)

    def advance(self, read: GopRead) -> None:
        """Move past what was read; the ring may now let go of it."""
        self.ring._advance(self, read)

    def take_gaps(self) -> list[Gap]:
        """What was lost at the cursor since the last call, in order."""
        gaps, self.gaps = self.gaps, []
        return gaps

    def close(self) -> None:
        """Stop holding anything back; may be called twice."""
        self.ring._close(self)

    def skip_gop(self, number: int, gap: Gap) -> None:
        """For the ring: a GOP went. Counts only if this cursor had not passed it."""
        if number >= self.gop_number:
            self.gop_number = number + 1
            self.gaps.append(gap)
