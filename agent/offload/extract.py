"""The records of a journal extract, as it lies in a package: only what belongs to the chain, in constant memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from agent.errors import JournalError
from agent.offload.store import PackageObject
from agent.vault.record import MAX_LINE_BYTES, Record, parse_line


def chained_records(journal: Sequence[PackageObject]) -> Iterator[Record]:
    """Every record of these files, in order. Lines that are none are passed over: judging them is for `verify`."""
    ends = [_chained_bytes(following) for following in journal[1:]]
    for item, end in zip(journal, [*ends, None], strict=True):
        offset = 0
        for line in _lines(item):
            offset += len(line)
            if end is not None and offset > end:
                break  # a torn tail, or what a failed write left and the next file holds again
            if (record := _record(line)) is not None:
                yield record


def _chained_bytes(following: PackageObject) -> int | None:
    """How much of the file before it belongs to the chain, as a file's first record says; None when it does not."""
    record = next((_record(line) for line in _lines(following)), None)
    said = record.fields.get("prev_file_bytes") if record is not None else None
    return said if isinstance(said, int) else None


def _record(line: bytes) -> Record | None:
    try:
        return parse_line(line.removesuffix(b"\n"))
    except JournalError:
        return None


def _lines(item: PackageObject) -> Iterator[bytes]:
    rest = b""
    for chunk in item.chunks():
        *whole, rest = (rest + chunk).split(b"\n")
        yield from (line + b"\n" for line in whole)
        if len(rest) > MAX_LINE_BYTES:
            break  # no journal has such a line
    if rest:
        yield rest
