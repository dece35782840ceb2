"""What goes wrong with a card while it is being recorded on: what can be kept is, the wearer is told, a record says so.

The card is a disk behind a socket here, which stalls and fails as it is told; the file system, the kernel's error paths
and the daemon are the real ones.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.clock import NS_PER_S
from agent.daemon.watchdog import STALL_SHOWN_NS
from agent.recorder.recording import RESERVE_BYTES
from agent.trust.certificates import load_chain
from agent.vault.filesystem import PosixFilesystem
from agent.vault.layout import VaultLayout
from agent.vault.record import Record
from agent.verify.report import Report, Verdict
from agent.verify.verify import verify_path
from tests.rig.camera import CARD, MEMORY, RED_PIN, VAULT, Camera
from tests.rig.lossy_disk import READ, WRITE, LossyDisk
from tests.rig.power_cut import CAUGHT_UP_FRAGMENTS
from tests.rig.qemu import RigError
from tests.rig.warm import BUFFER_S, Hot, Warm, forgetful_drive
from tests.support.playback import journal_records, of_type, play, recording_bytes

LONGEST_WAIT_S = 120
BLOCK_BYTES = 4096
"""Of the card's file system."""


@contextmanager
def recording(ready: Hot, folder: Path) -> Iterator[tuple[Camera, LossyDisk]]:
    """A camera that records, and has caught up, on a card that does what it is told."""
    disk = LossyDisk(ready.copy_card(folder / "card.ext4"), folder / "card")
    try:
        with ready.start(disk.drive) as camera:
            camera.double_press()
            camera.wait_durable(CAUGHT_UP_FRAGMENTS)
            yield camera, disk
    finally:
        disk.close()


def durable(camera: Camera) -> int:
    return int(camera.status_changes()[-1].value["durable_fragments"] or 0)


def scrub(camera: Camera) -> int:
    """A pass of `bodycam scrub`, by its unit; its exit code."""
    camera.machine.attempt("systemctl start bodycam-scrub.service", timeout_s=300)
    return int(camera.machine.run("systemctl show -P ExecMainStatus bodycam-scrub.service"))


def mount(camera: Camera, device: str) -> None:
    """What a person does about a card that was away, as docs/operations.md has it."""
    camera.machine.run(
        f"for try in $(seq 50); do device=$(ls {device} 2>/dev/null) && break; sleep 0.2; done;"
        f" fsck -p $device; [ $? -le 1 ] && mount -o noatime,errors=remount-ro $device {CARD}"
    )


def wait_told(camera: Camera, is_so: Callable[[dict[str, Any]], bool], what: str) -> None:
    """Until the daemon's status says so. Raises RigError when it does not, or the guest dies first."""
    for _ in range(LONGEST_WAIT_S):
        if is_so(camera.status()):
            return
        camera.let_pass(1)
    raise RigError(f"The status does not tell {what}.\n{camera.log()}")


def blocks(camera: Camera, name: str) -> list[int]:
    """First and last block of each extent of the newest file of that name, in the file's order, on the card."""
    told = camera.machine.run(f"filefrag -e -b{BLOCK_BYTES} $(ls {VAULT}/recordings/*/{name} | tail -n 1)")
    extents = re.findall(r"^ *\d+: +\d+\.\. +\d+: +(\d+)\.\. +(\d+):", told, re.MULTILINE)
    return [int(block) for extent in extents for block in extent]


def finish(camera: Camera, folder: Path) -> tuple[Report, list[Record]]:
    """Stop and have a look at the vault."""
    camera.end_recording()
    return look(camera, folder, "button")


def look(camera: Camera, folder: Path, stop_reason: str) -> tuple[Report, list[Record]]:
    """What lies in the vault: one sound recording, every frame from the first to the last in it once."""
    camera.stop()
    camera.copy_vault(folder / "vault")
    layout = VaultLayout(folder / "vault")
    report = verify_path(layout.root, roots=load_chain(layout.root_certificate))
    assert report.ok, report.findings
    records = journal_records(PosixFilesystem(), layout)
    assert not of_type(records, "gap")
    (one,) = report.recordings
    assert one.verdict is Verdict.VERIFIED
    assert one.stop_reason == stop_reason
    # What was written and not confirmed stands again in the next segment.
    vouched = {segment["file"]: int(segment["bytes"]) for segment in of_type(records, "segment")}
    film = recording_bytes(PosixFilesystem(), layout.recording(one.recording_id), until=vouched)
    numbers = play(film).counters
    assert numbers[0] is not None
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert len(numbers) == one.frames
    return report, records


def faults(records: list[Record], component: str, type_: str = "fault") -> list[dict[str, Any]]:
    return [fields for fields in of_type(records, type_) if fields["component"] == component]


