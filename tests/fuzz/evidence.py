"""Readers of whole packages and of configuration files.

A package is one input by way of edits: each is a file's number, an operation, where, and what; so that a fuzzer can
change any file of a real package, several at once, in a few bytes.
"""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

from agent.errors import ConfigError, EvidenceNotFound
from agent.settings.load import load_settings
from agent.verify.evidence import PACKAGE_NAME, SUMS_NAME, locate
from agent.verify.finding import Findings
from agent.verify.package import check_sums
from agent.verify.verify import verify_path
from tests.fuzz.artefacts import Artefacts
from tests.fuzz.media import named
from tests.fuzz.records import told
from tests.fuzz.target import DefectError, Target

_EDIT = struct.Struct(">BBIH")
_MAX_EDITS = 12
_ROOT = Path(__file__).parents[2]


@lru_cache(maxsize=1)
def _package(artefacts: Artefacts) -> tuple[Path, dict[str, bytes]]:
    root = artefacts.work / "package"
    shutil.copytree(artefacts.folder / "package", root)
    return root, artefacts.tree("package")


def edits(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """File, operation, offset and payload of each edit that is whole."""
    at = 0
    for _ in range(_MAX_EDITS):
        if at + _EDIT.size > len(data):
            return
        file, operation, offset, size = _EDIT.unpack_from(data, at)
        at += _EDIT.size
        yield file, operation, offset, data[at : at + size]
        at += size


def edit(file: int, operation: int, offset: int, payload: bytes = b"") -> bytes:
    """One edit, as `edits` reads it."""
    return _EDIT.pack(file, operation, offset, len(payload)) + payload


def _changed(content: bytes, operation: int, offset: int, payload: bytes) -> bytes:
    at = offset % (len(content) + 1)
    match operation % 4:
        case 0:
            return content[:at] + payload + content[at + len(payload) :]
        case 1:
            return content[:at] + payload + content[at:]
        case 2:
            return content[:at] + content[at + int.from_bytes(payload[:4], "big") :]
        case _:
            return payload


def _folder(artefacts: Artefacts, data: bytes) -> None:
    root, original = _package(artefacts)
    names = list(original)
    touched: set[Path] = set()
    try:
        for number, operation, offset, payload in edits(data):
            name = names[number % len(names)]
            path = root / name
            touched.add(path)
            if operation % 8 == 7:
                # Another name, which no file system forbids: bytes that are no UTF-8, control characters, markup.
                clean = payload.replace(b"\0", b"").replace(b"/", b"")[:100]
                other = path.parent / os.fsdecode(clean)
                if clean not in (b"", b".", b"..") and not other.exists() and path.exists():
                    path.rename(other)
                    touched.add(other)
            elif operation % 8 == 6:
                path.unlink(missing_ok=True)
                path.symlink_to(os.fsdecode(payload.replace(b"\0", b"")[:100]) or "nowhere")
            elif path.exists() and not path.is_symlink():
                path.write_bytes(_changed(path.read_bytes(), operation, offset, payload))
        report = verify_path(root, roots=artefacts.roots, tsa_roots=artefacts.tsa_roots)
        told(report)
        if touched and report.ok and _differs(root, original):
            raise DefectError(f"A package was changed in {sorted(map(str, touched))} and verifies.")
    finally:
        for path in touched:
            path.unlink(missing_ok=True)
        for name, content in original.items():
            if root / name in touched:
                (root / name).write_bytes(content)


def _differs(root: Path, original: dict[str, bytes]) -> bool:
    found = {
        os.path.relpath(path, root): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() or path.is_symlink()
    }
    # What is left of an interrupted copy is no part of a package, and said to be none.
    kept = {name: content for name, content in found.items() if not Path(name).name.startswith(".")}
    return kept != original


def _packages(artefacts: Artefacts) -> Sequence[bytes]:
    names = list(artefacts.tree("package"))
    each = [edit(number, 0, 40, b"\x00") for number in range(len(names))]
    return [b"", *each, edit(0, 7, 0, b"\xff.m4s"), edit(2, 1, 1 << 20, b"more"), edit(1, 6, 0, b"/etc/passwd")]


def _text(artefacts: Artefacts, data: bytes) -> None:
    root = artefacts.work / "text"
    (root / "journal").mkdir(parents=True, exist_ok=True)
    (root / PACKAGE_NAME).write_bytes(data)
    evidence = locate(root)
    if not evidence.is_package:
        raise DefectError("A folder with PACKAGE.txt was not taken for a package.")


def _sums(artefacts: Artefacts, data: bytes) -> None:
    root = artefacts.work / "sums"
    if not root.exists():
        shutil.copytree(artefacts.folder / "package", root)
    (root / SUMS_NAME).write_bytes(data)
    check_sums(locate(root), {}, (), Findings())


def _settings(artefacts: Artefacts, data: bytes) -> None:
    path = artefacts.work / "bodycam.toml"
    path.write_bytes(data)
    load_settings(path)


def _configurations(_: Artefacts) -> Sequence[bytes]:
    return [path.read_bytes() for path in sorted((_ROOT / "config").rglob("*.toml"))]


TARGETS = (
    Target("package", _folder, _packages, (EvidenceNotFound,), max_bytes=4096, tries=100),
    Target("package-text", _text, named("package/PACKAGE.txt"), tries=200),
    Target("package-sums", _sums, named("package/SHA256SUMS"), tries=100),
    Target("settings", _settings, _configurations, (ConfigError,), tries=60),
)
