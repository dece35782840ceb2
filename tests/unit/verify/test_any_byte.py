"""Any byte of evidence, changed in any way, is found; and nothing makes the verifier fall over."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography import x509
from cryptography.utils import CryptographyDeprecationWarning
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import DeviceKeyError
from agent.trust.certificates import parse_chain
from agent.verify.finding import Severity
from agent.verify.verify import verify_path
from tests.support.vault_builder import VaultBuilder
from tests.unit.verify.tampering import check

# What docs/evidence-format.md calls no evidence: only for convenience when the examiner has the root.
NO_EVIDENCE = {"root.pem"}


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> VaultBuilder:
    vault = VaultBuilder(tmp_path_factory.mktemp("any") / "vault", rotate_bytes=4000)
    running = vault.begin(sound=True)
    vault.feed(running, 3)
    vault.restart()
    vault.record(3)
    vault.signer.busy = True
    vault.record(2)
    vault.signer.busy = False
    vault.shut_down()
    return vault


def evidence(vault: VaultBuilder) -> list[Path]:
    return sorted(path for path in vault.root.rglob("*") if path.is_file() and path.name not in NO_EVIDENCE)


def certificates(path: Path) -> tuple[x509.Certificate, ...]:
    try:
        return parse_chain(path.read_bytes(), path.name)
    except (DeviceKeyError, CryptographyDeprecationWarning):
        return ()


def is_found(vault: VaultBuilder) -> bool:
    return any(finding.severity is not Severity.NOTE for finding in check(vault).findings)


def test_the_vault_is_whole_and_has_every_kind_of_file(vault: VaultBuilder) -> None:
    assert not is_found(vault)
    assert {path.suffix for path in evidence(vault)} == {".journal", ".json", ".m4s", ".mp4", ".pem"}
    assert len([path for path in evidence(vault) if path.suffix == ".journal"]) > 3


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_changed_byte_is_found(vault: VaultBuilder, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(evidence(vault)))
    original = path.read_bytes()
    offset = data.draw(st.integers(0, len(original) - 1))
    value = data.draw(st.integers(0, 255).filter(lambda byte: byte != original[offset]))
    before = certificates(path) if path.suffix == ".pem" else ()
    path.write_bytes(original[:offset] + bytes([value]) + original[offset + 1 :])
    try:
        # Text around a certificate, and how its lines are broken, is nothing that anybody signs or reads.
        same = path.suffix == ".pem" and certificates(path) == before
        assert same or is_found(vault)
    finally:
        path.write_bytes(original)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_cut_or_stuffed_files_are_found(vault: VaultBuilder, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from([path for path in evidence(vault) if path.suffix != ".pem"]))
    original = path.read_bytes()
    offset = data.draw(st.integers(0, len(original) - 1))
    removed = data.draw(st.integers(0, len(original) - offset))
    stuffing = data.draw(st.binary(max_size=50))
    changed = original[:offset] + stuffing + original[offset + removed :]
    path.write_bytes(changed)
    try:
        # Whole lines gone from the very end are what no chain can show; but then the shutdown is gone, too.
        assert changed == original or is_found(vault)
    finally:
        path.write_bytes(original)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_rubbish_in_place_of_any_file_never_ends_in_an_error(vault: VaultBuilder, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(sorted(path for path in vault.root.rglob("*") if path.is_file())))
    original = path.read_bytes()
    path.write_bytes(data.draw(st.binary(max_size=200)))
    try:
        for roots in (None, [vault.identity.root]):
            verify_path(vault.root, roots=roots).to_json()
    finally:
        path.write_bytes(original)
