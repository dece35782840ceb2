"""Numbers, places and disagreements as a person reads them, and the words of this software in plain ones."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from agent.media.units import VIDEO_TIMESCALE_90K


def media_place(ticks_90k: int) -> str:
    """A moment of a recording as players show it: mm:ss.mmm, from an hour on h:mm:ss.mmm."""
    sign = "-" if ticks_90k < 0 else ""
    ms = abs(ticks_90k) * 1000 // VIDEO_TIMESCALE_90K
    hours, minutes, seconds = ms // 3_600_000, ms // 60_000 % 60, ms // 1000 % 60
    return f"{sign}{f'{hours}:' if hours else ''}{minutes:02d}:{seconds:02d}.{ms % 1000:03d}"


def counted(count: int, noun: str, plural: str = "") -> str:
    """ "1 record", "2 records"."""
    return f"{count} {noun if count == 1 else plural or noun + 's'}"


def listed(texts: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return " and ".join(([", ".join(texts[:-1])] if texts[1:] else []) + list(texts[-1:]))


def short_sha256(sha256: str) -> str:
    """Enough of a hash to tell it from another; all of it stands in the journal."""
    return f"SHA-256 {sha256[:8]}…{sha256[-4:]}"


@dataclass(frozen=True, slots=True)
class Said:
    """What a record says of something, and what was found. text: its noun in the plural, or with {} for the value."""

    text: str
    said: object
    found: object

    def of(self, value: object) -> str:
        """The value with its noun."""
        shown = "nothing" if value is None else str(value)
        return (
            self.text.format(shown) if "{}" in self.text else f"{shown} {self.text[:-1] if value == 1 else self.text}"
        )


@dataclass(frozen=True, slots=True)
class SaidPlace(Said):
    """The same of places in a recording, in 90 kHz ticks or None."""

    def of(self, value: object) -> str:
        """With ticks where milliseconds do not tell the two apart."""
        if not isinstance(value, int):
            return self.text.format("no place")
        said, found = self.said, self.found
        alike = isinstance(said, int) and isinstance(found, int) and media_place(said) == media_place(found)
        return self.text.format(media_place(value) + (f" ({value} ticks of 1/90000 s)" if alike else ""))


def disagreement(compared: Iterable[Said]) -> tuple[str, str] | None:
    """What a record says and what was found, of the values that differ; None when none does."""
    differing = [one for one in compared if one.said != one.found]
    if not differing:
        return None
    return listed([one.of(one.said) for one in differing]), listed([one.of(one.found) for one in differing])


GLOSSARY: dict[str, str] = {
    "journal": "the camera's log of all that it did; each line holds the hash of the one before it",
    "record": "one line of the journal, signed by the camera's key",
    "segment": "a media file of some seconds, such as 000001.m4s",
    "fragment": "about one second of video with its sound",
    "GOP": "a group of pictures of about one second, which can be shown without those before it",
    "checkpoint": "the record that the camera signs for a fragment as soon as it is stored",
    "trigger": "what started the recording, such as the press of the button",
    "boot clock": "a stopwatch that runs since the camera was switched on, and that nobody can set",
    "time authority": "a service that signs what time it is (RFC 3161), independent of the camera",
    "root certificate": "the department's own certificate, from which those of its cameras are derived",
    "timestamp": "what a time authority signed over the journal at a moment",
}
"""Words that sentences of a report use and that not everybody knows."""


def explained(text: str) -> list[tuple[str, str]]:
    """Those of the words that stand in a text, with their meaning."""
    return [(word, meaning) for word, meaning in GLOSSARY.items() if re.search(rf"\b{word}s?\b", text, re.IGNORECASE)]


def without_signature(count: int, where: str) -> str:
    """ "2 records before … have no valid signature"."""
    return f"{counted(count, 'record')} {where} {'has' if count == 1 else 'have'} no valid signature"
