"""One pass over a vault: every sealed file read again and compared with the hash that was signed when it was sealed.

Reads the vault only. What differs is for `bodycam verify` to judge; this finds it early, while another copy may still
be somewhere and the card can be replaced. Memory grows with the number of files, and not with their size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from agent.clock import NS_PER_S, Clock
from agent.errors import ControlError, EvidenceNotFound
from agent.scrub.card import FileDamagedError
from agent.scrub.pace import Ask, Pace
from agent.scrub.position import Difference, Position, PositionFile
from agent.verify.evidence import Evidence, locate
from agent.verify.index import IndexedRecording, VouchedFile, read_index

KEEP_NS = 60 * NS_PER_S
"""How often the position is written down: more would wear the card that this is about."""
TELL_NS = 60 * NS_PER_S
"""Between two reports of a pass that goes on."""
LAST_TRIES = 3
RETRY_NS = 15 * NS_PER_S
"""Longer than the daemon wants between two reports."""
_MAX_ERROR_CHARS = 200

Key = tuple[str, str]


class ReadsCard(Protocol):
    """See Card."""

    def sha256(self, path: Path, count: int, after_read: Callable[[int], None]) -> str: ...


class Scrub:
    """A pass over one vault, from where the last one was left."""

    def __init__(
        self,
        vault: Path,
        *,
        card: ReadsCard,
        clock: Clock,
        bytes_per_s: int,
        positions: PositionFile,
        ask: Ask | None,
        say: Callable[[str], None],
    ) -> None:
        """ask: the daemon, which is asked whether it records and told what was found; None when none runs.

        Raises EvidenceNotFound when there is no vault.
        """
        self._evidence = locate(vault)
        if self._evidence.is_package:
            raise EvidenceNotFound(f"{vault} is an evidence package, not a vault; check it with `bodycam verify`.")
        self._card = card
        self._clock = clock
        self._positions = positions
        self._ask = ask
        self._say = say
        self.pace = Pace(clock, bytes_per_s, ask)
        self._kept_ns = clock.boottime_ns()
        self._told_ns: int | None = None
        self._untold = 0

    def run(self) -> dict[str, Any]:
        """Go through the vault; returns the report of the whole pass.

        Raises StorageError for a position that cannot be kept, because it would begin anew for ever; and OSError and
        EvidenceDamagedError for a journal that cannot be read at all.
        """
        position = self._positions.load() or Position(self._utc())
        self.pace.wait_until_idle()
        for key, path, file in self._files(position.last):
            difference = self._check(key, path, file)
            position.checked(key, file.bytes, difference)
            if difference is not None:
                self._untold += 1
                self._say(f"{key[0]}/{key[1]} is not what was signed: {difference.error or 'its hash differs'}.")
            self._tell_some(position)
            if self._clock.boottime_ns() - self._kept_ns >= KEEP_NS:
                self._positions.keep(position)
                self._kept_ns = self._clock.boottime_ns()
        report = position.report(self._utc(), finished=True)
        if self._tell(report, tries=LAST_TRIES):
            self._positions.drop()
        else:
            self._positions.keep(position)  # it has to be told: the next run finds nothing left to read, and tells it
        return report

    def _files(self, last: Key | None) -> Iterator[tuple[Key, Path, VouchedFile]]:
        """Every sealed file behind `last`, by recording and name: the same order whatever else is on the card."""
        index = read_index(self._evidence)
        for recording_id in sorted(index.recordings):
            if last is not None and recording_id < last[0]:
                continue
            recording = index.recordings.pop(recording_id)
            folder = self._evidence.recording(recording_id)
            for file in _sealed(recording, self._evidence):
                if last is None or (recording_id, file.name) > last:
                    yield (recording_id, file.name), folder / file.name, file

    def _check(self, key: Key, path: Path, file: VouchedFile) -> Difference | None:
        try:
            found = self._card.sha256(path, file.bytes, self.pace.after_read)
        except FileDamagedError as error:
            return Difference(*key, None, str(error.strerror)[:_MAX_ERROR_CHARS])
        except OSError as error:
            return Difference(*key, None, f"it cannot be read ({error.strerror})"[:_MAX_ERROR_CHARS])
        return None if found == file.sha256 else Difference(*key, found, None)

    def _tell_some(self, position: Position) -> None:
        """Damage is told when it is found, and not after the hours that the rest takes."""
        now_ns = self._clock.boottime_ns()
        if self._untold and (self._told_ns is None or now_ns - self._told_ns >= TELL_NS):
            self._tell(position.report(self._utc(), finished=False))
            self._told_ns, self._untold = now_ns, 0

    def _tell(self, report: dict[str, Any], *, tries: int = 1) -> bool:
        """Hand it to the daemon; False when it runs, or ran, and did not take it."""
        if self._ask is None:
            return True
        for left in reversed(range(tries)):
            try:
                self._ask({"command": "scrub", **report})
            except ControlError as error:
                if not left:
                    self._say(f"The camera did not take the report: {error}")
                    return False
                self._clock.sleep_until_ns(self._clock.boottime_ns() + RETRY_NS)
            else:
                break
        return True

    def _utc(self) -> str:
        return datetime.fromtimestamp(self._clock.utc_ns() // NS_PER_S, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _sealed(recording: IndexedRecording, evidence: Evidence) -> list[VouchedFile]:
    """Its files that nothing is written to any more, by name; of one whose folder is gone, one stands for all."""
    by_name = {file.name: file for file in recording.files if file.state != "open"}
    files = [by_name[name] for name in sorted(by_name)]
    return files if evidence.has_recording(recording.recording_id) else files[:1]
