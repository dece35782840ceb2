from __future__ import annotations

import os
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from agent.cli.enroll import enroll, read_hardware_serial
from agent.errors import ConfigError, DeviceKeyError, StorageError
from agent.settings.schema import DeviceSettings, Settings, VaultSettings
from agent.trust import durable
from agent.trust.certificates import check_chain, fingerprint_text, load_chain, make_device_certificate, pem
from agent.trust.identity import IdentityPaths, enroll_bench, install_chain, request_certificate
from agent.trust.software import SoftwareSigner, load_private_key
from agent.vault.layout import VaultLayout
from tests.unit.trust.identities import NOW, Identity, custom_certificate, identity, new_key, write_key


@pytest.fixture
def paths(tmp_path: Path) -> IdentityPaths:
    layout = VaultLayout(tmp_path / "vault")
    return IdentityPaths(tmp_path / "key" / "device.key", layout.chain, layout.root_certificate)


def bench(paths: IdentityPaths, *, has_records: bool = False) -> x509.Certificate:
    made = enroll_bench(paths, "CAM-0001", "1000", NOW, has_records=has_records)
    assert made.certificate is not None
    return made.certificate


def issue(request: x509.CertificateSigningRequest, by: Identity) -> x509.Certificate:
    key = request.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    return make_device_certificate(key, "CAM-0001", "1000", by.root_key, by.root, NOW)


def test_bench_enrolment_gives_a_signer_that_checks_against_its_root(paths: IdentityPaths) -> None:
    certificate = bench(paths)
    signer = SoftwareSigner.load(paths.key, paths.chain)
    assert signer.certificate == certificate
    assert check_chain(signer.chain, load_chain(paths.root), NOW) == []
    for secret in (paths.key, paths.bench_root_key):
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert stat.S_IMODE(paths.key.parent.stat().st_mode) == 0o700
    assert b"BENCH ONLY" in paths.bench_root_key.read_bytes()
    assert "BENCH" in paths.bench_root_key.name
    assert b"PRIVATE" not in paths.chain.read_bytes() + paths.root.read_bytes()
    left = {path.name for folder in (paths.key.parent, paths.chain.parent) for path in folder.iterdir()}
    kept = paths.kept_chain(certificate).name
    assert left == {"device.key", paths.bench_root_key.name, paths.bench_root.name, "chain.pem", kept, "root.pem"}


def test_the_key_is_private_whatever_the_umask(paths: IdentityPaths) -> None:
    before = os.umask(0)
    try:
        bench(paths)
    finally:
        os.umask(before)
    assert stat.S_IMODE(paths.key.stat().st_mode) == 0o600


def test_enrolling_twice_is_refused_and_changes_nothing(paths: IdentityPaths) -> None:
    bench(paths)
    before = {path: path.read_bytes() for path in (paths.key, paths.chain, paths.root, paths.bench_root_key)}
    with pytest.raises(DeviceKeyError, match=r"already enrolled.*never overwritten"):
        bench(paths)
    with pytest.raises(DeviceKeyError, match="already enrolled"):
        request_certificate(paths, "CAM-0001", None, paths.key.with_name("csr"), has_records=False)
    assert before == {path: path.read_bytes() for path in before}


def test_a_key_that_was_not_made_for_the_bench_stays_out_of_it(paths: IdentityPaths) -> None:
    request_certificate(paths, "CAM-0001", None, paths.key.parent.parent / "csr", has_records=False)
    key = paths.key.read_bytes()
    with pytest.raises(DeviceKeyError, match=r"already a device key.*--install"):
        bench(paths)
    assert paths.key.read_bytes() == key


def test_a_bench_key_does_not_become_a_departments(paths: IdentityPaths) -> None:
    bench(paths)
    paths.chain.unlink()
    with pytest.raises(DeviceKeyError, match="made for the bench"):
        request_certificate(paths, "CAM-0001", None, paths.key.with_name("csr"), has_records=False)


def test_records_of_a_lost_identity_stop_a_new_one(paths: IdentityPaths) -> None:
    with pytest.raises(DeviceKeyError, match="earlier identity"):
        bench(paths, has_records=True)
    assert not paths.key.exists()


