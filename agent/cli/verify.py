"""`bodycam verify`: says in words whether evidence is complete, unchanged and signed by that camera."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

from cryptography import x509
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table

from agent.cli.verify_video import print_video_report
from agent.encryption.identity import Identities
from agent.errors import DeviceKeyError, EvidenceNotFound
from agent.trust.certificates import load_chain
from agent.verify.aspect import Standing
from agent.verify.evidence import is_package
from agent.verify.evidence_file import is_plain_folder
from agent.verify.finding import Finding, Severity
from agent.verify.interval import Interval, utc_json
from agent.verify.report import RecordingReport, Report, Verdict
from agent.verify.verify import verify_path
from agent.verify.video_file import VideoFileReport, check_video_file

_STYLES = {Severity.FAIL: "bold red", Severity.WARN: "yellow", Severity.NOTE: "dim"}
_VERDICTS = {
    Verdict.VERIFIED: ("VERIFIED", "bold green"),
    Verdict.SO_FAR: ("VERIFIED SO FAR", "bold yellow"),
    Verdict.FAILED: ("FAILED", "bold red"),
}

_STANDINGS = {
    Standing.HOLDS: "green",
    Standing.LIMITED: "yellow",
    Standing.OPEN: "yellow",
    Standing.FAILS: "bold red",
}


def verify(
    paths: Sequence[Path],
    *,
    root: Path | None,
    tsa_root: Path | None = None,
    identity: Path | None = None,
    video: bool = True,
    as_json: bool,
) -> int:
    """Check each path and print what was found; returns 0 when nothing refutes the evidence, else 1.

    A path is a vault, an evidence package, a store's folder with packages in it, or a video file. root: PEM of the CA
    the examiner trusts; tsa_root: of the time authority. identity: an age identity file that opens encrypted segments.
    video: whether the signatures in the video of vaults and packages are read, too.
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
    console = Console(highlight=False, soft_wrap=False)
    for path in [found for named in paths for found in _expand(named)]:
        if path.is_file():
            of_video = check_video_file(path, roots)
            reports.append(of_video)
            if not as_json:
                print_video_report(console, of_video)
            continue
        report = _verify_one(path, roots, tsa_roots, identities, video=video, quiet=as_json)
        reports.append(report)
        if not as_json:
            print_report(console, report)
    if as_json:
        sys.stdout.write(json.dumps([report.to_json() for report in reports], indent=2) + "\n")
    elif len(reports) > 1:
        failed = [report for report in reports if not report.ok]
        if failed:
            names = ", ".join(escape(str(report.path)) for report in failed)
            console.print(f"[bold red]{len(failed)} of {len(reports)} do not verify: {names}[/]")
        else:
            console.print(f"[bold green]All {len(reports)} verify.[/]")
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
        return verify_path(path, roots=roots, tsa_roots=tsa_roots, identities=identities, video=video)
    columns = (TextColumn("Checking"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("")
        return verify_path(
            path,
            roots=roots,
            tsa_roots=tsa_roots,
            identities=identities,
            video=video,
            progress=lambda done, total: progress.update(task, completed=done, total=max(done, total)),
        )


def print_report(console: Console, report: Report) -> None:
    """A report for people: whose, the journal, each recording with its headline, what was found, what follows."""
    console.print(f"[bold]{escape(str(report.path))}[/] ({_kind(report)})")
    for certificate in report.certificates:
        console.print(f"  Signed by {escape(certificate.subject)}", soft_wrap=True)
        console.print(f"  certificate SHA-256 {certificate.fingerprint}", soft_wrap=True)
    if report.records:
        console.print(
            f"  Journal: records {report.first_seq} to {report.last_seq} in {report.journal_files} file(s); "
            f"SHA-256 of the last {report.head_sha256}",
            soft_wrap=True,
        )
    _print_findings(console, report.findings_of(None))
    for recording in report.recordings:
        _print_recording(console, recording, report.findings_of(recording.recording_id))
    told = {recording.recording_id for recording in report.recordings}
    for strange in sorted({f.recording_id for f in report.findings if f.recording_id not in told} - {None}, key=str):
        console.print(f"[bold red]FAILED[/]  {escape(str(strange))}")
        _print_findings(console, report.findings_of(strange))
    console.print(_conclusion(report))
    console.print()


def _kind(report: Report) -> str:
    device = f" of {report.device_id}" if report.device_id else ""
    return escape(f"{'evidence package' if report.kind == 'package' else 'vault'}{device}")


def _print_recording(console: Console, recording: RecordingReport, findings: list[Finding]) -> None:
    word, style = _VERDICTS[recording.verdict]
    console.print(f"[{style}]{word}[/]  {escape(recording.recording_id)}")
    facts = [f"{recording.duration_ms / 1000:.1f} s, {recording.frames} frames, {recording.bytes / 1e6:.1f} MB"]
    if recording.start_utc is not None:
        facts.append(f"from {_time(recording.start_utc)} (the camera's claim; clock: {recording.clock_source})")
    console.print(Padding(escape("; ".join(facts)), (0, 0, 0, 2), expand=False))
    more = []
    if recording.actual_pre_event_ms is not None and recording.configured_pre_event_ms is not None:
        more.append(
            f"{recording.actual_pre_event_ms / 1000:.1f} s before the trigger "
            f"({recording.configured_pre_event_ms / 1000:.1f} s configured)"
        )
    if recording.marker_ms:
        more.append("markers at " + ", ".join(f"{marker / 1000:.1f} s" for marker in recording.marker_ms))
    if recording.stop_reason:
        more.append(f"stopped by {recording.stop_reason}")
    if recording.linked_from:
        more.append(f"goes on from {recording.linked_from}")
    if more:
        console.print(Padding(escape("; ".join(more)), (0, 0, 0, 2), expand=False))
    _print_aspects(console, recording)
    if recording.time is not None and (recording.time.before or recording.time.after):
        console.print(Padding(escape(_trusted_time(recording.time)), (0, 0, 0, 2), expand=False))
    _print_findings(console, findings)


def _trusted_time(time: Interval) -> str:
    parts = []
    if time.before is not None:
        parts.append(f"written not before {utc_json(time.not_before_ns)} (timestamp in record {time.before.seq})")
    if time.after is not None:
        parts.append(f"existed by {utc_json(time.existed_by_ns)} (timestamp in record {time.after.seq})")
    text = "; ".join(parts) + ("" if time.checked else "; the time authority was NOT checked")
    if time.estimate is not None:
        text += (
            f"; estimated start {utc_json(time.estimate.start_utc_ns)}, give or take "
            f"{time.estimate.uncertainty_ms / 1000:.1f} s ({time.estimate.basis} from timestamps and the camera's boot "
            "clock; an estimate, no proof)"
        )
    clock = "unknown" if time.clock_uncertainty_ms is None else f"{time.clock_uncertainty_ms} ms"
    return f"{text}; the camera's own clock: {time.clock_source[:40]}, uncertainty {clock}"


def _print_aspects(console: Console, recording: RecordingReport) -> None:
    table = Table.grid(padding=(0, 2))
    for verdict in recording.aspects:
        standing = f"[{_STANDINGS[verdict.standing]}]{verdict.standing.value}[/]"
        table.add_row(verdict.aspect.value.upper(), standing, escape(verdict.reason))
    console.print(Padding(table, (0, 0, 0, 2), expand=False))


def _print_findings(console: Console, findings: list[Finding]) -> None:
    for severity in Severity:
        for finding in (finding for finding in findings if finding.severity is severity):
            text = f"[{_STYLES[severity]}]{severity.value} {finding.code.value}[/]  {escape(finding.sentence)}"
            if finding.subject.startswith("journal/") and finding.subject not in finding.sentence:
                text += f" [dim]({escape(finding.subject)})[/]"
            console.print(Padding(text, (0, 0, 0, 4), expand=False))


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def _conclusion(report: Report) -> str:
    if not report.ok:
        return "[bold red]This evidence does not verify; what is wrong is marked with fail.[/]"
    if not report.recordings and not report.records:
        return "There is nothing to verify here yet."
    origin = (
        "The signatures lead to the root certificate you gave."
        if report.root_given
        else "Whose camera this is stays open until you give the department's root certificate with --root ROOT.pem."
    )
    unfinished = sum(not recording.closed for recording in report.recordings)
    what = (
        "Complete, unchanged and signed, but for what the warnings say."
        if unfinished or any(finding.severity is Severity.WARN for finding in report.findings)
        else "Complete, unchanged and signed."
    )
    return f"[bold green]{what}[/] {origin}"
