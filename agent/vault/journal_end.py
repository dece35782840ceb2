"""The journal as earlier runs left it, read from its newest file back, each file once: what a start rests on.

A start needs little of a long journal, and must not take longer for it than the wearer waits. One signature of the
camera covers every record before it through the hashes, and what the camera signed it wrote as records are written. So
of what one signature covers only the chain is followed, line by line, without parsing a record; what stands behind it,
or all when there is none, is parsed as strictly as a stranger's. Both ways find the same records: those of
`chained_prefix`.
"""

from __future__ import annotations

import binascii
import hashlib
import re
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator
from pathlib import Path

from agent.errors import JournalError, StorageError
from agent.vault.filesystem import Filesystem
from agent.vault.layout import journal_name
from agent.vault.record import MAX_LINE_BYTES, PENDING, Record, parse_line, sha256_hex

JOURNAL_NAME_PATTERN = re.compile(r"[0-9]{6}\.journal")

Signed = Callable[[str, bytes, bytes], bool]
"""(certificate_sha256, JSON, signature) -> whether it is a signature of this camera over these bytes."""

Link = tuple[int, str]
"""`seq` and SHA-256 of a record."""

_FRAME = re.compile(rb'\{"v":1,"seq":([1-9][0-9]{0,18}),"prev":"([0-9a-f]{64})","type":"([a-z-]{1,40})",')
_PENDING = PENDING.encode()


class JournalFile:
    """The chained records at the start of one file, by their index from 0; none is parsed before it is asked for.

    chained_bytes: how many bytes they take. covered: how many of them, from the first on, a signature of this camera
    covers. strictly_parsed: lines that had to be parsed in full to find that, for measuring.
    """

    def __init__(self, name: str, data: bytes, signed: Signed | None, covered_link: Link | None) -> None:
        """covered_link: the last record that this file must have by the word of a covered record behind it."""
        self.name = name
        self.data = data
        self.strictly_parsed = 0
        self._starts = array("Q")
        self._tabs = array("Q")
        self._types: list[str] = []
        self._first_seq = 0
        self._first_prev = ""
        self._last_sha256 = ""
        self.chained_bytes = self._follow()
        self.covered = self._find_covered(signed, covered_link)
        self._parse_uncovered()

    def __len__(self) -> int:
        return len(self._types)

    @property
    def types(self) -> list[str]:
        """Each record's type."""
        return self._types

    @property
    def before(self) -> Link:
        """The record that must stand before the first. Only if there is a first."""
        return self._first_seq - 1, self._first_prev

    @property
    def last(self) -> Link:
        """The last record. Only if there is one."""
        return self._first_seq + len(self) - 1, self._last_sha256

    def json_bytes(self, index: int) -> bytes:
        """One record's signed bytes."""
        return self.data[self._starts[index] : self._tabs[index]]

    def column(self, index: int) -> bytes:
        """One record's signature column."""
        return self.data[self._tabs[index] + 1 : self._stop(index)]

    def record(self, index: int) -> Record:
        """One record, parsed in full."""
        return parse_line(self.data[self._starts[index] : self._stop(index)])

    @property
    def has_signature(self) -> bool:
        """Whether any of them has a signature of its own, whatever it is worth."""
        return any(self.column(index) != _PENDING for index in range(len(self)))

    def of_type(self, type_: str) -> Iterator[int]:
        """Where the records of a type stand, the newest first."""
        return (index for index in reversed(range(len(self))) if self._types[index] == type_)

    def of_recording(self, recording_id: str) -> list[Record]:
        """The records of one recording, in order."""
        needle = b'"recording_id":' + f'"{recording_id}"'.encode()
        found: list[Record] = []
        at = self.data.find(needle, 0, self.chained_bytes)
        while at >= 0:
            index = bisect_right(self._starts, at) - 1
            record = self.record(index)
            if record.fields.get("recording_id") == recording_id:  # and not something deeper in it
                found.append(record)
            at = self.data.find(needle, self._stop(index), self.chained_bytes)
        return found

    def _stop(self, index: int) -> int:
        following = self._starts[index + 1] if index + 1 < len(self) else self.chained_bytes
        return following - 1

    def _follow(self) -> int:
        """Find the lines that may be records and lead to one another; returns the bytes they take."""
        data, offset, seq, sha256 = self.data, 0, 0, b""
        view = memoryview(data)
        types: dict[bytes, str] = {}
        while (newline := data.find(b"\n", offset)) >= 0 and newline - offset <= MAX_LINE_BYTES:
            tab = data.find(b"\t", offset, newline)
            if tab < 0 or not _is_column(data[tab + 1 : newline]):
                break
            if (frame := _FRAME.match(data, offset, tab)) is not None:
                found_seq, prev = int(frame[1]), frame[2]
                type_ = types.get(frame[3]) or types.setdefault(frame[3], frame[3].decode())
            elif (record := self._parsed(offset, newline)) is not None:
                found_seq, prev, type_ = record.seq, record.prev.encode(errors="surrogatepass"), record.type
            else:
                break
            if seq and (found_seq != seq + 1 or prev != sha256):
                break
            if not seq:
                self._first_seq, self._first_prev = found_seq, prev.decode(errors="surrogatepass")
            self._starts.append(offset)
            self._tabs.append(tab)
            self._types.append(type_)
            seq, sha256 = found_seq, hashlib.sha256(view[offset:tab]).hexdigest().encode()
            offset = newline + 1
        self._last_sha256 = sha256.decode()
        return offset

    def _find_covered(self, signed: Signed | None, covered_link: Link | None) -> int:
        if not len(self):
            return 0
        if covered_link == self.last:
            return len(self)
        opening = self._parsed(0, self._stop(0))
        if signed is None or opening is None:
            return 0
        named = str(opening.fields.get("certificate_sha256"))
        for index in reversed(range(len(self))):
            column = self.column(index)
            if column != _PENDING and signed(named, self.json_bytes(index), binascii.a2b_base64(column)):
                return index + 1
        return 0

    def _parse_uncovered(self) -> None:
        for index in range(self.covered, len(self)):
            if self._parsed(self._starts[index], self._stop(index)) is None:
                self.chained_bytes = self._starts[index]
                del self._starts[index:], self._tabs[index:], self._types[index:]
                if index:
                    self._last_sha256 = sha256_hex(self.json_bytes(index - 1))
                return

    def _parsed(self, start: int, stop: int) -> Record | None:
        self.strictly_parsed += 1
        try:
            return parse_line(self.data[start:stop])
        except JournalError:
            return None


