"""The device's one append-only, hash-chained, signed log: the writer.

`append` only remembers; `commit` signs, writes and syncs, and either everything appended is durable or StorageError is
raised and everything is still remembered. After a failed write or sync the file is never touched again: the next
commit opens a new file whose first record says how much of the old one counts.

A new file appears under its name only when its first record is durable (written beside, synced, renamed), so that a
file named NNNNNN.journal always begins with a whole record.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from agent.clock import Clock, WallObservation
from agent.errors import BodycamError, JournalError, OtherCardError, StorageError
from agent.vault.filesystem import AppendFile, Filesystem
from agent.vault.journal_end import JournalEnd
from agent.vault.layout import journal_name
from agent.vault.record import ZERO_HASH, Record, encode_json, parse_line, sha256_hex

MAX_UNCOMMITTED = 10_000
MOST_UNCOMMITTED = 2 * MAX_UNCOMMITTED
"""Of all; beyond MAX_UNCOMMITTED only those are taken that a recording or a receipt rests on."""
_NEEDED = frozenset({"trigger", "recording-open", "checkpoint", "gap", "segment", "stop", "recording-close", "offload"})
_COLUMN_BYTES = 1 << 16
"""More than any signature's column takes."""
_OTHER_CARD = (
    "Another card, or an empty folder, is in the place of this camera's at {}; put its card back in. What it records "
    "meanwhile waits in memory, and is lost when the camera is restarted or switched off."
)
_FORGETFUL_CARD = (
    "The card is back, but its journal in {} does not end as it did before; the camera starts again from what is there."
)


class RecordSigner(Protocol):
    """What the journal needs of a key."""

    @property
    def certificate_sha256(self) -> str:
        """SHA-256, hex, of the signing certificate in DER."""

    @property
    def description(self) -> str:
        """Where the key lives, for the record: "software (exportable)"."""

    def sign_record(self, json_bytes: bytes) -> bytes:
        """Detached CMS over these bytes, DER. Raises BodycamError when it cannot be had now."""


@dataclass(frozen=True, slots=True)
class _Tail:
    """How a finished journal file ends: its chained bytes, and what follows them."""

    name: str | None
    chained_bytes: int
    torn_bytes: int
    torn_sha256: str
    exact: bool


@dataclass(frozen=True, slots=True)
class _Uncommitted:
    type: str
    observation: WallObservation
    fields: dict[str, Any]


def chained_prefix(data: bytes) -> tuple[list[Record], int]:
    """The records at the start of a journal file that parse and chain, and how many bytes they take.

    The first record's own `prev` is taken on trust: it belongs to the file before.
    """
    records: list[Record] = []
    offset = 0
    while (newline := data.find(b"\n", offset)) >= 0:
        try:
            record = parse_line(data[offset:newline])
        except JournalError:
            break
        if records and (record.seq != records[-1].seq + 1 or record.prev != records[-1].sha256):
            break
        records.append(record)
        offset = newline + 1
    return records, offset


