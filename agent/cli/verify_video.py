"""`bodycam verify FILE.mp4`: what the signatures inside a video say, for people."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from agent.signing.finding import GopState
from agent.verify.video_file import NOT_PROVED, VideoFileReport
from agent.verify.video_summary import VideoSummary, where

_MAX_TEXT = 200


def print_video_report(console: Console, report: VideoFileReport) -> None:
    """What was found, who signed, and what none of it proves."""
    console.print(f"[bold]{escape(str(report.path))}[/] (a video alone: only the signatures inside it are checked)")
    if report.is_signed:
        _print_signer(console, report)
        _print_pictures(console, report.summary)
        for sentence in report.presentation.problems:
            _line(console, f"fail  {sentence}", "bold red")
        for sentence in report.presentation.notes:
            _line(console, f"note  {sentence}", "yellow")
    style = "bold green" if report.ok else "bold red"
    console.print(f"[{style}]{escape(report.conclusion)}[/]")
    if report.is_signed:
        console.print("What such signatures do not prove (the evidence package of the recording proves more):")
        for sentence in NOT_PROVED:
            _line(console, f"- {sentence}")
    console.print()


def _print_signer(console: Console, report: VideoFileReport) -> None:
    certificate, vendor = report.certificate, report.vendor
    if certificate is None:
        _line(console, "No signature in it fits, so nothing says who signed.")
        return
    console.print(f"  Signed by {escape(_plain(certificate.subject))}", soft_wrap=True)
    console.print(f"  certificate SHA-256 {certificate.fingerprint}", soft_wrap=True)
    if vendor is not None:
        said = f"  Signed as from camera {_plain(vendor.serial_number)}, with {_plain(vendor.firmware_version)}"
        console.print(escape(said), soft_wrap=True)
    table = Table.grid(padding=(0, 2))
    if report.chain_problems:
        table.add_row("ORIGIN", "[bold red]fails[/]", escape(_plain(" ".join(report.chain_problems))))
    elif report.root_given:
        table.add_row("ORIGIN", "[green]holds[/]", "The certificate leads to the root certificate that you gave.")
    else:
        reason = "Anyone can make such a certificate; give the department's root with --root ROOT.pem."
        table.add_row("ORIGIN", "[yellow]open[/]", reason)
    if report.claimed is not None:
        reason = f"The camera's clock had it from {report.claimed[0]} to {report.claimed[1]}; that is a claim."
        table.add_row("TIME", "[yellow]open[/]", reason)
    console.print(Padding(table, (0, 0, 0, 2), expand=False))


def _print_pictures(console: Console, summary: VideoSummary) -> None:
    counts, frames = summary.counts, summary.frames
    _line(
        console,
        f"{counts[GopState.VALID]} of {summary.gops} GOPs (each a keyframe and the pictures that build on it), "
        f"{frames[GopState.VALID]} of {frames.total()} frames, are as they were signed.",
    )
    for gop in summary.bad:
        _line(console, f"fail  {where(gop)} is {gop.state.value}: {gop.reason}", "bold red")
    if more := summary.bad_gops - len(summary.bad):
        _line(console, f"fail  {more} more GOPs are bad.", "bold red")
    if counts[GopState.UNCOVERED]:
        text = f"fail  {counts[GopState.UNCOVERED]} GOP(s) came from the camera without a signature."
        _line(console, text, "bold red")
    if pending := counts[GopState.PENDING]:
        since = "" if summary.pending_from_s is None else f", from {summary.pending_from_s:.3f} s on"
        _line(
            console,
            f"Of the last {pending} GOP(s){since}, the signature is not in this file, because it follows its GOP: "
            f"nothing here vouches for these {frames[GopState.PENDING]} frames.",
            "yellow",
        )


def _line(console: Console, text: str, style: str = "") -> None:
    marked = f"[{style}]{escape(text)}[/]" if style else escape(text)
    console.print(Padding(marked, (0, 0, 0, 2), expand=False))


def _plain(text: str) -> str:
    """What a stranger wrote, for a terminal: no control characters, and not without end."""
    return "".join(char if char.isprintable() else "?" for char in text[:_MAX_TEXT])
