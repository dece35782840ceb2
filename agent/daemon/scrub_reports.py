"""What `bodycam scrub` found on the card, on its way into the journal: checked, bounded, and not often."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from typing import Any

from agent.clock import NS_PER_S, Clock
from agent.daemon.timestamps import STORAGE_TIMEOUT_S, AsksStorage
from agent.errors import ControlError
from agent.recorder.recorder import Recorder
from agent.vault.layout import INIT_NAME, RECORDING_ID

COMPONENT = "bit-rot"
"""Not "card", which is a card that stalls: that passes."""
MAX_DIFFERENCES = 100
MAX_ERROR_CHARS = 200
PAUSE_NS = 10 * NS_PER_S
"""Between two reports: whoever repeats them must not fill the card."""
_MAX_COUNT = 1 << 62
_COUNTS = ("recordings", "files", "bytes", "differing")
_SECOND = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FILE = re.compile(rf"{re.escape(INIT_NAME)}|[0-9]{{6}}\.m4s(\.age)?")
_DIFFERENCE = frozenset({"recording", "file", "found_sha256", "error"})


class ScrubReports:
    """The control command `scrub`. May be called from any thread."""

    def __init__(self, storage: AsksStorage, clock: Clock, note_fault: Callable[[str, str | None], None]) -> None:
        """note_fault(component, message): shows a fault that stops nothing, or that it is over (None)."""
        self._storage = storage
        self._clock = clock
        self._note_fault = note_fault
        self._lock = threading.Lock()
        self._taken_ns: int | None = None
        self._fault: str | None = None

    def take(self, message: dict[str, Any]) -> dict[str, Any]:
        """Takes the fields of a `scrub` record, journals them, and shows and journals a fault when any file differs.

        A fault is over when a whole pass finds nothing. Raises ControlError for anything else, too soon after another,
        and when storage does not answer.
        """
        fields = parse_report(message)
        with self._lock:
            now_ns = self._clock.boottime_ns()
            if self._taken_ns is not None and now_ns - self._taken_ns < PAUSE_NS:
                raise ControlError(f"A report was journalled less than {PAUSE_NS // NS_PER_S} s ago; wait a moment.")
            self._taken_ns = now_ns
            before = self._fault
            if fields["differing"]:
                self._fault = _fault(fields)
            elif fields["finished"]:
                self._fault = None
            after = self._fault
        answer = self._storage.ask(lambda recorder: _record(recorder, fields, before, after))
        self._note_fault(COMPONENT, after)
        try:
            answer.result(STORAGE_TIMEOUT_S)
        except TimeoutError as error:
            raise ControlError("The report could not be journalled in time; see `bodycam status`.") from error
        return {}


def _record(recorder: Recorder, fields: dict[str, Any], before: str | None, after: str | None) -> bool:
    taken = recorder.record("scrub", **fields)
    if after is not None and after != before:
        recorder.record("fault", component=COMPONENT, message=after)
    elif after is None and before is not None:
        recorder.record("fault-cleared", component=COMPONENT, message="All files are as they were signed.")
    return taken


def _fault(fields: dict[str, Any]) -> str:
    first = fields["differences"][0]
    return (
        f"{fields['differing']} files of recordings are no longer as they were signed, first {first['recording']}/"
        f"{first['file']}; offload this camera, run `bodycam verify`, and replace its card."
    )


def parse_report(message: dict[str, Any]) -> dict[str, Any]:
    """The fields of a `scrub` record. Raises ControlError."""
    from_utc, to_utc, finished = (message.get(name) for name in ("from_utc", "to_utc", "finished"))
    for time in (from_utc, to_utc):
        if not isinstance(time, str) or not _SECOND.fullmatch(time):
            raise ControlError("A report has no proper time in `from_utc` or `to_utc`; it is refused.")
    if not isinstance(finished, bool):
        raise ControlError("A report does not say whether the pass is `finished`; it is refused.")
    counts = {name: message.get(name) for name in _COUNTS}
    for name, count in counts.items():
        if type(count) is not int or not 0 <= count <= _MAX_COUNT:
            raise ControlError(f"A report has no proper count in `{name}`; it is refused.")
    listed = message.get("differences")
    if not isinstance(listed, list) or len(listed) != min(message["differing"], MAX_DIFFERENCES):
        raise ControlError(
            f"A report names each of the files that differ, up to {MAX_DIFFERENCES}; this one is refused."
        )
    differences = [_difference(entry) for entry in listed]
    if len({(entry["recording"], entry["file"]) for entry in differences}) < len(differences):
        raise ControlError("A report names a file twice; it is refused.")
    return {"from_utc": from_utc, "to_utc": to_utc, "finished": finished, **counts, "differences": differences}


def _difference(entry: object) -> dict[str, Any]:
    if not isinstance(entry, dict) or entry.keys() != _DIFFERENCE:
        raise ControlError("A report's difference is no such JSON object; it is refused.")
    recording, file, found, error = (entry[name] for name in ("recording", "file", "found_sha256", "error"))
    if not isinstance(recording, str) or not RECORDING_ID.fullmatch(recording):
        raise ControlError("A report's difference names no recording; it is refused.")
    if not isinstance(file, str) or not _FILE.fullmatch(file):
        raise ControlError("A report's difference names no file of a recording; it is refused.")
    if (found is None) is (error is None):
        raise ControlError("A report's difference has a hash that was found, or an error; this one is refused.")
    if found is not None and (not isinstance(found, str) or not _SHA256.fullmatch(found)):
        raise ControlError("A report's difference has a hash that is none; it is refused.")
    if error is not None and (not isinstance(error, str) or len(error) > MAX_ERROR_CHARS or not error.isprintable()):
        raise ControlError(f"A report's error is no text of at most {MAX_ERROR_CHARS} characters; it is refused.")
    return {"recording": recording, "file": file, "found_sha256": found, "error": error}
