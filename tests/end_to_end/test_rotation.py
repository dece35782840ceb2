"""Another certificate, another key, a token in place of a file: the old key introduces the new, and all verifies."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from agent.cli.enroll import enroll
from agent.clock import NS_PER_S, SimulatedClock
from agent.daemon.succession import Succession
from agent.daemon.vault_opening import VaultOpening
from agent.errors import ConfigError, DeviceKeyError, StorageError
from agent.offload.folder import FolderStore
from agent.offload.offload import offload_once
from agent.offload.receipts import ReceiptQueue
from agent.settings.load import LoadedSettings
from agent.settings.schema import DeviceSettings, KeySettings, Settings, VaultSettings
from agent.trust.certificates import fingerprint_hex, load_chain, make_device_certificate, pem
from agent.trust.software import load_private_key
from agent.vault.filesystem import PosixFilesystem
from agent.vault.layout import VaultLayout, kept_chain_name
from agent.vault.record import Record
from agent.verify.finding import Code
from agent.verify.report import Report
from agent.verify.verify import verify_path
from tests.support.identity import make_identity
from tests.support.playback import journal_records, of_type
from tests.support.softhsm import SoftHsm, SoftToken
from tests.support.vault_builder import DEVICE_ID as BUILT_ID
from tests.support.vault_builder import MoodySigner, NobodyListens, VaultBuilder
from tests.unit.trust.identities import NOW, Identity, identity
from tests.unit.verify.tampering import fails, notes, warns

DEVICE_ID = "CAM-0007"


@dataclass
class Camera:
    """A folder with a key, a vault, and a `run` that starts and ends on it."""

    folder: Path
    token: SoftToken | None = None
    department: Identity = field(default_factory=lambda: identity("department"))
    requests: int = 0
    clock: SimulatedClock = field(default_factory=lambda: SimulatedClock(utc_ns=int(NOW.timestamp()) * NS_PER_S))

    @property
    def settings(self) -> Settings:
        key = KeySettings()
        if self.token is not None:
            address = self.token.address
            key = KeySettings(
                backend="pkcs11",
                module_path=str(address.module_path),
                token=address.token,
                label=address.label,
                pin_path=str(address.pin_path),
            )
        vault = VaultSettings(
            path=self.folder / "vault",
            key_path=self.folder / "key" / "device.key",
            receipt_queue_path=self.folder / "receipts",
            signer_timeout_ms=5000,
        )
        return Settings(profile="bench", device=DeviceSettings(id=DEVICE_ID), vault=vault, key=key)

    @property
    def layout(self) -> VaultLayout:
        return VaultLayout(self.settings.vault.path)

    @property
    def certificate(self) -> x509.Certificate:
        return load_chain(self.layout.chain)[0]

    def request(self, **change: bool) -> x509.CertificateSigningRequest:
        self.requests += 1
        path = self.folder / f"{self.requests}.csr"
        enroll(self.settings, csr=path, install=None, root=None, bench=False, **change)
        request = x509.load_pem_x509_csr(path.read_bytes())
        assert request.is_signature_valid
        return request

    def issue(self, request: x509.CertificateSigningRequest) -> Path:
        """What the department's CA makes of a request."""
        key = request.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        by = self.department
        leaf = make_device_certificate(key, DEVICE_ID, "1", by.root_key, by.root, NOW)
        path = self.folder / f"chain-{self.requests}.pem"
        path.write_bytes(pem([leaf]))
        return path

    def install(self, chain: Path) -> None:
        root = self.folder / "root.pem"
        root.write_bytes(pem([self.department.root]))
        enroll(self.settings, csr=None, install=chain, root=root, bench=False)

    def enrol(self, **change: bool) -> None:
        self.install(self.issue(self.request(**change)))

    def run(self, filesystem: PosixFilesystem | None = None) -> list[Record]:
        """`bodycam run`, for a moment; returns the records it wrote."""
        files = filesystem or PosixFilesystem()
        self.layout.root.mkdir(exist_ok=True)
        before = len(self.records())
        opening = VaultOpening(LoadedSettings(self.settings, (), "0" * 64), files, self.clock, NobodyListens())
        try:
            recorder, _ = opening()
            recorder.end("test")
            recorder.step()
            recorder.close()
        finally:
            assert opening._lock is not None
            opening._lock.release()
        return self.records()[before:]

    def records(self) -> list[Record]:
        return journal_records(PosixFilesystem(), self.layout)

    def verify(self, *roots: Identity) -> Report:
        return verify_path(self.layout.root, roots=[one.root for one in roots or (self.department,)])


