"""`recording.json`: what a recording is, for people and catalogues. Derived from the journal; no evidence itself."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from agent.vault.record import COMMON_FIELDS

_LISTS = {"segment": "segments", "marker": "markers", "gap": "gaps"}
_SINGLE = {"trigger": "trigger", "recording-open": "open", "stop": "stop", "recording-close": "close"}


class RecordingSummary:
    """Collects the records of one recording as they are written or read back."""

    def __init__(self, recording_id: str) -> None:
        self._document: dict[str, Any] = {
            "recording_id": recording_id,
            "note": "Derived from the journal for convenience. The journal is the evidence.",
            **dict.fromkeys(_SINGLE.values()),
            **{name: [] for name in _LISTS.values()},
        }

    def add(self, type_: str, fields: dict[str, Any]) -> None:
        """Take one record of this recording; types that no reader needs (checkpoints) are passed over."""
        own = {key: value for key, value in fields.items() if key not in COMMON_FIELDS and key != "recording_id"}
        if type_ in _LISTS:
            self._document[_LISTS[type_]].append(own)
        elif type_ in _SINGLE:
            self._document[_SINGLE[type_]] = own

    @property
    def segments(self) -> list[dict[str, Any]]:
        """The segment records so far, in order."""
        segments: list[dict[str, Any]] = self._document["segments"]
        return segments

    def to_json(self) -> bytes:
        """The file's bytes."""
        text = json.dumps(self._document, indent=2, ensure_ascii=False)
        # Half a surrogate pair is no UTF-8; as a JSON escape it stays what the journal says.
        return text.encode(errors="backslashreplace") + b"\n"


def summarise(recording_id: str, records: Iterable[tuple[str, dict[str, Any]]]) -> RecordingSummary:
    """A summary from (type, fields) pairs."""
    summary = RecordingSummary(recording_id)
    for type_, fields in records:
        summary.add(type_, fields)
    return summary
