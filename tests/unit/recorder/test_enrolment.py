"""What a camera believes of whom it encrypts to, when somebody without its key had the card in hand."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from agent.daemon.vault_opening import open_recorder
from agent.errors import ConfigError, JournalError
from agent.recorder.enrolment import Enrolment, own_keys, read_enrolment
from agent.settings.load import LoadedSettings
from agent.settings.schema import EncryptionSettings
from agent.trust.certificates import fingerprint_hex, make_bench_root, make_device_certificate, pem
from agent.trust.own_keys import OwnKeys
from agent.trust.records import CmsRecordSigner
from agent.trust.software import SoftwareSigner
from agent.vault.record import ZERO_HASH, Record, parse_line
from tests.support.bench import bench_settings
from tests.support.evidence_key import EVIDENCE
from tests.support.identity import BENCH_IDENTITY, BenchIdentity
from tests.support.vault_builder import VaultBuilder
from tests.unit.daemon.test_storage import Listener

KEY = (EVIDENCE.recipient,)


@pytest.fixture
def vault(tmp_path: Path) -> VaultBuilder:
    """Enrolled to encrypt, started three times; its newest file holds its newest `encryption` record."""
    made = VaultBuilder(tmp_path / "vault", recipients=KEY)
    made.restart()
    made.restart()
    made.shut_down()
    return made


def read(vault: VaultBuilder, identity: BenchIdentity = BENCH_IDENTITY) -> Enrolment:
    keys = own_keys(vault.filesystem, vault.layout, identity.signer.certificate)
    return read_enrolment(vault.filesystem, vault.layout, keys)


def start(vault: VaultBuilder, recipients: tuple[str, ...], identity: BenchIdentity = BENCH_IDENTITY) -> None:
    """What `run` does with the vault."""
    settings = replace(bench_settings(vault=vault.root), encryption=EncryptionSettings(recipients=recipients))
    loaded = LoadedSettings(settings, (), "0" * 64)
    recorder, _ = open_recorder(vault.filesystem, vault.layout, identity.record_signer, vault.clock, Listener(), loaded)
    recorder.close()


def files(vault: VaultBuilder) -> list[Path]:
    return sorted(vault.layout.journal.glob("*.journal"))


Edit = Callable[[dict[str, Any]], None]
Sign = Callable[[Record], bytes | None]


def rewrite(vault: VaultBuilder, edit: Edit, sign: Sign = lambda _record: None) -> None:
    """Edit every record and link them all anew, as anybody can; records that stay as they are keep their signature."""
    seq, prev = 0, ZERO_HASH
    sizes: dict[str, int] = {}
    for path in files(vault):
        lines = []
        for line in path.read_bytes().splitlines():
            record = parse_line(line)
            fields = json.loads(record.json_bytes)
            edit(fields)
            seq += 1
            fields |= {"seq": seq, "prev": prev}
            if fields["type"] == "journal-open" and fields["prev_file"]:
                fields["prev_file_bytes"] = sizes[fields["prev_file"]]
            data = json.dumps(fields, separators=(",", ":")).encode()
            made = Record(data, record.signature if data == record.json_bytes else None, fields)
            if made.signature is None:
                made = Record(data, sign(made), fields)
            lines.append(made.line())
            prev = made.sha256
        path.write_bytes(b"".join(lines))
        sizes[path.name] = path.stat().st_size


def nobody(fields: dict[str, Any]) -> None:
    if fields["type"] == "encryption":
        fields["recipients"] = []


def append(vault: VaultBuilder, fields: dict[str, Any], signature: bytes | None = None) -> None:
    """One more record behind the newest."""
    path = files(vault)[-1]
    last = parse_line(path.read_bytes().splitlines()[-1])
    common = {name: last.fields[name] for name in tuple(last.fields)[:9]}
    document = common | {"seq": last.seq + 1, "prev": last.sha256} | fields
    record = Record(json.dumps(document, separators=(",", ":")).encode(), signature, document)
    path.write_bytes(path.read_bytes() + record.line())


def test_an_untouched_vault_is_believed(vault: VaultBuilder) -> None:
    assert read(vault) == Enrolment(KEY, KEY)
    start(vault, KEY)
    with pytest.raises(ConfigError, match="--no-recipients"):
        start(vault, ())


def test_a_vault_without_any_record_of_it_is_not_enrolled(tmp_path: Path) -> None:
    vault = VaultBuilder(tmp_path / "vault")
    assert read(vault) == Enrolment(None, None)
    vault.shut_down()
    start(vault, KEY)
    assert read(vault) == Enrolment(KEY, KEY)


@pytest.mark.parametrize("signature", [None, b"\x30\x03\x02\x01\x01"])
def test_a_planted_record_switches_nothing_off(vault: VaultBuilder, signature: bytes | None) -> None:
    change = {"type": "encryption", "recipients": [], "reason": "re-enrolled", "previous": list(KEY)}
    append(vault, change, signature)
    assert read(vault) == Enrolment((), KEY)
    with pytest.raises(ConfigError, match=EVIDENCE.recipient):
        start(vault, ())
    start(vault, KEY)


def test_a_planted_record_with_a_signature_that_was_taken_from_another(vault: VaultBuilder) -> None:
    taken = parse_line(files(vault)[-1].read_bytes().splitlines()[-1]).signature
    append(vault, {"type": "encryption", "recipients": [], "reason": "re-enrolled", "previous": list(KEY)}, taken)
    with pytest.raises(ConfigError):
        start(vault, ())


def test_records_that_were_edited_from_the_first_on_and_linked_anew(vault: VaultBuilder) -> None:
    """Only what lies before the first change keeps its signatures: the first journal-open and boot."""
    rewrite(vault, nobody)
    with pytest.raises(JournalError, match="no signature covers a word of it"):
        start(vault, ())


def test_a_card_that_was_taken_back_to_its_first_second_cannot_be_told_from_a_new_one(vault: VaultBuilder) -> None:
    """What docs/operations.md says it cannot see; `verify` finds recordings that no record names."""
    for path in files(vault)[1:]:
        path.unlink()
    first = files(vault)[0]
    first.write_bytes(b"".join(first.read_bytes().splitlines(keepends=True)[:2]))
    assert read(vault) == Enrolment(None, None)


def test_edited_records_behind_an_earlier_enrolment(vault: VaultBuilder) -> None:
    first = files(vault)[0].name

    def later(fields: dict[str, Any]) -> None:
        if fields["type"] == "encryption" and fields["seq"] > 3:
            fields["recipients"] = []

    assert len(files(vault)[0].read_bytes().splitlines()) == 3, first
    rewrite(vault, later)
    assert read(vault) == Enrolment((), KEY)
    with pytest.raises(ConfigError):
        start(vault, ())


def test_an_edited_record_under_a_newer_file_that_is_left_alone(vault: VaultBuilder) -> None:
    """The newest file's own `encryption` record is out of the way, as in a run that spans several files."""
    newest = files(vault)[-1]
    opening = newest.read_bytes().splitlines(keepends=True)[0]
    newest.write_bytes(opening)
    before = files(vault)[-2]
    before.write_bytes(before.read_bytes().replace(b'"recipients":["' + KEY[0].encode() + b'"]', b'"recipients":[]'))
    with pytest.raises(JournalError, match=r"000002\.journal does not lead to 000003\.journal"):
        start(vault, ())
    with pytest.raises(JournalError, match="bodycam enroll"):
        start(vault, KEY)


