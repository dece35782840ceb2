"""What a disk may hold after a power cut, modelled from the synced operations alone.

The model is what fsync(2), fdatasync(2) and rename(2) promise and nothing beyond it. Modelled as legal after a cut:

- Appended bytes that no sync covered: any prefix of them, down to none; or the length grew and the missing part reads
  as zeros or as garbage; or pages of 4 KiB were written out of order, with holes of zeros or garbage between them.
- A name made or renamed since its folder was last synced: each such change survived or not, in any combination,
  whether or not the file's data was synced. ext4 happens to keep the name of a new file that was fsync'd; that is not
  relied on. A folder whose own name was lost is gone with all it holds.
- rename(2) within a folder is one change: afterwards the target is the old file or the new one, whole. Between two
  folders it is two changes, each durable by the sync of its own folder: the file may be under both names, or none.
- After a failed sync that dropped the dirty pages, those bytes never reach the disk: readers still see them until the
  cut or a `sync_file`, which forgets what is cached; a later sync succeeds without them, and what follows them stands
  behind a hole of zeros or garbage.
- After a failed sync of a folder that dropped its dirty block, a later sync succeeds without having written it, until
  another name in it is changed: then the block is dirty again, and written as a whole.

No order is assumed between what no sync separates; what a sync covered is never undone.

Not modelled, so no test may claim it: bit rot, lying barriers (a card that acknowledges a flush it did not do), damage
to what was synced before, another file's old blocks turning up in a tail (garbage is random bytes), files longer than
they ever were, hard links, symbolic links, deletion, and moving a folder
into another folder.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

PAGE_BYTES = 4096


@dataclass(frozen=True, slots=True)
class _Extent:
    """Bytes of one write. `lost`: dropped by a failed sync; in the page cache, never on the disk."""

    data: bytes
    lost: bool = False


@dataclass(frozen=True, slots=True)
class TailFate:
    """What a cut leaves of the bytes behind the last synced one.

    The file grew by `length_bytes`, of which the first `kept_bytes` are what was written and the others are filler:
    zeros, or garbage from `garbage_seed`. With `scatter_seed` pages among the kept ones are filler too.
    """

    kept_bytes: int
    length_bytes: int
    garbage_seed: int | None = None
    scatter_seed: int | None = None

    def __str__(self) -> str:
        filler = "zeros" if self.garbage_seed is None else "garbage"
        scattered = " in scattered pages" if self.scatter_seed is not None else ""
        return f"kept {self.kept_bytes}{scattered}, then {self.length_bytes - self.kept_bytes} of {filler}"


class FileNode:
    """An append-only file: bytes durable since boot, then one extent for each write since."""

    __slots__ = ("_base", "_base_bytes", "_has_lost", "_settled", "_tail", "size_bytes")

    def __init__(self, base: tuple[bytes, ...] = ()) -> None:
        self._base = base
        self._base_bytes = sum(map(len, base))
        self._tail: list[_Extent] = []
        self._settled = 0  # how many extents of the tail a sync has dealt with: made durable, or lost
        self._has_lost = False
        self.size_bytes = self._base_bytes

    def append(self, data: bytes) -> None:
        if data:
            self._tail.append(_Extent(data))
            self.size_bytes += len(data)

    def sync(self) -> None:
        self._settled = len(self._tail)

    def drop_dirty_pages(self) -> None:
        """What a failed fsync may do: the pages are clean from then on, though they were never written."""
        dirty = self._tail[self._settled :]
        self._tail[self._settled :] = [_Extent(extent.data, lost=True) for extent in dirty]
        self._has_lost = self._has_lost or bool(dirty)
        self._settled = len(self._tail)

    def forget_cache(self) -> None:
        """Show what is on the disk from here on: what a failed sync dropped is gone for readers, too."""
        if self._has_lost and self._settled == len(self._tail):
            on_disk = self.after_cut(TailFate(0, 0))
            self._base, self._base_bytes, self.size_bytes = on_disk._base, on_disk._base_bytes, on_disk.size_bytes
            self._tail, self._settled, self._has_lost = [], 0, False

    def chunks(self) -> Iterator[bytes]:
        """The live content, as a reader sees it in the page cache."""
        yield from self._base
        for extent in self._tail:
            yield extent.data

    def clone(self) -> FileNode:
        copy = FileNode.__new__(FileNode)
        copy._base, copy._base_bytes = self._base, self._base_bytes
        copy._tail, copy._settled, copy._has_lost = self._tail.copy(), self._settled, self._has_lost
        copy.size_bytes = self.size_bytes
        return copy

    def _firm_extents(self) -> int:
        # A lost extent is settled and still not on the disk: the length is firm only up to the last synced one.
        count = self._settled
        while count and self._tail[count - 1].lost:
            count -= 1
        return count

    def _loose_bytes(self) -> int:
        return sum(len(extent.data) for extent in self._tail[self._firm_extents() :])

    @property
    def is_undecided(self) -> bool:
        """True when a cut may leave more than one content."""
        return self._has_lost or self._firm_extents() < len(self._tail)

    def largest_fate(self) -> TailFate:
        """Everything that can have reached the disk did."""
        loose_bytes = self._loose_bytes() if self._settled < len(self._tail) else 0
        return TailFate(loose_bytes, loose_bytes)

    def _some_length(self, random: Random) -> int:
        loose = self._tail[self._firm_extents() :]
        total = sum(len(extent.data) for extent in loose)
        way = random.randrange(4)
        if way == 0:  # between two writes, or one byte off: where a parser's off-by-one lives
            edge = sum(len(extent.data) for extent in loose[: random.randrange(len(loose) + 1)])
            return min(max(edge + random.choice((-1, 0, 1)), 0), total)
        if way == 1:
            start = self.size_bytes - total
            page_end = (random.randint(start, self.size_bytes) // PAGE_BYTES + 1) * PAGE_BYTES
            return min(page_end - start, total)
        return random.randint(0, total)

    def some_fate(self, random: Random) -> TailFate:
        """One of the legal ends, drawn so that each shape of tail comes up often."""
        fate = self._drawn_fate(random)
        needs_filler = self._has_lost or fate.kept_bytes < fate.length_bytes or fate.scatter_seed is not None
        return fate if needs_filler else TailFate(fate.kept_bytes, fate.length_bytes)

    def _drawn_fate(self, random: Random) -> TailFate:
        total = self._loose_bytes()
        garbage_seed = random.getrandbits(32) if random.random() < 0.5 else None
        shape = random.choice(("none", "all", "torn", "torn", "filled", "grown", "scattered")) if total else "none"
        if shape == "none":
            return TailFate(0, 0, garbage_seed)
        if shape == "all":
            return TailFate(total, total, garbage_seed)
        if shape == "filled":
            return TailFate(0, total, garbage_seed)
        kept = self._some_length(random)
        if shape == "torn":
            return TailFate(kept, kept, garbage_seed)
        length = max(kept, self._some_length(random)) if random.random() < 0.5 else total
        return TailFate(kept, length, garbage_seed, random.getrandbits(32) if shape == "scattered" else None)

    def after_cut(self, fate: TailFate) -> FileNode:
        """The file as the next boot finds it."""
        firm = self._firm_extents()
        garbage = None if fate.garbage_seed is None else Random(fate.garbage_seed)

        def filler(length: int) -> bytes:
            return bytes(length) if garbage is None else garbage.randbytes(length)

        def on_disk(extent: _Extent) -> bytes:
            return filler(len(extent.data)) if extent.lost else extent.data

        base = self._base + tuple(on_disk(extent) for extent in self._tail[:firm])
        if not fate.length_bytes:
            return FileNode(base)
        loose = b"".join(on_disk(extent) for extent in self._tail[firm:])[: fate.kept_bytes]
        if fate.scatter_seed is not None:
            loose = self._scatter(loose, Random(fate.scatter_seed), filler)
        return FileNode((*base, loose + filler(fate.length_bytes - fate.kept_bytes)))

    def _scatter(self, loose: bytes, random: Random, filler: Callable[[int], bytes]) -> bytes:
        start = self.size_bytes - self._loose_bytes()
        pieces = []
        at = 0
        while at < len(loose):
            page_end = (start + at) // PAGE_BYTES * PAGE_BYTES + PAGE_BYTES - start
            piece = loose[at:page_end]
            pieces.append(piece if random.random() < 0.5 else filler(len(piece)))
            at = page_end
        return b"".join(pieces)


@dataclass(frozen=True, slots=True, eq=False)
class NameChange:
    """One change of a folder's names that is there after a cut as a whole or not at all."""

    node: FileNode | FolderNode
    added: str | None
    removed: str | None

    def apply(self, names: dict[str, FileNode | FolderNode]) -> None:
        if self.removed is not None and names.get(self.removed) is self.node:
            del names[self.removed]
        if self.added is not None:
            names[self.added] = self.node