class Journal:
    """The writer. Used from the storage thread only."""

    def __init__(
        self,
        filesystem: Filesystem,
        folder: Path,
        signer: RecordSigner,
        clock: Clock,
        *,
        device_id: str,
        rotate_bytes: int,
        end: JournalEnd | None = None,
    ) -> None:
        """Find the head of what is there; nothing is written before the first commit.

        end: of the same folder, and not read yet; for who reads on in it.
        Raises JournalError when the newest file cannot be continued, StorageError when it cannot be read.
        """
        self._filesystem = filesystem
        self._folder = folder
        self._signer = signer
        self._clock = clock
        self._device_id = device_id
        self._rotate_bytes = rotate_bytes
        self._file: AppendFile | None = None
        self._file_bytes = 0
        self._uncommitted: list[_Uncommitted] = []
        self._lost_records = 0
        self._tried: set[str] = set()
        """SHA-256 of files that may have got the next name although that was reported to have failed."""
        self.signer_fault: str | None = None
        """Why the last signature is pending, or None when it is not."""
        self.on_confirmed: Callable[[int, str], None] | None = None
        """Told `seq` and SHA-256 of the newest record after each commit; must return at once and raise nothing."""
        self.first_sha256: str | None = None
        """SHA-256 of the journal's first record; None while there is none, or it cannot be read."""
        end = end or JournalEnd(filesystem, folder)
        self._number = int(end.names[-1].split(".")[0]) if end.names else 0
        self._head_seq = 0
        self._head_sha256 = ZERO_HASH
        self._head_json = b""
        self.last_record: Record | None = None
        """The newest one as found at start, for recovery."""
        self._reason = "first"
        self._tail = _Tail(None, 0, 0, sha256_hex(b""), exact=True)
        if end.names:
            self._continue_from(end)

    def _continue_from(self, end: JournalEnd) -> None:
        name = end.names[-1]
        path = self._folder / name
        # What a killed process left in the page cache must be on flash before a signed record names it.
        self._filesystem.sync_file(path)
        found = next(iter(end))
        if not len(found):
            raise JournalError(
                f"The newest journal file {path} does not begin with a whole record, which no power cut can cause. "
                "Keep the vault as it is, copy it for examination, and start with a new one."
            )
        with suppress(StorageError):  # a sector of years ago that is gone holds up no recording
            self.first_sha256 = end.first_sha256()
        self.last_record = found.record(len(found) - 1)
        self._set_head(self.last_record)
        torn = found.data[found.chained_bytes :]
        self._tail = _Tail(name, found.chained_bytes, len(torn), sha256_hex(torn), exact=True)
        self._reason = "recovered" if torn else "started"

    @property
    def head(self) -> tuple[int, str]:
        """`seq` and SHA-256 of the newest durable record; (0, zeros) for an empty journal."""
        return self._head_seq, self._head_sha256

    @property
    def head_json(self) -> bytes:
        """JSON of the newest durable record, the bytes whose SHA-256 is in `head`; empty for an empty journal."""
        return self._head_json

    @property
    def torn_bytes_at_start(self) -> int:
        """How many bytes of an interrupted line were found when the journal was opened."""
        return self._tail.torn_bytes if self._reason == "recovered" else 0

    def append(self, type_: str, **fields: Any) -> bool:
        """Remember a record for the next commit, with the time of now. Never fails and never waits.

        False when there is no memory left for it: flash was gone for hours, and only how many are lost is recorded.
        """
        if len(self._uncommitted) >= (MOST_UNCOMMITTED if type_ in _NEEDED else MAX_UNCOMMITTED):
            self._lost_records += 1
            return False
        self._uncommitted.append(_Uncommitted(type_, self._clock.observe(), fields))
        return True

    @property
    def is_crowded(self) -> bool:
        """Whether what waits to be committed is so much that it should be before anything else is begun."""
        return len(self._uncommitted) >= MAX_UNCOMMITTED

    def commit(self) -> None:
        """Make everything appended durable, in order. Raises StorageError; then all of it is still to be committed."""
        if not self._uncommitted:
            return
        if self._file is None or self._file_bytes >= self._rotate_bytes:
            self._start_file()
        if self._lost_records:
            lost, self._lost_records = self._lost_records, 0
            self._uncommitted.append(_Uncommitted("records-lost", self._clock.observe(), {"records": lost}))
        records = self._chain(self._uncommitted)
        self._write(b"".join(record.line() for record in records))
        self._set_head(records[-1])
        self._uncommitted.clear()
        if self.on_confirmed is not None:
            self.on_confirmed(*self.head)

    def change_signer(self, signer: RecordSigner) -> None:
        """Sign with another key, in a new file: every record of a file is of one key. Commit first."""
        self.close()
        self._signer = signer

    def require_own_folder(self) -> None:
        """What stands under the folder's name may be another card than before: go on only if the chain ends there.

        Raises StorageError when it does not, or cannot be read, and JournalError when it is this journal all the same:
        what it lacks had been confirmed, or somebody went on with it, so only a start can go on from there.
        """
        if self._file is not None:
            with suppress(StorageError):
                self._retire("write-failed", exact=False).close()
        try:
            self._require_chain_end(set(self._filesystem.list_dir(self._folder)), journal_name(self._number + 1))
        except OtherCardError:
            if self.first_sha256 == JournalEnd(self._filesystem, self._folder).first_sha256() is not None:
                raise JournalError(_FORGETFUL_CARD.format(self._folder)) from None
            raise

    def close(self) -> None:
        """Release the file. Commit first: what is only remembered is gone with the process."""
        if self._file is not None:
            self._retire("rotated", exact=True).close()

    def _retire(self, reason: str, *, exact: bool) -> AppendFile:
        """Touch the file no more; the next one will say how it ends. Closing it may fail, so that comes after."""
        assert self._file is not None
        file, self._file = self._file, None
        self._tail = _Tail(journal_name(self._number), self._file_bytes, 0, sha256_hex(b""), exact=exact)
        self._reason = reason
        return file

    def _set_head(self, record: Record) -> None:
        self._head_seq, self._head_sha256, self._head_json = record.seq, record.sha256, record.json_bytes

    def _chain(self, uncommitted: list[_Uncommitted]) -> list[Record]:
        records: list[Record] = []
        seq, prev = self._head_seq, self._head_sha256
        for entry in uncommitted:
            seq += 1
            json_bytes = encode_json(seq, prev, entry.type, entry.observation, self._clock.boot_id, entry.fields)
            record = Record(json_bytes, self._sign(json_bytes), {"seq": seq, "prev": prev, "type": entry.type})
            records.append(record)
            prev = record.sha256
        return records

    def _sign(self, json_bytes: bytes) -> bytes | None:
        try:
            signature = self._signer.sign_record(json_bytes)
        except BodycamError as error:
            # A signer that is busy or gone never holds up evidence: the next signed record covers this one.
            self.signer_fault = str(error)
            return None
        self.signer_fault = None
        return signature

    def _write(self, data: bytes) -> None:
        assert self._file is not None
        try:
            self._file.write(data)
            self._file.datasync()
        except StorageError:
            self._retire("write-failed", exact=False).close()
            raise
        self._file_bytes += len(data)

    def _start_file(self) -> None:
        if self._file is not None:
            self._retire("rotated", exact=True).close()
        name = journal_name(self._number + 1)
        (opening,) = self._chain([_Uncommitted("journal-open", self._clock.observe(), self._opening_fields(name))])
        line = opening.line()
        taken = set(self._filesystem.list_dir(self._folder))
        self._require_chain_end(taken, name)
        attempt = next(n for n in range(1, len(taken) + 2) if f"{name}.part{n}" not in taken)
        beside = self._folder / f"{name}.part{attempt}"
        file = self._filesystem.create(beside)
        try:
            file.write(line)
            file.datasync()
            self._tried.add(sha256_hex(line))
            self._filesystem.rename(beside, self._folder / name)
            self._filesystem.sync_dir(self._folder)
        except StorageError:
            file.close()
            raise
        self._number += 1
        self._tried.clear()
        self._file, self._file_bytes = file, len(line)
        self._set_head(opening)
        if opening.seq == 1:
            self.first_sha256 = opening.sha256

    def _require_chain_end(self, taken: set[str], name: str) -> None:
        """Raises OtherCardError when the chain does not end in this folder: another card came into the slot meanwhile.

        Its journal would get a file of another chain, in place of one of its own perhaps.
        """
        if self._tail.name is not None and self._tail.name not in taken:
            raise OtherCardError(_OTHER_CARD.format(self._folder))
        # A rename that was carried out and still reported to have failed, or whose folder could not be synced, leaves
        # our own file there, to the byte. Nothing has vouched for it: it is replaced.
        if name in taken and sha256_hex(self._read(name)) not in self._tried:
            raise OtherCardError(_OTHER_CARD.format(self._folder))
        if self._tail.name is not None and not self._ends_as_before(self._tail.name):
            raise OtherCardError(_OTHER_CARD.format(self._folder))

    def _ends_as_before(self, name: str) -> bool:
        """Whether the newest durable record still stands where the chained part of a file ends; reads only that."""
        wanted = self._head_json + b"\t"
        start = max(0, self._tail.chained_bytes - len(wanted) - _COLUMN_BYTES)
        try:
            with self._filesystem.open_read(self._folder / name) as file:
                file.seek(start)
                data = file.read(self._tail.chained_bytes - start)
        except FileNotFoundError:
            return False
        except StorageError:
            raise
        except OSError as error:
            raise StorageError(error.errno, f"Reading failed: {error.strerror}", name) from error
        is_whole = len(data) == self._tail.chained_bytes - start
        return is_whole and data[:-1].rsplit(b"\n", 1)[-1].startswith(wanted)

    def _read(self, name: str) -> bytes:
        try:
            return self._filesystem.read(self._folder / name)
        except FileNotFoundError as error:  # unmounted since the folder was listed
            raise OtherCardError(_OTHER_CARD.format(self._folder)) from error

    def _opening_fields(self, name: str) -> dict[str, Any]:
        return {
            "file": name,
            "reason": self._reason,
            "prev_file": self._tail.name,
            "prev_file_bytes": self._tail.chained_bytes,
            "torn_bytes": self._tail.torn_bytes,
            "torn_sha256": self._tail.torn_sha256,
            "torn_exact": self._tail.exact,
            "device_id": self._device_id,
            "certificate_sha256": self._signer.certificate_sha256,
            "key": self._signer.description,
        }
