"""The recorder: the only part that writes evidence. Runs every recording, the journal, and what flash does to them.

It never decides to start or stop; it is told. It never gives up on a recording: while storage fails, packets stay in
the ring, tries back off, and the listener is told so that the wearer is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from agent.clock import NS_PER_MS, Clock
from agent.encryption.recipients import Recipients
from agent.errors import StorageError
from agent.recorder.plan import RecordingPlan
from agent.recorder.recording import RecordingWriter
from agent.vault.filesystem import Filesystem
from agent.vault.journal import Journal
from agent.vault.layout import VaultLayout

FIRST_RETRY_NS = 100 * NS_PER_MS
LAST_RETRY_NS = 5_000 * NS_PER_MS


class RecorderListener(Protocol):
    """Whom the recorder tells. Called on the storage thread; must not block."""

    def fragment_durable(self, number: int, fragment: int) -> None:
        """A fragment of recording `number` and its checkpoint are on flash."""

    def recording_closed(self, number: int) -> None:
        """The recording is sealed and its records are on flash."""

    def storage_fault(self, message: str) -> None:
        """Writing failed and will be tried again."""

    def storage_restored(self) -> None:
        """Writing works again."""

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
    ) -> None:
        """recipients, personal: see RecordingWriter."""
        self._filesystem = filesystem
        self._layout = layout
        self._journal = journal
        self._clock = clock
        self._listener = listener
        self._segment_s = segment_s
        self._recipients = recipients
        self._personal = personal
        self._writers: dict[int, RecordingWriter] = {}
        self._retry_ns = 0
        self._retry_at_ns = 0
        self._signer_fault: str | None = None
        self._waiting: list[Callable[[], None]] = []

    @property
    def active(self) -> bool:
        """True while any recording is not sealed yet."""
        return bool(self._writers)

    @property
    def retry_at_ns(self) -> int | None:
        """When `step` will try again after a storage fault; None when there is none."""
        return self._retry_at_ns if self._retry_ns else None

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
            writer.plan.cursor.stop_ns = stop_ns
            writer.note("stop", stop_boottime_ns=stop_ns, reason=reason)

    def mark(self, number: int, *, at_ns: int, source: str) -> None:
        """Put the wearer's marker into a recording."""
        if writer := self._writers.get(number):
            writer.note("marker", at_boottime_ns=at_ns, source=source)

    def record(self, type_: str, **fields: Any) -> None:
        """Journal something that belongs to no recording."""
        self._journal.append(type_, **fields)

    def when_durable(self, call: Callable[[], None]) -> None:
        """Call back once everything appended so far is on flash."""
        self._waiting.append(call)

    def close(self) -> None:
        """Release the journal's file. What is not durable by now is recovered at the next start."""
        self._journal.close()

    def step(self) -> bool:
        """Do all that can be done without waiting for more packets. True when anything was done."""
        if self._retry_ns and self._clock.boottime_ns() < self._retry_at_ns:
            return False
        progressed = False
        try:
            for writer in list(self._writers.values()):
                progressed |= writer.step()
                if writer.finished:
                    del self._writers[writer.plan.number]
                    self._listener.recording_closed(writer.plan.number)
            self._journal.commit()
        except StorageError as error:
            self._note_fault(error)
            return False
        waiting, self._waiting = self._waiting, []
        for call in waiting:
            call()
        self._note_success()
        return progressed

    def _note_fault(self, error: StorageError) -> None:
        if not self._retry_ns:
            self._journal.append("fault", component="storage", message=str(error))
            self._listener.storage_fault(str(error))
        self._retry_ns = min(max(self._retry_ns * 2, FIRST_RETRY_NS), LAST_RETRY_NS)
        self._retry_at_ns = self._clock.boottime_ns() + self._retry_ns

    def _note_success(self) -> None:
        if self._retry_ns:
            self._retry_ns = 0
            self._journal.append("fault-cleared", component="storage", message="Writing works again.")
            self._listener.storage_restored()
        if (fault := self._journal.signer_fault) != self._signer_fault:
            if (fault is None) != (self._signer_fault is None):
                self._journal.append(
                    "fault" if fault else "fault-cleared",
                    component="signer",
                    message=fault or "Signatures are made again.",
                )
                self._listener.signer_state(fault)
            self._signer_fault = fault
