"""Opening a vault: what a person must mend is said at once, what may pass is tried again, and nothing is leaked."""

from __future__ import annotations

import errno
import json
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes

import agent.daemon.vault_opening
from agent.clock import SimulatedClock
from agent.daemon.machine import machine_fields
from agent.daemon.vault_opening import MAX_RECEIPT_BYTES, VaultOpening, open_recorder
from agent.errors import DeviceKeyError, JournalError, StorageError, VaultError, VaultLockedError
from agent.recorder.enrolment import read_enrolment
from agent.settings.load import LoadedSettings
from agent.settings.schema import DeviceSettings, Settings, VaultSettings
from agent.trust.identity import IdentityPaths, enroll_bench
from agent.vault.filesystem import PosixFilesystem
from agent.vault.layout import VaultLayout
from agent.vault.lock import VaultLock
from tests.support.crashfs import CrashFilesystem, OpKind
from tests.support.identity import BENCH_IDENTITY
from tests.support.playback import journal_records
from tests.unit.daemon.test_storage import Listener
from tests.unit.recorder.receipt_of import LAYOUT, receipt_for, recorded, running, settings_with_queue


class Desk:
    """A place on the real disk for a vault, a key and receipts."""

    def __init__(self, folder: Path) -> None:
        self.settings = Settings(
            profile="bench",
            device=DeviceSettings(id="CAM-7"),
            vault=VaultSettings(
                path=folder / "vault", key_path=folder / "key" / "device.key", receipt_queue_path=folder / "receipts"
            ),
        )
        self.layout = VaultLayout(self.settings.vault.path)

    def enrol(self) -> None:
        """Make the vault's folder and an identity."""
        self.layout.root.mkdir(exist_ok=True)
        paths = IdentityPaths(self.settings.vault.key_path, self.layout.chain, self.layout.root_certificate)
        enroll_bench(paths, "CAM-7", None, datetime.now(UTC), has_records=False)

    def opening(self) -> VaultOpening:
        """What `run` makes."""
        loaded = LoadedSettings(self.settings, (), "c" * 64)
        return VaultOpening(loaded, PosixFilesystem(), SimulatedClock(), Listener())

    def types(self) -> list[str]:
        """The types of the journal's records."""
        return [record.type for record in journal_records(PosixFilesystem(), self.layout)]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """A place without a vault yet."""
    return Desk(tmp_path)


