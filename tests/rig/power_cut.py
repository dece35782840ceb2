"""One power cut: record, cut, boot again on the same card, and have it judged."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

from agent.clock import NS_PER_MS, NS_PER_S
from tests.rig.camera import STORE, Camera
from tests.rig.cut_outcome import PRE_EVENT_MS, Outcome, Running, judge, judge_store
from tests.rig.cut_plan import Moment, Phase, Plan
from tests.rig.lossy_disk import LossyDisk
from tests.rig.qemu import GuestError, RigError
from tests.rig.warm import Hot, Waiting, Warm
from tests.rig.write_cache import CutReport, CutRules

CAUGHT_UP_FRAGMENTS = PRE_EVENT_MS // 1000 + 2
"""So many are durable when the pre-event buffer and the first GOP after the press are."""
HOLD_RECOGNISED_S = 1.3
"""A little less than a hold takes: the cut comes around the stop."""
LONGEST_WAIT_S = 120.0
BOOT_S = 20.0
STOPPED_S = 8.0
"""After a stop the card is idle: a request that has not come by then does not come."""
DISKS = ("card", "store", "memory")


@dataclass(slots=True)
class _Case:
    """A case on its way. disks: images. promised: durable fragments by recording, as the daemon said."""

    plan: Plan
    folder: Path
    promised: dict[str, int] = field(default_factory=dict)

    def image(self, name: str) -> Path:
        return self.folder / f"{name}.ext4"

    def heard(self, camera: Camera, until_ns: int) -> None:
        """Keep what was promised by a moment of the guest's clock."""
        for seen in camera.status_changes():
            if seen.boottime_ns <= until_ns and seen.value["recording"] is not None:
                self.promised[seen.value["recording"]] = int(seen.value["durable_fragments"] or 0)


class _Powered:
    """The device's disks for one start, which lose their power together. A context manager."""

    def __init__(self, case: _Case) -> None:
        self._sockets = tempfile.TemporaryDirectory(prefix="rig-")  # a socket's path may have 107 bytes only
        self._rules, self._phase = case.plan.rules, case.plan.phase
        # What is not the card is honest, and it is told nothing that the card has not confirmed before.
        self.disks = {
            name: LossyDisk(case.image(name), Path(self._sockets.name) / name, self._rules_of(name)) for name in DISKS
        }

    def _rules_of(self, name: str) -> CutRules:
        return self._rules if name == "card" else replace(self._rules, lie_s=None)

    @property
    def drives(self) -> dict[str, str]:
        return {name: disk.drive for name, disk in self.disks.items()}

    @property
    def interrupted(self) -> str:
        """See Outcome."""
        return self.disks["card"].interrupted or ""

    def cut(self) -> CutReport:
        """All of them, the card first: nothing is confirmed any more that another could know of."""
        report = self.disks["card"].cut()
        for name in ("store", "memory"):
            self.disks[name].cut()
        return report

    def cut_at(self, moment: Moment, camera: Camera, from_ns: int, disk: str = "card") -> CutReport:
        """Cut at that moment after one of the guest's clock; when no more requests come, without. Raises RigError."""
        if moment.request is None:
            wait_ns = from_ns + round(moment.delay_s * NS_PER_S) - camera.machine.boottime_ns(time.monotonic_ns())
            camera.let_pass(wait_ns / NS_PER_S)
            return self.cut()
        self.disks[disk].cut_at_request(moment.request)
        end_s = time.monotonic() + (STOPPED_S if self._phase is Phase.STOP else LONGEST_WAIT_S)
        while not self.disks[disk].wait_cut(0.5) and time.monotonic() < end_s:
            if self._phase is Phase.OFFLOAD and not camera.offloads():
                break
        return self.cut()

    def __enter__(self) -> _Powered:
        return self

    def __exit__(self, *raised: object) -> None:
        for disk in self.disks.values():
            disk.close()
        self._sockets.cleanup()


@dataclass(frozen=True, slots=True)
class Bench:
    """What a case starts from, and goes on from after a cut.

    After the last of several cuts, and before each that comes in a recovery, the daemon is started anew; after a single
    one it is already there and waits for its card, because its start takes most of a case's time under emulation. What
    it does when the card comes is the same.
    """

    rig: Warm
    waiting: Waiting
    ready: Hot