def test_request_and_install(paths: IdentityPaths, tmp_path: Path) -> None:
    department = identity("department")
    csr = tmp_path / "camera.csr"
    assert request_certificate(paths, "CAM-0001", None, csr, has_records=False).key_is_new
    request = x509.load_pem_x509_csr(csr.read_bytes())
    assert request.is_signature_valid
    (tmp_path / "chain.pem").write_bytes(pem([issue(request, department)]))
    (tmp_path / "root.pem").write_bytes(pem([department.root]))
    made = install_chain(paths, tmp_path / "chain.pem", tmp_path / "root.pem", NOW, has_records=False)
    assert SoftwareSigner.load(paths.key, paths.chain).certificate == made.certificate
    assert load_chain(paths.root) == (department.root,)
    # Once more is harmless; another certificate over existing records waits to be introduced.
    assert not install_chain(paths, tmp_path / "chain.pem", None, NOW, has_records=True).waits
    (tmp_path / "renewed.pem").write_bytes(pem([issue(request, department)]))
    renewed = install_chain(paths, tmp_path / "renewed.pem", None, NOW, has_records=True)
    assert renewed.waits
    assert load_chain(paths.chain) == (made.certificate,)
    assert load_chain(paths.next_chain) == (renewed.certificate,)
    assert not install_chain(paths, tmp_path / "renewed.pem", None, NOW, has_records=False).waits
    assert load_chain(paths.chain) == (renewed.certificate,)


def test_a_root_at_the_end_of_the_chain_is_split_off(paths: IdentityPaths, tmp_path: Path) -> None:
    department = identity("department")
    request_certificate(paths, "CAM-0001", None, tmp_path / "csr", has_records=False)
    leaf = issue(x509.load_pem_x509_csr((tmp_path / "csr").read_bytes()), department)
    (tmp_path / "full.pem").write_bytes(pem([leaf, department.root]))
    install_chain(paths, tmp_path / "full.pem", None, NOW, has_records=False)
    assert load_chain(paths.chain) == (leaf,)
    assert load_chain(paths.root) == (department.root,)


def test_a_lost_request_is_repeated_for_the_same_key_but_never_over_a_file(
    paths: IdentityPaths, tmp_path: Path
) -> None:
    request_certificate(paths, "CAM-0001", None, tmp_path / "csr", has_records=False)
    assert not request_certificate(paths, "CAM-0001", None, tmp_path / "again", has_records=False).key_is_new
    first, again = (x509.load_pem_x509_csr((tmp_path / name).read_bytes()) for name in ("csr", "again"))
    assert first.public_key() == again.public_key()
    with pytest.raises(DeviceKeyError, match="already there"):
        request_certificate(paths, "CAM-0001", None, tmp_path / "csr", has_records=False)


def test_what_does_not_fit_is_not_installed(paths: IdentityPaths, tmp_path: Path) -> None:
    department, other = identity("department"), identity("other")
    request_certificate(paths, "CAM-0001", None, tmp_path / "csr", has_records=False)
    leaf = issue(x509.load_pem_x509_csr((tmp_path / "csr").read_bytes()), department)
    (tmp_path / "chain.pem").write_bytes(pem([leaf]))
    (tmp_path / "other.pem").write_bytes(pem([other.leaf]))
    (tmp_path / "other-root.pem").write_bytes(pem([other.root]))
    with pytest.raises(DeviceKeyError, match="not for the device key"):
        install_chain(paths, tmp_path / "other.pem", None, NOW, has_records=False)
    with pytest.raises(DeviceKeyError, match="not issued by any"):
        install_chain(paths, tmp_path / "chain.pem", tmp_path / "other-root.pem", NOW, has_records=False)
    with pytest.raises(DeviceKeyError, match="valid only from"):
        install_chain(paths, tmp_path / "chain.pem", None, datetime(2026, 1, 2, tzinfo=UTC), has_records=False)
    assert not paths.chain.exists()


def test_a_certificate_without_the_extensions_is_not_installed(paths: IdentityPaths, tmp_path: Path) -> None:
    department = identity("department")
    request_certificate(paths, "CAM-0001", None, tmp_path / "csr", has_records=False)
    key = x509.load_pem_x509_csr((tmp_path / "csr").read_bytes()).public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    root = department.root
    leaf = custom_certificate("CAM-0001", key, "", department.root_key, [], issuer_name=root.subject)
    (tmp_path / "chain.pem").write_bytes(pem([leaf]))
    (tmp_path / "root.pem").write_bytes(pem([root]))
    with pytest.raises(DeviceKeyError) as caught:
        install_chain(paths, tmp_path / "chain.pem", tmp_path / "root.pem", NOW, has_records=False)
    for said in ("no basicConstraints and no keyUsage and no extendedKeyUsage", "\n    keyUsage = critical, "):
        assert said in str(caught.value)
    assert not paths.chain.exists()