def openings(records: list[Record]) -> list[dict[str, Any]]:
    return of_type(records, "journal-open")


@pytest.fixture
def camera(tmp_path: Path) -> Camera:
    camera = Camera(tmp_path)
    camera.enrol()
    camera.run()
    return camera


def test_a_rotated_key_is_introduced_by_the_one_before(camera: Camera) -> None:
    old, old_key = camera.certificate, (camera.folder / "key" / "device.key").read_bytes()
    camera.enrol(rotate=True)
    assert camera.certificate == old, "it waits for the next start"
    assert (camera.folder / "key" / "device.key").read_bytes() == old_key
    written = camera.run()
    new = camera.certificate
    assert new.public_key() != old.public_key()
    first, second = openings(written)
    assert (first["certificate_sha256"], second["certificate_sha256"]) == (fingerprint_hex(old), fingerprint_hex(new))
    (introduction,) = of_type(written, "certificate-changed")
    assert introduction["certificate_sha256"] == fingerprint_hex(new)
    assert introduction["key"] == "software (exportable)"
    assert introduction["seq"] == second["seq"] - 1
    report = camera.verify()
    assert report.ok
    assert (notes(report), warns(report)) == ({Code.CERT_CHANGED}, set())
    assert "the key before introduced it" in report.findings[0].sentence
    assert len(report.certificates) == 2
    # One key is left, the new one, under the device key's name.
    assert [path.name for path in (camera.folder / "key").iterdir()] == ["device.key"]
    assert load_private_key(camera.folder / "key" / "device.key").public_key() == new.public_key()
    assert not camera.layout.next_chain.exists()
    # And so on.
    assert len(openings(camera.run())) == 1
    camera.enrol(rotate=True)
    camera.run()
    report = camera.verify()
    assert report.ok
    assert warns(report) == set()
    assert len(report.certificates) == 3


def test_a_renewed_certificate_is_for_the_same_key(camera: Camera) -> None:
    old = camera.certificate
    camera.enrol(renew=True)
    camera.run()
    assert camera.certificate != old
    assert camera.certificate.public_key() == old.public_key()
    report = camera.verify()
    assert report.ok
    assert (notes(report), warns(report)) == ({Code.CERT_CHANGED}, set())


def test_another_root_is_kept_beside_the_first(camera: Camera) -> None:
    first = camera.department
    camera.department = identity("another department")
    camera.enrol(rotate=True)
    camera.run()
    assert load_chain(camera.layout.root_certificate) == (first.root, camera.department.root)
    assert camera.verify(first, camera.department).ok
    assert fails(camera.verify(first)) == {Code.CERT_CHAIN}
    assert verify_path(camera.layout.root).ok


def test_without_the_old_chain_old_records_cannot_be_checked(camera: Camera) -> None:
    old = fingerprint_hex(camera.certificate)
    camera.enrol(rotate=True)
    camera.run()
    (camera.layout.device / kept_chain_name(old)).unlink()
    assert Code.CERT_UNKNOWN in fails(camera.verify())


