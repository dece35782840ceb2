"""Lines for people: wrapped, printable ASCII, with times, places in the recording and record numbers as people read."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from agent.offload.support_entry import is_whole
from agent.verify.words import counted, listed, media_place

WIDTH = 100
_TICKS_PER_MS = 90
_MAX_CHARS = 400

Said = dict[str, Any]
"""An entry of support.json. What it holds was signed, and can be of any type all the same."""


class Lines:
    """Text of WIDTH columns, line by line."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def heading(self, title: str) -> None:
        """A section begins."""
        self._lines += [*([""] if self._lines else []), title]

    def gap(self) -> None:
        """An empty line."""
        self._lines.append("")

    def extend(self, others: Lines) -> None:
        """All of those lines."""
        self._lines += others._lines

    def __bool__(self) -> bool:
        return bool(self._lines)

    def say(self, text: str, *, indent: str = "  ", hanging: str | None = None) -> None:
        """A paragraph. hanging: what its further lines begin with, when that is something else."""
        further = indent if hanging is None else hanging
        self._lines += textwrap.wrap(
            printable(text), WIDTH, initial_indent=indent, subsequent_indent=further, break_on_hyphens=False
        )

    def item(self, text: str) -> None:
        """A point of a list."""
        self.say(text, indent="  - ", hanging="    ")

    def to_bytes(self) -> bytes:
        """All of it."""
        return "\n".join(self._lines).encode("ascii") + b"\n"


def printable(text: str) -> str:
    """With an escape for everything that is no printable ASCII: a log can hold what a terminal would obey."""
    return "".join(char if " " <= char <= "~" else char.encode("unicode_escape").decode("ascii") for char in text)


def number(said: Said, name: str) -> int | None:
    """A whole number, or None when there is none under the name."""
    value = said.get(name)
    return value if is_whole(value) else None


def text(said: Said, name: str, otherwise: str = "(not said)") -> str:
    """What stands under the name, as one piece of text."""
    value = said.get(name)
    return otherwise if value is None else shortened(value)


def shortened(value: object) -> str:
    """As much of it as a sentence bears; all of it stands in the record."""
    shown = str(value)
    return shown if len(shown) <= _MAX_CHARS else f"{shown[:_MAX_CHARS]}..."


def several(said: Said, name: str) -> list[Said]:
    """The objects of a list."""
    value = said.get(name)
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def ref(*sources: Said | int | None) -> str:
    """ "(record 12)", "(records 12 and 14)"."""
    numbers = [one.get("record") if isinstance(one, dict) else one for one in sources]
    known = list(dict.fromkeys(str(one) for one in numbers if one is not None))
    return f"({'record' if len(known) == 1 else 'records'} {listed(known)})" if known else "(no record)"


def moment(utc: object) -> str:
    """A time of the log as people read it, to the millisecond; to the second where it says no more."""
    try:
        shown = f"{datetime.fromisoformat(str(utc)):%Y-%m-%d %H:%M:%S.%f}"
    except ValueError:
        return f"a time that cannot be read ({shortened(utc)})"
    return (shown[:-3] if "." in str(utc) else shown[:19]) + " UTC"


def place(ms: int | None) -> str:
    """mm:ss.mmm of the recording."""
    return "a place that is not known" if ms is None else media_place(ms * _TICKS_PER_MS)


def seconds(ms: int | None) -> str:
    """ "13.360 s"."""
    return "an unknown time" if ms is None else f"{ms / 1000:.3f} s"


def size(said: Said, name: str = "bytes") -> str:
    """ "1,202,400 bytes"."""
    value = number(said, name)
    return "an unknown number of bytes" if value is None else f"{value:,} byte{'' if value == 1 else 's'}"


def some(said: Said, name: str, noun: str) -> str:
    """ "3 frames"."""
    value = number(said, name)
    return f"an unknown number of {noun}s" if value is None else counted(value, noun)


def sentence(message: object) -> str:
    """A message of the camera, with the full stop that it may lack."""
    said = shortened(message).strip()
    return said if said.endswith((".", "!", "?")) else f"{said}."


def of_type(entries: Iterable[Said], *types: str) -> list[Said]:
    """Those of these types, in order."""
    return [entry for entry in entries if entry.get("type") in types]
