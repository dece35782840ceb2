"""Doctor and `run` say the same of encryption, because they ask the same code; and a link is no vault for either."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from agent.clock import SystemClock
from agent.doctor.check import Check, State
from agent.doctor.encryption import check_encryption
from agent.doctor.storage import check_storage
from agent.errors import BodycamError, ConfigError, JournalError, VaultError
from agent.settings.schema import EncryptionSettings, Settings
from tests.support.bench import bench_settings
from tests.support.evidence_key import EVIDENCE
from tests.support.vault_builder import VaultBuilder
from tests.unit.recorder.test_enrolment import append, start

KEY = (EVIDENCE.recipient,)


def settings_of(vault: VaultBuilder, recipients: tuple[str, ...]) -> Settings:
    return replace(bench_settings(vault=vault.root), encryption=EncryptionSettings(recipients=recipients))


def examined(vault: VaultBuilder, recipients: tuple[str, ...]) -> Check:
    return check_encryption(settings_of(vault, recipients))


def refusal(vault: VaultBuilder, recipients: tuple[str, ...]) -> BodycamError | None:
    """What `run` says, in a vault that is put back as it was when it starts."""
    before = {path: path.read_bytes() for path in vault.layout.journal.iterdir()}
    try:
        start(vault, recipients)
    except BodycamError as error:
        return error
    for path in vault.layout.journal.iterdir():
        if path in before:
            path.write_bytes(before[path])
        else:
            path.unlink()
    return None


@pytest.fixture(params=[KEY, ()], ids=["enrolled", "clear"])
def vault(tmp_path: Path, request: pytest.FixtureRequest) -> VaultBuilder:
    made = VaultBuilder(tmp_path / "vault", recipients=request.param)
    made.shut_down()
    return made


def test_what_run_accepts_is_no_failure(vault: VaultBuilder) -> None:
    assert refusal(vault, vault.recipients) is None
    check = examined(vault, vault.recipients)
    assert check.state is State.OK
    assert ("newest signed record" if vault.recipients else "not encrypted") in check.found


def test_the_first_keys_of_a_vault_are_worth_a_word(tmp_path: Path) -> None:
    vault = VaultBuilder(tmp_path / "vault")
    vault.shut_down()
    assert refusal(vault, KEY) is None
    check = examined(vault, KEY)
    assert check.state is State.WARN
    assert "private key" in check.advice


@pytest.mark.parametrize("recipients", [(), (EVIDENCE.generate().recipient,)], ids=["none", "other"])
def test_what_run_refuses_fails_with_the_same_words(tmp_path: Path, recipients: tuple[str, ...]) -> None:
    vault = VaultBuilder(tmp_path / "vault", recipients=KEY)
    vault.shut_down()
    refused = refusal(vault, recipients)
    assert isinstance(refused, ConfigError)
    check = examined(vault, recipients)
    assert check.state is State.FAIL
    assert str(refused) in check.found
    assert f"`bodycam enroll {'--recipients' if recipients else '--no-recipients'}`" in check.advice


def test_a_planted_record_deceives_neither(tmp_path: Path) -> None:
    vault = VaultBuilder(tmp_path / "vault", recipients=KEY)
    vault.shut_down()
    append(vault, {"type": "encryption", "recipients": [], "reason": "re-enrolled", "previous": list(KEY)})
    assert str(refusal(vault, ())) in examined(vault, ()).found


def test_a_journal_that_was_changed_fails_with_the_same_words(tmp_path: Path) -> None:
    vault = VaultBuilder(tmp_path / "vault", recipients=KEY)
    vault.restart()
    vault.shut_down()
    newest = vault.layout.journal / "000002.journal"
    newest.write_bytes(newest.read_bytes().splitlines(keepends=True)[0])
    (vault.layout.journal / "000001.journal").unlink()
    refused = refusal(vault, KEY)
    assert isinstance(refused, JournalError)
    check = examined(vault, KEY)
    assert (check.state, str(refused) in check.found) == (State.FAIL, True)


def test_without_a_certificate_it_is_the_keys_check_that_counts(tmp_path: Path) -> None:
    assert check_encryption(bench_settings(vault=tmp_path / "vault")).state is State.SKIPPED


def test_without_the_library_it_says_what_to_install(vault: VaultBuilder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyrage", None)
    check = examined(vault, KEY)
    assert check.state is State.FAIL
    assert "pyrage is missing" in check.found
    assert "pip install" in f"{check.found} {check.advice}"


def test_a_link_in_place_of_a_folder_fails_with_the_same_words(tmp_path: Path, vault: VaultBuilder) -> None:
    vault.layout.recordings.rename(tmp_path / "elsewhere")
    vault.layout.recordings.symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    refused = refusal(vault, vault.recipients)
    assert isinstance(refused, VaultError)
    (check,) = check_storage(settings_of(vault, vault.recipients), SystemClock())
    assert (check.name, check.state) == ("vault", State.FAIL)
    assert str(refused) in check.found
