"""Keeps the memory up to date on a thread of its own, so that neither a slow nor a broken one delays evidence.

Whoever has something to remember says so and goes on. The newest wins: while one is being written, those in between are
passed over. What cannot be written is tried again and is a declared state; nothing ever ends because of it.
"""

from __future__ import annotations

import errno
import threading
from typing import Protocol

from agent.clock import NS_PER_MS, NS_PER_S, Clock
from agent.errors import StorageError
from agent.witness.memory import Memory

COMPONENT = "witness"
"""Of a fault in the status and the log: evidence does not depend on it."""
READ_TIMEOUT_S = 2.0
"""How long a start waits for what is remembered."""
LATE_NS = 10 * NS_PER_S
FIRST_RETRY_NS = 500 * NS_PER_MS
LAST_RETRY_NS = 30 * NS_PER_S


class Store(Protocol):
    """Where it is kept; see WitnessFile."""

    def read(self) -> Memory | None:
        """Raises StorageError."""

    def write(self, memory: Memory) -> None:
        """Raises StorageError."""


class WitnessKeeper:
    """`step` does the work and belongs to one thread; everything else may be called from any and returns at once,
    but for `remembered`, which waits READ_TIMEOUT_S at most."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._condition = threading.Condition()
        self._is_read = False
        self._found: Memory | None = None
        self._read_error: StorageError | None = None
        self._newest: Memory | None = None
        self._written: Memory | None = None
        self._error: str | None = None
        self._doing: tuple[str, int] | None = None
        self._pause_ns = 0
        self._stopping = False
        self._kept: str | None = None
        """Why it is left as it was: what could not be compared at the start must be there for the next one."""
        self._thread: threading.Thread | None = None

    def start(self) -> WitnessKeeper:
        """Begin to read, and then to write."""
        self._thread = threading.Thread(target=self._run, name="witness", daemon=True)
        self._thread.start()
        return self

    def remembered(self) -> Memory | None:
        """The newest record that the card is known to have confirmed: to this process, or else to one before it.

        Raises StorageError when what one before it left cannot be read, or not in time. Then this process writes none,
        or a loss that it could not see would be forgotten; unless what was read is nothing that says anything.
        """
        with self._condition:
            if self._newest is not None:
                return self._newest
            if self._is_read and self._found is None and self._read_error is None and self._thread is not None:
                # There was none when this process began: its medium may have been mounted since, as the card was.
                self._is_read = False
                self._condition.notify_all()
            self._condition.wait_for(lambda: self._is_read, READ_TIMEOUT_S)
            if self._is_read and self._read_error is None:
                return self._found
            error = self._read_error or StorageError(
                errno.ETIMEDOUT, f"The head witness did not answer within {READ_TIMEOUT_S:g} s"
            )
            if error.errno is not None:
                self._kept = (
                    f"{error}; it stays as it was, for the next start to be compared with. Recording goes on. "
                    "Look at the medium that vault.witness_path is on."
                )
            raise error

    def confirmed(self, memory: Memory) -> None:
        """The card has confirmed this record. Returns at once."""
        with self._condition:
            if self._kept is None:
                self._newest = memory
                self._condition.notify_all()

    def stop(self, timeout_s: float) -> bool:
        """Write what there is to write and end. False when it hangs, or could not be written."""
        with self._condition:
            self._stopping = True
            self._condition.notify_all()
        if self._thread is not None:
            self._thread.join(timeout_s)
        return self.is_up_to_date

    @property
    def is_up_to_date(self) -> bool:
        """Whether everything that was said is remembered durably."""
        with self._condition:
            return self._newest == self._written

    @property
    def written_seq(self) -> int | None:
        """Number of the record that is remembered durably; None when this process has written none."""
        with self._condition:
            return None if self._written is None else self._written.seq

    def fault(self) -> str | None:
        """What is wrong with the memory, in a sentence; None for nothing. Recordings do not depend on it."""
        now_ns = self._clock.boottime_ns()
        with self._condition:
            if self._doing is not None and now_ns - self._doing[1] > LATE_NS:
                return (
                    f"The head witness does not answer ({self._doing[0]}); recording goes on. Look at the medium that "
                    "vault.witness_path is on."
                )
            return self._kept or self._error

    def step(self) -> bool:
        """Do one thing that is to be done: read, or write the newest. False when there was nothing, or it failed."""
        if not self._is_read:
            return self._read()
        with self._condition:
            memory = self._newest
        return memory is not None and memory != self._written and self._write(memory)

    def wait(self) -> bool:
        """Return when there is something to do for `step`, or a failed one is due again; False when it is all over."""
        with self._condition:
            if self._stopping and (self._pause_ns or self._newest == self._written):
                return False
            if self._pause_ns:
                self._condition.wait_for(lambda: self._stopping, self._pause_ns / NS_PER_S)
            else:
                self._condition.wait_for(lambda: self._stopping or not self._is_read or self._newest != self._written)
            return True

    def _read(self) -> bool:
        found, failed = None, None
        self._says("reading it")
        try:
            found = self._store.read()
        except StorageError as error:
            failed = error
        with self._condition:
            self._doing = None
            self._found, self._read_error, self._is_read = found, failed, True
            self._condition.notify_all()
        return True

    def _write(self, memory: Memory) -> bool:
        self._says("writing it")
        try:
            self._store.write(memory)
        except StorageError as error:
            with self._condition:
                self._doing = None
                self._error = f"{error}; recording goes on. Look at the medium that vault.witness_path is on."
                self._pause_ns = min(max(self._pause_ns * 2, FIRST_RETRY_NS), LAST_RETRY_NS)
            return False
        with self._condition:
            self._doing = None
            self._written, self._error, self._pause_ns = memory, None, 0
        return True

    def _says(self, doing: str) -> None:
        with self._condition:
            self._doing = doing, self._clock.boottime_ns()

    def _run(self) -> None:
        while True:
            while self.step():
                pass
            if not self.wait():
                return
