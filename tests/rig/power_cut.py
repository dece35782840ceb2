"""One power cut: record, cut, boot again, and judge what is there against what was promised.

What was promised is what the daemon said of itself before the cut: the number of durable fragments in its status, the
same number that "recording" is shown for. What is there is read back on this machine by the verifier and by FFmpeg.
"""

from __future__ import annotations

import random
import tempfile
import time
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from agent.clock import NS_PER_MS, NS_PER_S
from agent.media.units import VIDEO_TIMESCALE_90K
from agent.trust.certificates import load_chain
from agent.vault.filesystem import PosixFilesystem
from agent.vault.layout import VaultLayout
from agent.vault.record import Record
from agent.verify.report import Verdict
from agent.verify.verify import verify_path
from tests.rig.camera import Camera
from tests.rig.lossy_disk import LossyDisk
from tests.rig.qemu import GuestError, RigError
from tests.rig.warm import Warm, file_drive
from tests.rig.write_cache import CutReport, CutRules
from tests.support.playback import journal_records, of_type, play, recording_bytes

PRE_EVENT_MS = 5000
"""As in guest/bodycam.toml."""
BUFFER_S = PRE_EVENT_MS / 1000 + 0.5
"""Full at the press."""
CAUGHT_UP_FRAGMENTS = PRE_EVENT_MS // 1000 + 2
"""So many are durable when the pre-event buffer and the first GOP after the press are."""


class Phase(StrEnum):
    """In what the power goes."""

    SNAPSHOT = "snapshot"
    """Right after the press, while the pre-event buffer is being written."""
    STEADY = "steady"
    """In a recording that has caught up."""
    STOP = "stop"
    """Around the stop: last fragments, seal, end of the recording."""
    RECOVERY = "recovery"
    """In a steady recording, and again while the next start recovers it."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to happen. delay_s: to the cut, from the second press (SNAPSHOT), from the beginning of the hold (STOP),
    or from when the recording has caught up.

    again_s: RECOVERY only: from the daemon's next start to the second cut.
    """

    seed: int
    phase: Phase
    delay_s: float
    rules: CutRules
    again_s: float = 0.0


def plan(seed: int, *, lie: bool = False, phase: Phase | None = None) -> Plan:
    """A case by its number: the same for all time."""
    chance = random.Random(seed)
    phase = phase or chance.choices(list(Phase), weights=(3, 4, 2, 1))[0]
    delay_s = {
        Phase.SNAPSHOT: chance.uniform(0.0, 1.5),
        Phase.STEADY: chance.uniform(0.0, 4.0),
        Phase.STOP: chance.uniform(1.3, 3.5),
        Phase.RECOVERY: chance.uniform(0.0, 1.0),
    }[phase]
    keep, tear = chance.choice(((0.0, False), (0.5, False), (0.5, True), (0.9, True)))
    rules = CutRules(keep, tear, seed, lie_s=chance.uniform(1.0, 4.0) if lie else None)
    return Plan(seed, phase, delay_s, rules, chance.uniform(0.5, 6.0))


@dataclass(slots=True)
class Outcome:
    """What a cut cost. Of the recording that ran when the power went; times in ms.

    promised, found: durable fragments, by the last status before the cut and by the journal after it.
    after_checkpoint_ms: from the end of what was checkpointed to the cut. lost_ms: the same from the end of what can be
    played, which may be more than was checkpointed. after_press_ms: the part of that after the second press.
    None: nothing of the recording is there, or it was over.
    findings: codes of the verifier's findings, and what the file system said; for people.
    """

    plan: Plan
    report: CutReport
    promised: int = 0
    found: int = 0
    after_checkpoint_ms: float | None = None
    lost_ms: float | None = None
    after_press_ms: float | None = None
    unverifiable: list[str] = field(default_factory=list)
    not_opening: list[str] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)
    clock_error_ms: float = 0.0
    seconds: float = 0.0

    @property
    def promises_broken(self) -> int:
        """Fragments that were called durable and are gone."""
        return max(0, self.promised - self.found)

    @property
    def sound(self) -> bool:
        """Whether all that was promised held."""
        return not (self.promises_broken or self.unverifiable or self.not_opening)


@dataclass(frozen=True, slots=True)
class _Running:
    """The recording as the bench saw it before the cut."""

    recording_id: str | None
    promised: int
    press_ns: int
    cut_ns: int


