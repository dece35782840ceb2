"""Hashing in a thread of its own, so that it runs beside the reading of the journal: hashlib lets go of the GIL."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from queue import Queue
from typing import Self

from agent.encryption.identity import Identities
from agent.verify.exchanged import ExchangedFiles
from agent.verify.finding import Findings
from agent.verify.media_job import FileSum, MediaJob
from agent.verify.plain import PlainChecker
from agent.verify.segments import MediaChecker

MAX_WAITING = 64


class MediaThread:
    """Checks files in the order they are put. Use as a context manager; leaving it waits for all of them.

    sums: what each whole file holds, by recording and name, for those that could be read. Kept only if `keep_sums`.
    """

    def __init__(
        self, on_bytes: Callable[[int], None], *, keep_sums: bool, identities: Identities | None = None
    ) -> None:
        """on_bytes(count): called in the thread as bytes are hashed. identities: open encrypted segments."""
        self.findings = Findings()
        self.exchanged = ExchangedFiles()
        self.sums: dict[str, FileSum] = {}
        self._keep_sums = keep_sums
        self._checker = MediaChecker(
            self.findings, on_bytes, PlainChecker(identities, self.findings) if identities else None
        )
        self._jobs: Queue[tuple[MediaJob, Path] | None] = Queue(MAX_WAITING)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="verify-media", daemon=True)

    def put(self, job: MediaJob, path: Path) -> None:
        """Have one file checked; waits when the thread is far behind, which bounds memory."""
        self._jobs.put((job, path))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._jobs.put(None)
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        while (entry := self._jobs.get()) is not None:
            if self._error is not None:
                continue  # the queue is drained, so that nobody waits for a place in it for ever
            job, path = entry
            try:
                found = self._checker.check(job, path)
            except Exception as error:  # noqa: BLE001  handed over to the thread that leaves the context
                self._error = error
                continue
            if found is None:
                continue
            self.exchanged.take(job, found)
            if self._keep_sums:
                self.sums[job.name] = found