def test_a_file_that_was_taken_out_of_the_middle(vault: VaultBuilder) -> None:
    newest = files(vault)[-1]
    newest.write_bytes(newest.read_bytes().splitlines(keepends=True)[0])
    files(vault)[1].unlink()
    with pytest.raises(JournalError, match=r"000001\.journal does not lead to 000003\.journal"):
        start(vault, ())


def test_the_beginning_that_was_taken_away(vault: VaultBuilder) -> None:
    newest = files(vault)[-1]
    newest.write_bytes(newest.read_bytes().splitlines(keepends=True)[0])
    for path in files(vault)[:-1]:
        path.unlink()
    with pytest.raises(JournalError, match=r"before its file 000003\.journal"):
        start(vault, ())


def test_a_later_re_enrolment_that_was_cut_off_leaves_the_one_before(vault: VaultBuilder) -> None:
    files(vault)[-1].unlink()
    assert read(vault) == Enrolment(KEY, KEY)


def test_a_journal_that_nobody_ever_signed_is_taken_as_it_is(tmp_path: Path) -> None:
    """A token that was away at the first start of all: recording must go on when it is back."""
    vault = VaultBuilder(tmp_path / "vault", recipients=KEY)
    rewrite(vault, lambda _fields: None)
    for path in files(vault):
        lines = [line.partition(b"\t")[0] + b"\t-\n" for line in path.read_bytes().splitlines()]
        path.write_bytes(b"".join(lines))
    assert read(vault) == Enrolment(KEY, KEY)
    with pytest.raises(ConfigError):
        start(vault, ())
    start(vault, KEY)


# Other keys