def descriptors() -> int:
    """How many are open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def test_an_enrolled_vault_opens_and_says_so_in_its_journal(desk: Desk) -> None:
    desk.enrol()
    recorder, recovered = desk.opening()()
    assert recovered.recording_ids == ()
    recorder.close()
    assert desk.types() == ["journal-open", "boot", "config", "encryption", "self-test"]
    opening, boot, config, encryption, tested = journal_records(PosixFilesystem(), desk.layout)
    assert opening.fields["device_id"] == "CAM-7"
    assert (boot.fields["software"], boot.fields["pid"]) == ("bodycam-agent", os.getpid())
    assert machine_fields().items() <= boot.fields.items()
    assert (config.fields["config_sha256"], config.fields["pre_event_s"]) == ("c" * 64, 30)
    assert tested.fields["passed"]
    assert (encryption.fields["recipients"], encryption.fields["reason"]) == ([], "unchanged")


def test_a_vault_that_is_not_there_is_waited_for(desk: Desk) -> None:
    opening = desk.opening()
    for _ in range(2):
        with pytest.raises(StorageError, match=r"There is no vault\. Is the card in and mounted"):
            opening()
    desk.enrol()
    recorder, _ = opening()
    recorder.close()
    with pytest.raises(VaultLockedError):
        VaultLock(desk.layout.root)


def test_a_file_in_the_vaults_place_is_no_vault(desk: Desk) -> None:
    desk.layout.root.write_bytes(b"")
    with pytest.raises(StorageError, match="There is no vault"):
        desk.opening()()


def test_a_vault_that_another_run_holds_is_refused_before_anything_runs(desk: Desk) -> None:
    desk.enrol()
    lock = VaultLock(desk.layout.root)
    with pytest.raises(VaultLockedError):
        desk.opening()
    lock.release()
    desk.opening()


def test_a_camera_without_a_key_is_told_to_enrol_before_anything_runs(desk: Desk) -> None:
    desk.layout.root.mkdir()
    with pytest.raises(DeviceKeyError, match="enroll"):
        desk.opening()


def test_another_card_in_the_place_of_the_one_that_was_opened_gets_nothing(desk: Desk) -> None:
    desk.enrol()
    opening = desk.opening()
    recorder, _ = opening()
    opening.require_in_place()
    desk.layout.root.rename(desk.layout.root.with_name("own"))
    desk.layout.root.mkdir()
    recorder.record("test")
    recorder.step()
    assert list(desk.layout.root.iterdir()) == []
    with pytest.raises(StorageError, match="put its card back in"):
        opening.require_in_place()
    desk.layout.root.rmdir()
    desk.layout.root.with_name("own").rename(desk.layout.root)
    opening.require_in_place()
    recorder.close()


def test_a_card_that_is_exchanged_before_it_was_opened_is_let_go_of_with_its_key(desk: Desk) -> None:
    desk.enrol()
    opening = desk.opening()
    first = opening.device_signer
    assert first is not None
    own = desk.layout.root.with_name("own")
    desk.layout.root.rename(own)
    shutil.rmtree(desk.settings.vault.key_path.parent)
    desk.enrol()
    before = descriptors()
    recorder, _ = opening()
    recorder.close()
    assert descriptors() == before
    VaultLock(own).release()
    with pytest.raises(VaultLockedError):
        VaultLock(desk.layout.root)
    second = opening.device_signer
    assert second is not None
    assert second.certificate != first.certificate
    (opened, *_) = journal_records(PosixFilesystem(), desk.layout)
    assert opened.fields["certificate_sha256"] == second.certificate.fingerprint(hashes.SHA256()).hex()


def test_a_card_that_is_exchanged_while_it_is_opened_gets_nothing_and_is_opened_anew(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.enrol()
    own = desk.layout.root.with_name("own")
    exchanged = False

    def exchange(*arguments: Any) -> Any:
        nonlocal exchanged
        if not exchanged:
            exchanged = True
            desk.layout.root.rename(own)
            shutil.copytree(own, desk.layout.root)
        return real(*arguments)

    real = read_enrolment
    monkeypatch.setattr(agent.daemon.vault_opening, "read_enrolment", exchange)
    opening = desk.opening()
    with pytest.raises(StorageError, match="Another card came to"):
        opening()
    assert list((desk.layout.root / "journal").iterdir()) == []
    recorder, _ = opening()
    recorder.close()
    assert desk.types()[0] == "journal-open"


def test_a_card_that_cannot_be_read_at_the_start_is_a_state_and_no_end(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.enrol()
    real = Path.stat
    broken = True

    def failing(self: Path, **options: Any) -> os.stat_result:
        if broken and self == desk.layout.root:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(self))
        return real(self, **options)

    monkeypatch.setattr(Path, "stat", failing)
    opening = desk.opening()
    with pytest.raises(StorageError, match="The vault cannot be read: Input/output error"):
        opening()
    broken = False
    recorder, _ = opening()
    recorder.close()


def test_trying_again_needs_no_second_lock_and_leaks_no_descriptor(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.enrol()
    opening = desk.opening()

    def failing(*_arguments: Any, **_options: Any) -> None:
        raise StorageError(errno.EIO, "Reading failed: Input/output error", "/vault/recordings/x/000001.m4s")

    with monkeypatch.context() as patched:
        patched.setattr(agent.daemon.vault_opening, "recover", failing)
        before = descriptors()
        for _ in range(5):
            with pytest.raises(StorageError, match="Reading failed"):
                opening()
        assert descriptors() == before
    recorder, _ = opening()
    recorder.close()
    assert desk.types()[-4:] == ["boot", "config", "encryption", "self-test"]


def test_a_journal_that_cannot_be_continued_is_for_a_person(desk: Desk) -> None:
    desk.enrol()
    desk.layout.journal.mkdir()
    (desk.layout.journal / "000001.journal").write_bytes(b"junk\n")
    with pytest.raises(JournalError, match="start with a new one"):
        desk.opening()()


@pytest.mark.parametrize("name", ["device", "journal", "recordings"])
def test_a_link_in_place_of_a_folder_is_for_a_person(desk: Desk, tmp_path: Path, name: str) -> None:
    desk.enrol()
    for made in (desk.layout.journal, desk.layout.recordings):
        made.mkdir()
    moved = tmp_path / "elsewhere"
    (desk.layout.root / name).rename(moved)
    (desk.layout.root / name).symlink_to(moved, target_is_directory=True)
    before = sorted(path.name for path in moved.rglob("*"))
    with pytest.raises(VaultError, match=f"{name} is a symbolic link.*put the real folder in its place") as caught:
        desk.opening()()
    assert not isinstance(caught.value, StorageError)  # which would be tried again for ever
    assert sorted(path.name for path in moved.rglob("*")) == before


def test_a_link_that_leads_nowhere_is_for_a_person_too(desk: Desk, tmp_path: Path) -> None:
    desk.enrol()
    desk.layout.journal.symlink_to(tmp_path / "nowhere")
    with pytest.raises(VaultError, match="journal is a symbolic link"):
        desk.opening()()
    assert not (tmp_path / "nowhere").exists()


def test_the_vault_itself_may_stand_behind_a_link(desk: Desk, tmp_path: Path) -> None:
    desk.enrol()
    desk.layout.root.rename(tmp_path / "disk")
    desk.layout.root.symlink_to(tmp_path / "disk", target_is_directory=True)
    recorder, _ = desk.opening()()
    recorder.close()
    assert desk.types()[0] == "journal-open"


def test_a_link_among_the_recordings_is_none_and_nothing_is_written_behind_it(desk: Desk, tmp_path: Path) -> None:
    desk.enrol()
    desk.layout.recordings.mkdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "000001.m4s").write_bytes(b"something")
    name = "01890a5d-ac96-774b-bcce-b302099a8057"
    desk.layout.recording(name).symlink_to(elsewhere, target_is_directory=True)
    recorder, recovered = desk.opening()()
    recorder.close()
    assert (recovered.recording_ids, recovered.ignored) == ((), (name,))
    assert [path.name for path in elsewhere.iterdir()] == ["000001.m4s"]


# Receipts that waited


def start(filesystem: CrashFilesystem, queue: Path) -> list[str]:
    """The next start on a disk, with a receipt queue: the types that its journal gained."""
    before = len(journal_records(filesystem, LAYOUT))
    loaded = LoadedSettings(settings_with_queue(queue), (), "0" * 64)
    recorder, _ = open_recorder(filesystem, LAYOUT, BENCH_IDENTITY.record_signer, SimulatedClock(), Listener(), loaded)
    recorder.close()
    return [record.type for record in journal_records(filesystem, LAYOUT)[before:]]


def test_a_receipt_that_waited_is_written_down_and_taken_away(tmp_path: Path) -> None:
    filesystem, recording_id = recorded()
    receipt = receipt_for(filesystem, recording_id)
    (tmp_path / "a.json").write_text(json.dumps(receipt))
    assert start(filesystem, tmp_path) == ["journal-open", "boot", "config", "encryption", "self-test", "offload"]
    fields = journal_records(filesystem, LAYOUT)[-1].fields
    assert (fields["recording_id"], fields["store"]) == (recording_id, receipt["store"])
    assert [entry["name"] for entry in fields["objects"]] == [entry["name"] for entry in receipt["objects"][:-1]]
    assert list(tmp_path.iterdir()) == []


def test_a_second_store_may_hold_it_too_however_long_ago_it_was_recorded(tmp_path: Path) -> None:
    """Journal files without a word of the recording lie between it, its first receipt and its second."""
    filesystem, recording_id = recorded()
    receipt = receipt_for(filesystem, recording_id)
    for store in ("one", "two", "three"):
        assert start(filesystem, tmp_path) == ["journal-open", "boot", "config", "encryption", "self-test"]
        (tmp_path / "a.json").write_text(json.dumps(receipt | {"store": store}))
        assert start(filesystem, tmp_path)[-1] == "offload"


def test_no_folder_for_receipts_is_no_fault(tmp_path: Path) -> None:
    assert start(recorded()[0], tmp_path / "absent") == ["journal-open", "boot", "config", "encryption", "self-test"]


def test_a_receipt_that_does_not_fit_is_set_aside_and_the_next_one_taken(tmp_path: Path) -> None:
    filesystem, recording_id = recorded()
    receipt = receipt_for(filesystem, recording_id)
    (tmp_path / "a.json").write_text(json.dumps(receipt | {"objects": []}))
    (tmp_path / "b.json").write_text("{")
    (tmp_path / "c.json").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "d.json").write_text("[" * 100_000)
    (tmp_path / "e.json").write_text(json.dumps(receipt))
    assert start(filesystem, tmp_path)[5:] == ["offload"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.refused", "b.refused", "c.refused", "d.refused"]


def test_nothing_in_the_folder_of_the_network_process_keeps_the_camera_from_starting(tmp_path: Path) -> None:
    filesystem, recording_id = recorded()
    queue = tmp_path / "queue"
    queue.mkdir()
    receipt = json.dumps(receipt_for(filesystem, recording_id))
    (tmp_path / "elsewhere").write_text(receipt)
    (queue / "folder.json").mkdir()
    (queue / "link.json").symlink_to(tmp_path / "elsewhere")
    (queue / "loop.json").symlink_to(queue / "loop.json")
    (queue / "large.json").write_text(receipt + " " * MAX_RECEIPT_BYTES)
    for name in (".half.json", ".half.json.new"):
        (queue / name).write_text(receipt)
    (queue / "notes.txt").write_text(receipt)
    os.mkfifo(queue / "pipe.json")
    assert start(filesystem, queue) == ["journal-open", "boot", "config", "encryption", "self-test"]
    assert (tmp_path / "elsewhere").read_text() == receipt
    assert {".half.json", ".half.json.new", "notes.txt"} <= set(os.listdir(queue))


def test_a_folder_that_cannot_be_listed_is_no_fault_either(tmp_path: Path) -> None:
    (tmp_path / "queue").write_text("a file in its place")
    assert start(recorded()[0], tmp_path / "queue") == ["journal-open", "boot", "config", "encryption", "self-test"]


def test_a_receipt_that_cannot_be_taken_away_is_written_down_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filesystem, recording_id = recorded()
    (tmp_path / "a.json").write_text(json.dumps(receipt_for(filesystem, recording_id)))
    (tmp_path / "b.json").write_text("{")

    def denied(*_arguments: Any, **_options: Any) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "unlink", denied)
    monkeypatch.setattr(Path, "rename", denied)
    assert start(filesystem, tmp_path)[-1] == "offload"
    monkeypatch.undo()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "b.json"]


def test_while_flash_fails_a_receipt_keeps_waiting(tmp_path: Path) -> None:
    filesystem, recording_id = recorded()
    receipt = tmp_path / "a.json"
    receipt.write_text(json.dumps(receipt_for(filesystem, recording_id)))
    filesystem.fail_at(13, errno.EIO, None, kinds=(OpKind.DATASYNC,))
    with pytest.raises(StorageError):
        start(filesystem, tmp_path)
    assert receipt.exists()
    filesystem.heal()
    assert start(filesystem, tmp_path)[-1] == "offload"
    dead = filesystem.cut_before(len(filesystem.operations))
    types = [record.type for record in journal_records(dead.smallest_state(), LAYOUT)]
    assert types.count("offload") == 1


def test_while_the_journal_cannot_be_read_no_receipt_is_called_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filesystem, recording_id = recorded()
    (tmp_path / "a.json").write_text(json.dumps(receipt_for(filesystem, recording_id)))

    def failing(*_arguments: Any) -> dict[str, Any]:
        raise StorageError(errno.EIO, "Reading failed: Input/output error", "/vault/journal/000001.journal")

    with monkeypatch.context() as patched:
        patched.setattr(agent.daemon.vault_opening, "check_receipt", failing)
        with pytest.raises(StorageError):
            start(filesystem, tmp_path)
    assert os.listdir(tmp_path) == ["a.json"]
    assert start(filesystem, tmp_path)[-1] == "offload"


def test_a_receipt_for_what_this_start_has_just_sealed_is_taken(tmp_path: Path) -> None:
    state = running(CrashFilesystem(LAYOUT.root))
    before = start(state, tmp_path)
    assert before[-1] == "recording-close"
    (recording_id,) = state.list_dir(LAYOUT.recordings)
    (tmp_path / "a.json").write_text(json.dumps(receipt_for(state, recording_id)))
    assert start(state, tmp_path)[-1] == "offload"
