"""Which software this is, to the byte: a hash that anyone can make again from the installed files."""

from __future__ import annotations

import hashlib
from pathlib import Path

PACKAGE = Path(__file__).parents[1]


def software_sha256(package: Path = PACKAGE) -> str | None:
    """SHA-256 over the lines `SHA-256  PATH`, sorted, of all files of the installed package but compiled ones.

    PATH begins with the package's own name. The same as, in the folder that holds the package:
    `find agent -type f ! -name '*.pyc' | LC_ALL=C sort | xargs sha256sum | sha256sum`.
    None when a file cannot be read; that keeps no camera from recording.
    """
    lines = hashlib.sha256()
    try:
        paths = [
            path for path in package.rglob("*") if path.suffix != ".pyc" and path.is_file() and not path.is_symlink()
        ]
        for name, path in sorted((str(path.relative_to(package.parent)), path) for path in paths):
            lines.update(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {name}\n".encode())
    except (OSError, UnicodeEncodeError):
        return None
    return lines.hexdigest()
