"""A shift with a USB webcam and a microphone to which everything happens while they record: the story, told once."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.clock import NS_PER_S
from agent.trust.certificates import load_chain
from agent.vault.filesystem import PosixFilesystem
from agent.vault.layout import VaultLayout
from agent.vault.record import Record
from agent.verify.report import Report
from agent.verify.verify import verify_path
from tests.rig.camera import GREEN_PIN, Camera, Seen
from tests.rig.layers import HERE
from tests.rig.machine import Machine
from tests.rig.qemu import RigError
from tests.rig.webcam import UsbWebcam
from tests.support.playback import Playback, journal_records, of_type, play, recording_bytes

PRE_EVENT_S = 5
STALL_MS = 3000
"""As in guest/bodycam.toml: an emulated machine may stand still for longer than the 1500 that a device has."""
TIMEOUT_S = 120.0
CONFIGURATION = "/etc/bodycam/bodycam.toml"


def configure(machine: Machine, **changes: str) -> None:
    """Give the device its usual configuration with other lines: each key, wherever it stands, gets this instead."""
    lines = (HERE / "guest" / "bodycam.toml").read_text().splitlines()
    for key, text in changes.items():
        (place,) = (place for place, line in enumerate(lines) if line.startswith(f"{key} = "))
        lines[place] = text
    machine.put("\n".join(lines).encode(), CONFIGURATION)


@dataclass
class Shift:
    """What was done and seen. Times are the guest's boot time in ns.

    did, saw, lit: by the name of the event: when it was done, when the status said so, when the light showed it.
    sent: each picture's number and when it was sent whole. backlog_ns: the most sound that waited to be read.
    """

    vault: Path
    did: dict[str, int] = field(default_factory=dict)
    saw: dict[str, int] = field(default_factory=dict)
    lit: dict[str, int] = field(default_factory=dict)
    sent: dict[int, int] = field(default_factory=dict)
    began_utc_s: float = 0
    backlog_ns: int = 0
    log: str = ""
    verified: tuple[int, str] = (-1, "")

    def told_ms(self, event: str) -> float:
        """How long it took from what was done to the status that said so; of "unplugged, sealed": from "unplugged"."""
        return (self.saw[event] - self.did[event.partition(",")[0]]) / 1e6

    def lit_ms(self, event: str) -> float:
        """The same to the light."""
        return (self.lit[event] - self.did[event]) / 1e6

    def times(self) -> str:
        """For people: how long it took to tell of each thing, and to show it."""
        told = [f"{event}: {self.told_ms(event):.0f} ms" for event in self.saw]
        return "; ".join([*told, *(f"{event}, on the light: {self.lit_ms(event):.0f} ms" for event in self.lit)])

    def __post_init__(self) -> None:
        self.layout = VaultLayout(self.vault)

    @property
    def records(self) -> list[Record]:
        """The journal."""
        return journal_records(PosixFilesystem(), self.layout)

    def of_type(self, type_: str, recording_id: str | None = None) -> list[dict[str, Any]]:
        """The records of a type."""
        return of_type(self.records, type_, recording_id)

    def report(self) -> Report:
        """What our verifier says of the vault's copy."""
        return verify_path(self.vault, roots=load_chain(self.layout.root_certificate))

    def data(self, recording_id: str) -> bytes:
        """A recording as one file."""
        return recording_bytes(PosixFilesystem(), self.layout.recording(recording_id))

    def played(self, recording_id: str) -> Playback:
        """A recording, decoded."""
        return play(self.data(recording_id))


