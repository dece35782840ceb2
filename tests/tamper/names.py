"""What a folder may hold besides honest files: links, pipes, devices, and names that lead elsewhere or play tricks."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

from tests.tamper.kind import Forger, Harm, Kind

SECTION = "Names and files"


def link(name: str, to: Callable[[Forger], Path | str]) -> Harm:
    """A symbolic link in a file's or folder's place."""

    def harm(forger: Forger) -> None:
        path = forger.path(name)
        target = to(forger)
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        path.symlink_to(target)

    return harm


def same(name: str) -> Callable[[Forger], Path]:
    """The very same file in the sound package, so that nothing but the link is wrong."""
    return lambda forger: forger.bases.packages["plain"] / name


def pipe(name: str) -> Harm:
    def harm(forger: Forger) -> None:
        forger.path(name).unlink(missing_ok=True)
        os.mkfifo(forger.path(name))

    return harm


def device(name: str) -> Harm:
    """/dev/zero under another name, which never ends; where no device can be made, a link to it."""

    def harm(forger: Forger) -> None:
        path = forger.path(name)
        path.unlink(missing_ok=True)
        try:
            os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5))
        except PermissionError:
            path.symlink_to("/dev/zero")

    return harm


def listed(name: bytes, digest: str = "0" * 64) -> Harm:
    """One more line in SHA256SUMS."""
    return lambda forger: forger.write("SHA256SUMS", forger.read("SHA256SUMS") + digest.encode() + b"  " + name + b"\n")


def there(name: str, data: bytes = b"x") -> Harm:
    """One more file."""

    def harm(forger: Forger) -> None:
        forger.path(name).parent.mkdir(exist_ok=True)
        forger.write(name, data)

    return harm


def folder(name: str) -> Harm:
    return lambda forger: forger.path(name).mkdir()


def listed_twice(forger: Forger) -> None:
    sums = forger.read("SHA256SUMS")
    forger.write("SHA256SUMS", sums + sums.splitlines(keepends=True)[0])


def half_copied(forger: Forger) -> None:
    """What is left of an interrupted copy; no tampering, and no part of it."""
    forger.write(".000001.m4s.part", b"x")


KINDS = [
    Kind(SECTION, "a segment that is a link to itself elsewhere", "plain", link("000001.m4s", same("000001.m4s"))),
    Kind(SECTION, "a segment that is a link to a file of the computer", "plain",
         link("000001.m4s", lambda _: "/etc/passwd")),
    Kind(SECTION, "a segment that is a link to a device", "plain", link("000001.m4s", lambda _: "/dev/zero"),
         sums=False),
    Kind(SECTION, "a segment that is a device", "plain", device("000001.m4s"), sums=False),
    Kind(SECTION, "a segment that is a pipe", "plain", pipe("000001.m4s")),
    Kind(SECTION, "a segment that is a broken link", "plain", link("000001.m4s", lambda _: "nowhere")),
    Kind(SECTION, "a journal file that is a link", "plain",
         link("journal/000001.journal", same("journal/000001.journal"))),
    Kind(SECTION, "a journal file that is a pipe", "plain", pipe("journal/000001.journal")),
    Kind(SECTION, "a chain that is a link", "plain", link("device/chain.pem", same("device/chain.pem"))),
    Kind(SECTION, "SHA256SUMS that is a link", "plain", link("SHA256SUMS", same("SHA256SUMS"))),
    Kind(SECTION, "SHA256SUMS that is a pipe", "plain", pipe("SHA256SUMS")),
    Kind(SECTION, "PACKAGE.txt that is a pipe", "plain", pipe("PACKAGE.txt")),
    Kind(SECTION, "the folder journal that is a link", "plain", link("journal", same("journal"))),
    Kind(SECTION, "the folder device that is a link", "plain", link("device", same("device"))),
    Kind(SECTION, "a link to a folder beside", "plain", link("more", lambda _: "/etc")),
    Kind(SECTION, "a hidden link to a folder", "plain", link(".more", lambda _: "/etc")),
    Kind(SECTION, "a folder too many", "plain", folder("more")),
    Kind(SECTION, "a hidden folder", "plain", folder(".more")),
    Kind(SECTION, "a folder in the journal", "plain", folder("journal/more")),
    Kind(SECTION, "a file in a hidden folder", "plain", there(".more/000001.m4s")),
    Kind(SECTION, "a segment too many", "plain", there("000009.m4s")),
    Kind(SECTION, "a file too many", "plain", there("note.txt")),
    Kind(SECTION, "a hidden file", "plain", there(".note")),
    Kind(SECTION, "a journal file too many", "plain", there("journal/000007.journal")),
    Kind(SECTION, "another file in journal", "plain", there("journal/note.txt")),
    Kind(SECTION, "another file in device", "plain", there("device/note.txt")),
    Kind(SECTION, "another certificate in device", "plain",
         lambda f: f.write("device/more.pem", f.steal("other CA", "device/chain.pem"))),
    Kind(SECTION, "what an interrupted copy left", "plain", half_copied),
    Kind(SECTION, "a name with a line break and a finding in it", "plain", there("a\nfail FORGED  x"), sums=False),
    Kind(SECTION, "a name with a blank", "plain", there("000001.m4s copy"), sums=False),
    Kind(SECTION, "a name that is an option", "plain", there("-rf"), sums=False),
    Kind(SECTION, "a name that is a command", "plain", there("$(touch pwned)"), sums=False),
    Kind(SECTION, "a name that moves the cursor", "plain", there("\x1b[2J"), sums=False),
    Kind(SECTION, "a name that is not UTF-8", "plain", there(os.fsdecode(b"\xff\xfe")), sums=False),
    Kind(SECTION, "a path upwards in SHA256SUMS", "plain", listed(b"../../root.pem"), sums=False),
    Kind(SECTION, "an absolute path in SHA256SUMS", "plain", listed(b"/etc/passwd"), sums=False),
    Kind(SECTION, "a command in SHA256SUMS", "plain", listed(b"$(touch pwned)"), sums=False),
    Kind(SECTION, "a file that is not there in SHA256SUMS", "plain", listed(b"000009.m4s"), sums=False),
    Kind(SECTION, "a folder that no package has in SHA256SUMS", "plain", listed(b"more/000001.m4s"), sums=False),
    Kind(SECTION, "SHA256SUMS in SHA256SUMS", "plain", listed(b"SHA256SUMS"), sums=False),
    Kind(SECTION, "a line twice in SHA256SUMS", "plain", listed_twice, sums=False),
]  # fmt: skip
