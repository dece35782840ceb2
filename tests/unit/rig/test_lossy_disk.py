"""The rig's disk loses what was not flushed, and nothing else: else its power cuts would prove nothing."""

from __future__ import annotations

import random
import shutil
import socket
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.clock import SimulatedClock
from agent.vault.record import encode_json
from tests.rig.lossy_disk import LossyDisk
from tests.rig.write_cache import SECTOR_BYTES, CutRules, WriteCache

SIZE_BYTES = 64 * SECTOR_BYTES
OLD, NEW = b"o", b"n"

Open = Callable[[CutRules], WriteCache]


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image"
    path.write_bytes(OLD * SIZE_BYTES)
    return path


@pytest.fixture
def opened(image: Path) -> Open:
    return lambda rules: WriteCache(image, rules)


def sectors(data: bytes) -> list[bytes]:
    return [data[start : start + SECTOR_BYTES] for start in range(0, len(data), SECTOR_BYTES)]


def test_what_was_flushed_survives_and_what_was_not_does_not(image: Path, opened: Open) -> None:
    disk = opened(CutRules())
    disk.write(0, NEW * 1000, 0)
    disk.flush()
    disk.write(5000, NEW * 1000, 0)
    assert disk.read(4990, 20) == OLD * 10 + NEW * 10
    report = disk.cut(7)
    assert (report.at_monotonic_ns, report.unflushed_writes, report.unflushed_bytes) == (7, 1, 1000)
    assert report.lost_bytes == 1000
    assert image.read_bytes() == NEW * 1000 + OLD * (SIZE_BYTES - 1000)


def test_a_write_with_fua_survives_and_later_ones_over_it_do_not(image: Path, opened: Open) -> None:
    disk = opened(CutRules())
    disk.write(0, b"a" * 3000, 0)
    disk.write(1000, b"b" * 1000, 0, fua=True)
    disk.write(1500, b"c" * 100, 0)
    assert disk.read(0, 3000) == b"a" * 1000 + b"b" * 500 + b"c" * 100 + b"b" * 400 + b"a" * 1000
    disk.cut(0)
    assert image.read_bytes()[:3000] == OLD * 1000 + b"b" * 1000 + OLD * 1000


def test_a_write_before_one_with_fua_does_not_come_back_over_it(image: Path, opened: Open) -> None:
    """All unflushed writes survive here: the older one around the FUA write, and not in its place."""
    disk = opened(CutRules(keep=1.0))
    disk.write(0, b"a" * 3000, 0)
    disk.write(1000, b"b" * 1000, 0, fua=True)
    disk.cut(0)
    assert image.read_bytes()[:3000] == b"a" * 1000 + b"b" * 1000 + b"a" * 1000


def test_torn_by_sectors_and_by_seed(image: Path, tmp_path: Path) -> None:
    found = []
    for name, seed in (("one", 1), ("one again", 1), ("two", 2)):
        path = tmp_path / name
        shutil.copy(image, path)
        disk = WriteCache(path, CutRules(keep=0.5, tear=True, seed=seed))
        disk.write(0, NEW * SIZE_BYTES, 0)
        disk.cut(0)
        found.append(sectors(path.read_bytes()))
    assert all(sector in (OLD * SECTOR_BYTES, NEW * SECTOR_BYTES) for data in found for sector in data)
    assert 15 < found[0].count(NEW * SECTOR_BYTES) < 49
    assert found[0] == found[1] != found[2]


def test_without_tearing_a_write_is_there_whole_or_not_at_all(image: Path, opened: Open) -> None:
    disk = opened(CutRules(keep=0.5, seed=3))
    for number in range(16):
        disk.write(number * 4 * SECTOR_BYTES, bytes([number]) * 4 * SECTOR_BYTES, 0)
    disk.cut(0)
    data = image.read_bytes()
    kept = [number for number in range(16) if data[number * 4 * SECTOR_BYTES] == number]
    assert 2 < len(kept) < 14
    for number in range(16):
        whole = bytes([number]) if number in kept else OLD
        assert data[number * 4 * SECTOR_BYTES : (number + 1) * 4 * SECTOR_BYTES] == whole * 4 * SECTOR_BYTES


def test_a_card_that_lies_loses_what_it_called_flushed_but_only_for_so_long(image: Path, opened: Open) -> None:
    disk = opened(CutRules(lie_s=2.0))
    disk.write(0, NEW * 10, 0)
    disk.write(100, NEW * 10, 1_500_000_000, fua=True)
    disk.flush()
    disk.settle(2_000_000_000)
    assert disk.read(0, 110) == NEW * 10 + OLD * 90 + NEW * 10
    disk.cut(2_000_000_000)
    assert image.read_bytes()[:110] == NEW * 10 + OLD * 100