def _is_column(column: bytes) -> bool:
    """As `parse_line` has it: no hash covers it, so that it is looked at in every line."""
    if column == _PENDING:
        return True
    try:
        return bool(column) and binascii.b2a_base64(binascii.a2b_base64(column), newline=False) == column
    except binascii.Error:
        return False


class JournalEnd:
    """The files of one journal, newest first, as they lay when this was made; each is read when it is first asked for.

    Holds what it has read: let go of it when the start is over.
    """

    def __init__(self, filesystem: Filesystem, folder: Path, signed: Signed | None = None) -> None:
        """signed: without it nothing counts as covered, and every line is parsed. Raises StorageError."""
        self._filesystem = filesystem
        self._folder = folder
        self._signed = signed
        self.names = [name for name in filesystem.list_dir(folder) if JOURNAL_NAME_PATTERN.fullmatch(name)]
        self.read: list[JournalFile] = []
        """Those that were asked for until now, newest first."""
        self._chained_bytes: dict[str, int] = {}
        """Of a file, as the one behind it says. Lines whose sync failed may stand whole at the end of a file, and
        again, as other records, in the next one."""

    def __iter__(self) -> Iterator[JournalFile]:
        """Raises StorageError."""
        for index, name in enumerate(reversed(self.names)):
            if index == len(self.read):
                self.read.append(self._read(name))
            yield self.read[index]

    def first_sha256(self) -> str | None:
        """SHA-256 of the journal's first record, by which a journal is known; None where that is not there.

        Raises StorageError.
        """
        if self.names[:1] != [journal_name(1)]:
            return None
        try:
            with self._filesystem.open_read(self._folder / self.names[0]) as file:
                line = file.readline(MAX_LINE_BYTES)
        except FileNotFoundError:
            return None
        except StorageError:
            raise
        except OSError as error:
            raise StorageError(error.errno, f"Reading failed: {error.strerror}", self.names[0]) from error
        json_bytes, tab, _ = line.partition(b"\t")
        return sha256_hex(json_bytes) if tab else None

    def records_of(self, recording_id: str) -> list[Record]:
        """The records of one recording, oldest first, back to its trigger. Raises StorageError."""
        found: list[Record] = []
        for file in self:
            found = file.of_recording(recording_id) + found
            if found and found[0].type == "trigger":
                break
        return found

    def _read(self, name: str) -> JournalFile:
        data = self._filesystem.read(self._folder / name)
        newer = self.read[-1] if self.read else None
        link = newer.before if newer is not None and newer.covered else None
        file = JournalFile(name, data[: self._chained_bytes.get(name, len(data))], self._signed, link)
        if len(file) and file.types[0] == "journal-open":
            fields = file.record(0).fields
            said = fields.get("prev_file_bytes")
            if isinstance(said, int) and said >= 0:  # lines on flash chain for whoever edits them
                self._chained_bytes[str(fields.get("prev_file"))] = said
        return file
