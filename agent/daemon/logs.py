"""Structured log lines: `level event key=value …`, one line each, as journald and people like them."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any, TextIO

LOG = logging.getLogger("bodycam")

_PRIORITY = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}


def _value(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    # Not only spaces: an escape sequence or a lone CR out of a driver's message must not reach somebody's terminal.
    plain = text.isprintable() and not any(c in text for c in ' "=')
    return text if text and plain else json.dumps(text)


class KeyValueFormatter(logging.Formatter):
    """With `journald` the line begins with its priority in angle brackets, sd-daemon(3)."""

    def __init__(self, *, journald: bool) -> None:
        super().__init__()
        self._journald = journald

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = getattr(record, "fields", {})
        pairs = "".join(f" {key}={_value(value)}" for key, value in fields.items())
        line = f"{record.levelname.lower()} {record.getMessage()}{pairs}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return f"<{_PRIORITY.get(record.levelno, 6)}>{line}" if self._journald else line


def configure_logs(stream: TextIO | None = None, *, journald: bool = False) -> None:
    """Send the agent's log to a stream, standard error by default."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(KeyValueFormatter(journald=journald))
    LOG.handlers[:] = [handler]
    LOG.setLevel(logging.INFO)
    LOG.propagate = False


def log(event: str, level: int = logging.INFO, **fields: Any) -> None:
    """One line."""
    LOG.log(level, event, extra={"fields": fields})
