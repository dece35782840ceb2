"""Ctrl-C and its relatives, so that none leaves a process behind."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interruption:
    """While entered, each of the signals raises KeyboardInterrupt once; to be used on the main thread.

    Not inside `held`: there it waits for the end of the block, so that a process is never started without being known,
    or left while it is being stopped.
    """

    def __init__(self) -> None:
        self._holds = 0
        self._asked = False
        self._before: dict[int, signal.Handlers | int | object] = {}

    def __enter__(self) -> Self:
        for number in _SIGNALS:
            self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    @contextmanager
    def held(self) -> Iterator[None]:
        """Put an interruption off to the end of the block, if the block ends well."""
        self._holds += 1
        already = self._asked
        try:
            yield
        finally:
            self._holds -= 1
        if self._asked and not already and not self._holds:
            raise KeyboardInterrupt

    def _ask(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        first, self._asked = not self._asked, True
        # A second one would only cut short what the first has set going.
        if first and not self._holds:
            raise KeyboardInterrupt
