"""The storage thread: owns the vault. Everything that touches flash happens here, so nobody else ever waits for a card.

Opening the vault and recovery are tried again like any write: a read-only or absent card is a state, not a crash loop,
and recordings that start meanwhile are held by their cursors.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Protocol

from agent.clock import NS_PER_S, Clock
from agent.errors import BodycamError, StorageError
from agent.recorder.recorder import FIRST_RETRY_NS, LAST_RETRY_NS, Recorder, RecorderListener
from agent.recorder.recovery import Recovered

Command = Callable[[Recorder], object]


class OpenVault(Protocol):
    """Opens journal and recorder and seals what an earlier run left. Raises StorageError to be tried again."""

    def __call__(self) -> tuple[Recorder, Recovered]: ...


class StorageThread:
    """Commands run in order on the thread; between them the recorder does what there is to do."""

    def __init__(
        self,
        open_vault: OpenVault,
        clock: Clock,
        listener: RecorderListener,
        *,
        on_opened: Callable[[Recovered], None],
        on_fatal: Callable[[BaseException], None],
    ) -> None:
        """on_fatal: the vault cannot be opened at all, or an invariant broke; the process has to end."""
        self._open_vault = open_vault
        self._clock = clock
        self._listener = listener
        self._on_opened = on_opened
        self._on_fatal = on_fatal
        self._commands: queue.SimpleQueue[Command | None] = queue.SimpleQueue()
        self._held: deque[Command] = deque()
        self._stopping = False
        self._poll_s = 0.1
        self._thread = threading.Thread(target=self._run, name="storage", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def wake(self) -> None:
        """There may be something to write."""
        self._commands.put(_nothing)

    def do(self, command: Command) -> None:
        """Run a command on the storage thread, after those before it."""
        self._commands.put(command)

    def ask(self, command: Callable[[Recorder], object]) -> Future[object]:
        """Run a command and hand back its result once everything it appended is durable.

        A command that returns False had no room for what it was to append, which is a StorageError of the future.
        """
        future: Future[object] = Future()

        def run(recorder: Recorder) -> None:
            try:
                result = command(recorder)
            except BodycamError as error:
                future.set_exception(error)
            else:
                if result is False:
                    future.set_exception(StorageError("The card takes nothing, and memory is full; try again later."))
                else:
                    recorder.when_durable(lambda: future.set_result(result))

        self._commands.put(run)
        return future

    def stop(self, timeout_s: float) -> bool:
        """End after the commands given so far. False when the card blocks and the thread has to be left behind."""
        self._commands.put(None)
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            recorder = self._open()
            if recorder is None:
                return
            while True:
                self._take_commands(recorder)
                while recorder.step():
                    self._take_commands(recorder, block=False)
                if self._stopping:
                    recorder.step()  # what the last step found worth recording, as that a fault is over
                    recorder.close()
                    return
        except BaseException as error:  # noqa: BLE001 the main thread ends the process with it, loudly
            self._on_fatal(error)

    def _open(self) -> Recorder | None:
        retry_ns = FIRST_RETRY_NS
        failed = False
        while True:
            try:
                recorder, recovered = self._open_vault()
            except StorageError as error:
                if not failed:
                    failed = True
                    self._listener.storage_fault(str(error))
                if self._wait_for_stop(retry_ns / NS_PER_S):
                    return None
                retry_ns = min(retry_ns * 2, LAST_RETRY_NS)
                continue
            if failed:
                self._listener.storage_restored()
            self._on_opened(recovered)
            return recorder

    def _wait_for_stop(self, timeout_s: float) -> bool:
        """Pause between tries to open the vault; commands keep waiting, but the end does not."""
        deadline_ns = self._clock.boottime_ns() + int(timeout_s * NS_PER_S)
        while (left_ns := deadline_ns - self._clock.boottime_ns()) > 0:
            try:
                command = self._commands.get(timeout=left_ns / NS_PER_S)
            except queue.Empty:
                break
            if command is None:
                return True
            if command is not _nothing:
                self._held.append(command)  # not put back: it would end up behind one that came meanwhile
        return False

    def _take_commands(self, recorder: Recorder, *, block: bool = True) -> None:
        while self._held:
            self._held.popleft()(recorder)
            block = False
        while True:
            try:
                command = self._commands.get(block=block, timeout=self._poll_s if block else None)
            except queue.Empty:
                return
            block = False
            if command is None:
                self._stopping = True
            else:
                command(recorder)


def _nothing(recorder: Recorder) -> None:
    """A wake-up alone."""
    del recorder