def test_an_introduction_counts_only_with_its_own_signature_by_the_key_before(camera: Camera) -> None:
    """Whoever has the new key and the card can put a record in front, and cover it, but not sign it as the old key."""
    camera.enrol(rotate=True)
    camera.run()
    (path,) = [p for p in camera.layout.journal.iterdir() if b'"certificate-changed"' in p.read_bytes()]
    lines = path.read_bytes().splitlines(keepends=True)
    whole = lines[-1]
    assert b'"certificate-changed"' in whole
    json_bytes, signature = whole.rstrip(b"\n").split(b"\t")

    def with_column(column: bytes) -> Report:
        path.write_bytes(b"".join([*lines[:-1], json_bytes + b"\t" + column + b"\n"]))
        following = path.with_name(f"{int(path.stem) + 1:06d}.journal")
        grown = len(column) - len(signature)
        data = following.read_bytes()
        before = b'"prev_file_bytes":%d' % len(b"".join(lines))
        assert data.count(before) == 1
        edited = data.replace(before, b'"prev_file_bytes":%d' % (len(b"".join(lines)) + grown))
        following.write_bytes(edited)
        report = camera.verify()
        following.write_bytes(data)
        return report

    assert Code.CERT_NOT_INTRODUCED in warns(with_column(b"-"))
    assert Code.CERT_NOT_INTRODUCED in warns(with_column(base64.b64encode(b"x" * 100)))
    assert with_column(signature).ok


def test_packages_carry_the_chains_they_need_and_the_same_ones_later(tmp_path: Path) -> None:
    vault = VaultBuilder(tmp_path / "vault", identity=make_identity())
    first = vault.record()

    def offload(to: str) -> dict[str, Path]:
        (tmp_path / to).mkdir()
        offload_once(
            vault.root,
            FolderStore(tmp_path / to),
            control=None,
            queue=ReceiptQueue(tmp_path / to / "q"),
            clock=vault.clock,
        )
        return {path.name: path for path in (tmp_path / to / BUILT_ID).iterdir()}

    def files(package: Path) -> dict[str, bytes]:
        return {str(path.relative_to(package)): path.read_bytes() for path in package.rglob("*") if path.is_file()}

    before = files(offload("before")[first])
    old, new = vault.identity, make_identity()

    def promote() -> None:
        for chain in (old.signer.chain, new.signer.chain):
            (vault.layout.device / kept_chain_name(fingerprint_hex(chain[0]))).write_bytes(pem(chain))
        vault.layout.chain.write_bytes(pem(new.signer.chain))
        vault.layout.root_certificate.write_bytes(pem([old.root, new.root]))

    assert Succession(new.record_signer, promote).take_over(vault.journal)
    second = vault.record()
    vault.identity = new
    vault.signer.__init__(new)  # type: ignore[misc]
    vault.clock.advance_ns(NS_PER_S)
    vault.journal.close()
    vault.start()
    third = vault.record()
    after = offload("after")
    assert files(after[first]) == before
    names = {name for name in files(after[second]) if name.startswith("device/")}
    kept = kept_chain_name(new.record_signer.certificate_sha256)
    assert names == {"device/chain.pem", f"device/{kept}", "device/root.pem"}
    assert load_chain(after[second] / "device" / "chain.pem") == old.signer.chain
    assert load_chain(after[second] / "device" / "root.pem") == (old.root, new.root)
    assert load_chain(after[third] / "device" / "chain.pem") == new.signer.chain
    assert load_chain(after[third] / "device" / "root.pem") == (new.root,)
    for recording_id, roots in ((first, [old.root]), (second, [old.root, new.root]), (third, [new.root])):
        report = verify_path(after[recording_id], roots=roots)
        assert report.ok, report.findings
        assert warns(report) == set()


def test_a_camera_enrolled_by_an_older_version_keeps_its_first_chain_too(camera: Camera) -> None:
    (camera.layout.device / kept_chain_name(fingerprint_hex(camera.certificate))).unlink()
    camera.enrol(rotate=True)
    camera.run()
    assert camera.verify().ok


def test_nobody_takes_over_while_either_signer_is_busy(tmp_path: Path) -> None:
    vault = VaultBuilder(tmp_path / "vault")
    successor = MoodySigner(make_identity())
    promoted: list[bool] = []
    succession = Succession(successor, lambda: promoted.append(True))
    successor.busy = True
    assert not succession.take_over(vault.journal)
    successor.busy = False
    vault.signer.busy = True
    assert not succession.take_over(vault.journal)
    assert promoted == []
    vault.signer.busy = False
    vault.record()
    vault.shut_down()
    report = verify_path(vault.root, roots=[vault.identity.root])
    assert report.ok
    assert len(report.certificates) == 1
    assert warns(report) == set()


