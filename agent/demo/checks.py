"""An evidence package checked with tools that are not ours: `openssl`, `sha256sum`, `ffprobe`. They are really run.

And the same checks as commands for a person to copy. docs/examiner.md has them in full.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from agent.demo.paths import quoted
from agent.errors import DemoError

_DEBIAN_PACKAGES = {"openssl": "openssl", "sha256sum": "coreutils", "ffprobe": "ffmpeg"}
_CMS_OPTIONS = "-binary -inform DER -nointern"
_CONTENT_NAME = "record.json"
_TIMEOUT_S = 60.0
_VERDICT = re.compile(r"^(INTEGRITY|ORIGIN|TIME|COMPLETENESS) +(holds|limited|open|fails) +(.*)", re.MULTILINE)
# Frames that a camera misses on a busy computer are named in the log: the package is good, and says that they are gone.
_ACCEPTED = {"integrity": {"holds"}, "origin": {"holds"}, "completeness": {"holds", "limited"}}


def require_tools() -> None:
    """Raises DemoError naming what is not installed, and how to get it."""
    missing = [tool for tool in _DEBIAN_PACKAGES if shutil.which(tool) is None]
    if missing:
        packages = " ".join(_DEBIAN_PACKAGES[tool] for tool in missing)
        raise DemoError(
            f"{' and '.join(missing)} cannot be found, and the demonstration checks its evidence with it. Install "
            f"it (on Debian: apt-get install {packages}) and start again."
        )


@dataclass(frozen=True, slots=True)
class SignedJournal:
    """A journal as openssl sees it. pending: records that the next signed one covers."""

    records: tuple[dict[str, Any], ...]
    signed: int
    pending: int


def check_signatures(package: Path, root: Path, scratch: Path) -> SignedJournal:
    """Let openssl verify the signature of every record. scratch: a folder for what it reads. Raises DemoError."""
    records: list[dict[str, Any]] = []
    signed = pending = 0
    content = scratch / _CONTENT_NAME
    for line in _journal_lines(package):
        record, _, signature = line.partition(b"\t")
        records.append(json.loads(record))
        if signature == b"-":
            pending += 1
            continue
        content.write_bytes(record)
        command = [
            "openssl", "cms", "-verify", *_CMS_OPTIONS.split(), "-content", str(content),
            "-certfile", str(package / "device/chain.pem"), "-CAfile", str(root), "-no-CApath", "-no-CAstore",
            "-out", "/dev/null",
        ]  # fmt: skip
        done = subprocess.run(
            command, input=base64.b64decode(signature), capture_output=True, timeout=_TIMEOUT_S, check=False
        )
        if done.returncode != 0:
            said = done.stderr.decode(errors="replace").strip()
            raise DemoError(f"openssl says that the signature of record {records[-1]['seq']} is wrong:\n{said}")
        signed += 1
    content.unlink(missing_ok=True)
    if not signed:
        raise DemoError(f"There is no signed record in {package / 'journal'}.")
    return SignedJournal(tuple(records), signed, pending)


@dataclass(frozen=True, slots=True)
class ScriptVerdict:
    """What verify.sh says to one of its questions: "holds", "limited", "open" or "fails", and why."""

    standing: str
    reason: str


def run_package_script(package: Path, root: Path) -> dict[str, ScriptVerdict]:
    """Let the package's own verify.sh check it; its verdict on each of its questions, by their names in lower case.

    Raises DemoError with what it said when it refutes anything, or when integrity or origin does not hold. That
    completeness is limited is an answer and no failure: such as by frames that the camera says it missed.
    """
    command = ["sh", str(package / "verify.sh"), str(root), str(package)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    found = {name.lower(): ScriptVerdict(said, reason) for name, said, reason in _VERDICT.findall(done.stdout)}
    if done.returncode != 0:
        raise DemoError(f"The package's own verify.sh does not accept it:\n{done.stdout}{done.stderr}")
    for name, accepted in _ACCEPTED.items():
        if name not in found or found[name].standing not in accepted:
            raise DemoError(f"The package's own verify.sh says too little of its {name}:\n{done.stdout}{done.stderr}")
    return found


@dataclass(frozen=True, slots=True)
class ProbedStream:
    """A stream as ffprobe counts it."""

    kind: str
    codec: str
    detail: str
    packets: int
    duration_s: float


def probe_film(package: Path) -> tuple[ProbedStream, ...]:
    """Let ffprobe read `cat init.mp4 0*.m4s` from end to end. Raises DemoError when it complains of anything."""
    command = [
        "ffprobe", "-v", "error", "-of", "json", "-show_entries",
        "stream=index,codec_type,codec_name,width,height,sample_rate,channels"
        ":packet=stream_index,pts_time,duration_time",
        "-",
    ]  # fmt: skip
    data = b"".join(path.read_bytes() for path in film_files(package))
    done = subprocess.run(command, input=data, capture_output=True, timeout=_TIMEOUT_S, check=False)
    said = done.stderr.decode(errors="replace").strip()
    if done.returncode != 0 or said:
        raise DemoError(f"ffprobe cannot read the recording (exit code {done.returncode}):\n{said}")
    found = json.loads(done.stdout)
    return tuple(_stream(stream, found["packets"]) for stream in found["streams"])


def film_files(package: Path) -> list[Path]:
    """The files that make up the film, in order."""
    return [package / "init.mp4", *sorted(package.glob("0*.m4s"))]


def run_check_script(script: Path) -> None:
    """Run it as a person would. Raises DemoError with what it said when it does not find everything right."""
    done = subprocess.run(["sh", str(script)], capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    if done.returncode != 0:
        raise DemoError(f"{script} does not accept the package:\n{done.stdout}{done.stderr}")


def commands(package: Path, root: Path, script: Path) -> Iterator[tuple[str, str]]:
    """(what it proves, command) of the checks by hand. Each works from the working directory of now and stays in it."""
    # In parentheses, so that `cd` does not concern the shell that they are pasted into.
    inside = f"(cd {quoted(package)} &&\n"
    yield "The camera signed the log, all of it is there, and the video is the signed one:", f"sh {quoted(script)}"
    yield (
        "The same by the package's own script, in four verdicts (examiners bring a copy):",
        f"{inside}  sh verify.sh {quoted(os.path.relpath(root, package))})",
    )
    yield (
        "How many frames can be read (whose they are is another question):",
        f"{inside}  cat init.mp4 0*.m4s | ffprobe -v error -select_streams v -count_packets \\\n"
        "    -show_entries stream=nb_read_packets -of csv=p=0 -)",
    )


def _journal_lines(package: Path) -> Iterator[bytes]:
    for path in sorted((package / "journal").glob("*.journal")):
        yield from path.read_bytes().removesuffix(b"\n").split(b"\n")


def _stream(stream: dict[str, Any], packets: list[dict[str, Any]]) -> ProbedStream:
    mine = [packet for packet in packets if packet["stream_index"] == stream["index"]]
    starts = [Fraction(packet["pts_time"]) for packet in mine]
    ends = [start + Fraction(packet.get("duration_time", "0")) for start, packet in zip(starts, mine, strict=True)]
    video = stream["codec_type"] == "video"
    detail = (
        f"{stream['width']}x{stream['height']}" if video else f"{stream['sample_rate']} Hz, {stream['channels']} ch"
    )
    duration_s = float(max(ends) - min(starts)) if mine else 0.0
    return ProbedStream(stream["codec_type"], stream["codec_name"], detail, len(mine), duration_s)
