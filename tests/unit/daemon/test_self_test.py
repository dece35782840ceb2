"""The camera's test of itself passes on a sound camera only; the software's hash is what stock tools print."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

import agent
from agent.daemon.self_test import self_test
from agent.daemon.software import PACKAGE, software_sha256
from agent.trust.certificates import pem
from tests.support.identity import make_identity
from tests.support.vault_builder import VaultBuilder
from tests.unit.verify.tampering import flip


@pytest.fixture
def vault(tmp_path: Path) -> VaultBuilder:
    return VaultBuilder(tmp_path / "vault")


def outcome(vault: VaultBuilder) -> dict[str, dict[str, Any]]:
    fields = self_test(vault.filesystem, vault.layout)
    tests = {test["name"]: test for test in fields["tests"]}
    assert fields["passed"] == all(test["passed"] for test in tests.values())
    assert tests["sha256-known-answer"]["passed"]
    return tests


def test_a_sound_camera_passes(vault: VaultBuilder) -> None:
    read_back = outcome(vault)["journal-read-back"]
    assert read_back["passed"]
    assert read_back["found"].startswith("2 records were read back from 000001.journal; 2 signatures verify")


def test_a_certificate_among_several_chains_is_found(vault: VaultBuilder) -> None:
    vault.layout.chain.rename(vault.layout.device / "chain-other.pem")
    vault.layout.chain.write_bytes(pem(make_identity().signer.chain))
    assert outcome(vault)["journal-read-back"]["passed"]


def test_a_key_that_is_not_the_certificate_s_fails(vault: VaultBuilder) -> None:
    vault.layout.chain.write_bytes(pem(make_identity().signer.chain))
    assert "is not in device/" in outcome(vault)["journal-read-back"]["found"]


def test_what_reads_back_otherwise_fails(vault: VaultBuilder) -> None:
    journal = vault.layout.journal / "000001.journal"
    flip(journal, journal.stat().st_size - 20)
    # Which of the two is said hangs on the signature's own characters: one flipped may be no base64 any more.
    found = outcome(vault)["journal-read-back"]["found"]
    assert "does not verify" in found or "are a chain of records" in found
    flip(journal, journal.stat().st_size - 1)
    assert "are a chain of records" in outcome(vault)["journal-read-back"]["found"]


def test_a_signer_that_gives_nothing_fails(vault: VaultBuilder) -> None:
    vault.shut_down()
    vault.signer.busy = True
    vault.restart()
    read_back = outcome(vault)["journal-read-back"]
    assert not read_back["passed"]
    assert "0 signatures verify, 2 are pending" in read_back["found"]


def test_the_software_s_hash_is_what_stock_tools_print() -> None:
    command = "find agent -type f ! -name '*.pyc' | LC_ALL=C sort | xargs sha256sum | sha256sum"
    printed = subprocess.run(["sh", "-c", command], cwd=PACKAGE.parent, capture_output=True, text=True, check=True)
    assert software_sha256() == printed.stdout.split()[0]
    assert Path(agent.__file__).parent == PACKAGE


def test_any_change_of_the_software_changes_its_hash(tmp_path: Path) -> None:
    (tmp_path / "agent" / "inner").mkdir(parents=True)
    (tmp_path / "agent" / "a.py").write_text("x = 1")
    seen = {software_sha256(tmp_path / "agent")}
    (tmp_path / "agent" / "inner" / "b.sh").write_text("")
    seen.add(software_sha256(tmp_path / "agent"))
    (tmp_path / "agent" / "a.py").write_text("x = 2")
    seen.add(software_sha256(tmp_path / "agent"))
    (tmp_path / "agent" / "a.py").rename(tmp_path / "agent" / "c.py")
    seen.add(software_sha256(tmp_path / "agent"))
    assert len(seen) == 4
    (tmp_path / "agent" / "compiled.pyc").write_text("")
    assert software_sha256(tmp_path / "agent") in seen


def test_files_that_cannot_be_read_give_no_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.py").write_text("")

    def refuse(_: Path) -> bytes:
        raise PermissionError

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert software_sha256(tmp_path) is None