def test_a_lost_old_key_is_said_and_stops_nothing(camera: Camera) -> None:
    camera.enrol(rotate=True)
    key = camera.folder / "key" / "device.key"
    key.with_name("device.key.next").replace(key)
    written = camera.run()
    assert of_type(written, "certificate-changed") == []
    assert openings(written)[0]["certificate_sha256"] == fingerprint_hex(camera.certificate)
    report = camera.verify()
    assert report.ok
    assert warns(report) == {Code.CERT_NOT_INTRODUCED}


def test_a_new_key_that_does_not_work_leaves_the_old_one_at_work(camera: Camera) -> None:
    old = camera.certificate
    camera.enrol(rotate=True)
    following = camera.folder / "key" / "device.key.next"
    data = following.read_bytes()
    following.unlink()
    assert [opening["certificate_sha256"] for opening in openings(camera.run())] == [fingerprint_hex(old)]
    following.write_bytes(data)
    following.chmod(0o600)
    camera.run()
    assert camera.certificate != old
    assert warns(camera.verify()) == set()


class _Interrupted(PosixFilesystem):
    """Fails the n-th change of name or sync of the device's folder."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.left = at

    def _count(self, path: Path) -> None:
        if path.parent.name == "device" or path.name == "device":
            self.left -= 1
            if self.left == 0:
                raise StorageError(5, "Input/output error", str(path))

    def rename(self, source: Path, target: Path) -> None:
        self._count(source)
        super().rename(source, target)

    def sync_dir(self, path: Path) -> None:
        self._count(path)
        super().sync_dir(path)


@pytest.mark.parametrize("at", [1, 2])
def test_a_take_over_that_was_cut_is_done_at_the_next_try(camera: Camera, at: int) -> None:
    camera.enrol(rotate=True)
    with pytest.raises(StorageError):
        camera.run(_Interrupted(at))
    camera.run()
    report = camera.verify()
    assert report.ok
    assert warns(report) == set()
    assert len(report.certificates) == 2
    assert [path.name for path in (camera.folder / "key").iterdir()] == ["device.key"]


def test_the_same_run_tries_again_after_a_storage_fault(camera: Camera) -> None:
    """The storage thread calls the same VaultOpening again."""
    camera.enrol(rotate=True)
    files = _Interrupted(2)
    loaded = LoadedSettings(camera.settings, (), "0" * 64)
    opening = VaultOpening(loaded, files, camera.clock, NobodyListens())
    with pytest.raises(StorageError):
        opening()
    recorder, _ = opening()
    recorder.end("test")
    recorder.step()
    recorder.close()
    report = camera.verify()
    assert report.ok
    assert warns(report) == set()


def test_a_lost_request_is_repeated_for_the_same_new_key(camera: Camera) -> None:
    first, second = camera.request(rotate=True), camera.request(rotate=True)
    assert first.public_key() == second.public_key()
    assert first.public_key() != camera.certificate.public_key()
    camera.install(camera.issue(second))
    with pytest.raises(DeviceKeyError, match=r"still waits to take over; start `bodycam run` once"):
        camera.request(rotate=True)


def test_changes_need_an_enrolled_camera_and_one_wish(tmp_path: Path, camera: Camera) -> None:
    new = Camera(tmp_path / "other")
    new.folder.mkdir()
    with pytest.raises(DeviceKeyError, match="enrol the camera without --rotate"):
        new.request(rotate=True)
    for wrong in ({"renew": True, "rotate": True}, {"install": Path("x"), "csr": None, "renew": True}):
        arguments: dict[str, Any] = {"csr": Path("x"), "install": None, "root": None, "bench": False, **wrong}
        with pytest.raises(ConfigError, match="Say one of"):
            enroll(camera.settings, **arguments)
    with pytest.raises(DeviceKeyError, match="ask for another with --renew"):
        camera.request()


def test_the_bench_can_try_it_out(tmp_path: Path) -> None:
    camera = Camera(tmp_path)
    enroll(camera.settings, csr=None, install=None, root=None, bench=True)
    camera.run()
    old = camera.certificate
    for change in ({"renew": True}, {"rotate": True}):
        enroll(camera.settings, csr=None, install=None, root=None, bench=True, **change)
        camera.run()
        assert warns(verify_path(camera.layout.root)) == set()
    assert camera.certificate.public_key() != old.public_key()
    with pytest.raises(DeviceKeyError, match="made for the bench"):
        camera.request(renew=True)


def test_the_key_is_made_on_the_token_and_stays_there(tmp_path: Path, softhsm: SoftHsm) -> None:
    camera = Camera(tmp_path, softhsm.make())
    assert camera.token is not None
    first, again = camera.request(), camera.request()
    assert first.public_key() == again.public_key(), "the key that is there is used again"
    camera.install(camera.issue(again))
    assert not (tmp_path / "key").exists()
    written = camera.run()
    kind = f"pkcs11:libsofthsm2/{camera.token.name} (not exportable)"
    assert [opening["key"] for opening in openings(written)] == [kind]
    assert all(record.signature for record in written)
    old = camera.certificate
    camera.enrol(rotate=True)
    written = camera.run()
    assert [introduction["key"] for introduction in of_type(written, "certificate-changed")] == [kind]
    assert camera.certificate.public_key() != old.public_key()
    camera.enrol(renew=True)
    camera.run()
    report = camera.verify()
    assert report.ok
    assert (notes(report), warns(report)) == ({Code.CERT_CHANGED}, set())
    assert len(report.certificates) == 3


def test_what_is_not_for_a_key_on_the_token_is_not_installed(tmp_path: Path, softhsm: SoftHsm) -> None:
    camera = Camera(tmp_path, softhsm.make())
    camera.request()
    other = tmp_path / "other.pem"
    other.write_bytes(pem([identity("other").leaf]))
    with pytest.raises(DeviceKeyError, match=r"not for the device key \(on the token"):
        camera.install(other)
    assert not camera.layout.chain.exists()


def test_a_key_moves_from_a_file_to_a_token(camera: Camera, softhsm: SoftHsm) -> None:
    camera.token = softhsm.make()
    assert len(openings(camera.run())) == 1, "the certificate in force is still that of the file"
    camera.enrol(rotate=True)
    written = camera.run()
    assert [opening["key"].split(" ")[0] for opening in openings(written)] == [
        "software",
        f"pkcs11:libsofthsm2/{camera.token.name}",
    ]
    report = camera.verify()
    assert report.ok
    assert warns(report) == set()


def test_a_camera_whose_token_is_away_starts_and_writes_unsigned(tmp_path: Path, softhsm: SoftHsm) -> None:
    token = softhsm.make()
    camera = Camera(tmp_path, token)
    camera.enrol()
    camera.run()
    with token.away():
        written = camera.run()
    assert {record.signature for record in written} == {None}
    assert openings(written)[0]["key"].endswith("(not reached yet)")
    assert fails(camera.verify()) == set()
    assert warns(camera.verify()) == {Code.SIGNATURE_UNCOVERED}
    assert all(record.signature for record in camera.run())
    assert notes(camera.verify()) == {Code.SIGNATURE_PENDING, Code.SIGNATURE_LATE}


def test_a_token_of_another_camera_stops_the_start(tmp_path: Path, softhsm: SoftHsm) -> None:
    camera = Camera(tmp_path, softhsm.make())
    camera.enrol()
    camera.token = softhsm.make()
    with pytest.raises(DeviceKeyError, match="No key labelled"):
        camera.run()


def test_names_agree(camera: Camera) -> None:
    """trust and vault know the same names, and neither may import the other."""
    camera.enrol(renew=True)
    assert camera.layout.next_chain.exists()
    present = camera.layout.device / kept_chain_name(fingerprint_hex(camera.certificate))
    assert load_chain(present)[0] == camera.certificate