@pytest.mark.parametrize("stall_s", [2.0, 5.0, 10.0])
def test_a_card_that_stalls_costs_no_frame(ready: Hot, tmp_path: Path, stall_s: float) -> None:
    with recording(ready, tmp_path) as (camera, disk):
        before, fragments = len(camera.status_changes()), durable(camera)
        disk.stall()
        camera.let_pass(stall_s)
        if stall_s >= 10:
            # It is told while it lasts, and not as "recording".
            camera.wait_shows("recording-unsafe", since=before)
            camera.wait_blinking(RED_PIN, 100, 100)
        disk.go_on()
        camera.wait_durable(fragments + int(stall_s) + 2)
        _, records = finish(camera, tmp_path)
    told = faults(records, "card")
    assert told or stall_s <= STALL_SHOWN_NS / NS_PER_S, "a shorter one is what cards do"
    assert all("did not answer" in fault["message"] for fault in told)
    assert len(faults(records, "card", "fault-cleared")) == len(told)
    assert not faults(records, "storage"), "nothing had failed"


def test_an_io_error_in_one_file_closes_it_and_loses_nothing(ready: Hot, tmp_path: Path) -> None:
    with recording(ready, tmp_path) as (camera, disk):
        fragments = durable(camera)
        # The next write that holds the beginning of a fragment fails, once.
        disk.fail(lambda request: request.kind == WRITE and disk.failed == 0 and b"moof" in request.data)
        camera.wait_durable(fragments + 5)
        assert disk.failed == 1
        _, records = finish(camera, tmp_path)
    assert faults(records, "storage")
    assert faults(records, "storage", "fault-cleared")
    assert [segment["state"] for segment in of_type(records, "segment")].count("torn") == 1


def test_a_card_that_turns_read_only_is_an_alarm_and_keeps_what_was_durable(ready: Hot, tmp_path: Path) -> None:
    with recording(ready, tmp_path) as (camera, _disk):
        before, fragments = len(camera.status_changes()), durable(camera)
        # As ext4 does when it meets damage (mounted with errors=remount-ro).
        camera.machine.run("echo 1 >/sys/fs/ext4/vdb/trigger_fs_error")
        camera.wait_shows("recording-unsafe", since=before)
        camera.wait_blinking(RED_PIN, 100, 100)
        assert "storage" in camera.status()["faults"]
        # What a person does, as docs/operations.md has it.
        camera.stop()
        camera.machine.run(f"umount {CARD}")
        mount(camera, "/dev/vdb")
        before = len(camera.status_changes())
        camera.start()
        camera.wait_status(
            lambda status: status["shows"] in ("ready", "recording"), "it was back", LONGEST_WAIT_S, since=before
        )
        if camera.status()["recording"] is not None:
            camera.end_recording()
        camera.stop()
        camera.copy_vault(tmp_path / "vault")
    layout = VaultLayout(tmp_path / "vault")
    report = verify_path(layout.root, roots=load_chain(layout.root_certificate))
    assert report.ok, report.findings
    recovered = min(report.recordings, key=lambda one: one.recording_id)
    assert recovered.recovered
    assert recovered.verdict is Verdict.VERIFIED
    # Of what had been durable nothing is gone.
    checkpoints = of_type(journal_records(PosixFilesystem(), layout), "checkpoint", recovered.recording_id)
    assert max(checkpoint["fragment"] for checkpoint in checkpoints) >= fragments


@contextmanager
def in_a_reader(rig: Warm, card: Path) -> Iterator[Camera]:
    """A camera that is ready, its card in a USB reader, which the kernel sees go and come."""
    with rig.start(forgetful_drive(rig.card)) as camera:
        camera.machine.run(f"modprobe -a xhci-pci usb-storage sd_mod; mount {MEMORY}")
        camera.machine.plug_in(card)
        mount(camera, "/dev/sd?")
        camera.start()
        camera.wait_shows("ready")
        camera.let_pass(BUFFER_S)
        yield camera


def put_in(camera: Camera, card: Path) -> None:
    """A card after one that was pulled out, as docs/operations.md has it."""
    camera.machine.plug_in(card)
    camera.machine.run(f"umount -l {CARD}")
    mount(camera, "/dev/sd?")


