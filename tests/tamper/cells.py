"""The generated part: every kind of file that a package has x everything that can be done to a file as such.

Which files there are is asked of real packages, and each has to be of one kind here; each kind has to say what is found
for each tampering. So the matrix cannot fall behind the format.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.tamper.kind import Forger, Harm, Kind
from tests.tamper.table import FILES


@dataclass(frozen=True)
class FileKind:
    """A kind of file. pattern: of its names; the nth of a base that fits is what it is tried on.

    sibling: what it is exchanged with. stolen: (base, name) of what stands for it in another recording's package and
    in another camera's.
    """

    name: str
    pattern: str
    base: str
    sibling: str
    stolen: tuple[tuple[str, str], tuple[str, str]]
    nth: int = 0

    def matches(self, name: str) -> bool:
        """Whether a file's name in a package is of this kind."""
        return re.fullmatch(self.pattern, name) is not None

    def of(self, package: Path) -> str:
        """The file that it is tried on."""
        names = sorted(str(path.relative_to(package)) for path in package.rglob("*") if path.is_file())
        return [name for name in names if self.matches(name)][self.nth]


def flipped(place: Callable[[bytes], int]) -> Callable[[FileKind, Forger], None]:
    def harm(kind: FileKind, forger: Forger) -> None:
        data = bytearray(forger.read(kind.of(forger.package)))
        data[place(bytes(data))] ^= 1
        forger.write(kind.of(forger.package), bytes(data))

    return harm


def middle(data: bytes) -> int:
    """A place in the middle where chance decides little: of a log a digit of a record's time, else no line's end."""
    if data.startswith(b'{"v":1,'):
        lines = data.splitlines(keepends=True)
        start = len(b"".join(lines[: len(lines) // 2]))
        return data.index(b'"boottime_ns":', start) + len(b'"boottime_ns":') + 3
    at = len(data) // 2
    return at - 1 if data[at : at + 1] == b"\n" else at


def rewritten(change: Callable[[bytes], bytes]) -> Callable[[FileKind, Forger], None]:
    def harm(kind: FileKind, forger: Forger) -> None:
        name = kind.of(forger.package)
        forger.write(name, change(forger.read(name)))

    return harm


def deleted(kind: FileKind, forger: Forger) -> None:
    forger.path(kind.of(forger.package)).unlink()


def exchanged(kind: FileKind, forger: Forger) -> None:
    name = kind.of(forger.package)
    (sibling,) = forger.package.glob(kind.sibling)
    assert sibling != forger.path(name)
    mine, other = forger.read(name), sibling.read_bytes()
    sibling.write_bytes(mine)
    forger.write(name, other)


def stolen(which: int) -> Callable[[FileKind, Forger], None]:
    def harm(kind: FileKind, forger: Forger) -> None:
        forger.write(kind.of(forger.package), forger.steal(*kind.stolen[which]))

    return harm


def linked(kind: FileKind, forger: Forger) -> None:
    """A link to the very same bytes."""
    name = kind.of(forger.package)
    forger.path(name).unlink()
    forger.path(name).symlink_to(forger.bases.packages[kind.base] / name)


def made_a_folder(kind: FileKind, forger: Forger) -> None:
    name = kind.of(forger.package)
    forger.path(name).unlink()
    forger.path(name).mkdir()


TAMPERINGS: dict[str, Callable[[FileKind, Forger], None]] = {
    "its first bit flipped": flipped(lambda _: 0),
    "a bit in its middle flipped": flipped(middle),
    "its last bit flipped": flipped(lambda data: len(data) - 1),
    "a byte cut off": rewritten(lambda data: data[:-1]),
    "cut in half": rewritten(lambda data: data[: len(data) // 2]),
    "emptied": rewritten(lambda _: b""),
    "a byte added": rewritten(lambda data: data + b"\n"),
    "its content doubled": rewritten(lambda data: data * 2),
    "deleted": deleted,
    "exchanged with a sibling": exchanged,
    "replaced by another recording's": stolen(0),
    "replaced by another camera's": stolen(1),
    "a link to its equal": linked,
    "a folder in its place": made_a_folder,
}


def same_in_others(name: str) -> tuple[tuple[str, str], tuple[str, str]]:
    """The file of that name in both."""
    return ("sibling", name), ("other camera", name)


def done(harm: Callable[[FileKind, Forger], None], kind: FileKind) -> Harm:
    """To a kind of file."""
    return lambda forger: harm(kind, forger)


LOG = r"journal/[0-9]{6}\.journal"
LOGS = (("sibling", "journal/000002.journal"), ("other camera", "journal/000001.journal"))
FILE_KINDS = [
    FileKind("PACKAGE.txt", r"PACKAGE\.txt", "plain", "README.txt", same_in_others("PACKAGE.txt")),
    FileKind("SHA256SUMS", "SHA256SUMS", "plain", "PACKAGE.txt", same_in_others("SHA256SUMS")),
    FileKind("recording.json", r"recording\.json", "plain", "support.json", same_in_others("recording.json")),
    FileKind("support.json", r"support\.json", "plain", "recording.json", same_in_others("support.json")),
    FileKind("support.txt", r"support\.txt", "plain", "README.txt", same_in_others("support.txt")),
    FileKind("README.txt", r"README\.txt", "plain", "VERIFY.txt", same_in_others("README.txt")),
    FileKind("VERIFY.txt", r"VERIFY\.txt", "plain", "README.txt", same_in_others("VERIFY.txt")),
    FileKind("verify.sh", r"verify\.sh", "plain", "VERIFY.txt",
             (("sibling", "verify.sh"), ("other camera", "README.txt"))),
    FileKind("device/chain.pem", r"device/chain\.pem", "plain", "device/root.pem", same_in_others("device/chain.pem")),
    FileKind("device/chain-<sha256>.pem", r"device/chain-[0-9a-f]{64}\.pem", "rotated", "device/root.pem",
             same_in_others("device/chain.pem")),
    FileKind("device/root.pem", r"device/root\.pem", "plain", "device/chain.pem",
             (("sibling", "device/root.pem"), ("other CA", "device/root.pem"))),
    FileKind("the first journal file", LOG, "long log", "journal/000002.journal", LOGS),
    FileKind("a journal file in the middle", LOG, "long log", "journal/000003.journal", LOGS, nth=1),
    FileKind("the last journal file", LOG, "long log", "journal/000001.journal", LOGS, nth=-1),
    FileKind("init.mp4", r"init\.mp4", "plain", "000001.m4s", (("signed video", "init.mp4"), ("gap", "init.mp4"))),
    FileKind("the first segment", r"[0-9]{6}\.m4s", "plain", "000002.m4s", same_in_others("000001.m4s")),
    FileKind("the last segment", r"[0-9]{6}\.m4s", "plain", "000001.m4s", same_in_others("000002.m4s"), nth=-1),
    FileKind("an encrypted segment", r"[0-9]{6}\.m4s\.age", "encrypted", "000002.m4s.age",
             (("encrypted sibling", "000001.m4s.age"), ("other camera", "000001.m4s"))),
]  # fmt: skip
KINDS = [
    Kind(f"{FILES}: {kind.name}", name, kind.base, done(harm, kind), sums=sums)
    for kind in FILE_KINDS
    for name, harm in TAMPERINGS.items()
    for sums in (True, False)
    if not (sums and kind.name == "SHA256SUMS")  # made anew, it is what it was
]
