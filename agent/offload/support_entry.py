"""A record as the support sheet lists it: its own fields, its time, and media times in milliseconds beside the raw."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeGuard

from agent.clock import NS_PER_MS
from agent.vault.record import COMMON_FIELDS, Record
from agent.verify.fields import MAX_INTEGER, FieldError, Fields

BOOTTIME = "_boottime_ns"
TICKS = "_90k"
_TICKS_PER_MS = 90


@dataclass(frozen=True, slots=True)
class Origin:
    """Media time 0 of the recording: a moment of the boot clock of one boot."""

    boot_id: str
    boottime_ns: int


@dataclass(frozen=True, slots=True)
class Entry:
    """What a record says. `own` holds its fields without those that every record has."""

    record: int
    type: str
    own: dict[str, Any]
    utc: str
    boot_id: str
    boottime_ns: int
    clock_source: str
    clock_uncertainty_ms: int | None

    @classmethod
    def of(cls, record: Record) -> Entry:
        """From a record as it was read; its common fields have the types that every reader insists on."""
        fields = record.fields
        return cls(
            record.seq,
            record.type,
            {key: value for key, value in fields.items() if key not in COMMON_FIELDS},
            fields["utc"],
            fields["boot_id"],
            fields["boottime_ns"],
            fields["clock_source"],
            fields["clock_uncertainty_ms"],
        )

    def wall(self, boottime_ns: int) -> str | None:
        """Wall time at a moment of the same boot, by the two clocks as this record has them side by side."""
        try:
            now = Fields({"utc": self.utc}).utc()
            return _rfc3339(now + timedelta(microseconds=(boottime_ns - self.boottime_ns) // 1000))
        except (FieldError, OverflowError):
            return None

    def utc_minus_boottime_ms(self) -> int | None:
        """How far wall time was ahead of the boot clock; only differences of it within one boot mean something."""
        try:
            utc_ns = Fields({"utc": self.utc}).utc_ns()
        except FieldError:
            return None
        return (utc_ns - self.boottime_ns) // NS_PER_MS

    def document(self, origin: Origin | None = None, **more: Any) -> dict[str, Any]:
        """For programs. Media times need the origin, and can only be said of moments of its boot."""
        here = origin is not None and origin.boot_id == self.boot_id
        return {
            "record": self.record,
            "type": self.type,
            "utc": self.utc,
            **{key: value for key, value in self.own.items() if key not in ("type", "utc", "record")},
            **dict(self._derived(origin if here else None)),
            **more,
        }

    def clock_state(self) -> dict[str, Any]:
        """What the camera believed of the time then."""
        return {
            "clock_source": self.clock_source,
            "clock_uncertainty_ms": self.clock_uncertainty_ms,
            "boot_id": self.boot_id,
            "utc_minus_boottime_ms": self.utc_minus_boottime_ms(),
        }

    def _derived(self, origin: Origin | None) -> Iterator[tuple[str, Any]]:
        for key, value in self.own.items():
            if not is_whole(value):
                continue
            if key.endswith(BOOTTIME):
                stem = key.removesuffix(BOOTTIME)
                yield f"{stem}_utc", self.wall(value)
                if origin is not None:
                    yield f"{stem}_media_ms", (value - origin.boottime_ns) // NS_PER_MS
            elif key.endswith(TICKS):
                yield f"{key.removesuffix(TICKS)}_ms", value // _TICKS_PER_MS


def is_whole(value: object) -> TypeGuard[int]:
    """A whole number of at most 63 bits: signed bytes can hold others, too."""
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= MAX_INTEGER


def _rfc3339(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S.%f}Z"


class Kept:
    """A list that stays short: of its first entries, or of its newest. `left_out` counts the others."""

    def __init__(self, most: int, *, newest: bool = False) -> None:
        self._most = most
        self._newest = newest
        self.entries: list[Entry] = []
        self.left_out = 0

    def add(self, entry: Entry) -> None:
        """One more."""
        self.entries.append(entry)
        if len(self.entries) > self._most:
            del self.entries[0 if self._newest else -1]
            self.left_out += 1

    def clear(self) -> None:
        """Begin anew."""
        self.entries.clear()
        self.left_out = 0
