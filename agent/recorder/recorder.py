"""The recorder: the only part that writes evidence. Runs every recording, the journal, and what flash does to them.

It never decides to start or stop; it is told. It never gives up on a recording: while storage fails, packets stay in
the ring, tries back off, and the listener is told so that the wearer is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from agent.clock import NS_PER_MS, Clock
from agent.encryption.recipients import Recipients
from agent.errors import StorageError
from agent.recorder.plan import RecordingPlan
from agent.recorder.recording import RESERVE_BYTES, RecordingWriter
from agent.vault.filesystem import Filesystem
from agent.vault.journal import Journal
from agent.vault.layout import VaultLayout

FIRST_RETRY_NS = 100 * NS_PER_MS
LAST_RETRY_NS = 5_000 * NS_PER_MS
ROOM_EVERY_NS = 5_000 * NS_PER_MS


_JOURNAL = 0
"""The journal's place among what can fail; recordings are numbered from 1."""


@dataclass(frozen=True, slots=True)
class _Failing:
    """Why the last try failed, and when the next one is."""

    message: str
    pause_ns: int
    retry_at_ns: int


class Hold(Protocol):
    """What makes this the only writer of its vault; see VaultLock."""

    def in_place(self) -> bool:
        """Whether the vault that is held is the one that stands under its name now."""

    def retake(self, is_ours: Callable[[], None]) -> None:
        """Hold what stands there now, if `is_ours` does not raise. Raises what that does, and StorageError."""


class RecorderListener(Protocol):
    """Whom the recorder tells. Called on the storage thread; must not block."""

    def fragment_durable(self, number: int, fragment: int) -> None:
        """A fragment of recording `number` and its checkpoint are on flash."""

    def recording_closed(self, number: int) -> None:
        """The recording is sealed and its records are on flash."""

    def storage_fault(self, message: str) -> None:
        """Writing failed and will be tried again; said anew when the reason becomes another one."""

    def storage_restored(self) -> None:
        """Writing works again."""

    def storage_room(self, spare_bytes: int) -> None:
        """So many bytes are free for media. Called every few seconds, and never while that cannot be told."""

    def signer_state(self, fault: str | None) -> None:
        """Signatures are pending because of this, or are made again (None). Called on changes only."""


