"""A record's own fields, taken only as what they must be. Signed bytes can be wrong too, and unsigned ones anything."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from agent.verify.interval import utc_ns

_SHA256 = re.compile(r"[0-9a-f]{64}")
_UTC = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z")
MAX_INTEGER = (1 << 63) - 1


class FieldError(ValueError):
    """A field is absent or not what it must be; the message is the end of a sentence, without its full stop."""


class Fields:
    """Typed access; every method raises FieldError."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document

    def _get(self, name: str) -> Any:
        if name not in self._document:
            raise FieldError(f'it lacks "{name}"')
        return self._document[name]

    def text(self, name: str) -> str:
        """A string."""
        value = self._get(name)
        if not isinstance(value, str):
            raise FieldError(f'its "{name}" is no text')
        return value

    def optional_text(self, name: str) -> str | None:
        """A string or null."""
        return None if self._get(name) is None else self.text(name)

    def integer(self, name: str) -> int:
        """A whole number of at most 63 bits."""
        value = self._get(name)
        if not isinstance(value, int) or isinstance(value, bool) or abs(value) > MAX_INTEGER:
            raise FieldError(f'its "{name}" is no whole number')
        return value

    def optional_integer(self, name: str) -> int | None:
        """A whole number or null."""
        return None if self._get(name) is None else self.integer(name)

    def count(self, name: str) -> int:
        """A whole number from 0."""
        value = self.integer(name)
        if value < 0:
            raise FieldError(f'its "{name}" is negative')
        return value

    def flag(self, name: str) -> bool:
        """True or false."""
        value = self._get(name)
        if not isinstance(value, bool):
            raise FieldError(f'its "{name}" is neither true nor false')
        return value

    def sha256(self, name: str) -> str:
        """64 lower-case hex digits."""
        value = self.text(name)
        if not _SHA256.fullmatch(value):
            raise FieldError(f'its "{name}" is no SHA-256')
        return value

    def utc(self) -> datetime:
        """The record's claimed wall time."""
        value = self.text("utc")
        if _UTC.fullmatch(value):
            try:
                return datetime.fromisoformat(value)
            except ValueError:
                pass  # a 31st of February is as wrong as no date at all
        raise FieldError('its "utc" is no time')

    def utc_ns(self) -> int:
        """The same in nanoseconds since 1970."""
        return utc_ns(self.utc())