def run(bench: Bench, what: Plan, folder: Path) -> Outcome:
    """Carry out one case in `folder`, which is made and keeps disks and vault. Raises RigError if the rig fails."""
    rig, ready = bench.rig, bench.ready
    started_s = time.monotonic()
    folder.mkdir(parents=True)
    case = _Case(what, folder)
    for name in DISKS:
        ready.copy_disk(name, case.image(name))
    with _Powered(case) as power, ready.start(**power.drives) as camera:
        utc_s = float(camera.machine.run("date +%s.%N"))
        running, report, error_ns = _record_and_cut(case, camera, power)
    # A boot takes so long; a recording that ran when the power went goes on.
    utc_s += (running.cut_ns - running.press_ns) / NS_PER_S + BOOT_S
    outcome = Outcome(what, report, clock_error_ms=error_ns / NS_PER_MS, interrupted=power.interrupted)
    for moment in what.again:
        with _Powered(case) as power, rig.start(**power.drives, utc_s=utc_s) as camera:
            _cut_in_recovery(case, camera, power, moment, outcome)
        utc_s += 2 * BOOT_S
    vault, store = folder / "vault", folder / "dock"
    last = rig if what.again else bench.waiting
    with _Powered(case) as power, last.start(**power.drives, utc_s=utc_s) as camera:
        if _insert(camera, outcome.findings, start=last is rig) and _recovered(camera, outcome):
            if what.phase is Phase.OFFLOAD:
                _offload_again(camera, outcome)
                camera.machine.get_folder(STORE, store)
            camera.stop()
            camera.copy_vault(vault)
        elif what.rules.lie_s is None:
            outcome.unverifiable.append("it did not come back")
    if vault.is_dir():
        judge(vault, running, case.promised, outcome)
        if store.is_dir():
            judge_store(store, vault, outcome)
    elif what.rules.lie_s is None:
        outcome.unverifiable.append("there is no vault")
    else:
        outcome.promised = outcome.promises_broken = sum(case.promised.values())
    outcome.seconds = time.monotonic() - started_s
    return outcome


def _record_and_cut(case: _Case, camera: Camera, power: _Powered) -> tuple[Running, CutReport, int]:
    machine, what = camera.machine, case.plan
    camera.wait_shows("ready")
    error_ns = machine.compare_clocks()
    edges = camera.double_press()
    from_ns = press_ns = edges[2]
    if what.phase is not Phase.SNAPSHOT:
        # How long that takes is the machine's business, so it is waited for and not assumed.
        caught_up = camera.wait_status(
            lambda status: (status["durable_fragments"] or 0) >= CAUGHT_UP_FRAGMENTS, "it had caught up"
        )
        from_ns = caught_up["boottime_ns"]
    disk = "card"
    if what.phase is Phase.STOP:
        # Never released: the power goes first.
        from_ns = camera.hold_begin() + round(HOLD_RECOGNISED_S * NS_PER_S)
        camera.let_pass((from_ns - machine.boottime_ns(time.monotonic_ns())) / NS_PER_S)
    elif what.phase is Phase.OFFLOAD:
        camera.end_recording()
        from_ns = machine.boottime_ns(time.monotonic_ns())
        camera.start_offload()
        disk = "store" if what.store_first else "card"
    report = power.cut_at(what.cut, camera, from_ns, disk)
    cut_ns = machine.boottime_ns(report.at_monotonic_ns)
    case.heard(camera, cut_ns)
    return Running(next(iter(case.promised), None), press_ns, cut_ns), report, error_ns


def _cut_in_recovery(case: _Case, camera: Camera, power: _Powered, moment: Moment, outcome: Outcome) -> None:
    camera.machine.compare_clocks()
    card = power.disks["card"]
    if moment.request is not None:
        # From the first write on: that the file system's journal is replayed is part of it.
        card.cut_at_request(moment.request)
    noted: list[str] = []
    try:
        _insert(camera, noted, start=True)
    except RigError:
        if not card.wait_cut(0):
            raise
    if moment.request is not None:
        card.wait_cut(LONGEST_WAIT_S)
    elif not noted:
        camera.let_pass(moment.delay_s)
    if not card.wait_cut(0):
        # Else what was noted is what it looks like when the card goes away meanwhile.
        outcome.findings += noted
    report = power.cut()
    case.heard(camera, camera.machine.boottime_ns(report.at_monotonic_ns))


def _insert(camera: Camera, noted: list[str], *, start: bool) -> bool:
    """Mount the disks as the cut left them, as a boot does, and start. False when that cannot be, which is noted."""
    for device in ("vdb", "vdc", "vdd"):
        code, _ = camera.machine.attempt(f"e2fsck -p /dev/{device}")
        if code > 1:
            # Preening gives up only where the file system breaks its own promises.
            noted.append(f"e2fsck -p {device}: {code}")
            camera.machine.attempt(f"e2fsck -fy /dev/{device}", timeout_s=300)
    try:
        camera.insert_card()
    except GuestError as error:
        noted.append(f"mount: {error}")
        return False
    if start:
        camera.start()
    return True


def _recovered(camera: Camera, outcome: Outcome) -> bool:
    """Wait until it works again; it goes on by itself with a linked recording. False, noted, when it does not."""
    try:
        camera.wait_status(lambda status: status["shows"] in ("ready", "recording"), "it had recovered", LONGEST_WAIT_S)
    except RigError:
        outcome.findings.append(f"daemon: {camera.log(3)}")
        return False
    return True


def _offload_again(camera: Camera, outcome: Outcome) -> None:
    """Let what the cut interrupted be finished: recordings, packages, receipts."""
    status = camera.status_changes()[-1].value
    if status["shows"] != "ready":
        camera.end_recording()
    camera.mount_store()
    try:
        camera.offload()
    except GuestError as error:
        outcome.unverifiable.append(f"offload: {error}")
