"""The journal read back at a start: the same records as the strict reader's, for a fraction of its work."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.vault.filesystem import Filesystem
from agent.vault.journal import chained_prefix
from agent.vault.journal_end import JournalEnd, JournalFile
from agent.vault.record import parse_line, sha256_hex
from tests.support.crashfs import CrashFilesystem
from tests.unit.vault.journals import FOLDER, FakeSigner, disk, names, open_journal, read_chain


def signed(certificate_sha256: str, json_bytes: bytes, signature: bytes) -> bool:
    """FakeSigner's."""
    return certificate_sha256 == "c" * 64 and signature == b"signed " + hashlib.sha256(json_bytes).digest()


def never(certificate_sha256: str, json_bytes: bytes, signature: bytes) -> bool:
    del certificate_sha256, json_bytes, signature
    raise AssertionError("no signature had to be looked at")


def written(records: int = 12, *, busy_from: int = 1000) -> bytes:
    """A journal file. From record busy_from on the signer sleeps."""
    filesystem, signer = disk(), FakeSigner()
    journal = open_journal(filesystem, signer)
    for number in range(records):
        signer.busy = number >= busy_from
        journal.append("test", recording_id=f"r{number % 3}", n=number, text='a "quoted" \u00e9 text')
        journal.commit()
    return filesystem.read(FOLDER / "000001.journal")


GOOD = written()


def assert_same(data: bytes) -> JournalFile:
    records, chained_bytes = chained_prefix(data)
    for check in (signed, None):
        file = JournalFile("000001.journal", data, check, None)
        assert (len(file), file.chained_bytes) == (len(records), chained_bytes)
        assert [file.json_bytes(index) for index in range(len(file))] == [record.json_bytes for record in records]
        assert file.types == [record.type for record in records]
        if records:
            assert file.last == (records[-1].seq, records[-1].sha256)
            assert file.before == (records[0].seq - 1, records[0].prev)
    return JournalFile("000001.journal", data, signed, None)


def test_an_untouched_file_is_followed_and_hardly_parsed() -> None:
    file = assert_same(GOOD)
    assert (len(file), file.covered, file.strictly_parsed) == (13, 13, 1)
    assert [file.record(index) for index in range(13)] == chained_prefix(GOOD)[0]


def test_what_no_signature_covers_is_parsed() -> None:
    file = assert_same(written(12, busy_from=9))
    assert (len(file), file.covered) == (13, 10)
    assert file.strictly_parsed == 1 + 3
    assert file.has_signature
    unsigned = assert_same(written(12, busy_from=0))
    assert (unsigned.covered, unsigned.has_signature) == (0, False)


@given(st.data())
def test_any_changed_byte_is_found_as_the_strict_reader_finds_it(data: st.DataObject) -> None:
    changed = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 2))):
        at = data.draw(st.integers(0, len(changed) - 1))
        what = data.draw(st.sampled_from(["change", "insert", "delete"]))
        byte = data.draw(st.sampled_from(b'\t\n\0 -=,"{}A09z\xff'))
        if what == "change":
            changed[at] = byte
        elif what == "insert":
            changed.insert(at, byte)
        else:
            del changed[at]
    assert_same(bytes(changed))


@given(st.integers(0, len(GOOD)), st.binary(max_size=40))
def test_any_torn_end_is_found_as_the_strict_reader_finds_it(length: int, rubbish: bytes) -> None:
    assert_same(GOOD[:length] + rubbish)


@given(st.data())
def test_lines_moved_doubled_or_taken_out(data: st.DataObject) -> None:
    lines = GOOD.splitlines(keepends=True)
    assert_same(b"".join(data.draw(st.lists(st.sampled_from(lines), max_size=15))))


@pytest.mark.parametrize(
    "spoilt",
    [
        lambda text: text.replace(b'"n":5', b'"n": 5'),
        lambda text: text.replace(b'"n":5', b'"n":5,"n":5'),
        lambda text: text.replace(b'"n":5', b'"n":05'),
        lambda text: text.replace(b'"n":5', b'"n":{{5'),
        lambda text: text.replace(b'"n":5', b'"n":' + b"[" * 40 + b"]" * 40),
        lambda text: text.replace(b'"clock_source"', b'"clock_sauce"'),
        lambda text: text.replace(b'"seq":7', b'"seq":9999999999999999999'),
    ],
)
@pytest.mark.parametrize("signature", [b"-", b"AAAA"])
def test_a_line_that_is_none_and_chains_all_the_same_ends_the_chain(
    spoilt: Callable[[bytes], bytes], signature: bytes
) -> None:
    """As anybody who has the card can plant it, with all that follows linked anew."""
    lines = GOOD.splitlines()
    planted = spoilt(lines[6].partition(b"\t")[0])
    assert planted != lines[6].partition(b"\t")[0]
    out = [*lines[:6], planted + b"\t" + signature]
    prev = sha256_hex(planted)
    for line in lines[7:]:
        document = json.loads(line.partition(b"\t")[0]) | {"prev": prev}
        json_bytes = json.dumps(document, separators=(",", ":")).encode()
        prev = sha256_hex(json_bytes)
        out.append(json_bytes + b"\t-")
    data = b"\n".join(out) + b"\n"
    assert len(assert_same(data)) == 6


@pytest.mark.parametrize(
    "column", [b"", b"--", b"AA", b"AB==", b"AA==AA==", b"-_==", b"A A=", b"AA==\r", b"AAAA\tAAAA"]
)
def test_the_column_that_no_hash_covers_is_looked_at_in_every_line(column: bytes) -> None:
    lines = GOOD.splitlines()
    lines[6] = lines[6].partition(b"\t")[0] + b"\t" + column
    assert len(assert_same(b"\n".join(lines) + b"\n")) == 6


