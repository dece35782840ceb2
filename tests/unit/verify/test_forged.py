"""Forgers with keys: another camera's, a certificate of their own making, and the camera's own."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization

from agent.clock import NS_PER_S, SimulatedClock
from agent.trust.certificates import make_bench_root, make_device_certificate, pem
from agent.trust.records import CmsRecordSigner
from agent.trust.software import SoftwareSigner
from agent.vault.journal import RecordSigner
from agent.vault.record import Record, parse_line, sha256_hex
from agent.verify.finding import Code
from agent.verify.verify import verify_path
from tests.support.identity import BENCH_IDENTITY, BenchIdentity, make_identity
from tests.support.vault_builder import DEVICE_ID, VaultBuilder
from tests.unit.trust.identities import new_key
from tests.unit.verify.tampering import check, fails, first, forge, lines_of, notes, warns

Documents = list[dict[str, Any]]


@pytest.fixture
def vault(tmp_path: Path) -> VaultBuilder:
    return VaultBuilder(tmp_path / "vault")


def rewrite(
    vault: VaultBuilder,
    edit: Callable[[Documents], object],
    signer: RecordSigner | None = BENCH_IDENTITY.record_signer,
) -> None:
    def edited(documents: Documents) -> Documents:
        edit(documents)
        return documents

    forge(vault.layout.journal / "000001.journal", edited, signer)


def test_a_chain_rewritten_without_a_key(vault: VaultBuilder) -> None:
    vault.record()
    rewrite(vault, lambda documents: first(documents, "trigger").update(source="control"), signer=None)
    assert fails(check(vault)) == {Code.SIGNATURE_UNCOVERED}


def test_a_chain_rewritten_with_another_key(vault: VaultBuilder) -> None:
    vault.record()
    rewrite(vault, lambda _: None, signer=make_identity(DEVICE_ID).record_signer)
    assert Code.SIGNATURE_BAD in fails(check(vault))


def another_identity_throughout(vault: VaultBuilder) -> BenchIdentity:
    other = make_identity(DEVICE_ID)
    vault.record()
    rewrite(
        vault,
        lambda documents: documents[0].update(certificate_sha256=other.record_signer.certificate_sha256),
        signer=other.record_signer,
    )
    return other


def test_a_certificate_that_the_vault_does_not_hold(vault: VaultBuilder) -> None:
    another_identity_throughout(vault)
    assert fails(check(vault)) == {Code.CERT_UNKNOWN, Code.SIGNATURE_UNCOVERED}


def test_only_an_own_root_unmasks_another_identity(vault: VaultBuilder) -> None:
    another_identity_throughout(vault).install(vault.layout)
    assert fails(check(vault)) == {Code.CERT_CHAIN}
    alone = verify_path(vault.root)
    assert alone.ok  # all of it is consistent: that is why the report says where the root came from
    assert notes(alone) == {Code.ROOT_FROM_EVIDENCE}
    assert not alone.root_given


def test_without_any_root_the_origin_is_open(vault: VaultBuilder) -> None:
    vault.record()
    vault.shut_down()
    vault.layout.root_certificate.unlink()
    report = verify_path(vault.root)
    assert report.ok
    assert warns(report) == {Code.ROOT_ABSENT}


@pytest.mark.parametrize("data", [None, b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_no_certificate_chain(vault: VaultBuilder, data: bytes | None) -> None:
    vault.record()
    vault.layout.chain.unlink()
    if data is not None:
        vault.layout.chain.write_bytes(data)
    assert Code.CERT_UNKNOWN in fails(check(vault))


def test_a_chain_with_an_intermediate_and_a_second_camera_certificate(tmp_path: Path) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    root_key, key = new_key(), new_key()
    root = make_bench_root(root_key, now)
    old = make_device_certificate(key.public_key(), DEVICE_ID, "1", root_key, root, now)
    new = make_device_certificate(key.public_key(), DEVICE_ID, "1", root_key, root, now)
    signer = SoftwareSigner(key, (old,))
    vault = VaultBuilder(tmp_path / "vault", identity=BenchIdentity(root, signer, CmsRecordSigner(signer)))
    vault.record()
    vault.shut_down()
    signer = SoftwareSigner(key, (new,))
    vault.identity = BenchIdentity(root, signer, CmsRecordSigner(signer))
    vault.signer.__init__(vault.identity)  # type: ignore[misc]
    vault.restart()
    vault.record()
    vault.shut_down()
    vault.layout.chain.write_bytes(pem([new, old]))
    report = verify_path(vault.root, roots=[root])
    assert report.ok
    assert notes(report) == {Code.CERT_CHANGED}
    assert len(report.certificates) == 2
    vault.layout.chain.write_bytes(pem([new]))
    assert Code.CERT_UNKNOWN in fails(verify_path(vault.root, roots=[root]))


def test_a_camera_under_another_name(vault: VaultBuilder) -> None:
    vault.record()
    vault.shut_down()
    rewrite(vault, lambda documents: documents[0].update(device_id="CAM-9999"))
    assert warns(check(vault)) == {Code.CERT_NAME}


@pytest.mark.parametrize(
    ("utc_s", "code", "bad"),
    [(0, Code.TIME_OUTSIDE_CERTIFICATE, False), (4_000_000_000, Code.TIME_OUTSIDE_CERTIFICATE, True)],
)
def test_times_outside_the_certificate(tmp_path: Path, utc_s: int, code: Code, bad: bool) -> None:
    vault = VaultBuilder(tmp_path / "vault", clock=SimulatedClock(utc_ns=utc_s * NS_PER_S + 100 * NS_PER_S))
    vault.record()
    vault.shut_down()
    report = check(vault)
    assert (fails(report) if bad else warns(report)) == {code}


def test_wall_clock_steps_and_undisciplined_clocks_are_notes(vault: VaultBuilder) -> None:
    vault.clock.source = "unsynchronised"
    vault.record(meanwhile=lambda _: vault.clock.step_wall_ns(-3600 * NS_PER_S))
    report = check(vault)
    assert report.ok
    assert notes(report) == {Code.TIME_STEP, Code.TIME_UNSYNCHRONISED}


def drop(documents: Documents, type_: str, nth: int = 0) -> None:
    documents.remove(first(documents, type_, nth))


def close_by(documents: Documents, **changes: int) -> None:
    close = first(documents, "recording-close")
    for name, change in changes.items():
        close[name] += change


def set_(type_: str, nth: int = 0, **values: Any) -> Callable[[Documents], object]:
    return lambda documents: first(documents, type_, nth).update(values)


@pytest.mark.parametrize(
    ("edit", "code"),
    [
        # A checkpoint taken out by whoever holds the key: everything else still has to agree.
        (lambda d: drop(d, "checkpoint", 1), Code.MEDIA_TIME),
        (lambda d: drop(d, "checkpoint", 1), Code.FRAGMENT_COUNT),
        (lambda d: drop(d, "segment"), Code.RECORDING_TOTALS),
        (lambda d: drop(d, "trigger"), Code.RECORD_INVALID),
        (lambda d: drop(d, "recording-open"), Code.RECORD_INVALID),
        (lambda d: close_by(d, frames=1), Code.RECORDING_TOTALS),
        (lambda d: close_by(d, gaps=1), Code.RECORDING_TOTALS),
        (set_("checkpoint", frames=11), Code.FRAGMENT_DISAGREES),
        (set_("checkpoint", first_media_90k=1), Code.FRAGMENT_DISAGREES),
        (set_("checkpoint", audio_frames=1), Code.FRAGMENT_DISAGREES),
        (set_("checkpoint", fragment=7), Code.FRAGMENT_COUNT),
        (set_("checkpoint", 1, first_media_90k=90_001), Code.MEDIA_TIME),
        (set_("segment", fragments=1), Code.FRAGMENT_COUNT),
        (set_("segment", sha256="0" * 64), Code.SEGMENT_HASH),
        (set_("segment", state="missing"), Code.SEGMENT_MISSING),
        (set_("segment", state="lost"), Code.RECORD_INVALID),
        (set_("segment", file="../000001.m4s"), Code.FILE_NAME),
        (set_("checkpoint", file="/etc/passwd"), Code.FILE_NAME),
        (set_("recording-open", init_file="../../device/chain.pem"), Code.FILE_NAME),
        (set_("trigger", recording_id="../.."), Code.FILE_NAME),
        (set_("trigger", recording_id=["x"]), Code.RECORD_INVALID),
        (set_("checkpoint", bytes=-1), Code.RECORD_INVALID),
        (set_("checkpoint", bytes=True), Code.RECORD_INVALID),
        (set_("checkpoint", bytes=10**30), Code.RECORD_INVALID),
        (set_("checkpoint", sha256="x"), Code.RECORD_INVALID),
        (set_("checkpoint", utc="2026-02-31T00:00:00.000000Z"), Code.RECORD_INVALID),
        (set_("journal-open", file="000007.journal"), Code.JOURNAL_FILE_MISSING),
        (set_("journal-open", certificate_sha256=None), Code.RECORD_INVALID),
        (set_("journal-open", torn_exact=0), Code.JOURNAL_LINE_BAD),
        (lambda d: d.append(dict(first(d, "stop"))), Code.RECORD_INVALID),
        (lambda d: d.insert(5, dict(d[0])), Code.JOURNAL_LINE_BAD),
    ],
)
def test_records_that_contradict_each_other(
    vault: VaultBuilder, edit: Callable[[Documents], object], code: Code
) -> None:
    vault.record(4)
    rewrite(vault, edit)
    assert code in fails(check(vault))


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"frames": 11}, Code.FRAGMENT_COUNT),
        ({"fragments": 2}, Code.FRAGMENT_COUNT),
        ({"checkpointed_bytes": 1}, Code.FRAGMENT_COUNT),
        ({"checkpoint_intact": False}, Code.CHECKPOINT_HASH),
    ],
)
def test_records_of_a_recovery_that_contradict_the_files(tmp_path: Path, values: dict[str, Any], code: Code) -> None:
    vault = VaultBuilder(tmp_path / "vault")
    vault.feed(vault.begin(), 4)
    vault.restart()
    path = vault.layout.journal / "000002.journal"
    records = [parse_line(line[:-1]) for line in lines_of(path)]
    prev, out = records[0].prev, []
    for record in records:
        fields = record.fields | {"prev": prev} | (values if record.fields.get("state") == "recovered" else {})
        data = json.dumps(fields, separators=(",", ":")).encode()
        prev = sha256_hex(data)
        out.append(Record(data, BENCH_IDENTITY.record_signer.sign_record(data), {}).line())
    path.write_bytes(b"".join(out))
    assert code in fails(check(vault))


def test_the_boot_clock_does_not_go_back(vault: VaultBuilder) -> None:
    vault.record()
    rewrite(vault, set_("stop", boottime_ns=1))
    assert Code.TIME_BACKWARDS in warns(check(vault))


def test_records_of_a_newer_camera_are_no_fault(vault: VaultBuilder) -> None:
    vault.journal.append("tomorrow", what="knows")
    vault.journal.append("records-lost", records=3)
    vault.record()
    vault.shut_down()
    report = check(vault)
    assert report.ok
    assert notes(report) == {Code.RECORD_TYPE_UNKNOWN}
    assert warns(report) == {Code.RECORDS_LOST}


def test_a_short_pre_event_is_told(vault: VaultBuilder) -> None:
    vault.record()
    vault.shut_down()
    rewrite(vault, set_("recording-open", actual_pre_event_ms=10, pre_event_short_reason="camera-started"))
    assert notes(check(vault)) == {Code.PRE_EVENT_SHORT}
    rewrite(vault, set_("recording-open", pre_event_short_reason=None))
    # Who rewrites the journal has to think of what is derived from it as well.
    assert warns(check(vault)) == {Code.PRE_EVENT_SHORT, Code.RECORDING_JSON_DIFFERS}


VERSION_3 = b"\xa0\x03\x02\x01\x02"  # of a certificate, RFC 5280 section 4.1


def armoured(der: bytes) -> bytes:
    return b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(der) + b"-----END CERTIFICATE-----\n"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (VERSION_3, b"\xa0\x03\x02\x01\x75"),  # a version that does not exist
        (b"\x06\x03\x55\x04\x03", b"\x06\x03\x55\x84\x03"),  # a name's type that is no OID
    ],
)
def test_certificates_that_no_library_takes(vault: VaultBuilder, old: bytes, new: bytes) -> None:
    vault.record()
    vault.shut_down()
    leaf = vault.identity.signer.certificate.public_bytes(serialization.Encoding.DER)
    assert old in leaf
    hurt = armoured(leaf.replace(old, new, 1))
    vault.layout.chain.write_bytes(armoured(leaf) + hurt)
    assert {finding.code for finding in check(vault).findings} <= {Code.CERT_UNKNOWN, Code.SIGNATURE_UNCOVERED}
    vault.layout.chain.write_bytes(hurt)
    vault.layout.root_certificate.write_bytes(hurt)
    assert Code.CERT_UNKNOWN in fails(check(vault))
    assert not verify_path(vault.root).ok
