"""One recording on its way to flash: GOPs from a cursor become durable, checkpointed fragments.

The order that makes a power cut harmless: segment file written and synced, then the names in the folders, then the
signed record that vouches for them. Only then does the cursor move, so that whatever a failure leaves unconfirmed is
still in memory and is written again, into a new segment: a file whose sync failed is never trusted or synced again.

`step` may raise StorageError anywhere; calling it again later goes on from what is known to be durable.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from agent.clock import NS_PER_MS, NS_PER_S, Clock
from agent.encryption.recipients import Recipients
from agent.errors import EncoderError, StorageError
from agent.media.units import VIDEO_TIMESCALE_90K
from agent.recorder.fragment import Fragment, Fragmenter
from agent.recorder.plan import RecordingPlan
from agent.recorder.segment import OpenSegment, never_created
from agent.recorder.segment_body import ClearBody, EncryptedBody, SegmentBody
from agent.ring.ring import Gap, GopRead, missed_between
from agent.vault.filesystem import Filesystem
from agent.vault.journal import Journal
from agent.vault.layout import INIT_NAME, RECORDING_JSON_NAME, VaultLayout, segment_name
from agent.vault.record import sha256_hex
from agent.vault.summary import RecordingSummary
from agent.vault.whole import write_whole

BATCH_BYTES = 2_000_000
"""How much of a backlog is written per sync: large enough for flash, small enough to bound what a cut can take."""

AUDIO_GRACE_NS = 300 * NS_PER_MS
"""How long a stop waits for the sound of its last frames."""

RESERVE_BYTES = 8_000_000
"""Free space below which no media is written, so that the journal can still say what happened."""


class RecordingWriter:
    """See the module's text. Used from the storage thread only."""

    def __init__(
        self,
        plan: RecordingPlan,
        filesystem: Filesystem,
        layout: VaultLayout,
        journal: Journal,
        clock: Clock,
        *,
        segment_s: int,
        on_durable: Callable[[int, int], None],
        recipients: Recipients | None = None,
        personal: Mapping[str, str] | None = None,
    ) -> None:
        """on_durable(number, fragment): called when that fragment and its checkpoint are durable.

        recipients: whom segments are encrypted to, None to leave them clear. personal: fields that identify people, for
        the `recording-open` record; they are journalled only sealed to the recipients, and without any not at all.
        """
        self.plan = plan
        self.finished = False
        self._filesystem = filesystem
        self._layout = layout
        self._folder = layout.recording(plan.recording_id)
        self._journal = journal
        self._clock = clock
        self._segment_90k = segment_s * VIDEO_TIMESCALE_90K
        self._on_durable = on_durable
        self._recipients = recipients
        self._personal = dict(personal or {})
        self._fragmenter: Fragmenter | None = None
        self._summary = RecordingSummary(plan.recording_id)
        self._init: bytes | None = None
        self._opened = False
        self._names_durable = False
        self._segment: OpenSegment | None = None
        self._segment_number = 0
        self._written: list[tuple[GopRead, dict[str, Any]]] = []
        self._appended = False
        self._last_read: GopRead | None = None
        self._stopped = False
        self._closing = False
        self._closed_appended = False
        self._gap_pending: Gap | None = None
        self._torn_untold = False
        self._totals = {"segments": 0, "fragments": 0, "frames": 0, "missed_frames": 0, "bytes": 0, "gaps": 0}
        self._last_frame_ns: int | None = None
        self._end_media_90k = 0

    def note(self, type_: str, **fields: Any) -> None:
        """Journal something that happened to this recording (trigger, marker, stop)."""
        self._summary.add(type_, fields)
        self._journal.append(type_, recording_id=self.plan.recording_id, **fields)

    def stop(self, stop_ns: int, reason: str) -> None:
        """The last frame wanted is the last one captured at or before stop_ns."""
        self.plan.cursor.stop_ns = stop_ns
        self._stopped = True
        self.note("stop", stop_boottime_ns=stop_ns, reason=reason)

    def step(self) -> bool:
        """Do the next piece of work. True when something became durable. Raises StorageError, EncoderError."""
        if self.finished:
            return False
        if self._written:
            self._confirm()
            return True
        if self._closing:
            self._close()
            return True
        reads = self._next_batch()
        if not reads:
            return False
        self._collect_gaps()
        fragments = self._make_fragments(reads)
        if any(fragment.init != (self._init or fragments[0].init) for fragment in fragments):
            raise EncoderError("The encoder changed its parameters within one stream; restart the agent.")
        if fragments:
            self._write([read for read in reads if read.video], fragments, final=reads[-1].final)
        self._closing = reads[-1].final
        if self._written:
            self._confirm()
        else:
            self._close()
        return True

    def _make_fragments(self, reads: list[GopRead]) -> list[Fragment]:
        if self._fragmenter is None:
            if self.plan.cursor.origin_ns is None:
                return []
            self._fragmenter = Fragmenter(self.plan.stream.tracks, self.plan.cursor.origin_ns)
        return [
            self._fragmenter.fragment(self._totals["fragments"] + index, read.video, read.audio, read.end_ns)
            for index, read in enumerate(reads, 1)
            if read.video
        ]

    def _next_batch(self) -> list[GopRead]:
        """GOPs for one write: one at first, so that something is durable soon, then as many as fit."""
        reads: list[GopRead] = []
        size_bytes = 0
        duration_90k = self._segment.duration_90k if self._segment else 0
        while (read := self.plan.cursor.read(reads[-1] if reads else None)) is not None:
            # The cursor may know of a stop before its command is here; without its record nobody knew who ended it.
            if read.final and (not self._stopped or self._waits_for_audio(read)):
                break
            reads.append(read)
            if read.final:
                break
            size_bytes += read.payload_bytes
            duration_90k += (read.end_ns - read.video[0].pts_ns) * 9 // 100_000
            if not self._opened or size_bytes >= BATCH_BYTES or duration_90k >= self._segment_90k:
                break
        return reads

    def _waits_for_audio(self, read: GopRead) -> bool:
        ring = self.plan.stream.ring
        if self.plan.stream.tracks.audio is None or ring.ended or self.plan.cursor.stop_ns is None:
            return False
        if self._clock.boottime_ns() >= self.plan.cursor.stop_ns + AUDIO_GRACE_NS:
            return False
        return ring.newest_audio_end_ns is None or ring.newest_audio_end_ns < read.end_ns

    def _collect_gaps(self) -> None:
        for gap in self.plan.cursor.take_gaps():
            if self._last_read is not None and gap.from_ns < self._last_read.end_ns:
                continue  # it was written before it went; only the cursor had not moved yet
            before = self._gap_pending
            self._gap_pending = Gap(
                from_ns=before.from_ns if before else gap.from_ns,
                to_ns=gap.to_ns,
                frames=gap.frames + (before.frames if before else 0),
                payload_bytes=gap.payload_bytes + (before.payload_bytes if before else 0),
            )

    def _note_gap(self, to_ns: int | None) -> None:
        """One record for all that was lost since the last durable fragment, once it is known where media goes on."""
        if self._gap_pending is None:
            return
        gap, self._gap_pending = self._gap_pending, None
        self._totals["gaps"] += 1
        self.note(
            "gap",
            from_boottime_ns=gap.from_ns,
            to_boottime_ns=gap.to_ns if to_ns is None else to_ns,
            frames=gap.frames,
            bytes=gap.payload_bytes,
            reason="memory-bound",
        )

    def _write(self, reads: list[GopRead], fragments: list[Fragment], *, final: bool) -> None:
        if self._torn_untold or self._journal.is_crowded:
            # What failed before is written down before it is tried again: a card that is away for a night would
            # otherwise leave thousands of records, and none would be left for what is acknowledged here.
            self._journal.commit()
            self._torn_untold = False
        size_bytes = sum(len(fragment.data) for fragment in fragments)
        if (free := self._filesystem.free_bytes(self._layout.root)) < size_bytes + RESERVE_BYTES:
            raise StorageError(28, f"Only {free} bytes are free; offload this camera to make room", str(self._folder))
        if self._segment is None:
            if not self._opened:
                # At each try: a folder whose sync failed, or whose card was away, may have gone again.
                self._filesystem.make_dir(self._folder)
                write_whole(self._filesystem, self._folder / INIT_NAME, fragments[0].init)
                self._init = fragments[0].init
            self._segment = self._create_segment()
        first_90k = self._segment.first_media_90k
        begin_90k = fragments[0].first_media_90k if first_90k is None else first_90k
        last = final or fragments[-1].end_media_90k - begin_90k >= self._segment_90k
        try:
            checkpoints = self._segment.append(fragments, last=last)
        except StorageError:
            torn, self._segment = self._segment, None
            self._seal(torn.seal("torn"))
            raise
        if not self._names_durable:
            self._sync_names()
        for checkpoint in checkpoints:
            self._totals["fragments"] += 1
            checkpoint["fragment"] = self._totals["fragments"]
        self._written = list(zip(reads, checkpoints, strict=True))
        self._appended = False
        self._last_read = reads[-1]

    def _create_segment(self) -> OpenSegment:
        self._segment_number += 1
        name = segment_name(self._segment_number, encrypted=self._recipients is not None)
        self._names_durable = False
        body = self._new_body()
        try:
            return OpenSegment(name, self._filesystem.create(self._folder / name), body)
        except StorageError:
            # The name may be taken all the same, so the next try uses the next one and the journal says why.
            self._seal(never_created(name, body))
            raise

    def _sync_names(self) -> None:
        """Make the new segment's name durable. Raises StorageError; then the file counts as one that is not there.

        A folder whose sync failed is like a file whose did: a second sync may succeed without having written anything.
        So the fragments are written again, under a name that makes the folder dirty again.
        """
        assert self._segment is not None
        try:
            self._filesystem.sync_dir(self._folder)
            if not self._opened:
                self._filesystem.sync_dir(self._layout.recordings)
        except StorageError:
            unnamed, self._segment = self._segment, None
            self._seal(unnamed.seal_unnamed())
            raise
        self._names_durable = True

    def _new_body(self) -> SegmentBody:
        return ClearBody() if self._recipients is None else EncryptedBody(self._recipients.new_stream())

    def _seal_whole(self) -> None:
        """Raises StorageError when the end of an encrypted file cannot be written; it then counts as torn."""
        if self._segment is None:
            return
        segment, self._segment = self._segment, None
        try:
            segment.finish()
        except StorageError:
            self._seal(segment.seal("torn"))
            raise
        self._seal(segment.seal("whole"))

    def _seal(self, segment: dict[str, Any]) -> None:
        self._totals["segments"] += 1
        self._totals["frames"] += segment["frames"]
        self._totals["bytes"] += segment["bytes"]
        self._torn_untold |= segment["state"] == "torn"
        self.note("segment", **segment)

    def card_returned(self) -> None:
        """The card was mounted anew: what was open on it is on the mount before, and is not written any more."""
        if self._segment is not None:
            left, self._segment = self._segment, None
            self._seal(left.seal("torn"))

    def _confirm(self) -> None:
        """Make durable what vouches for the fragments written last, then let the ring go on."""
        if not self._appended:
            if not self._opened:
                self._open()
            self._count_missed()
            self._note_gap(self._written[0][0].video[0].pts_ns)
            for _, checkpoint in self._written:
                self._journal.append("checkpoint", recording_id=self.plan.recording_id, **checkpoint)
            self._end_media_90k = self._written[-1][1]["end_media_90k"]
            if self._segment is not None and self._segment.complete:
                self._seal_whole()
            self._appended = True
        self._journal.commit()
        for read, checkpoint in self._written:
            self.plan.cursor.advance(read)
            self._on_durable(self.plan.number, checkpoint["fragment"])
        self._written = []

    def _count_missed(self) -> None:
        """What the camera left out: no packet of it was ever there to be lost, so only the times tell."""
        frame_ns = round(NS_PER_S / self.plan.stream.tracks.video.fps)
        if self._gap_pending is not None:
            self._last_frame_ns = None  # what is missing there is in the gap's record
        for read, _ in self._written:
            for packet in read.video:
                if self._last_frame_ns is not None:
                    self._totals["missed_frames"] += missed_between(self._last_frame_ns, packet.pts_ns, frame_ns)
                self._last_frame_ns = packet.pts_ns

    def _open(self) -> None:
        assert self._init is not None
        tracks = self.plan.stream.tracks
        audio = tracks.audio
        self.note(
            "recording-open",
            number=self.plan.number,
            linked_from=self.plan.linked_from,
            trigger_boottime_ns=self.plan.trigger_ns,
            media_origin_boottime_ns=self.plan.cursor.origin_ns,
            configured_pre_event_ms=self.plan.pre_event_ns // NS_PER_MS,
            actual_pre_event_ms=self.plan.actual_pre_event_ns // NS_PER_MS,
            pre_event_short_reason=self.plan.short_reason,
            pre_event_audio=self.plan.pre_event_audio,
            video={
                "codec": "h264",
                "width": tracks.video.width,
                "height": tracks.video.height,
                "fps": tracks.video.fps,
            },
            audio=audio and {"codec": "aac", "sample_rate_hz": audio.sample_rate_hz, "channels": audio.channels},
            init_file=INIT_NAME,
            init_bytes=len(self._init),
            init_sha256=sha256_hex(self._init),
            **self._sealed(),
        )
        self._opened = True

    def _sealed(self) -> dict[str, str]:
        if self._recipients is None or not self._personal:
            return {}
        return {"sealed": self._recipients.seal(self._personal)}

    def _close(self) -> None:
        if not self._closed_appended:
            self._seal_whole()
            self._collect_gaps()
            self._note_gap(None)
            self.note("recording-close", recovered=False, end_media_90k=self._end_media_90k, **self._totals)
            self._closed_appended = True
        self._journal.commit()
        if self._init is not None:
            self._filesystem.make_dir(self._folder)  # nothing of it was durable, and it went with the card
            write_whole(self._filesystem, self._folder / RECORDING_JSON_NAME, self._summary.to_json())
        self.plan.cursor.close()
        self.finished = True
