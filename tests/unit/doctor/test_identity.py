"""What the doctor says of a certificate that lacks what it must hold, and of one that waits to take over."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from agent.clock import NS_PER_S, SimulatedClock
from agent.doctor.check import Check, State
from agent.doctor.identity import check_identity
from agent.settings.schema import DeviceSettings, Settings, VaultSettings
from agent.trust.certificates import fingerprint_text, load_chain, make_device_certificate, pem
from agent.trust.identity import Change, IdentityPaths, install_chain, request_certificate
from agent.vault.layout import VaultLayout
from tests.unit.trust.identities import NOW, custom_certificate, identity

DEPARTMENT = identity("department")


class Camera:
    """Enrolled by a department, with records."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        vault = VaultSettings(path=folder / "vault", key_path=folder / "key" / "device.key")
        self.settings = Settings(profile="bench", device=DeviceSettings(id="CAM-0001"), vault=vault)
        self.layout = VaultLayout(vault.path)
        self.paths = IdentityPaths(vault.key_path, self.layout.chain, self.layout.root_certificate)
        (folder / "root.pem").write_bytes(pem([DEPARTMENT.root]))
        self.enrol(None, "first")

    def enrol(self, change: Change | None, name: str) -> x509.Certificate:
        csr, chain = self.folder / f"{name}.csr", self.folder / f"{name}.pem"
        request_certificate(self.paths, "CAM-0001", "1", csr, has_records=change is not None, change=change)
        key = x509.load_pem_x509_csr(csr.read_bytes()).public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        leaf = make_device_certificate(key, "CAM-0001", "1", DEPARTMENT.root_key, DEPARTMENT.root, NOW)
        chain.write_bytes(pem([leaf]))
        install_chain(self.paths, chain, self.folder / "root.pem", NOW, has_records=change is not None)
        return leaf

    def examined(self) -> Check:
        return check_identity(self.settings, SimulatedClock(utc_ns=int(NOW.timestamp()) * NS_PER_S))


@pytest.fixture
def camera(tmp_path: Path) -> Camera:
    return Camera(tmp_path)


def test_nothing_waits(camera: Camera) -> None:
    found = camera.examined()
    assert (found.state, "waits" in found.found) == (State.OK, False)


@pytest.mark.parametrize("change", list(Change))
def test_a_certificate_that_waits_is_shown_beside_the_present_one(camera: Camera, change: Change) -> None:
    present = load_chain(camera.layout.chain)[0]
    waiting = camera.enrol(change, "next")
    found = camera.examined()
    assert found.state is State.OK
    assert f"SHA-256 {fingerprint_text(present)[:23]}…; another certificate waits" in found.found
    assert f"SHA-256 {fingerprint_text(waiting)[:23]}…, in {camera.paths.next_chain}" in found.found
    assert "at its next start" in found.found


def test_one_that_waits_and_cannot_take_over_is_a_warning(camera: Camera) -> None:
    camera.enrol(Change.ROTATE, "next")
    key = camera.paths.key.with_name("device.key.next")
    key.chmod(0o644)
    found = camera.examined()
    assert (found.state, "has mode 0644" in found.found) == (State.WARN, True), found
    key.unlink()
    found = camera.examined()
    assert (found.state, "Its key is not there" in found.found) == (State.WARN, True), found
    assert "as before" in found.advice
    camera.paths.next_chain.write_bytes(b"nothing")
    found = camera.examined()
    assert (found.state, "does not hold certificates" in found.found) == (State.WARN, True), found


def test_a_certificate_without_its_extensions_and_what_to_do(camera: Camera) -> None:
    """As cameras have that were enrolled before this was checked."""
    present = load_chain(camera.layout.chain)[0]
    key = present.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    root = DEPARTMENT.root
    plain = custom_certificate("CAM-0001", key, "", DEPARTMENT.root_key, [], issuer_name=root.subject)
    camera.layout.chain.write_bytes(pem([plain]))
    found = camera.examined()
    assert found.state is State.FAIL
    assert "has no basicConstraints and no keyUsage" in found.found
    assert "extendedKeyUsage = emailProtection\n" in found.advice
    assert "enroll --install" in found.advice
    camera.settings = replace(camera.settings, device=DeviceSettings(id="CAM-0002"))
    assert camera.examined().state is State.FAIL