def run(rig: Warm, what: Plan, folder: Path) -> Outcome:
    """Carry out one case in `folder`, which is made and keeps card and vault. Raises RigError if the rig fails."""
    started_s = time.monotonic()
    folder.mkdir(parents=True)
    card = rig.copy_card(folder / "card.ext4")
    # A socket's path may have 107 bytes only.
    with tempfile.TemporaryDirectory(prefix="rig-") as sockets:
        disk = LossyDisk(card, Path(sockets) / "card", what.rules)
        with rig.start(disk.drive) as camera:
            running, report, error_ns = _record_and_cut(camera, disk, what)
        outcome = Outcome(what, report, promised=running.promised, clock_error_ms=error_ns / NS_PER_MS)
        if what.phase is Phase.RECOVERY:
            disk = LossyDisk(card, Path(sockets) / "again", what.rules)
            with rig.start(disk.drive) as camera:
                _recover(camera, outcome, wait=False)
                camera.let_pass(what.again_s)
                disk.cut()
    vault = folder / "vault"
    with rig.start(file_drive(card)) as camera:
        if _recover(camera, outcome, wait=True):
            camera.stop()
            camera.copy_vault(vault)
    if vault.is_dir():
        judge(vault, running, outcome)
    elif not what.rules.lie_s:
        outcome.unverifiable.append("there is no vault")
    outcome.seconds = time.monotonic() - started_s
    return outcome


def _record_and_cut(camera: Camera, disk: LossyDisk, what: Plan) -> tuple[_Running, CutReport, int]:
    camera.insert_card()
    camera.start()
    camera.wait_shows("ready")
    camera.let_pass(BUFFER_S)
    machine = camera.machine
    error_ns = machine.compare_clocks()
    edges = camera.double_press()
    begin_ns = press_ns = edges[2]
    if what.phase is not Phase.SNAPSHOT:
        # How long that takes is the machine's business, so it is waited for and not assumed.
        caught_up = camera.wait_status(
            lambda status: (status["durable_fragments"] or 0) >= CAUGHT_UP_FRAGMENTS, "it had caught up"
        )
        begin_ns = caught_up["boottime_ns"]
    if what.phase is Phase.STOP:
        # Never released: the power goes first.
        begin_ns = camera.hold_begin()
    wait_ns = begin_ns + round(what.delay_s * NS_PER_S) - machine.boottime_ns(time.monotonic_ns())
    camera.let_pass(wait_ns / NS_PER_S)
    report = disk.cut()
    cut_ns = machine.boottime_ns(report.at_monotonic_ns)
    told = [event for event in machine.events if event["event"] == "status" and event["boottime_ns"] <= cut_ns]
    recording_id, promised = None, 0
    for status in told:
        if status["recording"] is not None:
            recording_id, promised = status["recording"], status["durable_fragments"]
    return _Running(recording_id, promised, press_ns, cut_ns), report, error_ns


def _recover(camera: Camera, outcome: Outcome, *, wait: bool) -> bool:
    """Start on the card as the cut left it, as a boot does. False when that cannot be, which is noted."""
    checked = camera.machine.hand.ask("run", shell="e2fsck -p /dev/vdb", timeout_s=120)
    if checked["rc"] > 1:
        # Preening gives up only where the file system breaks its own promises.
        outcome.findings.append(f"e2fsck -p: {checked['rc']}")
        camera.machine.hand.ask("run", shell="e2fsck -fy /dev/vdb", timeout_s=300)
    try:
        camera.insert_card()
    except GuestError as error:
        outcome.findings.append(f"mount: {error}")
        return False
    camera.start()
    if wait:
        try:
            # It goes on by itself with a linked recording.
            camera.wait_status(lambda status: status["shows"] in ("ready", "recording"), "it had recovered", 120)
        except RigError:
            outcome.findings.append(f"daemon: {camera.log(3)}")
            return False
    return True


def judge(vault: Path, running: _Running, outcome: Outcome) -> None:
    """Fill in what the vault says, by files alone."""
    layout = VaultLayout(vault)
    filesystem = PosixFilesystem()
    try:
        roots = load_chain(layout.root_certificate)
    except (OSError, ValueError) as error:
        outcome.unverifiable.append(f"no root: {error}")
        return
    report = verify_path(vault, roots=roots)
    outcome.findings += [finding.code.value for finding in report.findings]
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
    if running.recording_id is not None:
        _measure(journal_records(filesystem, layout), running, outcome)
    if outcome.lost_ms is None and outcome.plan.phase is not Phase.STOP:
        # Nothing of it is on flash: what went before the press is lost as well.
        outcome.after_press_ms = (running.cut_ns - running.press_ns) / NS_PER_MS
        outcome.lost_ms = outcome.after_press_ms + PRE_EVENT_MS


def _measure(records: list[Record], running: _Running, outcome: Outcome) -> None:
    assert running.recording_id is not None
    opened = of_type(records, "recording-open", running.recording_id)
    checkpoints = of_type(records, "checkpoint", running.recording_id)
    segments = of_type(records, "segment", running.recording_id)
    outcome.found = max((int(checkpoint["fragment"]) for checkpoint in checkpoints), default=0)
    stopped = any(not closed["recovered"] for closed in of_type(records, "recording-close", running.recording_id))
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
