"""In which journal files the records of a recording stand, so that a receipt does not have the whole journal read.

A dock hands in one receipt after another, for recordings of weeks ago: reading back to each one's trigger would take
the journal's length times their number. So what was looked through once is remembered, by ids alone: where to look, and
never what is there. The records themselves are read and chained anew each time.
"""

from __future__ import annotations

import re
import threading

from agent.errors import JournalError
from agent.vault.filesystem import Filesystem
from agent.vault.journal_end import JOURNAL_NAME_PATTERN, JournalFile, Link
from agent.vault.layout import VaultLayout
from agent.vault.record import MAX_LINE_BYTES, Record, parse_line

_ID = re.compile(rb'"recording_id":"([0-9a-f-]{36})"')
_TRIGGER = re.compile(rb'"type":"trigger",[^\n\t]{0,1000}?"recording_id":"([0-9a-f-]{36})"')


def _ids(pattern: re.Pattern[bytes], data: bytes) -> set[bytes]:
    return {match[1] for match in pattern.finditer(data)}


class RecordPlaces:
    """May be called from any thread. Looks further back only when an id was not met yet."""

    def __init__(self, filesystem: Filesystem, layout: VaultLayout) -> None:
        self._filesystem = filesystem
        self._folder = layout.journal
        self._lock = threading.Lock()
        self._looked: set[str] = set()
        self._files: dict[bytes, list[str]] = {}
        self._begun: set[bytes] = set()
        self._links: dict[tuple[str, int], Link] = {}
        """Last record of a file of so many bytes that was parsed as strictly as a stranger's."""

    def records_of(self, recording_id: str) -> list[Record]:
        """The records of one recording, oldest first, as far as they chain. Raises StorageError."""
        with self._lock:
            names = [name for name in self._filesystem.list_dir(self._folder) if JOURNAL_NAME_PATTERN.fullmatch(name)]
            key = recording_id.encode()
            self._look(names, key)
            found: list[Record] = []
            for name in sorted({*self._files.get(key, ()), *names[-1:]}):
                found += self._read(names, name).of_recording(recording_id)
            return found

    def _look(self, names: list[str], key: bytes) -> None:
        """Meet every file from the newest back to the one in which this recording was triggered."""
        finished = names[:-1]  # the newest goes on, and is read each time
        for name in finished:
            if self._looked and name > max(self._looked):
                self._look_into(name)
        if names and key in _ids(_TRIGGER, self._filesystem.read(self._folder / names[-1])):
            return
        for name in reversed(finished):
            if key in self._begun:
                return
            if name not in self._looked:
                self._look_into(name)

    def _look_into(self, name: str) -> None:
        data = self._filesystem.read(self._folder / name)
        for found in _ids(_ID, data):
            self._files.setdefault(found, []).append(name)
        self._begun |= _ids(_TRIGGER, data)
        self._looked.add(name)

    def _read(self, names: list[str], name: str) -> JournalFile:
        data = self._filesystem.read(self._folder / name)
        following = names[names.index(name) + 1 :][:1]
        limit = self._chained_bytes(following[0], name) if following else None
        data = data if limit is None else data[:limit]
        file = JournalFile(name, data, None, self._links.get((name, len(data))))
        if len(file) and following:
            self._links[name, len(data)] = file.last
        return file

    def _chained_bytes(self, following: str, name: str) -> int | None:
        """How much of a file belongs to the chain, as the one behind it says; None when it does not."""
        with self._filesystem.open_read(self._folder / following) as lines:
            try:
                fields = parse_line(lines.readline(MAX_LINE_BYTES + 2).removesuffix(b"\n")).fields
            except JournalError:
                return None
        said = fields.get("prev_file_bytes")
        return said if fields.get("prev_file") == name and isinstance(said, int) and said >= 0 else None
