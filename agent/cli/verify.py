"""`bodycam verify`: says in words whether evidence is complete, unchanged and signed by that camera."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from agent.cli.evidence_report import print_report, print_words
from agent.cli.report_lines import printable
from agent.encryption.identity import Identities
from agent.errors import DeviceKeyError, EvidenceNotFound
from agent.offload.support_again import support_again
from agent.trust.certificates import load_chain
from agent.verify.evidence import is_package
from agent.verify.evidence_file import is_plain_folder
from agent.verify.report import Report
from agent.verify.verify import verify_path

if TYPE_CHECKING:
    from agent.verify.video_file import VideoFileReport


def verify(
    paths: Sequence[Path],
    *,
    root: Path | None,
    tsa_root: Path | None = None,
    identity: Path | None = None,
    video: bool = True,
    everything: bool = False,
    as_json: bool,
) -> int:
    """Check each path and print what was found; returns 0 when nothing refutes the evidence, else 1.

    A path is a vault, an evidence package, a store's folder with packages in it, or a video file. root: PEM of the CA
    the examiner trusts; tsa_root: of the time authority. identity: an age identity file that opens encrypted segments.
    video: whether the signatures in the video of vaults and packages are read, too.
    everything: print each finding, also those that follow from another; JSON holds them always.
    Raises EvidenceNotFound when there is nothing to check at a path, or no certificate in `root` or `tsa_root`,
    EncryptionError when there is no identity in `identity`.
    """
    try:
        roots = load_chain(root) if root is not None else None
        tsa_roots = load_chain(tsa_root) if tsa_root is not None else None
    except DeviceKeyError as error:
        raise EvidenceNotFound(f"The root certificate cannot be used: {error}") from error
    identities = Identities.load(identity) if identity is not None else None
    reports: list[Report | VideoFileReport] = []
    said: list[str] = []
    console = Console(highlight=False, soft_wrap=False, emoji=False)  # rich makes a picture of ":AB:" in a fingerprint
    for path in [found for named in paths for found in _expand(named)]:
        if path.is_file():
            # PyAV comes with them, a fifth of the start, and vaults and packages are read without it.
            from agent.cli.verify_video import print_video_report
            from agent.verify.video_file import check_video_file

            of_video = check_video_file(path, roots)
            reports.append(of_video)
            if not as_json:
                print_video_report(console, of_video)
            continue
        report = _verify_one(path, roots, tsa_roots, identities, video=video, quiet=as_json)
        reports.append(report)
        if not as_json:
            said.append(print_report(console, report, everything=everything))
    if as_json:
        sys.stdout.write(json.dumps([report.to_json() for report in reports], indent=2) + "\n")
    elif len(reports) > 1:
        failed = [report for report in reports if not report.ok]
        if failed:
            console.print(f"[bold red]{len(failed)} of {len(reports)} do not verify:[/]")
            for path in (found.path for found in failed):
                console.print(f"  {escape(printable(str(path)))}", soft_wrap=True)
        else:
            console.print(f"[bold green]All {len(reports)} verify.[/]")
        console.print()
    if not as_json:
        print_words(console, " ".join(said))
    return 0 if all(report.ok for report in reports) else 1


def _expand(path: Path) -> Iterator[Path]:
    """A store holds packages as DEVICE/RECORDING; whatever is not such a folder is checked as it is."""
    if is_plain_folder(path) and not is_plain_folder(path / "journal") and not is_plain_folder(path / "recordings"):
        packages = sorted(
            folder
            for pattern in ("*", "*/*")
            for folder in path.glob(pattern)
            if folder.is_dir() and is_package(folder)
        )
        if packages:
            yield from packages
            return
    yield path


def _verify_one(
    path: Path,
    roots: Sequence[x509.Certificate] | None,
    tsa_roots: Sequence[x509.Certificate] | None,
    identities: Identities | None,
    *,
    video: bool,
    quiet: bool,
) -> Report:
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        return verify_path(
            path, roots=roots, tsa_roots=tsa_roots, identities=identities, video=video, support=support_again
        )
    columns = (TextColumn("Checking"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("")
        return verify_path(
            path,
            roots=roots,
            tsa_roots=tsa_roots,
            identities=identities,
            video=video,
            support=support_again,
            progress=lambda done, total: progress.update(task, completed=done, total=max(done, total)),
        )
