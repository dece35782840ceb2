"""What leaves the camera is whole, verifies on its own, and is receipted once; what cannot leave says why."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from agent.clock import SimulatedClock
from agent.errors import ControlError, EvidenceNotFound, StoreError
from agent.offload.folder import FolderStore
from agent.offload.folder_files import FolderFiles
from agent.offload.offload import OffloadReport, Step, offload_once
from agent.offload.receipts import ReceiptQueue
from agent.recorder.receipts import check_receipt
from agent.trust.certificates import pem
from agent.verify.finding import Code
from tests.support.stamping import stamp
from tests.support.time_authority import NOW, time_authority
from tests.support.vault_builder import DEVICE_ID, VaultBuilder
from tests.unit.verify.tampering import check, edit_lines, fails, flip, notes, verdicts


class Dock:
    """A store, a queue and a daemon's ear, all in one folder."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "store"
        self.root.mkdir()
        self.queue_folder = folder / "receipts"
        self.handed: list[dict[str, Any]] = []
        self.steps: list[Step] = []

    def offload(self, vault: VaultBuilder, *, daemon: bool = False, files: FolderFiles | None = None) -> OffloadReport:
        return offload_once(
            vault.root,
            FolderStore(self.root, files),
            control=self.handed.append if daemon else None,
            queue=ReceiptQueue(self.queue_folder),
            clock=SimulatedClock(),
            progress=self.steps.append,
        )

    def package(self, recording_id: str) -> Path:
        return self.root / DEVICE_ID / recording_id

    def tree(self) -> dict[str, bytes]:
        return {str(p.relative_to(self.root)): p.read_bytes() for p in self.root.rglob("*") if p.is_file()}


@pytest.fixture
def vault(tmp_path: Path) -> VaultBuilder:
    return VaultBuilder(tmp_path / "vault")


@pytest.fixture
def dock(tmp_path: Path) -> Dock:
    return Dock(tmp_path)


