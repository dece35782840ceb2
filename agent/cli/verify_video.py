"""`bodycam verify FILE.mp4`: what the signatures inside a video say, for people."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from agent.cli.report_lines import Lines, printable
from agent.signing.finding import GopState
from agent.verify.video_file import NOT_PROVED, VideoFileReport
from agent.verify.video_summary import VideoSummary, where
from agent.verify.words import counted

_MAX_TEXT = 200


def print_video_report(console: Console, report: VideoFileReport) -> None:
    """What was found, who signed, and what none of it proves."""
    lines = Lines(console)
    title = Text("Video file alone: only the signatures inside it are checked")
    title.stylize("bold")
    lines.line(title)
    lines.line(f"  {'File':<13}{printable(str(report.path))}")  # whole, so that it can be copied
    if report.is_signed:
        _print_signer(lines, report)
        _print_pictures(lines, report.summary)
        _print_speed(lines, report)
    lines.wrapped("", report.conclusion, indent=0, style="bold green" if report.ok else "bold red")
    if report.is_signed:
        what = "What such signatures do not prove (the evidence package of the recording proves more):"
        lines.wrapped("", what, indent=0)
        for sentence in NOT_PROVED:
            lines.wrapped("- ", sentence, indent=2)
    lines.line()


def _print_signer(lines: Lines, report: VideoFileReport) -> None:
    certificate, vendor = report.certificate, report.vendor
    if certificate is None:
        lines.wrapped("", "No signature in it fits, so nothing says who signed.", indent=2)
        return
    lines.wrapped(f"{'Signed by':<13}", f"certificate {_plain(certificate.subject)}", indent=2)
    lines.hash(certificate.fingerprint)
    if vendor is not None:
        said = f"{_plain(vendor.serial_number)}, with {_plain(vendor.firmware_version)}, as the signatures say"
        lines.wrapped(f"{'Camera':<13}", said, indent=2)
    if report.chain_problems:
        _question(lines, "ORIGIN", "fails", " ".join(report.chain_problems), "bold red")
    elif report.root_given:
        _question(lines, "ORIGIN", "holds", "The certificate leads to the root certificate that you gave.", "green")
    else:
        reason = "Anyone can make such a certificate; give the department's root with --root ROOT.pem."
        _question(lines, "ORIGIN", "open", reason, "yellow")
    if report.claimed is not None:
        reason = f"The camera's clock had it from {report.claimed[0]} to {report.claimed[1]}; that is a claim."
        _question(lines, "TIME", "open", reason, "yellow")


def _question(lines: Lines, name: str, standing: str, reason: str, style: str) -> None:
    lines.wrapped(f"{name:<6}  {standing:<5}  ", reason, indent=2, style=style)


def _print_pictures(lines: Lines, summary: VideoSummary) -> None:
    counts, frames = summary.counts, summary.frames
    lines.wrapped(
        "",
        f"{counts[GopState.VALID]} of {counted(summary.gops, 'GOP')} (each a keyframe and the pictures that build on "
        f"it), {frames[GopState.VALID]} of {counted(frames.total(), 'frame')}, are as they were signed.",
        indent=2,
    )
    for gop in summary.bad:
        _finding(lines, "fail", f"{where(gop)} is {gop.state.value}: {gop.reason}", "bold red")
    if more := summary.bad_gops - len(summary.bad):
        _finding(lines, "fail", f"{counted(more, 'more GOP is', 'more GOPs are')} bad.", "bold red")
    if uncovered := counts[GopState.UNCOVERED]:
        _finding(lines, "fail", f"{counted(uncovered, 'GOP')} came from the camera without a signature.", "bold red")
    if pending := counts[GopState.PENDING]:
        since = "" if summary.pending_from_s is None else f", from {summary.pending_from_s:.3f} s on"
        last = f"the last GOP{since}" if pending == 1 else f"the last {pending} GOPs{since}"
        gone = frames[GopState.PENDING]
        _finding(
            lines,
            "warn",
            f"Of {last}, the signature is not in this file, because it follows its GOP: nothing here vouches for "
            f"{'this frame' if gone == 1 else f'these {gone} frames'}.",
            "yellow",
        )


def _print_speed(lines: Lines, report: VideoFileReport) -> None:
    if report.speed_differs and report.lasted_s is not None:
        plays_s, lasted_s = report.lasted_s
        _finding(
            lines,
            "warn",
            f"What is signed of this film plays for {plays_s:.1f} s, and lasted {lasted_s:.1f} s by the times that are "
            "signed in it: somebody changed how fast it plays, or the camera's clock was set meanwhile. Compare it "
            "with the evidence package.",
            "yellow",
        )


def _finding(lines: Lines, severity: str, sentence: str, style: str) -> None:
    lines.wrapped(f"{severity}  ", sentence, indent=2, style=style)


def _plain(text: str) -> str:
    """What a stranger wrote: not without end."""
    return text[:_MAX_TEXT]
