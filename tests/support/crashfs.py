"""A file system in memory that records every operation, fails or stops at any of them, and can lose power.

`CrashFilesystem` stands in for `PosixFilesystem` behind the vault's seam. What a disk may hold after a cut, and which
legal behaviours are and are not modelled, is said in tests/support/disk_model.py.

A campaign runs the product once and then looks at each instant at which power could have gone:

    fs = CrashFilesystem()
    ...                                          # the product writes through fs
    for dead in fs.cuts():                       # before each operation, and after the last
        for state in dead.states_after_cut():    # each a new boot
            recover(state)                       # and check; state.origin says in words what it is

and, to prove that each sync is needed, again with `fs.cuts(without_sync=site)` for each `site` in `fs.sync_sites()`:
some check must then fail.
"""

from __future__ import annotations

import errno as errnos
import os
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from random import Random
from threading import RLock
from typing import BinaryIO

import agent.vault.filesystem
from agent.clock import SimulatedClock
from agent.errors import StorageError
from tests.support.cut_plans import cut_plans, in_words
from tests.support.disk_model import Disk, FileNode, FolderNode, TailFate
from tests.support.operations import DOING, SYNC_KINDS, CallSite, Operation, OpKind, Outcome, SyncSite, call_site

__all__ = [
    "FOREVER",
    "SYNC_KINDS",
    "CallSite",
    "CrashFile",
    "CrashFilesystem",
    "OpKind",
    "Operation",
    "Outcome",
    "PowerCut",
    "SyncPredicate",
    "SyncSite",
]

FOREVER = None
_SEAM_FILES = frozenset({__file__, agent.vault.filesystem.__file__})


class PowerCut(BaseException):
    """Power is gone: no `except Exception` of the product may go on from here."""


SyncPredicate = SyncSite | Callable[[Operation], bool]


@dataclass(slots=True)
class _Fault:
    first: int
    errno: int
    times: int | None
    kinds: Collection[OpKind]
    partial_bytes: int
    data_lost: bool


@dataclass(slots=True)
class _Stall:
    first: int
    duration_ns: int
    clock: SimulatedClock
    times: int | None


def _storage_error(number: int, doing: str, path: Path, target: Path | None = None) -> StorageError:
    second = () if target is None else (None, str(target))
    return StorageError(number, f"{doing} failed: {os.strerror(number)}", str(path), *second)


class CrashFile:
    """An open file of a CrashFilesystem."""

    def __init__(self, filesystem: CrashFilesystem, path: Path, handle: int) -> None:
        self._filesystem = filesystem
        self._path = path
        self._handle = handle
        self._closed = False

    def write(self, data: bytes) -> None:
        self._check_open(OpKind.WRITE)
        # A memoryview or bytearray would change under the model when the product reuses its buffer.
        self._filesystem._perform(OpKind.WRITE, self._path, data=bytes(data), handle=self._handle)

    def datasync(self) -> None:
        self._check_open(OpKind.DATASYNC)
        self._filesystem._perform(OpKind.DATASYNC, self._path, handle=self._handle)

    def close(self) -> None:
        """Changes nothing on a disk, so it is no operation and works after a cut as well."""
        self._closed = True

    def _check_open(self, kind: OpKind) -> None:
        if self._closed:
            raise _storage_error(errnos.EBADF, DOING[kind], self._path)