@given(st.integers(0, 1 << 30))
def test_a_reader_sees_every_write_and_a_cut_keeps_every_flush(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    """Against a plain array, over random writes, flushes and reads."""
    chance = random.Random(seed)
    path = tmp_path_factory.mktemp("disk") / "image"
    path.write_bytes(bytes(SIZE_BYTES))
    disk = WriteCache(path, CutRules())
    seen, durable = bytearray(SIZE_BYTES), bytearray(SIZE_BYTES)
    for number in range(1, 40):
        offset = chance.randrange(SIZE_BYTES)
        length = chance.randint(1, min(9000, SIZE_BYTES - offset))
        data = bytes([number]) * length
        match chance.randrange(5):
            case 0:
                disk.flush()
                durable[:] = seen
            case 1:
                disk.write(offset, data, 0, fua=True)
                seen[offset : offset + length] = durable[offset : offset + length] = data
            case 2:
                assert disk.read(offset, length) == seen[offset : offset + length]
            case _:
                disk.write(offset, data, 0)
                seen[offset : offset + length] = data
    assert disk.read(0, SIZE_BYTES) == seen
    disk.cut(0)
    assert path.read_bytes() == durable


class Client:
    """As QEMU talks to it: the newstyle handshake with NBD_OPT_GO, then requests."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(10)
        self._socket.connect(str(path))
        assert self._receive(16) == b"NBDMAGICIHAVEOPT"
        assert struct.unpack(">H", self._receive(2)) == (3,)
        self._socket.sendall(struct.pack(">I", 3))
        # A structured-replies option, which is to be declined, and then GO.
        self._socket.sendall(b"IHAVEOPT" + struct.pack(">II", 8, 0))
        assert self._option_reply()[0] == 0x80000001
        self._socket.sendall(b"IHAVEOPT" + struct.pack(">IIIH", 7, 6, 0, 0))
        kind, data = self._option_reply()
        assert kind == 3
        _, self.size_bytes, self.flags = struct.unpack(">HQH", data)
        while self._option_reply()[0] != 1:
            pass

    def _option_reply(self) -> tuple[int, bytes]:
        _, _, kind, length = struct.unpack(">QIII", self._receive(20))
        return kind, self._receive(length)

    def _receive(self, length: int) -> bytes:
        data = b""
        while len(data) < length:
            chunk = self._socket.recv(length - len(data))
            if not chunk:
                raise EOFError
            data += chunk
        return data

    def ask(
        self, kind: int, offset: int = 0, length: int = 0, data: bytes = b"", *, fua: bool = False
    ) -> tuple[int, bytes]:
        """Error number and, of a read, data."""
        self._socket.sendall(struct.pack(">IHHQQI", 0x25609513, int(fua), kind, 77, offset, length or len(data)) + data)
        magic, error, handle = struct.unpack(">IIQ", self._receive(16))
        assert (magic, handle) == (0x67446698, 77)
        return error, self._receive(length) if kind == 0 and not error else b""

    def close(self) -> None:
        self._socket.close()


READ, WRITE, FLUSH, TRIM = 0, 1, 3, 4


def test_over_the_wire(image: Path, tmp_path: Path) -> None:
    disk = LossyDisk(image, tmp_path / "nbd")
    client = Client(tmp_path / "nbd")
    try:
        assert client.size_bytes == SIZE_BYTES
        assert client.flags == 1 | 4 | 8, "flushes and FUA are offered, else the guest would send none"
        assert client.ask(WRITE, 10, data=NEW * 5) == (0, b"")
        assert client.ask(READ, 8, 10) == (0, OLD * 2 + NEW * 5 + OLD * 3)
        assert client.ask(FLUSH) == (0, b"")
        assert client.ask(WRITE, 20, data=NEW * 5, fua=True) == (0, b"")
        assert client.ask(WRITE, 30, data=NEW * 5) == (0, b"")
        assert client.ask(WRITE, SIZE_BYTES - 1, data=NEW * 2)[0] == 28
        assert client.ask(READ, SIZE_BYTES - 1, 2)[0] == 22
        assert client.ask(TRIM, 0, 10)[0] == 22
        report = disk.cut()
        assert disk.flushes == 1
        assert (report.unflushed_writes, report.lost_bytes) == (1, 5)
        with pytest.raises((EOFError, ConnectionError)):
            client.ask(WRITE, 40, data=NEW * 5)
    finally:
        client.close()
        disk.close()
    assert image.read_bytes()[:50] == OLD * 10 + NEW * 5 + OLD * 5 + NEW * 5 + OLD * 25
    assert not (tmp_path / "nbd").exists()


def test_an_orderly_end_keeps_everything_even_on_a_card_that_lies(image: Path, tmp_path: Path) -> None:
    disk = LossyDisk(image, tmp_path / "nbd", CutRules(lie_s=1000.0))
    client = Client(tmp_path / "nbd")
    try:
        client.ask(WRITE, 0, data=NEW * SIZE_BYTES)
    finally:
        client.close()
        disk.close()
    assert image.read_bytes() == NEW * SIZE_BYTES


def test_a_request_is_failed_for_as_long_as_it_is_told_to(image: Path, tmp_path: Path) -> None:
    disk = LossyDisk(image, tmp_path / "nbd")
    client = Client(tmp_path / "nbd")
    try:
        disk.fail(lambda request: request.kind == WRITE and NEW in request.data and request.touches(512))
        assert client.ask(WRITE, 0, data=NEW * 512) == (0, b"")
        assert client.ask(WRITE, 512, data=NEW * 512)[0] == 5
        assert client.ask(READ, 512, 1) == (0, OLD), "a write that failed wrote nothing"
        disk.fail(lambda request: request.kind == READ)
        assert client.ask(READ, 0, 1) == (5, b"")
        disk.fail(None)
        assert client.ask(READ, 0, 1) == (0, NEW)
        assert disk.failed == 2
    finally:
        client.close()
        disk.close()


def test_the_power_goes_at_a_request_that_is_not_carried_out(image: Path, tmp_path: Path) -> None:
    disk = LossyDisk(image, tmp_path / "nbd")
    client = Client(tmp_path / "nbd")
    try:
        disk.cut_at_request(3)
        assert client.ask(WRITE, 0, data=b"a" * 512) == (0, b"")
        assert client.ask(READ, 0, 1) == (0, b"a"), "a read is none of those that count"
        assert client.ask(FLUSH) == (0, b"")
        assert not disk.wait_cut(0)
        with pytest.raises((EOFError, ConnectionError)):
            client.ask(WRITE, 512, data=b"b" * 512)
        assert disk.wait_cut(10)
        # What comes later is the same cut.
        assert disk.cut().unflushed_writes == 0
    finally:
        client.close()
        disk.close()
    assert image.read_bytes() == b"a" * 512 + OLD * (SIZE_BYTES - 512)


def line(type_: str, seq: int = 7) -> bytes:
    return encode_json(seq, "a" * 64, type_, SimulatedClock().observe(), "boot", {}) + b"\tMEUC\n"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"....moof....mdat", "fragment"),
        (line("segment") + line("checkpoint", 8), "checkpoint"),
        (line("checkpoint") + line("segment", 8) + bytes(500), "seal"),
        (line("stop"), "another record"),
        (b"\xc0\x3b\x39\x98....", "ext4's journal"),
        (b"\0\0\0\x1cftypiso5", "init.mp4"),
        (bytes(512), "names and sizes"),
    ],
)
@pytest.mark.parametrize("flush", [False, True])
def test_what_the_power_interrupted_is_named(image: Path, tmp_path: Path, data: bytes, said: str, flush: bool) -> None:
    data += bytes(-len(data) % SECTOR_BYTES)
    disk = LossyDisk(image, tmp_path / "nbd")
    client = Client(tmp_path / "nbd")
    try:
        disk.cut_at_request(2 if flush else 1)
        if flush:
            client.ask(WRITE, 0, data=data)
        with pytest.raises((EOFError, ConnectionError)):
            client.ask(FLUSH) if flush else client.ask(WRITE, 0, data=data)
        assert disk.interrupted == ("flush behind " if flush else "") + said
    finally:
        client.close()
        disk.close()


def test_a_stalled_card_answers_when_it_goes_on(image: Path, tmp_path: Path) -> None:
    disk = LossyDisk(image, tmp_path / "nbd")
    client = Client(tmp_path / "nbd")
    try:
        disk.stall()
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(client.ask, WRITE, 0, data=NEW * 512)
            # However long one waits: a card that answers at once would be seen by the order below, mostly.
            assert not wait([asked], timeout=0.05).done
            disk.go_on()
            assert asked.result(10) == (0, b"")
    finally:
        client.close()
        disk.close()
