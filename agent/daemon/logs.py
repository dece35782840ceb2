"""Structured log lines: `time level event key=value …`, one line each, as journald and people like them.

For journald without the time, because it keeps its own.
"""

from __future__ import annotations

import json
import logging
import queue
import sys
import threading
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, TextIO

LOG = logging.getLogger("bodycam")

_PRIORITY = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}


def _value(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    # Not only spaces: an escape sequence or a lone CR out of a driver's message must not reach somebody's terminal.
    plain = text.isprintable() and not any(c in text for c in ' "=')
    return text if text and plain else json.dumps(text)


class KeyValueFormatter(logging.Formatter):
    """With `journald` the line begins with its priority in angle brackets, sd-daemon(3), else with the time in UTC."""

    def __init__(self, *, journald: bool) -> None:
        super().__init__()
        self._journald = journald

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = getattr(record, "fields", {})
        pairs = "".join(f" {key}={_value(value)}" for key, value in fields.items())
        line = f"{record.levelname.lower()} {record.getMessage()}{pairs}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        if self._journald:
            return f"<{_PRIORITY.get(record.levelno, 6)}>{line}"
        at = datetime.fromtimestamp(record.created, UTC).replace(tzinfo=None)
        return f"{at.isoformat(timespec='milliseconds')}Z {line}"


class LogThread(logging.Handler):
    """Hands lines to a thread that writes them: whoever decides or films never waits for a reader of the log.

    journald stalls when the card does. What does not fit into memory meanwhile is counted, and the count is a line.
    """

    def __init__(self, stream: TextIO, *, capacity: int = 1000) -> None:
        super().__init__()
        self._stream = stream
        self._lines: queue.Queue[str | None] = queue.Queue(capacity)
        self._dropped = 0
        self._thread = threading.Thread(target=self._write, name="log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Never blocks."""
        try:
            if self._dropped:
                lost = logging.makeLogRecord(
                    {"levelno": logging.WARNING, "levelname": "WARNING", "msg": f"log-lost lines={self._dropped}"}
                )
                self._lines.put_nowait(self.format(lost))
                self._dropped = 0
            self._lines.put_nowait(self.format(record))
        except queue.Full:
            self._dropped += 1

    def drained(self) -> None:
        """Wait until all that was handed over so far is written."""
        self._lines.join()

    def close(self) -> None:
        """Give what is waiting a moment to be written; a reader that does not read holds up nobody's end."""
        with suppress(queue.Full):
            self._lines.put_nowait(None)
        if self._thread is not threading.current_thread():
            self._thread.join(1.0)
        super().close()

    def _write(self) -> None:
        while (line := self._lines.get()) is not None:
            with suppress(OSError, ValueError):  # nobody reads any more: there is nowhere left to say so
                self._stream.write(line + "\n")
                self._stream.flush()
            self._lines.task_done()


def configure_logs(stream: TextIO | None = None, *, journald: bool = False) -> LogThread:
    """Send the agent's log, that of cameras and panel included, to a stream; standard error by default."""
    handler = LogThread(stream or sys.stderr)
    handler.setFormatter(KeyValueFormatter(journald=journald))
    for logger in (LOG, logging.getLogger("agent")):
        logger.handlers[:] = [handler]
        logger.setLevel(logging.INFO)
        logger.propagate = False
    return handler


def log(event: str, level: int = logging.INFO, **fields: Any) -> None:
    """One line."""
    LOG.log(level, event, extra={"fields": fields})
