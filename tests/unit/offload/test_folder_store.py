"""A folder store holds whole objects or none, and says truly what it holds."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import pytest

from agent.errors import EvidenceDamagedError, StoreConflictError, StoreError
from agent.offload.folder import FolderStore
from agent.offload.folder_files import FolderFiles
from agent.offload.store import PackageObject

DATA = bytes(range(256)) * 10_000 + b"an end that is no multiple of anything"


def item(data: bytes = DATA, name: str = "000001.m4s", sha256: str | None = None) -> PackageObject:
    chunks = [data[at : at + 100_000] for at in range(0, len(data), 100_000)]
    return PackageObject(name, len(data), sha256 or hashlib.sha256(data).hexdigest(), lambda: iter(chunks))


def names(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir())


def test_an_object_is_stored_and_read_back(tmp_path: Path) -> None:
    stored = FolderStore(tmp_path).put("CAM/1", item())
    assert (tmp_path / "CAM/1/000001.m4s").read_bytes() == DATA
    assert (stored.name, stored.bytes, stored.sha256) == ("000001.m4s", len(DATA), hashlib.sha256(DATA).hexdigest())
    assert names(tmp_path) == ["CAM/1/000001.m4s"]


class Watched(FolderFiles):
    """Remembers the order of what matters for a power cut at the dock."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def make_folder(self, path: Path) -> None:
        super().make_folder(path)
        self.done.append(f"make {path.name}")

    def write(self, descriptor: int, data: bytes) -> None:
        super().write(descriptor, data)
        if self.done[-1] != "write":
            self.done.append("write")

    def sync(self, descriptor: int) -> None:
        super().sync(descriptor)
        self.done.append("sync")

    def drop_cache(self, descriptor: int) -> None:
        super().drop_cache(descriptor)
        self.done.append("drop cache")

    def read_back(self, path: Path) -> tuple[str, str]:
        self.done.append(f"read back {path.name}")
        return super().read_back(path)

    def publish(self, part: Path, final: Path) -> None:
        super().publish(part, final)
        self.done.append("publish")

    def sync_folder(self, path: Path) -> None:
        super().sync_folder(path)
        self.done.append(f"sync {path.name}")