class FolderNode:
    """A folder: its names as they are, as they were last synced, and the changes between."""

    __slots__ = ("durable", "is_dirty", "names", "pending")

    def __init__(self) -> None:
        self.is_dirty = False
        self.names: dict[str, FileNode | FolderNode] = {}
        self.durable: dict[str, FileNode | FolderNode] = {}
        self.pending: list[NameChange] = []

    def change(self, node: FileNode | FolderNode, added: str | None = None, removed: str | None = None) -> None:
        change = NameChange(node, added, removed)
        change.apply(self.names)
        self.pending.append(change)
        self.is_dirty = True

    def drop_dirty_block(self) -> None:
        """What a failed fsync may do: the block is clean from then on, though it was never written."""
        self.is_dirty = False

    def sync(self) -> None:
        if self.is_dirty:
            self.is_dirty = False
            self.durable = dict(self.names)
            self.pending = []


Node = FileNode | FolderNode


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


class Disk:
    """The tree and its page cache. Methods raise OSError as the system call would, before anything is changed."""

    def __init__(self, root: FolderNode | None = None) -> None:
        self.root = root or FolderNode()
        self.used_bytes = sum(node.size_bytes for node in self._reachable() if isinstance(node, FileNode))

    def find(self, path: Path) -> Node:
        if not path.is_absolute() or ".." in path.parts:
            raise ValueError(f"{path} is not an absolute path without '..'; the vault uses no other.")
        node: Node = self.root
        for name in path.parts[1:]:
            if not isinstance(node, FolderNode):
                raise _error(errno.ENOTDIR)
            if name not in node.names:
                raise _error(errno.ENOENT)
            node = node.names[name]
        return node

    def folder(self, path: Path) -> FolderNode:
        node = self.find(path)
        if not isinstance(node, FolderNode):
            raise _error(errno.ENOTDIR)
        return node

    def create(self, path: Path) -> FileNode:
        parent = self.folder(path.parent)
        if path.name in parent.names:
            raise _error(errno.EEXIST)
        node = FileNode()
        parent.change(node, added=path.name)
        return node

    def append(self, node: FileNode, data: bytes) -> None:
        node.append(data)
        self.used_bytes += len(data)

    def make_dir(self, path: Path) -> None:
        parent = self.folder(path.parent)
        if path.name not in parent.names:
            parent.change(FolderNode(), added=path.name)
        elif not isinstance(parent.names[path.name], FolderNode):
            raise _error(errno.EEXIST)

    def rename(self, source: Path, target: Path) -> None:
        source_folder, target_folder = self.folder(source.parent), self.folder(target.parent)
        if (node := source_folder.names.get(source.name)) is None:
            raise _error(errno.ENOENT)
        if target.is_relative_to(source) and target != source:
            raise _error(errno.EINVAL)
        if source.is_relative_to(target) and target != source:
            raise _error(errno.ENOTEMPTY)
        replaced = target_folder.names.get(target.name)
        if replaced is node:
            return
        if isinstance(node, FolderNode):
            if isinstance(replaced, FileNode):
                raise _error(errno.ENOTDIR)
            if replaced is not None and replaced.names:
                raise _error(errno.ENOTEMPTY)
            if source_folder is not target_folder:
                raise NotImplementedError(f"Moving the folder {source} into another folder is not modelled.")
        elif isinstance(replaced, FolderNode):
            raise _error(errno.EISDIR)
        if isinstance(replaced, FileNode):
            self.used_bytes -= replaced.size_bytes
        if source_folder is target_folder:
            source_folder.change(node, added=target.name, removed=source.name)
        else:
            target_folder.change(node, added=target.name)
            source_folder.change(node, removed=source.name)

    def _reachable(self) -> Iterator[Node]:
        """Every node that is under a name now or can be after a cut, once."""
        seen: set[int] = set()
        waiting: list[Node] = [self.root]
        while waiting:
            node = waiting.pop()
            if id(node) in seen:
                continue
            seen.add(id(node))
            yield node
            if isinstance(node, FolderNode):
                waiting.extend(node.names.values())
                waiting.extend(node.durable.values())
                waiting.extend(change.node for change in node.pending)

    def undecided(self) -> tuple[list[NameChange], list[FileNode]]:
        """What a cut at this instant decides: the unsynced name changes, and the files with unsynced or lost bytes."""
        changes: list[NameChange] = []
        files: list[FileNode] = []
        for node in self._reachable():
            if isinstance(node, FolderNode):
                changes.extend(node.pending)
            elif node.is_undecided:
                files.append(node)
        return changes, files

    def after_cut(self, survived: set[NameChange], fates: dict[FileNode, TailFate]) -> Disk:
        """The disk as the next boot finds it; files not in `fates` have only one possible content."""
        made: dict[int, Node] = {}

        def rebuilt(node: Node) -> Node:
            if id(node) not in made:
                if isinstance(node, FileNode):
                    made[id(node)] = node.after_cut(fates.get(node, TailFate(0, 0)))
                else:
                    folder = made[id(node)] = FolderNode()
                    names = dict(node.durable)
                    for change in node.pending:
                        if change in survived:
                            change.apply(names)
                    folder.durable = {name: rebuilt(child) for name, child in names.items()}
                    folder.names = dict(folder.durable)
            return made[id(node)]

        root = rebuilt(self.root)
        assert isinstance(root, FolderNode)
        return Disk(root)

    def clone(self) -> tuple[Disk, dict[FileNode, FileNode]]:
        """An independent copy sharing all bytes, and which file of it stands for which of this one."""
        copies: dict[int, Node] = {}
        files: dict[FileNode, FileNode] = {}
        nodes = list(self._reachable())
        for node in nodes:
            if isinstance(node, FileNode):
                files[node] = copies[id(node)] = node.clone()
            else:
                copies[id(node)] = FolderNode()
        for node in nodes:
            if isinstance(node, FolderNode):
                copy = copies[id(node)]
                assert isinstance(copy, FolderNode)
                copy.names = {name: copies[id(child)] for name, child in node.names.items()}
                copy.durable = {name: copies[id(child)] for name, child in node.durable.items()}
                copy.is_dirty = node.is_dirty
                copy.pending = [NameChange(copies[id(c.node)], c.added, c.removed) for c in node.pending]
        disk = Disk.__new__(Disk)
        root = copies[id(self.root)]
        assert isinstance(root, FolderNode)
        disk.root, disk.used_bytes = root, self.used_bytes
        return disk, files