class CrashFilesystem:
    """The vault's `Filesystem` in memory. Safe to use from several threads; operations happen one at a time.

    root: exists durably from the start, with the folders above it.
    capacity_bytes: of all files together; may be changed at any time. Folders and names cost nothing.
    operations: what was asked of it since boot, in order.
    origin: which cut this boot follows and what survived it, for messages.
    """

    def __init__(self, root: Path = Path("/vault"), *, capacity_bytes: int = 64 << 30) -> None:
        folder = disk_root = FolderNode()
        for name in root.parts[1:]:
            child = FolderNode()
            folder.change(child, added=name)
            folder.sync()
            folder = child
        self._set_up(root, Disk(disk_root), capacity_bytes, [], "a fresh disk")

    def _set_up(self, root: Path, disk: Disk, capacity_bytes: int, disabled: list[SyncPredicate], origin: str) -> None:
        self.root = root
        self.capacity_bytes = capacity_bytes
        self.origin = origin
        self.operations: list[Operation] = []
        self._disk = disk
        self._start: Disk | None = None
        self._handles: dict[int, FileNode] = {}
        self._disabled = disabled
        self._faults: list[_Fault] = []
        self._stalls: list[_Stall] = []
        self._stop: tuple[int, int] | None = None
        self._is_off = False
        self._lock = RLock()

    @classmethod
    def _of(
        cls, root: Path, disk: Disk, capacity_bytes: int, disabled: list[SyncPredicate], origin: str
    ) -> CrashFilesystem:
        made = cls.__new__(cls)
        made._set_up(root, disk, capacity_bytes, list(disabled), origin)
        return made

    # What tests arrange.

    @property
    def is_off(self) -> bool:
        """True once power was cut: every operation and every read raises PowerCut."""
        return self._is_off

    def fail_at(
        self,
        n: int,
        errno: int,
        times: int | None = 1,
        *,
        kinds: Collection[OpKind] = tuple(OpKind),
        partial_bytes: int = 0,
        data_lost: bool = False,
    ) -> None:
        """From the operation that becomes `operations[n]` on, make the next `times` of these kinds raise StorageError.

        times: FOREVER (None) until `heal`. partial_bytes: how much of a failing write still gets into the file.
        data_lost: a failing datasync, sync_file or sync_dir drops what is dirty; otherwise it stays dirty and a later
        sync writes it. Raises ValueError when operation n has been already.
        """
        self._check_ahead(n)
        self._faults.append(_Fault(n, errno, times, kinds, partial_bytes, data_lost))

    def heal(self) -> None:
        """End all faults arranged so far: the card works again."""
        self._faults.clear()

    def stop_at(self, n: int, *, written_bytes: int = 0) -> None:
        """Cut power just before `operations[n]` takes effect; of a write, `written_bytes` get as far as the page cache.

        Raises ValueError when operation n has been already.
        """
        self._check_ahead(n)
        self._stop = (n, written_bytes)

    def stall_at(self, n: int, duration_ns: int, clock: SimulatedClock, times: int | None = 1) -> None:
        """Make `operations[n]` and the `times - 1` after it (FOREVER: all) take this long on the simulated clock.

        Raises ValueError when operation n has been already.
        """
        self._check_ahead(n)
        self._stalls.append(_Stall(n, duration_ns, clock, times))

    def set_free_bytes(self, free_bytes: int) -> None:
        """Set the capacity so that this much can still be written; a write beyond is partial and raises ENOSPC."""
        self.capacity_bytes = self._disk.used_bytes + free_bytes

    def disable_sync(self, what: SyncPredicate) -> None:
        """Turn the syncs of a call site, or those a predicate picks, into no-ops that succeed.

        Boots after a cut inherit it. Arrange it before the product runs: `cuts` applies it to the whole history.
        """
        self._disabled.append(what)

    def sync_sites(self) -> list[SyncSite]:
        """The distinct lines of code that asked for a sync on this boot, in order of first use."""
        return list(dict.fromkeys(SyncSite(op.kind, op.site) for op in self.operations if op.kind in SYNC_KINDS))

    def put(self, path: Path, data: bytes) -> None:
        """Place a durable file without an operation, over an existing one if need be: what the disk held from before.

        Makes missing folders. Raises ValueError after the first operation, which would have to be replayed over it.
        """
        if self.operations:
            raise ValueError("Place files before the first operation; later they could not be told from the product's.")
        folder = self._disk.root
        for name in path.parent.parts[1:]:
            if name not in folder.names:
                folder.change(FolderNode(), added=name)
                folder.sync()
            child = folder.names[name]
            if not isinstance(child, FolderNode):
                raise ValueError(f"{path} lies under a file; choose another place.")
            folder = child
        self._disk.used_bytes += len(data) - (self.size_bytes(path) or 0)
        folder.change(FileNode((data,) if data else ()), added=path.name)
        folder.sync()

    # The seam: operations.

    def create(self, path: Path) -> CrashFile:
        operation = self._perform(OpKind.CREATE, path)
        return CrashFile(self, path, operation.index)

    def sync_file(self, path: Path) -> None:
        self._perform(OpKind.SYNC_FILE, path)

    def make_dir(self, path: Path) -> None:
        self._perform(OpKind.MAKE_DIR, path)

    def sync_dir(self, path: Path) -> None:
        self._perform(OpKind.SYNC_DIR, path)

    def rename(self, source: Path, target: Path) -> None:
        self._perform(OpKind.RENAME, source, target=target)

    # The seam: the read side, which sees the page cache.

    def list_dir(self, path: Path) -> list[str]:
        with self._reading("Listing", path):
            try:
                return sorted(self._disk.folder(path).names)
            except (FileNotFoundError, NotADirectoryError):
                return []

    def read(self, path: Path) -> bytes:
        return b"".join(self._chunks(path))

    def read_chunks(self, path: Path, chunk_bytes: int = 1 << 20) -> Iterator[bytes]:
        data = memoryview(self.read(path))
        for start in range(0, len(data), chunk_bytes):
            yield bytes(data[start : start + chunk_bytes])

    def open_read(self, path: Path) -> BinaryIO:
        return BytesIO(b"".join(self._chunks(path, "Opening")))

    def is_link(self, path: Path) -> bool:
        with self._reading("lstat", path):
            return False  # this disk has none

    def size_bytes(self, path: Path) -> int | None:
        with self._reading("stat", path):
            try:
                node = self._disk.find(path)
            except FileNotFoundError:
                return None
            return node.size_bytes if isinstance(node, FileNode) else None

    def free_bytes(self, path: Path) -> int:
        with self._reading("statvfs", path):
            try:
                self._disk.find(path)
            except FileNotFoundError as error:
                raise _storage_error(errnos.ENOENT, "statvfs", path) from error
            return max(self.capacity_bytes - self._disk.used_bytes, 0)

    # What comes after a cut.

    def states_after_cut(self, limit: int = 16, seed: int = 0) -> Iterator[CrashFilesystem]:
        """New boots, each on a disk as a power cut at this instant may leave it; at most `limit`, none planned
        twice.

        First the smallest state (only what was synced), then the largest (all that can have reached the disk), then by
        turns one deviation from either and a random mixture. A disk with nothing unsynced has one state. The same
        history and seed give the same states.
        """
        with self._lock:
            changes, files = self._disk.undecided()
            seen: set[tuple[frozenset[int], tuple[TailFate, ...]]] = set()
            random = Random(seed)
            numbers = {change: number for number, change in enumerate(changes)}
            stale = 0
            for survived, fates in cut_plans(changes, files, random):
                plan = (frozenset(numbers[change] for change in survived), tuple(fates[file] for file in files))
                if plan in seen:
                    stale += 1
                    if stale > 32:  # the few combinations there are have all been seen
                        return
                    continue
                stale = 0
                seen.add(plan)
                disk = self._disk.after_cut(survived, fates)
                origin = f"{self._instant()}; {in_words(changes, survived, fates)}"
                yield CrashFilesystem._of(self.root, disk, self.capacity_bytes, self._disabled, origin)
                if len(seen) >= limit or not (changes or files):
                    return

    def smallest_state(self) -> CrashFilesystem:
        """The next boot with only what was synced."""
        return next(self.states_after_cut(limit=1))

    def cut_before(self, n: int, *, without_sync: SyncPredicate | None = None) -> CrashFilesystem:
        """This history again up to but without `operations[n]`, then power off; n = len(operations) keeps all of it.

        As `stop_at(n)`, without running the product again. without_sync: as `disable_sync`, for this history only. A
        write cut half way needs no case of its own: its torn prefixes are among the states after the whole write.
        Raises ValueError when there is no such operation.
        """
        if not 0 <= n <= len(self.operations):
            raise ValueError(f"The history has {len(self.operations)} operations; none can be cut at {n}.")
        replayed = self._before_history(without_sync)
        for operation in self.operations[:n]:
            replayed._redo(operation)
        replayed._is_off = True
        return replayed

    def cuts(self, *, without_sync: SyncPredicate | None = None) -> Iterator[CrashFilesystem]:
        """`cut_before(n)` for each n from 0 to all of the history, in one pass; `len(dead.operations)` is n."""
        replayed = self._before_history(without_sync)
        for n in range(len(self.operations) + 1):
            disk, _ = replayed._disk.clone()
            dead = CrashFilesystem._of(self.root, disk, self.capacity_bytes, replayed._disabled, self.origin)
            dead.operations = self.operations[:n]
            dead._is_off = True
            yield dead
            if n < len(self.operations):
                replayed._redo(self.operations[n])

    def after_kill(self) -> CrashFilesystem:
        """The same disk for the next process of the same boot: nothing is lost, and what is not synced still is not."""
        with self._lock:
            disk, _ = self._disk.clone()
            origin = f"killed: {self._instant()}"
            return CrashFilesystem._of(self.root, disk, self.capacity_bytes, self._disabled, origin)

    def materialise(self, target: Path) -> Path:
        """Write what is under `root` into the real folder `target`, for tools to read; returns `target`."""

        def write(node: FileNode | FolderNode, path: Path) -> None:
            if isinstance(node, FileNode):
                path.write_bytes(b"".join(node.chunks()))
            else:
                path.mkdir(parents=True, exist_ok=True)
                for name, child in node.names.items():
                    write(child, path / name)

        with self._lock:
            write(self._disk.folder(self.root), target)
        return target

    # How it works.

    def _check_ahead(self, n: int) -> None:
        if n < len(self.operations):
            raise ValueError(f"Operation {n} has been already; the next is {len(self.operations)}.")

    def _instant(self) -> str:
        if not self.operations:
            return "cut before any operation"
        last = self.operations[-1]
        return f"cut {'during' if last.outcome is Outcome.CUT else 'after'} {last.label}"

    def _before_history(self, without_sync: SyncPredicate | None) -> CrashFilesystem:
        disk, _ = (self._start or self._disk).clone()
        disabled = self._disabled + ([] if without_sync is None else [without_sync])
        return CrashFilesystem._of(self.root, disk, self.capacity_bytes, disabled, self.origin)

    def _redo(self, operation: Operation) -> None:
        self._apply(operation)
        self.operations.append(operation)

    def _perform(
        self, kind: OpKind, path: Path, *, target: Path | None = None, data: bytes = b"", handle: int | None = None
    ) -> Operation:
        site = call_site(_SEAM_FILES)
        with self._lock:
            self._check_power()
            if self._start is None:
                self._start, _ = self._disk.clone()
            asked = Operation(len(self.operations), kind, path, site, target, data, handle, written_bytes=len(data))
            self._wait_for_stalls(asked)
            operation = self._decide(asked)
            try:
                self._apply(operation)
            except OSError as error:
                operation = replace(operation, outcome=Outcome.FAILED, errno=error.errno)
            self.operations.append(operation)
            if operation.outcome is Outcome.CUT:
                self._is_off = True
                raise PowerCut(f"Power was cut: {operation.label}.")
            if operation.outcome is Outcome.FAILED:
                raise _storage_error(operation.errno or errnos.EIO, DOING[kind], path, target)
            return operation

    def _wait_for_stalls(self, asked: Operation) -> None:
        for stall in self._stalls:
            if asked.index >= stall.first and (stall.times is FOREVER or asked.index < stall.first + stall.times):
                stall.clock.advance_ns(stall.duration_ns)

    def _decide(self, asked: Operation) -> Operation:
        room_bytes = max(self.capacity_bytes - self._disk.used_bytes, 0)
        if self._stop is not None and asked.index == self._stop[0]:
            written = min(self._stop[1], len(asked.data), room_bytes)
            return replace(asked, outcome=Outcome.CUT, written_bytes=written)
        for fault in self._faults:
            if asked.index >= fault.first and asked.kind in fault.kinds and fault.times != 0:
                if fault.times is not FOREVER:
                    fault.times -= 1
                written = min(fault.partial_bytes, len(asked.data), room_bytes)
                dropped = fault.data_lost and asked.kind in SYNC_KINDS
                return replace(
                    asked,
                    outcome=Outcome.FAILED,
                    errno=fault.errno,
                    written_bytes=written,
                    pages_dropped=dropped,
                )
        if len(asked.data) > room_bytes:
            return replace(asked, outcome=Outcome.FAILED, errno=errnos.ENOSPC, written_bytes=room_bytes)
        return asked

    def _apply(self, operation: Operation) -> None:
        disk = self._disk
        if operation.kind is OpKind.WRITE:
            assert operation.handle is not None
            disk.append(self._handles[operation.handle], operation.data[: operation.written_bytes])
        elif operation.kind in (OpKind.DATASYNC, OpKind.SYNC_FILE):
            if operation.outcome is Outcome.DONE or operation.pages_dropped:
                node = disk.find(operation.path) if operation.handle is None else self._handles[operation.handle]
                if isinstance(node, FolderNode):
                    return  # fsync through sync_file is not the fsync of a folder that its names need
                if operation.pages_dropped:
                    node.drop_dirty_pages()
                elif not self._is_disabled(operation):
                    node.sync()
                    if operation.kind is OpKind.SYNC_FILE:
                        node.forget_cache()
        elif operation.kind is OpKind.SYNC_DIR and operation.pages_dropped:
            disk.folder(operation.path).drop_dirty_block()
        elif operation.outcome is not Outcome.DONE:
            return
        elif operation.kind is OpKind.CREATE:
            self._handles[operation.index] = disk.create(operation.path)
        elif operation.kind is OpKind.MAKE_DIR:
            disk.make_dir(operation.path)
        elif operation.kind is OpKind.SYNC_DIR:
            folder = disk.folder(operation.path)
            if not self._is_disabled(operation):
                folder.sync()
        else:
            assert operation.target is not None
            disk.rename(operation.path, operation.target)

    def _is_disabled(self, operation: Operation) -> bool:
        site = SyncSite(operation.kind, operation.site)
        return any(what == site if isinstance(what, SyncSite) else what(operation) for what in self._disabled)

    def _check_power(self) -> None:
        if self._is_off:
            raise PowerCut("Power has been cut; boot one of the states after it.")

    @contextmanager
    def _reading(self, doing: str, path: Path) -> Iterator[None]:
        with self._lock:
            self._check_power()
            try:
                yield
            except FileNotFoundError as error:
                raise FileNotFoundError(errnos.ENOENT, os.strerror(errnos.ENOENT), str(path)) from error
            except StorageError:
                raise
            except OSError as error:
                raise _storage_error(error.errno or errnos.EIO, doing, path) from error

    def _chunks(self, path: Path, doing: str = "Reading") -> list[bytes]:
        with self._reading(doing, path):
            node = self._disk.find(path)
            if isinstance(node, FolderNode):
                raise _storage_error(errnos.EISDIR, doing, path)
            return list(node.chunks())