def issued_by(root_key: ec.EllipticCurvePrivateKey, root: x509.Certificate, name: str) -> BenchIdentity:
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime(2026, 2, 1, tzinfo=UTC)
    leaf = make_device_certificate(key.public_key(), name, "serial-1", root_key, root, now)
    signer = SoftwareSigner(key, (leaf,))
    return BenchIdentity(root, signer, CmsRecordSigner(signer))


@pytest.fixture
def root() -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    return key, make_bench_root(key, datetime(2026, 1, 1, tzinfo=UTC))


def forged() -> BenchIdentity:
    """A device certificate that says what the real one says, under a root of the real one's name."""
    real, root_key = BENCH_IDENTITY.root, ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateBuilder(real.subject, real.subject, root_key.public_key(), real.serial_number)
    builder = builder.not_valid_before(real.not_valid_before_utc).not_valid_after(real.not_valid_after_utc)
    for extension in real.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    return issued_by(root_key, builder.sign(root_key, hashes.SHA256()), "CAM-TEST")


def keep(vault: VaultBuilder, identity: BenchIdentity) -> None:
    certificate = identity.signer.certificate
    (vault.layout.device / f"chain-{fingerprint_hex(certificate)}.pem").write_bytes(pem([certificate]))


Root = tuple[ec.EllipticCurvePrivateKey, x509.Certificate]


@pytest.mark.parametrize(("name", "is_believed"), [("CAM-TEST", True), ("CAM-OTHER", False)])
def test_a_key_that_was_lost_is_believed_if_it_was_the_same_cameras(
    tmp_path: Path, root: Root, name: str, is_believed: bool
) -> None:
    vault = VaultBuilder(tmp_path / "vault", identity=issued_by(*root, name), recipients=KEY)
    vault.shut_down()
    keep(vault, vault.identity)
    present = issued_by(*root, "CAM-TEST")
    present.install(vault.layout)
    if is_believed:
        assert read(vault, present) == Enrolment(KEY, KEY)
        with pytest.raises(ConfigError):
            start(vault, (), present)
        start(vault, KEY, present)
    else:
        with pytest.raises(JournalError, match="none of its signatures is of this camera's key"):
            start(vault, (), present)


def test_somebody_elses_key_and_certificates_make_nothing_believed(vault: VaultBuilder) -> None:
    """A whole journal made anew, with an issuer and a device certificate of the same names."""
    forger = forged()
    assert forger.root.subject == BENCH_IDENTITY.root.subject
    assert forger.signer.certificate.issuer == BENCH_IDENTITY.signer.certificate.issuer
    assert forger.signer.certificate.subject == BENCH_IDENTITY.signer.certificate.subject

    def edit(fields: dict[str, Any]) -> None:
        nobody(fields)
        if fields["type"] == "journal-open":
            fields["certificate_sha256"] = forger.record_signer.certificate_sha256

    rewrite(vault, edit, lambda record: forger.record_signer.sign_record(record.json_bytes))
    keep(vault, forger)
    (vault.layout.device / "other-root.pem").write_bytes(pem([forger.root]))
    (vault.layout.device / "rubbish.pem").write_bytes(base64.b64encode(b"rubbish"))
    with pytest.raises(JournalError, match="none of its signatures"):
        start(vault, ())


@pytest.mark.parametrize(("exponent", "is_believed"), [(65_537, True), (65_539, False)])
def test_an_rsa_issuer_of_somebodys_own_choice_vouches_for_nobody(exponent: int, is_believed: bool) -> None:
    made = rsa.generate_private_key(65_537, 2048).private_numbers()
    d = pow(exponent, -1, (made.p - 1) * (made.q - 1))
    key = rsa.RSAPrivateNumbers(
        made.p, made.q, d, d % (made.p - 1), d % (made.q - 1), made.iqmp,
        rsa.RSAPublicNumbers(exponent, made.public_numbers.n),
    ).private_key()  # fmt: skip

    def issue(subject: str, public_key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey) -> x509.Certificate:
        root, name = (x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)]) for text in ("Root", subject))
        builder = x509.CertificateBuilder(root, name, public_key, x509.random_serial_number())
        builder = builder.not_valid_before(datetime(2026, 1, 1)).not_valid_after(datetime(2036, 1, 1))
        return builder.sign(key, hashes.SHA256())

    earlier_key, present_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    earlier = issue("CAM-TEST", earlier_key.public_key())
    present = issue("CAM-TEST", present_key.public_key())
    root = issue("Root", key.public_key())
    signature = CmsRecordSigner(SoftwareSigner(earlier_key, (earlier,))).sign_record(b"{}")
    keys = OwnKeys(present, lambda: [present, earlier, root])
    assert keys.signed(fingerprint_hex(earlier), b"{}", signature) is is_believed