class Recorder:
    """Used from the storage thread only. `step` does what can be done now."""

    def __init__(
        self,
        filesystem: Filesystem,
        layout: VaultLayout,
        journal: Journal,
        clock: Clock,
        listener: RecorderListener,
        *,
        segment_s: int,
        recipients: Recipients | None = None,
        personal: Mapping[str, str] | None = None,
        hold: Hold | None = None,
    ) -> None:
        """recipients, personal: see RecordingWriter. hold: None where no card can be exchanged."""
        self._filesystem = filesystem
        self._layout = layout
        self._journal = journal
        self._clock = clock
        self._listener = listener
        self._segment_s = segment_s
        self._recipients = recipients
        self._personal = personal
        self._hold = hold
        self._writers: dict[int, RecordingWriter] = {}
        self._failing: dict[int, _Failing] = {}
        self._fault: str | None = None
        self._end_reason: str | None = None
        self._signer_fault: str | None = None
        self._waiting: list[Callable[[], None]] = []
        self._room_due_ns = 0

    @property
    def active(self) -> bool:
        """True while any recording is not sealed yet."""
        return bool(self._writers)

    def start(self, plan: RecordingPlan, *, source: str, gesture_ns: tuple[int, ...]) -> None:
        """Begin a recording. Its pre-event is held by the plan's cursor."""
        writer = RecordingWriter(
            plan,
            self._filesystem,
            self._layout,
            self._journal,
            self._clock,
            segment_s=self._segment_s,
            on_durable=self._listener.fragment_durable,
            recipients=self._recipients,
            personal=self._personal,
        )
        writer.note(
            "trigger",
            source=source,
            trigger_boottime_ns=plan.trigger_ns,
            gesture_boottime_ns=list(gesture_ns),
        )
        self._writers[plan.number] = writer

    def stop(self, number: int, *, stop_ns: int, reason: str) -> None:
        """End a recording with the last frame captured at or before stop_ns."""
        if writer := self._writers.get(number):
            writer.stop(stop_ns, reason)

    def mark(self, number: int, *, at_ns: int, source: str) -> None:
        """Put the wearer's marker into a recording."""
        if writer := self._writers.get(number):
            writer.note("marker", at_boottime_ns=at_ns, source=source)

    def record(self, type_: str, **fields: Any) -> bool:
        """Journal something that belongs to no recording. False when there is no memory left for it."""
        return self._journal.append(type_, **fields)

    @property
    def journal_head(self) -> tuple[int, bytes]:
        """`seq` and JSON of the newest durable record."""
        return self._journal.head[0], self._journal.head_json

    def when_durable(self, call: Callable[[], None]) -> None:
        """Call back once everything appended so far is on flash."""
        self._waiting.append(call)

    def end(self, reason: str) -> None:
        """This run ends in order: `close` writes that down, as the last record of all."""
        self._end_reason = reason

    def close(self) -> None:
        """A last try for the journal, and let go. What is not durable then is recovered at the next start."""
        if self._end_reason is not None:
            self._journal.append("shutdown", reason=self._end_reason)
        with suppress(StorageError):
            self._journal.commit()
        with suppress(StorageError):
            self._journal.close()

    def step(self) -> bool:
        """Do all that can be done without waiting for more packets. True when anything was done."""
        progressed = self._step_writers()
        # Whatever became of the media: a stop or a fault is a few hundred bytes, and room is kept for them.
        if self._try(_JOURNAL, self._commit) and self._waiting:
            waiting, self._waiting = self._waiting, []
            for call in waiting:
                call()
        self._note_storage()
        self._note_signer()
        self._note_room()
        return progressed

    def _step_writers(self) -> bool:
        """Every recording gets its turn, also behind one that cannot write."""
        progressed = False
        for number, writer in list(self._writers.items()):
            progressed |= bool(self._try(number, writer.step))
            if writer.finished:
                del self._writers[number]
                self._listener.recording_closed(number)
        return progressed

    def _commit(self) -> bool:
        self._journal.commit()
        return True

    def _try(self, who: int, action: Callable[[], bool]) -> bool:
        """Do it unless it failed a moment ago. False when it was not done, or did nothing."""
        now_ns = self._clock.boottime_ns()
        failing = self._failing.get(who)
        if failing is not None and now_ns < failing.retry_at_ns:
            return False
        try:
            self._require_own_card()
            done = action()
        except StorageError as error:
            pause_ns = FIRST_RETRY_NS if failing is None else min(failing.pause_ns * 2, LAST_RETRY_NS)
            self._failing[who] = _Failing(str(error), pause_ns, self._clock.boottime_ns() + pause_ns)
            return False
        if done or who == _JOURNAL:  # a recording that had nothing to write has not shown that it can
            self._failing.pop(who, None)
        return done

    def _require_own_card(self) -> None:
        """Before anything is written: another card in this one's place must get none of it.

        A card that was pulled out and is back is mounted anew, and is known by how its journal ends. Raises
        StorageError, and JournalError when it is ours and only a start can go on from what is on it.
        """
        if self._hold is not None and not self._hold.in_place():
            self._hold.retake(self._journal.require_own_folder)
            for writer in self._writers.values():
                writer.card_returned()

    def _note_storage(self) -> None:
        for number in set(self._failing) - set(self._writers) - {_JOURNAL}:
            del self._failing[number]  # it finished, so it could
        fault = next((failing.message for failing in self._failing.values()), None)
        if fault == self._fault:
            return
        before, self._fault = self._fault, fault
        if fault is None:
            self._journal.append("fault-cleared", component="storage", message="Writing works again.")
            self._listener.storage_restored()
            return
        if before is None:  # what it is further is in the log, and for whoever asks; the journal says the first
            self._journal.append("fault", component="storage", message=fault)
        self._listener.storage_fault(fault)
        self._try(_JOURNAL, self._commit)

    def _note_room(self) -> None:
        now_ns = self._clock.boottime_ns()
        if now_ns < self._room_due_ns:
            return
        self._room_due_ns = now_ns + ROOM_EVERY_NS
        if self._hold is not None and not self._hold.in_place():
            return  # the room on another card is no news
        with suppress(StorageError):  # a card that cannot even say that much fails elsewhere, too, and is told there
            self._listener.storage_room(self._filesystem.free_bytes(self._layout.root) - RESERVE_BYTES)

    def _note_signer(self) -> None:
        if (fault := self._journal.signer_fault) != self._signer_fault:
            if (fault is None) != (self._signer_fault is None):
                self._journal.append(
                    "fault" if fault else "fault-cleared",
                    component="signer",
                    message=fault or "Signatures are made again.",
                )
                self._listener.signer_state(fault)
            self._signer_fault = fault
