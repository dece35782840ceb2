"""What a power cut cost, judged by files alone: what was promised against what is there.

What was promised is what the daemon said of itself before the cut: the number of durable fragments in its status, the
same number that "recording" is shown for. What is there is read back on this machine by the verifier and by FFmpeg.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.clock import NS_PER_MS, NS_PER_S
from agent.media.units import VIDEO_TIMESCALE_90K
from agent.trust.certificates import load_chain
from agent.vault.filesystem import PosixFilesystem
from agent.vault.layout import VaultLayout
from agent.vault.record import Record
from agent.verify.finding import Severity
from agent.verify.report import Verdict
from agent.verify.verify import verify_path
from tests.rig.cut_plan import Phase, Plan
from tests.rig.write_cache import CutReport
from tests.support.playback import journal_records, of_type, play, recording_bytes

PRE_EVENT_MS = 5000
"""As in guest/bodycam.toml."""


@dataclass(slots=True)
class Outcome:
    """What a case cost. Times in ms, of the recording that ran when the power went first.

    promised, found: durable fragments of all recordings, by the last status before each cut and by the journal at last.
    after_checkpoint_ms: from the end of what was checkpointed to the cut. lost_ms: the same from the end of what can be
    played, which may be more than was checkpointed. after_press_ms: the part of that after the second press.
    None: nothing of the recording is there, or it was over.
    findings: codes of the verifier's findings, and what the file system said; for people.
    hit: what the first cut tore, by what is left of it. interrupted: the request to the card in whose place it came, by
    what was in it; empty for a cut at a time.
    """

    plan: Plan
    report: CutReport
    promised: int = 0
    found: int = 0
    promises_broken: int = 0
    after_checkpoint_ms: float | None = None
    lost_ms: float | None = None
    after_press_ms: float | None = None
    unverifiable: list[str] = field(default_factory=list)
    not_opening: list[str] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)
    hit: str = ""
    interrupted: str = ""
    clock_error_ms: float = 0.0
    seconds: float = 0.0

    @property
    def sound(self) -> bool:
        """Whether all that was promised held."""
        return not (self.promises_broken or self.unverifiable or self.not_opening)


@dataclass(frozen=True, slots=True)
class Running:
    """What the bench saw of the recording before the first cut. recording_id: None when none had begun."""

    recording_id: str | None
    press_ns: int
    cut_ns: int


def judge(vault: Path, running: Running, promised: Mapping[str, int], outcome: Outcome) -> None:
    """Fill in what the vault says. promised: durable fragments by recording."""
    layout = VaultLayout(vault)
    filesystem = PosixFilesystem()
    try:
        roots = load_chain(layout.root_certificate)
    except (OSError, ValueError) as error:
        outcome.unverifiable.append(f"no root: {error}")
        outcome.promised = outcome.promises_broken = sum(promised.values())
        return
    report = verify_path(vault, roots=roots)
    # A note accuses nobody: a leftover of an interrupted write is one.
    outcome.findings += [finding.code.value for finding in report.findings if finding.severity is not Severity.NOTE]
    if not report.ok:
        outcome.unverifiable.append("vault")
    for recording in report.recordings:
        if recording.verdict is not Verdict.VERIFIED:
            outcome.unverifiable.append(recording.recording_id)
        try:
            played = play(recording_bytes(filesystem, layout.recording(recording.recording_id)))
        except (OSError, ValueError) as error:  # PyAV's errors are both
            if recording.frames:
                outcome.not_opening.append(f"{recording.recording_id}: {error}")
            continue
        if len(played.frames) != recording.frames:
            outcome.not_opening.append(f"{recording.recording_id}: {len(played.frames)} of {recording.frames} frames")
    records = journal_records(filesystem, layout)
    for recording_id, fragments in promised.items():
        checkpoints = of_type(records, "checkpoint", recording_id)
        found = max((int(checkpoint["fragment"]) for checkpoint in checkpoints), default=0)
        outcome.promised += fragments
        outcome.found += min(found, fragments)
        outcome.promises_broken += max(0, fragments - found)
    if running.recording_id is not None:
        _measure(records, running, outcome)
    if outcome.lost_ms is None and outcome.plan.phase not in (Phase.STOP, Phase.OFFLOAD):
        # Nothing of it is on flash: what went before the press is lost as well.
        outcome.after_press_ms = (running.cut_ns - running.press_ns) / NS_PER_MS
        outcome.lost_ms = outcome.after_press_ms + PRE_EVENT_MS


def judge_store(store: Path, vault: Path, outcome: Outcome) -> None:
    """Fill in what the dock's disk holds: a package for each recording, each whole."""
    layout = VaultLayout(vault)
    roots = load_chain(layout.root_certificate)
    names = {path.parent.name for path in store.rglob("journal") if path.is_dir()}
    for recording in layout.recordings.iterdir():
        if not any(recording.name in name for name in names):
            outcome.unverifiable.append(f"not in the store: {recording.name}")
    for folder in store.rglob("journal"):
        package = verify_path(folder.parent, roots=roots)
        if not package.ok:
            codes = " ".join(finding.code.value for finding in package.findings)
            outcome.unverifiable.append(f"package {folder.parent.name}: {codes}")


def _measure(records: list[Record], running: Running, outcome: Outcome) -> None:
    assert running.recording_id is not None
    opened = of_type(records, "recording-open", running.recording_id)
    checkpoints = of_type(records, "checkpoint", running.recording_id)
    segments = of_type(records, "segment", running.recording_id)
    stopped = any(not closed["recovered"] for closed in of_type(records, "recording-close", running.recording_id))
    outcome.hit = "after the end" if stopped else _hit(records, checkpoints, segments)
    if not opened or stopped:
        return
    origin_ns = opened[0]["media_origin_boottime_ns"]

    def ended_ns(entries: list[dict[str, Any]]) -> int:
        end_90k = max((entry.get("end_media_90k") or 0 for entry in entries), default=0)
        return int(origin_ns + end_90k * NS_PER_S // VIDEO_TIMESCALE_90K)

    # What was filmed after the stop was recognised was never to be kept.
    stop_ns = min((stop["stop_boottime_ns"] for stop in of_type(records, "stop", running.recording_id)), default=None)
    until_ns = running.cut_ns if stop_ns is None else min(running.cut_ns, stop_ns)
    outcome.after_checkpoint_ms = max(0, until_ns - ended_ns(checkpoints)) / NS_PER_MS
    outcome.lost_ms = max(0, until_ns - ended_ns(segments)) / NS_PER_MS
    outcome.after_press_ms = min(outcome.lost_ms, (until_ns - running.press_ns) / NS_PER_MS)


def _hit(records: list[Record], checkpoints: list[dict[str, Any]], segments: list[dict[str, Any]]) -> str:
    """What was being written, as far as what is left of it tells."""
    if any(opened.get("torn_bytes") for opened in of_type(records, "journal-open")):
        return "journal"
    recovered = [segment for segment in segments if segment["state"] == "recovered"]
    if any(segment["bytes"] > segment["checkpointed_bytes"] for segment in recovered):
        return "fragment"
    if any(not segment["checkpointed_bytes"] for segment in recovered) or (segments and not recovered):
        return "seal"
    return "between" if checkpoints else "nothing yet"
