"""The doctor says what the memory outside the card is worth."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from agent.doctor import witness
from agent.doctor.check import State
from agent.doctor.witness import WitnessFacts, check_witness, judge_witness, probe_witness
from agent.settings.schema import Settings, VaultSettings

GOOD = WitnessFacts(folder_exists=True, is_writable=True, filesystem="ext4", shared=False)


def settings_for(path: Path | str, vault: Path = Path("/v")) -> Settings:
    return Settings(vault=VaultSettings(path=vault, witness_path=str(path)))


@pytest.mark.parametrize(
    ("facts", "state", "said"),
    [
        (GOOD, State.OK, "is on other flash than the vault (ext4)"),
        (replace(GOOD, shared=None), State.OK, "cannot be told here"),
        (replace(GOOD, shared=True), State.WARN, "lies on the vault's own disk and proves nothing against it"),
        (replace(GOOD, filesystem="tmpfs"), State.WARN, "a power cut takes it"),
        (replace(GOOD, filesystem="overlay", shared=None), State.WARN, "may be in memory"),
        (replace(GOOD, is_writable=False), State.WARN, "cannot be written"),
        (replace(GOOD, folder_exists=False), State.WARN, "There is no folder"),
    ],
)
def test_what_it_is_worth(facts: WitnessFacts, state: State, said: str) -> None:
    check = judge_witness(facts, settings_for("/w/head"))
    assert check.state is state
    assert said in check.found
    assert bool(check.advice) is (state is not State.OK)


def test_none_is_no_fault() -> None:
    assert check_witness(Settings()).state is State.SKIPPED


def test_on_the_vaults_own_disk_it_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "vault").mkdir()
    check = check_witness(settings_for(tmp_path / "head", tmp_path / "vault"))
    assert check.state is State.WARN
    assert not (tmp_path / "head").exists()  # a look leaves nothing behind


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_one_that_cannot_be_written_is_seen(tmp_path: Path) -> None:
    (tmp_path / "head").write_bytes(b"")
    (tmp_path / "head").chmod(0o400)
    assert not probe_witness(tmp_path, tmp_path / "head").is_writable
    assert check_witness(settings_for(tmp_path / "absent" / "head", tmp_path)).state is State.FAIL


def test_a_medium_that_cannot_be_looked_at_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: Path, __: Path) -> bool:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(witness, "share_medium", fails)
    check = check_witness(settings_for(tmp_path / "head", tmp_path))
    assert check.state is State.WARN
    assert "Input/output error" in check.found