def test_an_object_is_durable_and_read_back_before_it_has_a_name(tmp_path: Path) -> None:
    files = Watched()
    store = FolderStore(tmp_path, files)
    store.put("CAM/1", item())
    store.put("CAM/1", item())
    assert files.done == [
        f"sync {tmp_path.name}", "make CAM", "sync CAM", "make 1",
        "write", "sync", "drop cache", "read back .000001.m4s.part", "publish", "sync 1",
        "make CAM", "make 1", "read back 000001.m4s", "sync 1",
    ]  # fmt: skip


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 1 << 20, (1 << 20) + 1, 3 << 20])
def test_every_size_reads_back_as_what_it_is(tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    stored = FolderStore(tmp_path).put("CAM/1", item(data))
    assert (tmp_path / "CAM/1/000001.m4s").read_bytes() == data
    assert FolderFiles().read_back(tmp_path / "CAM/1/000001.m4s") == (
        hashlib.sha256(data).hexdigest(),
        stored.read_back,
    )


def test_a_second_time_writes_nothing(tmp_path: Path) -> None:
    FolderStore(tmp_path).put("CAM/1", item())
    before = (tmp_path / "CAM/1/000001.m4s").stat()
    stored = FolderStore(tmp_path).put("CAM/1", item())
    after = (tmp_path / "CAM/1/000001.m4s").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert stored.sha256 == hashlib.sha256(DATA).hexdigest()


def test_other_bytes_under_the_name_are_kept(tmp_path: Path) -> None:
    FolderStore(tmp_path).put("CAM/1", item(b"first"))
    with pytest.raises(StoreConflictError, match="neither was touched"):
        FolderStore(tmp_path).put("CAM/1", item(b"other"))
    assert (tmp_path / "CAM/1/000001.m4s").read_bytes() == b"first"


def test_a_torn_object_that_got_its_name_elsewhere_is_not_accepted(tmp_path: Path) -> None:
    (tmp_path / "CAM/1").mkdir(parents=True)
    (tmp_path / "CAM/1/000001.m4s").write_bytes(DATA[:-1])
    with pytest.raises(StoreConflictError):
        FolderStore(tmp_path).put("CAM/1", item())


@pytest.mark.parametrize("kind", ["link", "folder"])
def test_what_is_no_file_under_the_name_is_refused(tmp_path: Path, kind: str) -> None:
    final = tmp_path / "CAM/1/000001.m4s"
    final.parent.mkdir(parents=True)
    final.symlink_to("/etc/hostname") if kind == "link" else final.mkdir()
    with pytest.raises(StoreError, match="no plain file"):
        FolderStore(tmp_path).put("CAM/1", item())


def test_a_stub_is_started_again(tmp_path: Path) -> None:
    (tmp_path / "CAM/1").mkdir(parents=True)
    (tmp_path / "CAM/1/.000001.m4s.part").write_bytes(b"\0" * 70_000)
    FolderStore(tmp_path).put("CAM/1", item())
    assert (tmp_path / "CAM/1/000001.m4s").read_bytes() == DATA
    assert names(tmp_path) == ["CAM/1/000001.m4s"]


def test_a_cut_between_the_two_names_of_a_finished_object(tmp_path: Path) -> None:
    FolderStore(tmp_path).put("CAM/1", item())
    os.link(tmp_path / "CAM/1/000001.m4s", tmp_path / "CAM/1/.000001.m4s.part")
    FolderStore(tmp_path).put("CAM/1", item())
    assert names(tmp_path) == ["CAM/1/000001.m4s"]
    assert (tmp_path / "CAM/1/000001.m4s").read_bytes() == DATA


def test_two_copiers_do_not_meet_in_one_stub(tmp_path: Path) -> None:
    (tmp_path / "CAM/1").mkdir(parents=True)
    files = FolderFiles()
    descriptor = files.create(tmp_path / "CAM/1/.000001.m4s.part")
    with pytest.raises(StoreError, match="Another offload"):
        FolderStore(tmp_path).put("CAM/1", item())
    files.close(descriptor)
    FolderStore(tmp_path).put("CAM/1", item())


def test_a_source_that_rotted_gets_no_name(tmp_path: Path) -> None:
    with pytest.raises(EvidenceDamagedError, match="no longer what the journal vouches for"):
        FolderStore(tmp_path).put("CAM/1", item(sha256="0" * 64))
    assert names(tmp_path) == []


class LyingDisk(FolderFiles):
    """Loses a bit of what it is given."""

    def write(self, descriptor: int, data: bytes) -> None:
        super().write(descriptor, data[:-1] + bytes([data[-1] ^ 1]))


def test_a_disk_that_changes_bytes_is_found_out(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="reads back with other bytes"):
        FolderStore(tmp_path, LyingDisk()).put("CAM/1", item())
    assert names(tmp_path) == []


class StickWithoutLinks(FolderFiles):
    """A FAT-formatted stick: no hard links, no O_DIRECT."""

    def read_back(self, path: Path) -> tuple[str, str]:
        return self._hash(path, 0), "buffered"


def test_where_there_are_no_links_a_name_is_still_never_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    store = FolderStore(tmp_path, StickWithoutLinks())
    assert store.put("CAM/1", item()).read_back == "buffered"
    assert names(tmp_path) == ["CAM/1/000001.m4s"]
    part = tmp_path / "CAM/1/.x.part"
    part.write_bytes(b"other")
    with pytest.raises(FileExistsError):
        FolderFiles().publish(part, tmp_path / "CAM/1/000001.m4s")
    assert (tmp_path / "CAM/1/000001.m4s").read_bytes() == DATA


def test_where_direct_reading_is_refused_the_receipt_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = FolderFiles._hash

    def refuse_direct(path: Path, flag: int) -> str:
        if flag:
            raise OSError(errno.EINVAL, "Invalid argument")
        return real(path, flag)

    monkeypatch.setattr(FolderFiles, "_hash", staticmethod(refuse_direct))
    assert FolderStore(tmp_path).put("CAM/1", item()).read_back == "buffered"


def test_a_store_that_is_not_mounted_is_not_made_up(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="connect or mount"):
        FolderStore(tmp_path / "absent")


def test_a_full_store_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(StoreError, match="No space left on device"):
        FolderStore(tmp_path).put("CAM/1", item())
    monkeypatch.undo()
    FolderStore(tmp_path).put("CAM/1", item())
