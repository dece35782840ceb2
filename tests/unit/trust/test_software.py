from __future__ import annotations

import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from agent.errors import DeviceKeyError
from agent.trust.certificates import fingerprint_hex
from agent.trust.cms import verify_detached
from agent.trust.records import CmsRecordSigner
from agent.trust.software import SoftwareSigner
from tests.unit.trust.identities import identity, key_pem, write_key


def paths(folder: Path, mode: int = 0o600) -> tuple[Path, Path]:
    chain, _ = identity().write(folder)
    return write_key(folder / "device.key", identity().key, mode), chain


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_signs_what_the_certificate_verifies(tmp_path: Path, mode: int) -> None:
    signer = SoftwareSigner.load(*paths(tmp_path, mode))
    key = signer.certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    key.verify(signer.sign(b"data"), b"data", ec.ECDSA(hashes.SHA256()))
    assert signer.chain == (identity().leaf,)
    assert signer.description == "software (exportable)"


def test_the_journals_view_of_it_makes_cms(tmp_path: Path) -> None:
    signer = CmsRecordSigner(SoftwareSigner.load(*paths(tmp_path)))
    assert verify_detached(signer.sign_record(b"{}"), b"{}", [identity().leaf]) == identity().leaf
    assert signer.certificate_sha256 == fingerprint_hex(identity().leaf)
    assert signer.description == "software (exportable)"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o700, 0o777])
def test_a_key_that_others_may_read_is_refused_with_the_command(tmp_path: Path, mode: int) -> None:
    key, chain = paths(tmp_path, mode)
    with pytest.raises(DeviceKeyError, match=f"chmod 0600 {key}"):
        SoftwareSigner.load(key, chain)


def test_absent_files_say_to_enrol(tmp_path: Path) -> None:
    key, chain = paths(tmp_path)
    with pytest.raises(DeviceKeyError, match=r"no device key.*bodycam enroll"):
        SoftwareSigner.load(tmp_path / "absent", chain)
    with pytest.raises(DeviceKeyError, match=r"no certificate.*bodycam enroll"):
        SoftwareSigner.load(key, tmp_path / "absent")


def test_a_key_of_another_user_is_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key, chain = paths(tmp_path)
    real = os.open

    def denied(path: Path, flags: int, mode: int = 0o777) -> int:
        if Path(path) == key:
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, flags, mode)

    monkeypatch.setattr(os, "open", denied)  # root, as in a container, is never denied by the kernel
    with pytest.raises(DeviceKeyError, match="chown"):
        SoftwareSigner.load(key, chain)


def test_a_folder_in_place_of_the_key_is_refused(tmp_path: Path) -> None:
    _, chain = paths(tmp_path)
    (tmp_path / "folder").mkdir(mode=0o600)
    with pytest.raises(DeviceKeyError, match="not a regular file"):
        SoftwareSigner.load(tmp_path / "folder", chain)


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP384R1()),
        ec.generate_private_key(ec.SECP256K1()),
        ed25519.Ed25519PrivateKey.generate(),
        rsa.generate_private_key(65537, 2048),
    ],
    ids=lambda key: type(key).__name__,
)
def test_other_kinds_of_key_are_refused(tmp_path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    path, chain = paths(tmp_path)
    path.write_bytes(key_pem(key))
    with pytest.raises(DeviceKeyError, match="P-256"):
        SoftwareSigner.load(path, chain)


def test_an_encrypted_or_broken_key_is_refused(tmp_path: Path) -> None:
    path, chain = paths(tmp_path)
    encrypted = identity().key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    for content in (encrypted, b"", b"nonsense", key_pem(identity().key)[:100]):
        path.write_bytes(content)
        with pytest.raises(DeviceKeyError, match="unencrypted private key"):
            SoftwareSigner.load(path, chain)


def test_a_certificate_of_another_key_is_refused(tmp_path: Path) -> None:
    key, _ = paths(tmp_path)
    other, _ = identity("other").write(tmp_path / "other")
    with pytest.raises(DeviceKeyError, match="does not belong"):
        SoftwareSigner.load(key, other)


@pytest.mark.parametrize(
    "content", [b"", b"nonsense", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_a_broken_chain_is_refused(tmp_path: Path, content: bytes) -> None:
    key, chain = paths(tmp_path)
    chain.write_bytes(content)
    with pytest.raises(DeviceKeyError, match="certificates in PEM"):
        SoftwareSigner.load(key, chain)