def test_a_card_that_is_pulled_out_is_an_alarm_and_goes_on_when_it_is_back(rig: Warm, tmp_path: Path) -> None:
    card = rig.copy_card(tmp_path / "card.ext4")
    with in_a_reader(rig, card) as camera:
        camera.double_press()
        camera.wait_durable(CAUGHT_UP_FRAGMENTS)
        before, fragments = len(camera.status_changes()), durable(camera)
        camera.machine.pull_out()
        camera.wait_shows("recording-unsafe", since=before)
        camera.wait_blinking(RED_PIN, 100, 100)
        assert "storage" in camera.status()["faults"]
        before = len(camera.status_changes())
        put_in(camera, card)
        camera.wait_shows("recording", since=before)
        camera.wait_durable(fragments + 5)
        # The lock is on what is mounted now.
        assert camera.machine.attempt(f"flock --nonblock {VAULT} true")[0] == 1
        _, records = finish(camera, tmp_path)
    assert faults(records, "storage")
    assert faults(records, "storage", "fault-cleared")


def test_another_card_gets_nothing_and_the_own_one_everything(rig: Warm, tmp_path: Path) -> None:
    own, other = rig.copy_card(tmp_path / "card.ext4"), rig.copy_card(tmp_path / "other.ext4")
    with in_a_reader(rig, own) as camera:
        machine = camera.machine
        before = len(camera.status_changes())
        machine.pull_out()
        put_in(camera, other)
        # While it idles, and without a press that would find it out.
        camera.wait_shows("fault", since=before)
        wait_told(
            camera, lambda status: "put its card back in" in str(status["faults"].get("storage")), "the other card"
        )
        listing = f"cd {CARD} && find . -type f -exec sha256sum {{}} + | sort"
        lay_there = machine.run(listing)
        before = len(camera.status_changes())
        camera.double_press()
        camera.wait_shows("recording-unsafe", since=before)
        assert machine.run(listing) == lay_there
        machine.pull_out()
        before = len(camera.status_changes())
        put_in(camera, own)
        camera.wait_shows("recording", since=before)
        camera.wait_durable(CAUGHT_UP_FRAGMENTS)
        _, records = finish(camera, tmp_path)
    (opened,) = of_type(records, "recording-open")
    assert opened["actual_pre_event_ms"] >= opened["configured_pre_event_ms"]
    assert faults(records, "storage", "fault-cleared")


def test_a_card_that_fills_up_ends_the_recording_in_order_and_takes_no_other(ready: Hot, tmp_path: Path) -> None:
    with recording(ready, tmp_path) as (camera, _disk):
        before = len(camera.status_changes())
        # Room for some seconds more than what is kept back.
        spare_bytes = RESERVE_BYTES + 1_600_000
        camera.machine.run(f"fallocate -l $(($(stat -f -c '%a * %S' {CARD}) - {spare_bytes})) {CARD}/others")
        wait_told(camera, lambda status: status["storage_level"] == "full", "that the card is full")
        camera.wait_shows("fault", since=before)
        camera.double_press()
        camera.let_pass(3)
        assert camera.status()["recording"] is None
        _, records = look(camera, tmp_path, "storage-full")
    assert [storage["room"] for storage in of_type(records, "storage")][-1] == "full"
    assert of_type(records, "trigger-dropped")[-1]["reason"] == "storage-full"


def test_bits_that_rot_are_found_by_the_scrub_and_named(ready: Hot, tmp_path: Path) -> None:
    with recording(ready, tmp_path) as (camera, disk):
        camera.end_recording()
        first = blocks(camera, "000001.m4s")[0]
        disk.rot(first * BLOCK_BYTES + 700)
        assert scrub(camera) == 1
        assert "000001.m4s" in str(camera.status()["faults"]["bit-rot"])
        camera.stop()
        camera.copy_vault(tmp_path / "vault")
    records = journal_records(PosixFilesystem(), VaultLayout(tmp_path / "vault"))
    assert of_type(records, "scrub")[-1]["differing"] == 1
    assert faults(records, "bit-rot")
    # The copy was read through the kernel's page cache, which had the file as it was: the rot is on the card itself.
    (difference,) = of_type(records, "scrub")[-1]["differences"]
    assert difference["file"] == "000001.m4s"


def test_a_file_that_cannot_be_read_any_more_is_named_by_the_scrub(ready: Hot, tmp_path: Path) -> None:
    with recording(ready, tmp_path) as (camera, disk):
        camera.end_recording()
        first = blocks(camera, "000001.m4s")[0]
        bad = first * BLOCK_BYTES
        disk.fail(lambda request: request.kind == READ and request.touches(bad))
        assert scrub(camera) == 1
        assert "000001.m4s" in str(camera.status()["faults"]["bit-rot"])
        disk.fail(None)
        camera.stop()
        camera.copy_vault(tmp_path / "vault")
    (difference,) = of_type(journal_records(PosixFilesystem(), VaultLayout(tmp_path / "vault")), "scrub")[-1][
        "differences"
    ]
    assert difference["file"] == "000001.m4s"
    assert difference["error"]
