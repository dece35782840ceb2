"""What only an evidence package has: SHA256SUMS over everything in it, and nothing besides."""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path

from agent.vault.layout import CHAIN_NAME, INIT_NAME
from agent.verify.evidence import PACKAGE_FILES, PACKAGE_NAME, SCRIPT_NAME, SUMS_NAME, Evidence, device_name
from agent.verify.evidence_file import JOURNAL_NAME, SEGMENT_NAME, STUB_NAME, open_plain, read_plain
from agent.verify.finding import Code, Findings
from agent.verify.kit_files import verify_script
from agent.verify.media_job import FileSum
from agent.verify.segments import CHUNK_BYTES

MAX_SUMS_BYTES = 16 << 20
MAX_SCRIPT_BYTES = 1 << 20
_SUM_LINE = re.compile(rb"([0-9a-f]{64})  ([A-Za-z0-9][A-Za-z0-9._-]*(?:/[A-Za-z0-9][A-Za-z0-9._-]*)?)\n")
_KNOWN_NAMES = {"journal": JOURNAL_NAME, "device": re.compile(r"chain(-[0-9a-f]{64})?\.pem|root\.pem")}


_CHAIN = re.compile(r"chain(-[0-9a-f]{64})?\.pem")


def _is_evidence(name: str) -> bool:
    """Whether a file is one of those that video, log and signatures lie in; all others prove nothing."""
    folder, _, inner = name.rpartition("/")
    if folder:
        return bool((JOURNAL_NAME if folder == "journal" else _CHAIN).fullmatch(inner))
    return inner == INIT_NAME or SEGMENT_NAME.fullmatch(inner) is not None


def check_parts(evidence: Evidence, findings: Findings) -> None:
    """Report what every package has and this one lacks; that a file is what it must be is for its sum to say."""
    for name in (*PACKAGE_FILES, f"device/{CHAIN_NAME}"):
        try:
            open_plain(evidence.root / name).close()
        except OSError:
            sentence = f"{name} is not there or not a plain file."
            _fail(evidence, findings, Code.PACKAGE_INCOMPLETE, name, sentence)
    try:
        script = read_plain(evidence.root / SCRIPT_NAME, MAX_SCRIPT_BYTES)
    except OSError:
        return  # said above, or by its sum
    if script != verify_script():
        findings.note(
            Code.PACKAGE_KIT,
            SCRIPT_NAME,
            f"{SCRIPT_NAME} is not the one that this version of the software ships: another version made the "
            "package, or somebody changed it. It is no evidence and nothing here rests on it; do not run it, take the "
            "project's.",
        )


def check_label(evidence: Evidence, device_id: str | None, findings: Findings) -> None:
    """Report a PACKAGE.txt that names another camera than the journal does. device_id: the journal's, None for none."""
    said = evidence.packaged_device
    if said is not None and device_id is not None and said != device_name(device_id):
        findings.fail(
            Code.PACKAGE_DEVICE,
            PACKAGE_NAME,
            f"{PACKAGE_NAME}, which is only a label, says that this is of the camera {said}; its journal is of "
            f"{device_id[:80]!r}.",
            around=True,
        )


def check_sums(evidence: Evidence, media: dict[str, FileSum], named: Collection[str], findings: Findings) -> None:
    """Compare every file with SHA256SUMS. `media`: files that were hashed already, by name. named: those that records
    name.
    """
    listed = _read_sums(evidence.root / SUMS_NAME, findings)
    if listed is None:
        return
    present = set(_files(evidence.root, findings))
    for name in sorted(present - listed.keys() - {SUMS_NAME}):
        if STUB_NAME.fullmatch(name.rpartition("/")[2]):
            findings.note(
                Code.FILE_UNKNOWN, name, f"{name} is left over from an interrupted copy and is no part of it."
            )
        else:
            sentence = f"{name} is in the package but not in {SUMS_NAME}."
            around = name not in named and ("/" not in name or not _is_evidence(name))
            _fail(evidence, findings, Code.FILE_UNKNOWN, name, sentence, around=around)
    for name, sha256 in listed.items():
        if name not in present:
            sentence = f"{name} is in {SUMS_NAME} but not in the package."
            _fail(evidence, findings, Code.PACKAGE_SUM, name, sentence, around=not _is_evidence(name))
            continue
        found = media[name].sha256 if name in media else _sha256(evidence.root / name)
        if found != sha256:
            what = "cannot be read" if found is None else f"was changed since {SUMS_NAME} was made, or is another file"
            _fail(evidence, findings, Code.PACKAGE_SUM, name, f"{name} {what}.", around=not _is_evidence(name))


def _fail(
    evidence: Evidence, findings: Findings, code: Code, name: str, sentence: str, *, around: bool = False
) -> None:
    findings.fail(code, name, sentence, recording_id=evidence.packaged_id, around=around)


def _read_sums(path: Path, findings: Findings) -> dict[str, str] | None:
    try:
        lines = io.BytesIO(read_plain(path, MAX_SUMS_BYTES))  # one line at a time: there may be millions of them
    except FileNotFoundError:
        findings.fail(
            Code.PACKAGE_INCOMPLETE,
            SUMS_NAME,
            f"The package has no {SUMS_NAME}, which is written last: it was not copied to its end, or that file was "
            "taken out. Ask for the whole package.",
        )
        return None
    except OSError as error:
        findings.fail(Code.PACKAGE_SUM, SUMS_NAME, f"{SUMS_NAME} cannot be read: {error}.", around=True)
        return None
    listed: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        match = _SUM_LINE.fullmatch(line)
        if match is None or (name := match[2].decode()) in listed:
            findings.fail(
                Code.PACKAGE_SUM,
                f"{SUMS_NAME} line {number}",
                f"Line {number} of {SUMS_NAME} is not a file's hash.",
                around=True,
            )
            continue
        listed[name] = match[1].decode()
    return listed


def _files(root: Path, findings: Findings) -> Iterator[str]:
    """All files, links to folders left out; reports folders, and names in folders, that no package has."""
    for folder, folders, names in os.walk(root, followlinks=False):
        inner = Path(folder).relative_to(root)
        for name in folders:
            # Of what lies beside the media the rest is said where the recording's own files are compared.
            if inner.parts or name.startswith("."):
                sentence = f"{inner / name} is a folder that no package has."
                findings.fail(Code.FILE_UNKNOWN, str(inner / name), sentence, around=True)
        if inner.parts:
            folders.clear()
        known = _KNOWN_NAMES.get(str(inner))
        for name in names:
            if known is not None and not known.fullmatch(name) and not STUB_NAME.fullmatch(name):
                sentence = f"{inner / name} is a file that no package has."
                findings.fail(Code.FILE_UNKNOWN, str(inner / name), sentence, around=True)
        yield from (str(inner / name) for name in names)


def _sha256(path: Path) -> str | None:
    digest = hashlib.sha256()
    try:
        with open_plain(path) as file:
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
    except OSError:
        return None
    return digest.hexdigest()
