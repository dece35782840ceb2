"""Reads a journal as a stranger must: line by line, in constant memory, believing nothing.

Each file's chained part ends where the next file's `journal-open` says; only the newest one ends where it ends. Reading
goes on behind whatever is wrong, so that one bad line does not hide a second.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from agent.errors import JournalError
from agent.vault.layout import journal_name
from agent.vault.record import MAX_LINE_BYTES, ZERO_HASH, Record, parse_line
from agent.verify.evidence_file import JOURNAL_NAME, LEFTOVER_NAME, STUB_NAME, is_plain_folder, names_in, open_plain
from agent.verify.fields import FieldError, Fields
from agent.verify.finding import Code, Findings
from agent.verify.journal_order import JournalOrder
from agent.verify.words import counted

RUN_START_REASONS = frozenset({"first", "started", "recovered"})


@dataclass(frozen=True, slots=True)
class JournalLine:
    """One record and where it stands. number: of the line in its file, from 1; end_offset: behind its newline.

    ordinal: of the line in all of the journal that was read, from 0. unbroken: its chain to the line before holds (or,
    for the very first line, that it begins where it must).
    """

    record: Record
    file: str
    number: int
    end_offset: int
    ordinal: int
    unbroken: bool

    @property
    def place(self) -> str:
        """For people."""
        return f"journal/{self.file} line {self.number}"


@dataclass(frozen=True, slots=True)
class _Opening:
    """The fields of a `journal-open` that the reading of a journal rests on."""

    file: str
    reason: str
    prev_file: str | None
    prev_file_bytes: int
    torn_bytes: int
    torn_sha256: str
    torn_exact: bool


def _opening(record: Record) -> _Opening:
    fields = Fields(record.fields)
    if record.type != "journal-open":
        raise FieldError("it does not begin with a journal-open record")
    return _Opening(
        fields.text("file"),
        fields.text("reason"),
        fields.optional_text("prev_file"),
        fields.count("prev_file_bytes"),
        fields.count("torn_bytes"),
        fields.sha256("torn_sha256"),
        fields.flag("torn_exact"),
    )


class JournalReader:
    """Iterate over it once. What is wrong goes to `findings`.

    extract: the folder is that of an evidence package: it may begin at any file that starts a run, and must end whole.
    """

    def __init__(self, folder: Path, findings: Findings, *, extract: bool) -> None:
        self._folder = folder
        self._findings = findings
        self._extract = extract
        self._ordinal = 0
        self._order = JournalOrder(findings)
        self._head: tuple[int, str] | None = None if extract else (0, ZERO_HASH)
        self.files = 0
        self.unfinished_bytes = 0
        """Bytes behind the last whole line of the newest file."""

    def __iter__(self) -> Iterator[JournalLine]:
        names = self._names()
        self.files = len(names)
        if not names:
            return
        opening = self._first_opening(names[0])
        self._check_start(names[0], opening)
        for name, following in zip(names, [*names[1:], None], strict=True):
            next_opening = self._first_opening(following) if following else None
            try:
                with open_plain(self._folder / name) as file, io.BufferedReader(file, 1 << 16) as lines:
                    yield from self._file(lines, name, following, next_opening)
            except OSError as error:
                self._fail(Code.FILE_UNREADABLE, name, f"cannot be read: {error.strerror}.")
                self._head = None
        self._order.finish()

    def _fail(self, code: Code, name: str, what: str) -> None:
        self._findings.fail(code, f"journal/{name}", f"The journal file {name} {what}", at=self._ordinal)

    def _names(self) -> list[str]:
        names: list[str] = []
        if not is_plain_folder(self._folder):
            return names  # a link leads to somebody else's files
        for name in names_in(self._folder):
            if JOURNAL_NAME.fullmatch(name):
                names.append(name)
            elif LEFTOVER_NAME.fullmatch(name):
                self._findings.note(
                    Code.JOURNAL_LEFTOVER,
                    f"journal/{name}",
                    f"{name} is left over from an interrupted write and is no part of the journal.",
                )
            elif not (self._extract and STUB_NAME.fullmatch(name)):  # which is noted where all names are looked at
                self._findings.warn(
                    Code.FILE_UNKNOWN, f"journal/{name}", f"{name} is not a journal file; nothing in it was looked at."
                )
        return names

    def _first_opening(self, name: str) -> _Opening | None:
        """What a file's first record says, or None; what is wrong with that line is reported when the file is read."""
        try:
            with open_plain(self._folder / name) as file, io.BufferedReader(file) as lines:
                return _opening(parse_line(lines.readline(MAX_LINE_BYTES + 2).removesuffix(b"\n")))
        except (OSError, JournalError, FieldError):
            return None

    def _check_start(self, name: str, opening: _Opening | None) -> None:
        if self._extract:
            if opening is not None and opening.reason not in RUN_START_REASONS:
                self._fail(
                    Code.JOURNAL_FILE_MISSING,
                    name,
                    f'begins in the middle of a run of the camera ("{opening.reason[:40]}"), and a package begins '
                    "where the camera started: what came before is gone.",
                )
        elif name != journal_name(1):
            self._fail(Code.JOURNAL_FILE_MISSING, name, "is the first one here, and those before it are gone.")
            self._head = None

    def _file(
        self, lines: BinaryIO, name: str, following: str | None, next_opening: _Opening | None
    ) -> Iterator[JournalLine]:
        limit = None
        if following is not None:
            limit = self._limit(lines, name, following, next_opening)
        offset = number = 0
        bad: tuple[int, str, bool] | None = None
        while limit is None or offset < limit:
            line = lines.readline(MAX_LINE_BYTES + 2)
            if not line:
                break
            if limit is not None and offset + len(line) > limit:
                self._fail(Code.JOURNAL_LINE_BAD, name, f"has a line across byte {limit}, where its records end.")
                self._head = None
                break
            if not line.endswith(b"\n") and len(line) <= MAX_LINE_BYTES:
                if bad is None and following is None:
                    self.unfinished_bytes = len(line)
                elif bad is None:
                    bad = (number + 1, "it ends without a newline", False)
                break
            number += 1
            offset += len(line)
            try:
                record = parse_line(line.removesuffix(b"\n"))
                if number == 1:
                    self._check_opening(name, _opening(record))
                elif record.type == "journal-open":
                    raise FieldError("a journal-open record stands in the middle of a file")
            except (JournalError, FieldError) as error:
                bad = bad or (number, str(error), following is None and b"\0" in line)
                continue
            if bad is not None:
                self._bad_line(name, bad)
                bad = None
            yield self._line(record, name, number, offset)
        if offset == 0 and bad is None:
            # The writer gives a file its name only when its first record is durable.
            bad = (1, "the file does not begin with a whole record", False)
        self._end(lines, name, limit, next_opening, bad)

    def _limit(self, file: BinaryIO, name: str, following: str, next_opening: _Opening | None) -> int | None:
        if int(following[:6]) != int(name[:6]) + 1:
            self._fail(Code.JOURNAL_FILE_MISSING, following, f"follows on {name}; those between them are gone.")
        elif next_opening is not None and next_opening.prev_file != name:
            self._fail(Code.JOURNAL_FILE_MISSING, following, f"says that it follows on {next_opening.prev_file}.")
        elif next_opening is not None:
            size = os.fstat(file.fileno()).st_size
            if size < next_opening.prev_file_bytes:
                self._fail(
                    Code.JOURNAL_FILE_MISSING,
                    name,
                    f"was cut short: it has {size} bytes, and {following} names {next_opening.prev_file_bytes}.",
                )
            return next_opening.prev_file_bytes
        return None

    def _check_opening(self, name: str, opening: _Opening) -> None:
        if opening.file != name:
            self._fail(Code.JOURNAL_FILE_MISSING, name, f"says in its first record that it is {opening.file}.")

    def _line(self, record: Record, name: str, number: int, end_offset: int) -> JournalLine:
        unbroken = self._head is not None
        place = f"journal/{name} line {number}"
        if self._head is None and self._extract and self._ordinal == 0:
            unbroken = True  # an extract's first record chains to what is not here, and says so
        if self._head is not None:
            seq, sha256 = self._head
            if record.seq != seq + 1:
                unbroken = False
            elif record.prev != sha256:
                unbroken = False
                self._findings.fail(
                    Code.JOURNAL_CHAIN_BROKEN,
                    place,
                    f"Record {record.seq} does not hold the hash of record {seq}, as it must: one of the two was "
                    "changed.",
                    at=self._ordinal,
                )
        before = self._head[0] if self._head is not None else None
        self._order.take(record.seq, before=before, place=place, ordinal=self._ordinal)
        self._head = (record.seq, record.sha256)
        line = JournalLine(record, name, number, end_offset, self._ordinal, unbroken)
        self._ordinal += 1
        return line

    def _bad_line(self, name: str, bad: tuple[int, str, bool]) -> None:
        number, reason, _ = bad
        self._findings.fail(
            Code.JOURNAL_LINE_BAD,
            f"journal/{name} line {number}",
            f"Line {number} of {name} is no record, and so the journal is broken there: {reason.rstrip('.')}.",
            at=self._ordinal,
        )
        self._head = None

    def _end(
        self,
        lines: BinaryIO,
        name: str,
        limit: int | None,
        next_opening: _Opening | None,
        bad: tuple[int, str, bool] | None,
    ) -> None:
        if next_opening is not None and limit is not None:
            if bad is not None:
                self._bad_line(name, bad)
            lines.seek(limit)
            self._check_tail(lines, name, next_opening)
        elif bad is not None and bad[2] and not self._extract:
            self._findings.warn(
                Code.JOURNAL_UNFINISHED,
                f"journal/{name}",
                f"{name} ends in bytes that are no record and hold zeros, as a power cut leaves them; the camera names "
                "them at its next start.",
                at=self._ordinal,
            )
        elif bad is not None:
            self._bad_line(name, bad)
        elif self.unfinished_bytes and self._extract:
            self._fail(
                Code.JOURNAL_LINE_BAD,
                name,
                "ends in an unfinished line, which that of no package does: it was cut short.",
            )
        elif self.unfinished_bytes:
            self._findings.warn(
                Code.JOURNAL_UNFINISHED,
                f"journal/{name}",
                f"{name} ends in an unfinished line of {self.unfinished_bytes} bytes: the camera is writing it now, or "
                "was cut off and names it at its next start.",
                at=self._ordinal,
            )

    def _check_tail(self, lines: BinaryIO, name: str, opening: _Opening) -> None:
        digest = hashlib.sha256()
        size = whole_records = 0
        while line := lines.readline(MAX_LINE_BYTES + 2):
            digest.update(line)
            size += len(line)
            whole_records += _is_record(line)
        subject = f"journal/{name}"
        if not opening.torn_exact:
            if size and self._extract:
                self._fail(
                    Code.TORN_TAIL_MISMATCH,
                    name,
                    f"ends in {size} bytes behind its chained part, which a package leaves out: somebody put them "
                    "there.",
                )
            elif size:
                self._findings.note(
                    Code.TORN_TAIL,
                    subject,
                    f"{name} ends in {counted(size, 'byte')} that a failed write left and that count for nothing; what "
                    f"they held was written again into {opening.file}.",
                )
        elif (size, digest.hexdigest()) != (opening.torn_bytes, opening.torn_sha256):
            self._fail(
                Code.TORN_TAIL_MISMATCH,
                name,
                f"ends in {counted(size, 'byte')} behind its records; {opening.file} names "
                f"{counted(opening.torn_bytes, 'byte')} there, with another content.",
            )
        elif whole_records:
            self._findings.warn(
                Code.TORN_TAIL_RECORDS,
                subject,
                f"The {size} bytes at the end of {name} that {opening.file} calls an interrupted write hold "
                f"{counted(whole_records, 'whole record')} behind a damaged one. An interrupted write can do that, and "
                "so can someone who damaged the file before the camera started again.",
                at=self._ordinal,
            )
        elif size:
            self._findings.note(
                Code.TORN_TAIL,
                subject,
                f"{name} ends in an interrupted line of {size} bytes, as {opening.file} says.",
            )


def _is_record(line: bytes) -> bool:
    try:
        parse_line(line.removesuffix(b"\n"))
    except JournalError:
        return False
    return True