@pytest.mark.parametrize("stop_at", range(1, 40))
def test_an_interrupted_enrolment_is_run_again(
    paths: IdentityPaths, monkeypatch: pytest.MonkeyPatch, stop_at: int
) -> None:
    """Stop before the n-th operation on flash; whatever was done by then, the next run ends with a sound identity."""
    operations = 0

    def counted(name: str) -> None:
        real = getattr(os, name)

        def stop_or_do(*args: object, **kwargs: object) -> object:
            nonlocal operations
            operations += 1
            if operations == stop_at:
                raise KeyboardInterrupt
            return real(*args, **kwargs)

        monkeypatch.setattr(os, name, stop_or_do)

    with monkeypatch.context():
        for name in ("open", "write", "fsync", "link", "fchmod"):
            counted(name)
        try:
            bench(paths)
        except KeyboardInterrupt:
            pass
        else:
            assert operations < stop_at
        monkeypatch.undo()
    if paths.chain.exists():
        SoftwareSigner.load(paths.key, paths.chain)  # the chain is last, so it is never without its key
    else:
        bench(paths)
    assert check_chain(load_chain(paths.chain), load_chain(paths.root), NOW) == []


def test_a_new_file_has_its_name_only_when_its_bytes_are_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace: list[str] = []
    real_fsync, real_link, real_write, real_replace = os.fsync, os.link, os.write, os.replace

    def fsync(descriptor: int) -> None:
        trace.append("sync folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "sync file")
        real_fsync(descriptor)

    def link(source: Path, target: Path) -> None:
        trace.append("name")
        real_link(source, target)

    def write(descriptor: int, data: memoryview) -> int:
        trace.append("write")
        return real_write(descriptor, data[:5])  # write(2) may be short

    monkeypatch.setattr(os, "fsync", fsync)

    def replace(source: Path, target: Path) -> None:
        trace.append("name")
        real_replace(source, target)

    monkeypatch.setattr(os, "replace", replace)
    monkeypatch.setattr(os, "link", link)
    monkeypatch.setattr(os, "write", write)
    durable.create(tmp_path / "new", b"0123456789", 0o600)
    assert trace == ["write", "write", "sync file", "name", "sync folder"]
    assert (tmp_path / "new").read_bytes() == b"0123456789"
    trace.clear()
    durable.replace(tmp_path / "new", b"other", 0o644)
    assert trace == ["write", "sync file", "name", "sync folder"]
    assert (tmp_path / "new").read_bytes() == b"other"
    trace.clear()
    durable.make_folder(tmp_path / "a" / "b", 0o700)
    assert trace == ["sync folder", "sync folder"]


def test_creating_never_replaces(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"precious")
    with pytest.raises(FileExistsError):
        durable.create(tmp_path / "key", b"new", 0o600)
    assert (tmp_path / "key").read_bytes() == b"precious"
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


def test_a_disk_error_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(StorageError, match="No space left"):
        durable.create(tmp_path / "key", b"new", 0o600)
    assert not (tmp_path / "key").exists()


def settings(tmp_path: Path) -> Settings:
    vault = VaultSettings(path=tmp_path / "vault", key_path=tmp_path / "key" / "device.key")
    return Settings(profile="bench", device=DeviceSettings(id="CAM-0042"), vault=vault)


def test_the_command_says_what_it_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert enroll(settings(tmp_path), csr=None, install=None, root=None, bench=True) == 0
    said = capsys.readouterr().out
    leaf = load_chain(VaultLayout(tmp_path / "vault").chain)[0]
    assert fingerprint_text(leaf) in said
    assert "CAM-0042" in said
    assert "can be copied" in said
    assert "proves nothing" in said
    assert str(tmp_path / "key" / "device.key") in said


def test_the_command_requests_and_installs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    department = identity("department")
    assert enroll(settings(tmp_path), csr=tmp_path / "csr", install=None, root=None, bench=False) == 0
    assert "--install" in capsys.readouterr().out
    leaf = issue(x509.load_pem_x509_csr((tmp_path / "csr").read_bytes()), department)
    (tmp_path / "c.pem").write_bytes(pem([leaf]))
    assert enroll(settings(tmp_path), csr=None, install=tmp_path / "c.pem", root=None, bench=False) == 0
    assert "none was given" in capsys.readouterr().out


def rotated(tmp_path: Path, *, key: str, capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    """What the command says to a request for a change and to its answer, of a camera with records."""
    department = identity("department")
    known = settings(tmp_path)
    layout = VaultLayout(known.vault.path)

    def answered(csr: Path) -> Path:
        path = csr.with_suffix(".pem")
        path.write_bytes(pem([issue(x509.load_pem_x509_csr(csr.read_bytes()), department)]))
        return path

    enroll(known, csr=tmp_path / "1.csr", install=None, root=None, bench=False)
    enroll(known, csr=None, install=answered(tmp_path / "1.csr"), root=None, bench=False)
    layout.journal.mkdir(parents=True)
    (layout.journal / "000001.journal").write_bytes(b"x")
    capsys.readouterr()
    enroll(known, csr=tmp_path / "2.csr", install=None, root=None, bench=False, rotate=key == "new", renew=key == "old")
    asked = capsys.readouterr().out
    enroll(known, csr=None, install=answered(tmp_path / "2.csr"), root=None, bench=False)
    return asked, capsys.readouterr().out


def test_a_rotation_says_which_key_is_where_and_when_it_takes_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked, installed = rotated(tmp_path, key="new", capsys=capsys)
    before, new = tmp_path / "key" / "device.key", tmp_path / "key" / "device.key.next"
    assert before.exists()
    assert new.exists()
    assert f"Device key, new: {new} (software" in asked
    assert "Until then nothing changes" in asked
    assert f"Key of the certificate before: {before} (software" in installed
    assert f"Key of the new one: {new} (software" in installed
    assert "until the next start of `bodycam run`" in installed


def test_a_renewal_says_that_the_key_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked, installed = rotated(tmp_path, key="old", capsys=capsys)
    key = tmp_path / "key" / "device.key"
    assert f"Device key, already there, kept: {key} (software" in asked
    assert f"Both are for the same key: {key} (software" in installed
    assert "Keep both" not in installed


@pytest.mark.parametrize(
    ("csr", "install", "root", "bench"),
    [(None, None, None, False), ("a", None, None, True), ("a", "b", None, False), ("a", None, "r", False)],
)
def test_the_command_wants_one_thing_at_a_time(
    tmp_path: Path, csr: str | None, install: str | None, root: str | None, bench: bool
) -> None:
    as_path = [tmp_path / name if name else None for name in (csr, install, root)]
    with pytest.raises(ConfigError, match="Say one of"):
        enroll(settings(tmp_path), csr=as_path[0], install=as_path[1], root=as_path[2], bench=bench)
    assert list(tmp_path.iterdir()) == []


def test_the_command_sees_records_in_the_vault(tmp_path: Path) -> None:
    journal = VaultLayout(tmp_path / "vault").journal
    journal.mkdir(parents=True)
    (journal / "000001.journal").write_bytes(b"x")
    with pytest.raises(DeviceKeyError, match="earlier identity"):
        enroll(settings(tmp_path), csr=None, install=None, root=None, bench=True)


def test_hardware_serial(tmp_path: Path) -> None:
    (tmp_path / "serial").write_bytes(b"10000000abcdef01\x00")
    assert read_hardware_serial(tmp_path / "serial") == "10000000abcdef01"
    assert read_hardware_serial(tmp_path / "absent") is None
    (tmp_path / "empty").write_bytes(b"\x00")
    assert read_hardware_serial(tmp_path / "empty") is None


def test_without_a_hardware_serial_the_key_names_the_device(paths: IdentityPaths) -> None:
    made = enroll_bench(paths, "CAM-0001", None, NOW, has_records=False)
    assert made.certificate is not None
    serial = made.certificate.subject.get_attributes_for_oid(x509.NameOID.SERIAL_NUMBER)[0].value
    identifier = made.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest.hex()
    assert serial == identifier[:16]


def test_a_bench_root_that_does_not_match_its_key_is_told(paths: IdentityPaths) -> None:
    paths.key.parent.mkdir()
    write_key(paths.bench_root_key, new_key())
    paths.bench_root.write_bytes(pem([identity().root]))
    with pytest.raises(DeviceKeyError, match=r"cannot be used.*Move it"):
        bench(paths)
    assert load_private_key(paths.key)
    assert not paths.chain.exists()
