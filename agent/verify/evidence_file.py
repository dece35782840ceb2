"""Opening what a stranger handed over: plain files only, never through a link, never waiting."""

from __future__ import annotations

import io
import os
import re
import stat
from pathlib import Path

SEGMENT_NAME = re.compile(r"[0-9]{6}\.m4s(\.age)?")
JOURNAL_NAME = re.compile(r"[0-9]{6}\.journal")
KEPT_CHAIN_NAME = re.compile(r"chain-[0-9a-f]{64}\.pem")
STUB_NAME = re.compile(r"\..+\.part")
"""What an interrupted copy of a package leaves."""
LEFTOVER_NAME = re.compile(r".+\.part[0-9]+")
RECORDING_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


class NotPlainFileError(OSError):
    """There is something under the name that is no plain file: a link, a folder, a pipe, a device."""


def open_plain(path: Path) -> io.FileIO:
    """Open for reading. Raises FileNotFoundError, NotPlainFileError, OSError."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # a FIFO would else wait for a writer
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        raise
    except OSError as error:
        if path.is_symlink():
            raise NotPlainFileError(error.errno, "it is a symbolic link", str(path)) from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NotPlainFileError(0, "it is not a plain file", str(path))
    return io.FileIO(descriptor, "rb")


def read_plain(path: Path, max_bytes: int) -> bytes:
    """The whole of a small file. Raises FileNotFoundError, NotPlainFileError, OSError, also when it is larger."""
    with open_plain(path) as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise OSError(0, f"it is larger than {max_bytes} bytes", str(path))
    return data


def is_plain_folder(path: Path) -> bool:
    """True for a folder that is no link."""
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError:
        return False


def is_refused_folder(path: Path) -> bool:
    """True for what stands in a folder's place and is none, or a link to one: nothing behind it is looked at."""
    return os.path.lexists(path) and not is_plain_folder(path)


def names_in(path: Path) -> list[str]:
    """Names in a folder, sorted; none when it is absent or no plain folder. Raises OSError when it cannot be read."""
    return sorted(os.listdir(path)) if is_plain_folder(path) else []