def snapshot(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {str(p): (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.rglob("*") if p.is_file()}


def test_packages_verify_on_their_own_and_the_vault_is_not_touched(vault: VaultBuilder, dock: Dock) -> None:
    first, second = vault.record(3, sound=True, meanwhile=vault.mark), vault.record(4)
    before = snapshot(vault.root)
    report = dock.offload(vault, daemon=True)
    assert snapshot(vault.root) == before
    assert [receipt.recording_id for receipt in report.receipts] == [first, second]  # oldest first
    assert report.ok
    for recording_id in (first, second):
        verified = check(dock.package(recording_id))
        assert verified.ok
        assert notes(verified) == {Code.EXTRACT}
        assert verdicts(verified) == {recording_id: "verified"}
        assert verified.kind == "package"
    assert sorted(p.name for p in dock.package(first).iterdir()) == [
        "000001.m4s", "000002.m4s", "PACKAGE.txt", "README.txt", "SHA256SUMS", "VERIFY.txt", "device", "init.mp4",
        "journal", "recording.json", "support.json", "support.txt", "verify.sh",
    ]  # fmt: skip
    # The log leaves first and what makes the package whole last.
    order = [step.item.name for step in dock.steps if step.recording_id == first]
    assert order[-1] == "SHA256SUMS"
    assert order.index("journal/000001.journal") < order.index("000001.m4s")
    assert dock.steps[-1].done_bytes == dock.steps[-1].all_bytes


def test_the_daemon_takes_the_receipts(vault: VaultBuilder, dock: Dock) -> None:
    recording_id = vault.record(3)
    dock.offload(vault, daemon=True)
    (receipt,) = dock.handed
    fields = check_receipt(vault.filesystem, vault.layout, json.loads(json.dumps(receipt)))
    assert fields["recording_id"] == recording_id
    vault.journal.append("offload", **fields)
    vault.journal.commit()
    report = dock.offload(vault, daemon=True)
    assert (report.receipts, report.already) == ([], 1)
    vault.shut_down()
    assert check(vault).findings == ()


def test_without_a_daemon_receipts_wait_and_a_second_run_does_nothing(vault: VaultBuilder, dock: Dock) -> None:
    recording_id = vault.record(3)
    report = dock.offload(vault)
    assert report.queued == [recording_id]
    (path,) = dock.queue_folder.iterdir()
    receipt = json.loads(path.read_bytes())
    assert check_receipt(vault.filesystem, vault.layout, receipt)["store"] == f"folder:{dock.root}"
    before = snapshot(dock.root)
    again = dock.offload(vault)
    assert (again.receipts, again.already) == ([], 1)
    assert snapshot(dock.root) == before
    assert len(list(dock.queue_folder.iterdir())) == 1


def test_a_daemon_that_does_not_answer_leaves_the_receipt_in_the_queue(vault: VaultBuilder, dock: Dock) -> None:
    recording_id = vault.record(3)

    def hung_up(_: dict[str, Any]) -> None:
        raise ControlError("The daemon hung up.")

    report = offload_once(
        vault.root,
        FolderStore(dock.root),
        control=hung_up,
        queue=ReceiptQueue(dock.queue_folder),
        clock=SimulatedClock(),
    )
    assert report.queued == [recording_id]
    assert "The daemon hung up." in report.warnings[0]
    assert len(list(dock.queue_folder.iterdir())) == 1


def test_a_receipt_of_another_store_does_not_count(vault: VaultBuilder, dock: Dock, tmp_path: Path) -> None:
    vault.record(3)
    dock.offload(vault)
    (tmp_path / "other").mkdir()
    other = Dock(tmp_path / "other")
    assert len(other.offload(vault).receipts) == 1


def test_what_is_not_ready_waits_and_says_why(vault: VaultBuilder, dock: Dock) -> None:
    done = vault.record(2)
    (vault.layout.recording(done) / "recording.json").rename(vault.root / "aside")
    running = vault.begin()
    vault.feed(running, 2)
    assert dict(dock.offload(vault).waiting) == {
        done: "its recording.json is not written yet; the camera does that at its next start",
        running.recording_id: "it is not finished yet",
    }
    (vault.root / "aside").rename(vault.layout.recording(done) / "recording.json")
    vault.signer.busy = True
    unsigned = vault.stop(running)
    report = dock.offload(vault)
    assert dict(report.waiting) == {unsigned: "its last record is not signed yet"}
    assert [receipt.recording_id for receipt in report.receipts] == [done]
    vault.signer.busy = False
    vault.shut_down()
    assert [receipt.recording_id for receipt in dock.offload(vault).receipts] == [unsigned]
    verified = check(dock.package(unsigned))
    assert verified.ok
    assert Code.SIGNATURE_PENDING in notes(verified)


def test_bit_rot_is_refused_and_the_rest_leaves(vault: VaultBuilder, dock: Dock) -> None:
    hurt, sound = vault.record(5), vault.record(2)
    flip(vault.layout.recording(hurt) / "000002.m4s", 500)
    report = dock.offload(vault)
    assert not report.ok
    ((refused, sentence),) = report.refused
    assert refused == hurt
    assert "000002.m4s is no longer what the journal vouches for" in sentence
    assert [receipt.recording_id for receipt in report.receipts] == [sound]
    there = {path.name for path in dock.package(hurt).iterdir()}
    assert {"000001.m4s", "000003.m4s"} <= there  # what is good of it is safe all the same
    assert not {"000002.m4s", "SHA256SUMS"} & there
    assert {Code.PACKAGE_INCOMPLETE, Code.SEGMENT_MISSING} <= fails(check(dock.package(hurt)))


@pytest.mark.parametrize("name", ["000001.m4s", "init.mp4"])
def test_files_that_are_gone_or_short_are_refused(vault: VaultBuilder, dock: Dock, name: str) -> None:
    path = vault.layout.recording(vault.record(2)) / name
    path.write_bytes(path.read_bytes()[:-1])
    assert "shorter" in dock.offload(vault).refused[0][1]
    path.unlink()
    assert "cannot be read" in dock.offload(vault).refused[0][1]


def test_a_taken_place_is_refused_and_kept(vault: VaultBuilder, dock: Dock) -> None:
    taken, free = vault.record(2), vault.record(2)
    dock.package(taken).mkdir(parents=True)
    (dock.package(taken) / "000001.m4s").write_bytes(b"somebody else's")
    report = dock.offload(vault)
    assert [recording_id for recording_id, _ in report.refused] == [taken]
    assert [receipt.recording_id for receipt in report.receipts] == [free]
    assert (dock.package(taken) / "000001.m4s").read_bytes() == b"somebody else's"


def test_a_damaged_journal_is_said_and_evidence_leaves(vault: VaultBuilder, dock: Dock) -> None:
    vault.record(2)
    vault.record(2)
    edit_lines(vault.layout.journal / "000001.journal", lambda lines: [lines[0], b"damaged\n", *lines[2:]])
    report = dock.offload(vault)
    assert len(report.receipts) == 2
    assert "journal is damaged" in report.warnings[0]


def test_torn_and_recovered_recordings(vault: VaultBuilder, dock: Dock) -> None:
    running = vault.begin()
    vault.feed(running, 2)
    vault.filesystem.fail_next_sync_of = ".m4s"
    vault.feed(running, 1)
    vault.retry()
    vault.feed(running, 1)
    torn = vault.stop(running)
    running = vault.begin()
    vault.feed(running, 4)
    segment = vault.layout.recording(running.recording_id) / "000002.m4s"
    segment.write_bytes(segment.read_bytes() + b"\0\0\0\x10torn")
    vault.restart()
    report = dock.offload(vault)
    assert [receipt.recording_id for receipt in report.receipts] == [torn, running.recording_id]
    for receipt in report.receipts:
        assert check_receipt(vault.filesystem, vault.layout, receipt.to_json())
        assert check(dock.package(receipt.recording_id)).ok
    # Only what is vouched for leaves, so that joining the files by hand gives each frame once.
    vault_file = vault.layout.recording(torn) / "000001.m4s"
    packed = (dock.package(torn) / "000001.m4s").read_bytes()
    assert len(packed) < vault_file.stat().st_size
    assert vault_file.read_bytes().startswith(packed)


def test_a_segment_that_holds_nothing_does_not_leave(vault: VaultBuilder, dock: Dock) -> None:
    running = vault.begin()
    vault.filesystem.fail_next_sync_of = "000001.m4s"
    vault.feed(running, 2)
    vault.retry()
    recording_id = vault.stop(running)
    (receipt,) = dock.offload(vault).receipts
    assert "000001.m4s" not in [item.name for item in receipt.objects]
    assert check_receipt(vault.filesystem, vault.layout, receipt.to_json())
    assert check(dock.package(recording_id)).ok


def test_an_extract_is_whole_files_from_the_runs_start(tmp_path: Path, dock: Dock) -> None:
    vault = VaultBuilder(tmp_path / "vault", rotate_bytes=3000)
    vault.record(3)
    with (vault.layout.journal / sorted(p.name for p in vault.layout.journal.iterdir())[-1]).open("ab") as file:
        file.write(b'{"torn')
    vault.restart()
    started = max(path.name for path in vault.layout.journal.iterdir())
    vault.record(5)
    last = vault.record(5)
    vault.record(5)
    dock.offload(vault)
    folder = dock.package(last) / "journal"
    names = sorted(path.name for path in folder.iterdir())
    assert names[0] == started
    assert len(names) > 2
    for name in names[:-1]:
        assert (folder / name).read_bytes() == (vault.layout.journal / name).read_bytes()
    assert (vault.layout.journal / names[-1]).read_bytes().startswith((folder / names[-1]).read_bytes())
    report = check(dock.package(last))
    assert report.ok
    assert report.first_seq is not None
    assert report.first_seq > 1
    # Less of it does not pass, whatever is taken.
    (folder / names[0]).rename(tmp_path / "aside")
    assert Code.JOURNAL_FILE_MISSING in fails(check(dock.package(last)))
    (tmp_path / "aside").rename(folder / names[0])
    edit_lines(folder / names[-1], lambda lines: lines[:-1])
    assert Code.RECORDING_UNCLOSED in fails(check(dock.package(last)))


class TestPackageTampering:
    @pytest.fixture
    def package(self, vault: VaultBuilder, dock: Dock) -> Path:
        recording_id = vault.record(3)
        vault.record(2)
        dock.offload(vault)
        return dock.package(recording_id)

    @pytest.mark.parametrize(
        "name",
        [
            "init.mp4",
            "000001.m4s",
            "recording.json",
            "journal/000001.journal",
            "device/root.pem",
            "README.txt",
            "PACKAGE.txt",
            "VERIFY.txt",
            "verify.sh",
            "support.json",
            "SHA256SUMS",
        ],
    )
    def test_a_flipped_byte_anywhere(self, package: Path, name: str) -> None:
        for offset in (0, 40, (package / name).stat().st_size - 1):
            flip(package / name, offset)
            assert not check(package).ok
            flip(package / name, offset)
        assert check(package).ok

    @pytest.mark.parametrize(
        "name",
        ["init.mp4", "000002.m4s", "recording.json", "device/chain.pem", "PACKAGE.txt", "verify.sh", "SHA256SUMS"],
    )
    def test_a_file_taken_out(self, package: Path, name: str) -> None:
        (package / name).unlink()
        assert not check(package).ok

    def test_without_its_journal(self, package: Path) -> None:
        (package / "journal" / "000001.journal").unlink()
        assert Code.JOURNAL_MISSING in fails(check(package))

    def test_a_file_put_in(self, package: Path) -> None:
        (package / "000009.m4s").write_bytes(b"x")
        assert fails(check(package)) == {Code.FILE_UNKNOWN}
        with (package / "SHA256SUMS").open("a") as file:
            file.write("2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881  000009.m4s\n")
        assert fails(check(package)) == {Code.FILE_UNKNOWN}

    def test_files_of_another_recording(self, package: Path) -> None:
        (other,) = (folder for folder in package.parent.iterdir() if folder != package)
        for name in ("000001.m4s", "recording.json"):
            shutil.copy(other / name, package / name)
        assert not check(package).ok

    def test_a_stub_is_a_note(self, package: Path) -> None:
        (package / ".000009.m4s.part").write_bytes(b"x")
        report = check(package)
        assert report.ok
        assert Code.FILE_UNKNOWN in notes(report)


class CableError(Exception):
    """Not an OSError: stands for the process being gone, so that nothing tidies up."""


class PulledCable(FolderFiles):
    """Works for so many operations; then everything fails, and the first failing one may have happened all the same."""

    def __init__(self, operations: int, *, done: bool, gone: bool) -> None:
        self.left = operations
        self._done = done
        self._gone = gone

    def _pull(self) -> Exception:
        return CableError("gone") if self._gone else OSError(errno.EIO, "Input/output error")


def _counted(name: str) -> Any:
    real = getattr(FolderFiles, name)

    def method(self: PulledCable, *args: Any) -> Any:
        self.left -= 1
        happened = self.left == -1 and self._done
        if happened:
            made = real(self, *args)
            if name == "create":
                os.close(made)  # as the kernel does when the process is gone
        if self.left < 0:
            if name == "close" and not happened:
                real(self, *args)  # the kernel closes what a process leaves open
            raise self._pull()
        return real(self, *args)

    return method


for _name in (
    "make_folder", "size", "create", "remove_stub", "write", "sync", "drop_cache", "close", "read_back", "publish",
    "sync_folder",
):  # fmt: skip
    setattr(PulledCable, _name, _counted(_name))


@pytest.mark.parametrize(("done", "gone"), [(False, False), (True, True)])
def test_the_cable_may_be_pulled_at_any_moment(vault: VaultBuilder, tmp_path: Path, done: bool, gone: bool) -> None:
    recording_id = vault.record(2)
    (tmp_path / "whole").mkdir()
    whole = Dock(tmp_path / "whole")
    counting = PulledCable(10**9, done=False, gone=False)
    whole.offload(vault, files=counting)
    operations = 10**9 - counting.left
    assert operations > 50
    for number in range(operations):
        folder = tmp_path / f"cut-{number}"
        folder.mkdir()
        dock = Dock(folder)
        with pytest.raises(CableError if gone else StoreError):
            dock.offload(vault, files=PulledCable(number, done=done, gone=gone))
        for name, data in dock.tree().items():
            if not name.endswith(".part"):
                assert data == whole.tree()[name], f"{name} is torn after {number} operations"
        assert not dock.queue_folder.exists() or not list(dock.queue_folder.iterdir())
        report = dock.offload(vault)
        assert [receipt.recording_id for receipt in report.receipts] == [recording_id]
        assert dock.tree() == whole.tree()
        shutil.rmtree(folder)


def test_a_package_is_no_vault(vault: VaultBuilder, dock: Dock) -> None:
    recording_id = vault.record(2)
    dock.offload(vault)
    vault.root = dock.package(recording_id)
    with pytest.raises(EvidenceNotFound):
        dock.offload(vault)


def test_the_readme_s_commands_do_what_they_say(vault: VaultBuilder, dock: Dock) -> None:
    recording_id = vault.record(3, sound=True)
    stamp(vault, moment=NOW)
    dock.offload(vault)
    package = dock.package(recording_id)
    (package.parent / "root.pem").write_bytes(pem([vault.identity.root]))
    (package.parent / "tsa.pem").write_bytes(time_authority().root_pem.read_bytes())
    text = (package / "README.txt").read_text()
    commands = re.findall(r"^     (\S(?:.*\\\n)*.*)$", text, re.MULTILINE)
    assert len(commands) == 11
    join = re.search(r"^  (cat \S+ \S+ > \S+)", text, re.MULTILINE)
    assert join
    said = ""
    for command in (join[1], *commands):
        done = subprocess.run(["sh", "-euc", command], cwd=package, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (command, done.stderr)
        said += done.stdout + done.stderr
    assert "000002.m4s: OK" in said
    assert "CMS Verification successful" in said
    assert "Verification: OK" in said
    assert re.search(r"codec_name=h264\s+nb_read_packets=30", said)
    assert check(package).ok  # nothing was put into it
