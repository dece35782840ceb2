"""A package of an encrypted recording: what leaves is ciphertext, receipted as such, and opens with stock age."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from agent.cli.export import export
from agent.recorder.receipts import check_receipt
from agent.trust.certificates import pem
from agent.verify.finding import Code
from agent.verify.verify import verify_path
from tests.support.evidence_key import EVIDENCE, stock_age
from tests.support.identity import BENCH_IDENTITY
from tests.support.stamping import stamp
from tests.support.time_authority import NOW, time_authority
from tests.support.vault_builder import VaultBuilder
from tests.unit.offload.test_offload import Dock


@pytest.fixture
def vault(tmp_path: Path) -> VaultBuilder:
    return VaultBuilder(tmp_path / "vault", recipients=(EVIDENCE.recipient,), wearer="Jane Doe")


@pytest.fixture
def dock(tmp_path: Path) -> Dock:
    return Dock(tmp_path)


def torn_recording(vault: VaultBuilder) -> str:
    """Four seconds in three files, the first torn by a failed write."""
    running = vault.begin(pad_bytes=150_000)
    vault.feed(running, 2)
    vault.filesystem.fail_next_sync_of = "000001.m4s"
    vault.feed(running, 1)
    vault.retry()
    vault.feed(running, 1)
    return vault.stop(running)


def test_it_verifies_with_and_without_the_key_and_its_receipt_is_taken(vault: VaultBuilder, dock: Dock) -> None:
    whole, torn = vault.record(3, sound=True), torn_recording(vault)
    report = dock.offload(vault, daemon=True)
    assert report.ok
    assert [receipt["recording_id"] for receipt in dock.handed] == [whole, torn]
    for receipt in dock.handed:
        assert any(entry["name"] == "000001.m4s.age" for entry in receipt["objects"])
        assert check_receipt(vault.filesystem, vault.layout, receipt)["objects"]
    for recording_id in (whole, torn):
        for identities, expected in ((None, Code.NOT_DECRYPTED), (EVIDENCE.identities, Code.SEALED)):
            found = verify_path(dock.package(recording_id), roots=[BENCH_IDENTITY.root], identities=identities)
            assert found.ok, found.findings
            assert expected in {finding.code for finding in found.findings}


@pytest.mark.parametrize("torn", [False, True])
def test_the_readme_s_commands_play_and_check_it(vault: VaultBuilder, dock: Dock, torn: bool) -> None:
    recording_id = torn_recording(vault) if torn else vault.record(3, sound=True)
    stamp(vault, moment=NOW)
    dock.offload(vault)
    package = dock.package(recording_id)
    (package.parent / "root.pem").write_bytes(pem([vault.identity.root]))
    (package.parent / "tsa.pem").write_bytes(time_authority().root_pem.read_bytes())
    EVIDENCE.write(package.parent / "KEY.txt")
    text = (package / "README.txt").read_text()
    play = re.search(r"^  (\(cat init.mp4; .*)$", text, re.MULTILINE)
    assert play
    commands = re.findall(r"^     (\S(?:.*\\\n)*.*)$", text, re.MULTILINE)
    assert len(commands) == 11
    # age ends with an error behind what it could open of a torn file, as the page says.
    done = subprocess.run(["sh", "-uc", play[1]], cwd=package, capture_output=True, text=True, check=False)
    assert ("unexpected EOF" in done.stderr) == torn
    said = ""
    for command in commands:
        done = subprocess.run(["sh", "-euc", command], cwd=package, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (command, done.stderr)
        said += done.stdout + done.stderr
    assert re.search(rf"codec_name=h264\s+nb_read_packets={40 if torn else 30}", said), said
    assert "000001.m4s.age: OK" in said
    assert "CMS Verification successful" in said
    assert "Verification: OK" in said


def test_a_clear_recording_s_readme_says_nothing_of_keys(tmp_path: Path, dock: Dock) -> None:
    clear = VaultBuilder(tmp_path / "clear")
    recording_id = clear.record(2)
    dock.offload(clear)
    text = (dock.package(recording_id) / "README.txt").read_text()
    assert ".age" not in text
    assert "KEY.txt" not in text


def test_every_file_of_a_package_opens_with_stock_age_and_export_works_from_it(
    vault: VaultBuilder, dock: Dock, tmp_path: Path
) -> None:
    recording_id = vault.record(5, sound=True, pad_bytes=150_000)
    dock.offload(vault)
    package = dock.package(recording_id)
    key = EVIDENCE.write(tmp_path / "key.txt")
    joined = (package / "init.mp4").read_bytes()
    for path in sorted(package.glob("0*.m4s.age")):
        code, plain, complaint = stock_age(path, key)
        assert (code, complaint) == (0, "")
        joined += plain
    assert export(package, "latest", tmp_path / "out.mp4", identity=key) == 0
    assert (tmp_path / "out.mp4").read_bytes() == joined
