"""The part of the examiner's page on timestamps, run as printed."""

from __future__ import annotations

import re
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest

from agent.clock import NS_PER_S, SimulatedClock
from agent.vault.record import parse_line
from tests.support.stamping import stamp
from tests.support.time_authority import NOW, TimeAuthority, time_authority
from tests.support.vault_builder import VaultBuilder
from tests.unit.trust.test_examiner_page import PAGE, script
from tests.unit.verify.tampering import lines_of

OLD = NOW.replace(microsecond=0)


@pytest.fixture
def vault(tmp_path: Path) -> VaultBuilder:
    return VaultBuilder(tmp_path / "vault", clock=SimulatedClock(utc_ns=int(OLD.timestamp()) * NS_PER_S))


def check(vault: VaultBuilder, authority: TimeAuthority | None = None) -> tuple[int, list[str]]:
    """Runs on the records.json that check-journal.sh leaves, made here without its seconds of checking.

    As the page says, from inside the folder of evidence, with everything else beside it.
    """
    beside = vault.root.parent
    (beside / "check-time.sh").write_text(script("check-time.sh"), encoding="utf-8")
    lines = lines_of(vault.layout.journal / "000001.journal")
    (beside / "records.json").write_bytes(b"".join(line.partition(b"\t")[0] + b"\n" for line in lines))
    (beside / "tsa.pem").write_bytes((authority or time_authority()).root_pem.read_bytes())
    command = ["sh", "../check-time.sh", "../tsa.pem", "../records.json"]
    done = subprocess.run(command, cwd=vault.root, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout.splitlines()


def bounds(vault: VaultBuilder, recording_id: str) -> list[str]:
    page = PAGE.read_text(encoding="utf-8")
    (block,) = re.findall(r"^```sh\n(jq -r --slurp .*?)^```$", page, re.MULTILINE | re.DOTALL)
    command = ["sh", "-e", "-c", block.replace("RECORDING-ID", recording_id)]
    return subprocess.run(command, cwd=vault.root, capture_output=True, text=True, check=True).stdout.splitlines()


def test_a_recording_between_two_timestamps(vault: VaultBuilder) -> None:
    stamp(vault)
    recording_id = vault.record(2)
    stamp(vault)
    status, said = check(vault)
    assert status == 0
    assert [line[:22] for line in said] == ["OK: records up to 2 ex", "OK: records up to 10 e"]
    assert f"{OLD:%Y} GMT" in said[0]
    stamps = [
        record.fields["gen_time"]
        for record in map(parse_line, (vault.layout.journal / "000001.journal").read_bytes().splitlines())
        if record.type == "timestamp"
    ]
    assert bounds(vault, recording_id) == [f"written not before {stamps[0]}", f"existed by {stamps[1]}"]


def test_bounds_that_are_not_there_are_unknown(vault: VaultBuilder) -> None:
    recording_id = vault.record(2, meanwhile=lambda _: stamp(vault))
    assert check(vault)[0] == 0
    assert bounds(vault, recording_id) == ["written not before unknown", "existed by unknown"]


def test_no_timestamps_at_all(vault: VaultBuilder) -> None:
    assert check(vault) == (1, ["NOT OK: there are no timestamps"])


def test_a_wrong_authority_and_one_that_had_expired(vault: VaultBuilder) -> None:
    stamp(vault)
    old = time_authority("Old TSA", expired=True)
    stamp(vault, old)
    status, said = check(vault)
    assert (status, said[1]) == (1, "NOT OK: the timestamp in record 4")
    status, said = check(vault, old)
    assert (status, said) == (1, ["NOT OK: the timestamp in record 3", "NOT OK: the timestamp in record 4"])


def test_a_certificate_that_expired_since_is_no_matter(vault: VaultBuilder) -> None:
    old = time_authority("Old TSA", expired=True)
    stamp(vault, old, moment=old.certificate.not_valid_after_utc - timedelta(seconds=1))
    assert check(vault, old)[0] == 0


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"version":"0"', b'"version":"1"'),
        (b'"head_seq":2', b'"head_seq":1'),
        (b'"head_seq":2', b'"head_seq":"a[$(touch pwned)]"'),
    ],
)
def test_a_change_under_the_timestamp_is_found(vault: VaultBuilder, old: bytes, new: bytes) -> None:
    stamp(vault)
    path = vault.layout.journal / "000001.journal"
    path.write_bytes(path.read_bytes().replace(old, new))
    assert check(vault)[0] == 1
    assert not (vault.root / "pwned").exists()
