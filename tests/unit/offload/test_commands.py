"""`bodycam verify`, `export` and `offload` as a person meets them."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from agent.cli.export import export
from agent.cli.offload import offload
from agent.cli.verify import verify
from agent.errors import (
    ConfigError,
    EvidenceDamagedError,
    EvidenceNotFound,
    StorageError,
    StoreError,
    UsageError,
    VerificationFailed,
)
from agent.settings.schema import Settings, VaultSettings
from tests.support.vault_builder import DEVICE_ID, VaultBuilder
from tests.unit.verify.tampering import flip


@pytest.fixture
def vault(tmp_path: Path) -> VaultBuilder:
    return VaultBuilder(tmp_path / "vault")


def settings(tmp_path: Path) -> Settings:
    return Settings(
        vault=replace(
            VaultSettings(),
            path=tmp_path / "vault",
            socket_path=tmp_path / "no-daemon",
            receipt_queue_path=tmp_path / "receipts",
        )
    )


def packets(path: Path) -> int:
    said = subprocess.run(
        ["ffprobe", "-v", "error", "-count_packets", "-select_streams", "v", "-show_entries", "stream=nb_read_packets",
         "-of", "csv=p=0", str(path)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert said.stderr == ""
    return int(said.stdout)


class TestVerify:
    def test_a_good_vault(self, vault: VaultBuilder, capsys: pytest.CaptureFixture[str]) -> None:
        recording_id = vault.record(3, meanwhile=vault.mark)
        vault.shut_down()
        assert verify([vault.root], root=vault.layout.root_certificate, as_json=False) == 0
        said = capsys.readouterr().out
        assert f"VERIFIED  {recording_id}" in said
        assert "00:03.000 (minutes:seconds), 30 frames" in said
        assert "marked 00:01.000" in said
        assert "Complete, unchanged and signed." in said
        assert "FAILED" not in said

    def test_a_bad_one(self, vault: VaultBuilder, capsys: pytest.CaptureFixture[str]) -> None:
        hurt, other = vault.record(), vault.record()
        flip(vault.layout.recording(hurt) / "000001.m4s", 5000)
        assert verify([vault.root], root=None, as_json=False) == 1
        said = capsys.readouterr().out
        assert f"FAILED  {hurt}" in said
        assert f"VERIFIED  {other}" in said
        assert "fail CHECKPOINT_HASH" in said
        assert "does not verify" in said

    def test_a_package_whose_journal_is_a_link_is_not_passed_over_in_a_store(
        self, vault: VaultBuilder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        vault.record()
        vault.record()
        (tmp_path / "store").mkdir()
        assert offload(settings(tmp_path), to=tmp_path / "store", once=True) == 0
        one, _ = sorted((tmp_path / "store" / DEVICE_ID).iterdir())
        (one / "journal").rename(tmp_path / "elsewhere")
        (one / "journal").symlink_to(tmp_path / "elsewhere")
        capsys.readouterr()
        assert verify([tmp_path / "store"], root=None, as_json=False) == 1
        said = capsys.readouterr().out
        assert "fail FOLDER_NOT_PLAIN" in said
        assert "1 of 2 do not verify" in said

    def test_json(self, vault: VaultBuilder, capsys: pytest.CaptureFixture[str]) -> None:
        recording_id = vault.record()
        assert verify([vault.root], root=None, as_json=True) == 0
        (report,) = json.loads(capsys.readouterr().out)
        assert report["ok"] is True
        assert report["recordings"][0]["recording_id"] == recording_id
        assert report["findings"][0]["code"] == "ROOT_FROM_EVIDENCE"

    def test_a_folder_planted_among_the_recordings(
        self, vault: VaultBuilder, capsys: pytest.CaptureFixture[str]
    ) -> None:
        vault.record()
        (vault.layout.recordings / "[red]planted").mkdir()
        assert verify([vault.root], root=None, as_json=False) == 1
        assert "FAILED  [red]planted" in capsys.readouterr().out  # names are shown, not obeyed

    @pytest.mark.parametrize("where", ["absent", ".", "vault/recordings/x"])
    def test_nothing_to_verify(self, vault: VaultBuilder, tmp_path: Path, where: str) -> None:
        (vault.layout.recordings / "x").mkdir()
        (tmp_path / "empty").mkdir()
        with pytest.raises(EvidenceNotFound) as caught:
            verify([tmp_path / "empty" if where == "." else tmp_path / where], root=None, as_json=False)
        assert caught.value.exit_code == 66

    def test_a_root_that_is_none(self, vault: VaultBuilder, tmp_path: Path) -> None:
        with pytest.raises(EvidenceNotFound, match="root certificate"):
            verify([vault.root], root=tmp_path / "absent.pem", as_json=False)


class TestExport:
    def test_from_a_vault(self, vault: VaultBuilder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        recording_id = vault.record(5, sound=True)
        output = tmp_path / "out.mp4"
        assert export(vault.root, recording_id[:18], output) == 0
        folder = vault.layout.recording(recording_id)
        assert output.read_bytes() == b"".join(
            (folder / name).read_bytes() for name in ("init.mp4", "000001.m4s", "000002.m4s", "000003.m4s")
        )
        assert "50 frames, as the journal says" in capsys.readouterr().out
        assert packets(output) == 50

    def test_latest_and_no_overwriting(self, vault: VaultBuilder, tmp_path: Path) -> None:
        vault.record(2)
        vault.record(3)
        output = tmp_path / "out.mp4"
        assert export(vault.root, "latest", output) == 0
        assert packets(output) == 30
        before = output.read_bytes()
        with pytest.raises(UsageError, match="already a file"):
            export(vault.root, "latest", output)
        assert output.read_bytes() == before

    def test_which_one_must_be_clear(self, vault: VaultBuilder, tmp_path: Path) -> None:
        first = vault.record(2)
        vault.record(2)
        with pytest.raises(EvidenceNotFound, match="2 recordings begin with"):
            export(vault.root, first[:4], tmp_path / "out.mp4")
        with pytest.raises(EvidenceNotFound, match="no recording"):
            export(vault.root, "ffff", tmp_path / "out.mp4")
        with pytest.raises(EvidenceNotFound):
            export(vault.root, "", tmp_path / "out.mp4")

    def test_a_torn_segment_gives_each_frame_once(self, vault: VaultBuilder, tmp_path: Path) -> None:
        running = vault.begin()
        vault.feed(running, 2)
        vault.filesystem.fail_next_sync_of = ".m4s"
        vault.feed(running, 1)
        vault.retry()
        vault.feed(running, 1)
        vault.stop(running)
        assert export(vault.root, "latest", tmp_path / "out.mp4") == 0
        assert packets(tmp_path / "out.mp4") == 40

    def test_a_recovered_one_only_whole_fragments(self, vault: VaultBuilder, tmp_path: Path) -> None:
        running = vault.begin()
        vault.feed(running, 4)
        segment = vault.layout.recording(running.recording_id) / "000002.m4s"
        fragment = segment.read_bytes()
        segment.write_bytes(fragment + fragment[:-1])
        vault.restart()
        assert export(vault.root, "latest", tmp_path / "out.mp4") == 0
        assert packets(tmp_path / "out.mp4") == 30

    def test_one_that_still_runs(self, vault: VaultBuilder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        running = vault.begin()
        vault.feed(running, 4)
        with (vault.layout.recording(running.recording_id) / "000002.m4s").open("ab") as file:
            file.write(b"not checkpointed")
        assert export(vault.root, "latest", tmp_path / "out.mp4") == 0
        assert packets(tmp_path / "out.mp4") == 30
        assert "not closed" in capsys.readouterr().out

    @pytest.mark.parametrize("what", ["flip", "cut", "delete"])
    def test_damage_leaves_no_file(self, vault: VaultBuilder, tmp_path: Path, what: str) -> None:
        path = vault.layout.recording(vault.record(5)) / "000002.m4s"
        if what == "flip":
            flip(path, 1000)
        elif what == "cut":
            path.write_bytes(path.read_bytes()[:-1])
        else:
            path.unlink()
        with pytest.raises(EvidenceDamagedError, match="bodycam verify"):
            export(vault.root, "latest", tmp_path / "out.mp4")
        assert not (tmp_path / "out.mp4").exists()

    def test_a_journal_that_counts_otherwise(self, vault: VaultBuilder, tmp_path: Path) -> None:
        vault.record(3)
        journal = vault.layout.journal / "000001.journal"
        lines = journal.read_bytes().split(b"\n")
        lines = [
            line.replace(b'"frames":20', b'"frames":21') if b'"type":"segment"' in line else line for line in lines
        ]
        journal.write_bytes(b"\n".join(lines))
        with pytest.raises(VerificationFailed, match="30 frames and the journal says 31"):
            export(vault.root, "latest", tmp_path / "out.mp4")
        assert not (tmp_path / "out.mp4").exists()

    def test_a_place_that_cannot_be_written(self, vault: VaultBuilder, tmp_path: Path) -> None:
        vault.record(2)
        with pytest.raises(StorageError):
            export(vault.root, "latest", tmp_path / "absent" / "out.mp4")


class TestOffload:
    def test_a_whole_one(self, vault: VaultBuilder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        recording_id = vault.record(3)
        (tmp_path / "store").mkdir()
        assert offload(settings(tmp_path), to=tmp_path / "store", once=True) == 0
        said = capsys.readouterr().out
        assert f"{recording_id} (" in said
        assert "100 %  SHA256SUMS" in said
        assert "1 receipt(s) wait" in said
        assert "Nothing was deleted" in said
        assert verify([tmp_path / "store"], root=vault.layout.root_certificate, as_json=False) == 0
        assert export(tmp_path / "store" / DEVICE_ID / recording_id, "latest", tmp_path / "out.mp4") == 0
        capsys.readouterr()
        assert offload(settings(tmp_path), to=tmp_path / "store", once=True) == 0
        assert "0 recording(s) copied" in capsys.readouterr().out

    def test_what_is_refused_is_the_exit_code(
        self, vault: VaultBuilder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        flip(vault.layout.recording(vault.record()) / "000001.m4s", 5000)
        (tmp_path / "store").mkdir()
        assert offload(settings(tmp_path), to=tmp_path / "store", once=True) == 1
        assert "REFUSED" in capsys.readouterr().out
        assert verify([tmp_path / "store"], root=None, as_json=False) == 1

    def test_wrong_use(self, vault: VaultBuilder, tmp_path: Path) -> None:
        vault.record()
        with pytest.raises(StoreError, match="no folder"):
            offload(settings(tmp_path), to=tmp_path / "store", once=True)
        with pytest.raises(ConfigError, match="--once"):
            offload(settings(tmp_path), to=tmp_path, once=False)

    def test_a_journal_behind_a_link_is_said_and_not_taken_for_an_empty_camera(
        self, vault: VaultBuilder, tmp_path: Path
    ) -> None:
        vault.record()
        vault.layout.journal.rename(tmp_path / "elsewhere")
        vault.layout.journal.symlink_to(tmp_path / "elsewhere")
        (tmp_path / "store").mkdir()
        with pytest.raises(EvidenceDamagedError, match="put the folder itself there"):
            offload(settings(tmp_path), to=tmp_path / "store", once=True)