class Storyteller:
    """Does one thing after the other to a running camera and notes when it was told of each."""

    def __init__(self, camera: Camera, shift: Shift) -> None:
        self._camera = camera
        self._shift = shift

    def wait(self, event: str, is_so: Callable[[dict[str, Any]], bool], since_ns: int) -> dict[str, Any]:
        """The first status after `since_ns` of which `is_so` holds, and note when it was told."""

        def look() -> Seen | None:
            later = (seen for seen in self._camera.status_changes() if seen.boottime_ns > since_ns)
            return next((seen for seen in later if is_so(seen.value)), None)

        hand = self._camera.machine.hand
        try:
            seen = hand.wait(look, f"{event} was told", TIMEOUT_S)
        except RigError as error:
            error.add_note(self._camera.log(80))
            raise
        self._shift.saw[event] = seen.boottime_ns
        status: dict[str, Any] = seen.value
        return status

    def shows_a_fault(self, event: str, since_ns: int) -> None:
        """Wait until status says fault, and the green light, dark in a recording, makes the red one's amber."""
        self.wait(event, lambda now: now["shows"] == "fault", since_ns)

        def look() -> int | None:
            changes = self._camera.light_changes(GREEN_PIN)
            return next((seen.boottime_ns for seen in changes if seen.value and seen.boottime_ns > since_ns), None)

        self._shift.lit[event] = self._camera.machine.hand.wait(look, f"{event} was seen", TIMEOUT_S)

    def press(self) -> str:
        """Press the button twice, and wait until a recording runs and is durable; its id."""
        at_ns = self._shift.did["press"] = self._camera.double_press()[2]
        return self.records_again("press", None, at_ns)

    def records_again(self, event: str, other_than: str | None, since_ns: int) -> str:
        """Wait until another recording runs and is durable; its id."""
        status = self.wait(event, lambda now: now["shows"] == "recording" and now["recording"] != other_than, since_ns)
        return str(status["recording"])


def tell(camera: Camera, shift: Shift) -> None:
    """The whole shift; what is asserted here is only what has to be so for the story to go on."""
    machine, story = camera.machine, Storyteller(camera, shift)
    shift.began_utc_s = float(machine.run("date +%s.%N"))
    configure(machine, backend='backend = "webcam"', stall_ms=f"stall_ms = {STALL_MS}")
    webcam = UsbWebcam(machine)
    webcam.plug()
    camera.insert_card()
    camera.start()
    camera.wait_shows("ready")
    camera.let_pass(PRE_EVENT_S + 1)

    running = story.press()
    camera.let_pass(3)
    # Until one is seen: a machine that is too slow for some pictures may be so for just these.
    said = "journalctl -u bodycam.service -o cat --no-pager | grep -q 'does not decode'"
    while machine.run(f"{said} || echo no"):
        assert machine.boottime_ns(time.monotonic_ns()) - shift.saw["press"] < TIMEOUT_S * NS_PER_S, camera.log()
        webcam.break_pictures(2)
        camera.let_pass(1)

    # Whoever still has the device open keeps its number from the camera that comes back.
    machine.run(
        "systemd-run --quiet --unit=rig-holder -p StandardInput=file:/dev/video0 sleep infinity;"
        " until [ /dev/video0 -ef /proc/$(systemctl show -p MainPID --value rig-holder)/fd/0 ]; do sleep 0.1; done"
    )
    at_ns = shift.did["unplugged"] = webcam.unplug()
    story.shows_a_fault("unplugged", at_ns)
    story.wait("unplugged, sealed", lambda now: now["recording"] is None, at_ns)
    # Another format, too: as if it were another camera.
    at_ns = shift.did["plugged again"] = webcam.plug("YUYV")
    running = story.records_again("plugged again", running, at_ns)
    machine.run("systemctl stop rig-holder")
    camera.let_pass(3)

    at_ns = shift.did["stream frozen"] = webcam.freeze("stream")
    story.shows_a_fault("stream frozen", at_ns)
    story.wait("stream frozen, sealed", lambda now: now["recording"] is None, at_ns)
    at_ns = shift.did["stream goes on"] = webcam.thaw()
    running = story.records_again("stream goes on", running, at_ns)
    camera.let_pass(2)

    at_ns = shift.did["frozen"] = webcam.freeze("all")
    story.shows_a_fault("frozen", at_ns)
    # No status: the process has ended.
    story.wait("frozen, ended", lambda now: now["shows"] is None, at_ns)
    at_ns = shift.did["goes on"] = webcam.thaw()
    running = story.records_again("goes on", running, at_ns)

    at_ns = shift.did["covered"] = webcam.cover(True)
    story.wait("covered", lambda now: "lens" in now["faults"], at_ns)
    at_ns = shift.did["uncovered"] = webcam.cover(False)
    story.wait("uncovered", lambda now: "lens" not in now["faults"], at_ns)
    at_ns = shift.did["hold"] = camera.hold_begin()
    story.wait("hold", lambda now: now["shows"] == "ready", at_ns)
    camera.stop()

    shift.sent = webcam.sent()
    finish(camera, shift)


def finish(camera: Camera, shift: Shift) -> None:
    """Take along what there is to be judged, the daemon being stopped."""
    shift.log = camera.machine.run(f"journalctl -u bodycam.service -o cat --no-pager --since=@{shift.began_utc_s}")
    shift.verified = camera.verify()
    camera.copy_vault(shift.vault)