def test_a_signature_of_another_covers_nothing() -> None:
    file = JournalFile("000001.journal", GOOD, lambda *_: False, None)
    assert (file.covered, len(file)) == (0, 13)
    assert file.strictly_parsed == 1 + 13


def test_records_of_a_recording_are_found_by_their_own_field_and_not_by_a_word() -> None:
    filesystem = disk()
    journal = open_journal(filesystem)
    journal.append("test", recording_id="r1", n=1)
    journal.append("test", recording_id="r2", n=2, text='"recording_id":"r1"')
    journal.append("test", n=3, inner=[{"recording_id": "r1"}])
    journal.append("test", n=4, recording_id="r1")
    journal.commit()
    (file,) = JournalEnd(filesystem, FOLDER)
    assert [record.fields["n"] for record in file.of_recording("r1")] == [1, 4]
    assert file.of_recording("r3") == []
    assert list(file.of_type("test")) == [4, 3, 2, 1]


class _Counting:
    """Counts what is read of a file system."""

    def __init__(self, inner: CrashFilesystem) -> None:
        self.inner = inner
        self.reads: list[str] = []

    def list_dir(self, path: Path) -> list[str]:
        return self.inner.list_dir(path)

    def read(self, path: Path) -> bytes:
        self.reads.append(path.name)
        return self.inner.read(path)


def counting(filesystem: CrashFilesystem) -> tuple[_Counting, Filesystem]:
    made = _Counting(filesystem)
    return made, made  # type: ignore[return-value]


def several_files() -> CrashFilesystem:
    filesystem = disk()
    journal = open_journal(filesystem, rotate_bytes=3000)
    for number in range(40):
        journal.append("trigger" if number % 10 == 0 else "test", recording_id=f"r{number // 10}", n=number)
        journal.commit()
    return filesystem


def test_each_file_is_read_once_newest_first_and_covered_by_the_one_signature() -> None:
    counted, filesystem = counting(several_files())
    asked: list[bytes] = []

    def check(certificate_sha256: str, json_bytes: bytes, signature: bytes) -> bool:
        asked.append(json_bytes)
        return signed(certificate_sha256, json_bytes, signature)

    end = JournalEnd(filesystem, FOLDER, check)
    assert counted.reads == []
    files = list(end)
    assert [file.name for file in files] == names(counted.inner)[::-1]
    assert len(files) > 5
    assert all(file.covered == len(file) for file in files)
    assert len(asked) == 1
    assert sum(file.strictly_parsed for file in files) == 1
    list(end)
    assert end.records_of("r0")[0].type == "trigger"
    assert counted.reads == [file.name for file in files]


def test_records_of_a_recording_end_at_its_trigger() -> None:
    counted, filesystem = counting(several_files())
    found = JournalEnd(filesystem, FOLDER).records_of("r2")
    assert [record.fields["n"] for record in found] == list(range(20, 30))
    assert names(counted.inner)[0] not in counted.reads
    of_it = [record for record in read_chain(counted.inner) if record.fields.get("recording_id") == "r2"]
    assert [record.json_bytes for record in found] == [record.json_bytes for record in of_it]


def test_what_a_later_file_says_is_no_part_of_the_chain_is_none() -> None:
    filesystem = disk()
    journal = open_journal(filesystem)
    journal.append("test", n=1)
    journal.commit()
    before = filesystem.size_bytes(FOLDER / "000001.journal")
    left = filesystem.read(FOLDER / "000001.journal")
    journal.append("test", n=2)
    journal.commit()
    whole = filesystem.read(FOLDER / "000001.journal")
    after = disk()
    after.put(FOLDER / "000001.journal", left)
    later = open_journal(after)
    later.append("test", n=3)
    later.commit()
    both = disk()
    both.put(FOLDER / "000001.journal", whole)  # a sync failed, and the bytes came to flash all the same
    both.put(FOLDER / "000002.journal", after.read(FOLDER / "000002.journal"))
    newer, older = JournalEnd(both, FOLDER, signed)
    assert older.chained_bytes == before
    assert older.covered == len(older) == 2
    assert newer.before == older.last


def test_a_file_that_does_not_lead_to_the_next_is_covered_by_its_own_signature_alone() -> None:
    whole, other = several_files(), disk()
    files = names(whole)
    for name, source in zip(files, [*files[:-2], files[0], files[-1]], strict=True):
        other.put(FOLDER / name, whole.read(FOLDER / source))
    first, second, *_ = JournalEnd(other, FOLDER, signed)
    assert first.covered == len(first)
    assert second.last != first.before
    with pytest.raises(AssertionError, match="no signature"):
        JournalFile("000001.journal", second.data, never, None)
    assert JournalFile("000001.journal", second.data, lambda *_: False, first.before).covered == 0


def test_a_file_without_a_signature_of_the_cameras_covers_nothing_before_it() -> None:
    def only_first(certificate_sha256: str, json_bytes: bytes, signature: bytes) -> bool:
        return signed(certificate_sha256, json_bytes, signature) and b'"seq":1,' in json_bytes

    *newer, oldest = JournalEnd(several_files(), FOLDER, only_first)
    assert [file.covered for file in newer] == [0] * len(newer)
    assert oldest.covered == 1


def test_the_line_that_is_longer_than_any_ends_the_chain() -> None:
    long = GOOD.splitlines(keepends=True)
    parse_line(long[1].rstrip())
    assert_same(long[0] + long[1][:-1] + b"A" * (1 << 20) + b"\n" + long[2])
