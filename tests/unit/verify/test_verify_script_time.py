"""verify.sh judges timestamps as `bodycam verify` does: the same bounds, the same findings, the same verdicts."""

from __future__ import annotations

import base64
import re
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from agent.clock import NS_PER_S, SimulatedClock
from agent.trust.certificates import pem
from agent.trust.timestamps import make_request
from agent.vault.record import parse_line
from agent.verify import finding
from agent.verify.interval import utc_json, utc_ns
from agent.verify.kit_files import verify_script
from agent.verify.report import Report
from agent.verify.verify import verify_path
from tests.support.identity import BENCH_IDENTITY, make_identity
from tests.support.packages import offloaded, renew_sums
from tests.support.stamping import at, stamp
from tests.support.time_authority import NOW, TimeAuthority, good_to, time_authority
from tests.support.vault_builder import VaultBuilder
from tests.unit.verify.tampering import fails, first, forge, lines_of, notes, warns
from tests.unit.verify.test_verify_script import AVAILABLE, ONLY_PYTHON, Said, journal, run
from tests.unit.verify.test_verify_script_newer import rotate

START = NOW.replace(microsecond=0)
MINUTE_NS = 60 * NS_PER_S
Documents = list[dict[str, Any]]


@pytest.fixture
def vault(tmp_path: Path) -> VaultBuilder:
    return VaultBuilder(tmp_path / "vault", clock=SimulatedClock(utc_ns=int(START.timestamp()) * NS_PER_S))


def packed(vault: VaultBuilder, recording_id: str) -> Path:
    return offloaded(vault, vault.root.parent)[recording_id]


def both(
    package: Path, *tsa_roots: x509.Certificate, shell: list[str] | None = None, given: bool = True
) -> tuple[Said, Report]:
    """What both say, once it is the same: findings, verdicts and bounds. given: the authority's root is."""
    known = tsa_roots or (time_authority().root,)
    (package.parents[2] / "tsa.pem").write_bytes(pem(list(known)))
    report = verify_path(package, roots=[BENCH_IDENTITY.root], tsa_roots=known if given else None)
    said = run(package, tsa="../../../tsa.pem" if given else "-", shell=shell)
    only_python = {code.value for code in ONLY_PYTHON}
    for severity, found in (("fail", fails(report)), ("warn", warns(report)), ("note", notes(report))):
        assert said.codes(severity) == {code.value for code in found} - only_python, (said.text, report.findings)
    (recording,) = report.recordings
    assert said.verdicts() == {v.aspect.value: v.standing.value for v in recording.aspects}, (said.text, recording)
    for label, bound in (
        ("written not before", recording.time.not_before_ns if recording.time else None),
        ("existed by        ", recording.time.existed_by_ns if recording.time else None),
    ):
        shown = re.search(rf"^.{{14}}{label} (\S+)", said.text, re.MULTILINE)
        stamped = any(b'"type":"timestamp"' in path.read_bytes() for path in (package / "journal").iterdir())
        assert (shown[1] if shown else None) == ((utc_json(bound) or "unknown") if stamped else None)
    return said, report


@pytest.mark.parametrize("shell", AVAILABLE)
def test_a_recording_between_two_timestamps_is_bounded_in_every_shell(vault: VaultBuilder, shell: list[str]) -> None:
    stamp(vault)
    vault.clock.advance_ns(60 * MINUTE_NS)
    recording_id = vault.record(1)
    vault.clock.advance_ns(120 * MINUTE_NS)
    desk_time = at(vault.clock)
    stamp(vault, off_s=0.25)
    package = packed(vault, recording_id)
    said, report = both(package, shell=shell)
    assert said.verdicts() == dict.fromkeys(("integrity", "origin", "time", "completeness"), "holds")
    assert report.recordings[0].time is not None
    existed_by = utc_json(report.recordings[0].time.existed_by_ns)
    assert (
        f"TIME          holds    Timestamps prove that its records were written not before {START:%Y-%m-%dT%H:%M:%S}"
        in said.text
    )
    assert re.search(
        rf" and existed by {existed_by}; its first \d+\.\d s were captured before the button was pressed \(pre-event\)"
        r", by the camera's own account\.",
        said.text,
    )
    assert utc_ns(desk_time) <= (report.recordings[0].time.existed_by_ns or 0) < utc_ns(desk_time) + 2 * NS_PER_S

    unchecked, _ = both(package, shell=shell, given=False)
    assert unchecked.codes("note") == {"EXTRACT", "TIMESTAMP_UNCHECKED"}
    assert unchecked.verdicts()["time"] == "open"
    assert run(package, shell=shell).text == unchecked.text  # "-" is as nothing


def test_on_one_side_only_it_is_limited(vault: VaultBuilder) -> None:
    recording_id = vault.record(1)
    stamp(vault, moment=START + timedelta(seconds=30))
    package = packed(vault, recording_id)
    said, _ = both(package)
    assert said.codes("warn") == {"TIMESTAMP_ABSENT"}
    assert said.verdicts()["time"] == "limited"
    said, _ = both(package, given=False)
    assert said.codes("note") == {"TIMESTAMP_ABSENT", "TIMESTAMP_UNCHECKED", "EXTRACT"}
    assert said.verdicts()["time"] == "open"


def test_without_any_it_is_only_said_to_whoever_asks(vault: VaultBuilder) -> None:
    package = packed(vault, vault.record(1))
    said, _ = both(package, given=False)
    assert said.codes("note") == {"EXTRACT"}
    assert said.verdicts()["time"] == "open"
    said, _ = both(package)
    assert said.codes("warn") == {"TIMESTAMP_ABSENT"}


def test_one_within_the_recording_bounds_neither_end(vault: VaultBuilder) -> None:
    recording_id = vault.record(2, meanwhile=lambda _: stamp(vault))
    said, _ = both(packed(vault, recording_id))
    assert said.codes("warn") == {"TIMESTAMP_ABSENT"}
    assert "no timestamp before it says when it cannot have been written yet, and no timestamp after" in said.text


def test_an_extract_that_reaches_over_other_runs_keys_and_recordings(vault: VaultBuilder) -> None:
    """Only what touches the recording makes less of its verdicts: not the authority that somebody put into the dock's
    network before and after, nor a boot clock that went back in another run.
    """
    successor = make_identity()
    stamp(vault)
    vault.record(1)
    stamp(vault, time_authority("Other TSA"))
    vault.journal.append("records-lost", records=3)
    rotate(vault, successor)
    vault.restart()
    vault.signer.busy = True
    recording_id = vault.record(1)
    vault.signer.busy = False
    vault.shut_down()
    vault.restart()
    vault.record(1)
    stamp(vault, time_authority("Other TSA"))
    stamp(vault)
    package = packed(vault, recording_id)
    (package.parents[2] / "root.pem").write_bytes(pem([BENCH_IDENTITY.root, successor.root]))
    report = verify_path(package, roots=[BENCH_IDENTITY.root, successor.root], tsa_roots=[time_authority().root])
    (package.parents[2] / "tsa.pem").write_bytes(pem([time_authority().root]))
    said = run(package, tsa="../../../tsa.pem")
    assert said.codes("fail") == set() == fails(report)
    assert said.codes("warn") == {code.value for code in warns(report)}
    assert said.verdicts() == {v.aspect.value: v.standing.value for v in report.recordings[0].aspects}
    assert said.verdicts()["completeness"] == "holds"


def test_a_timestamp_that_was_asked_for_before_the_end_does_not_cover_it(vault: VaultBuilder) -> None:
    stamp(vault)
    running = vault.begin()
    vault.feed(running, 1)
    vault.stop(running)
    stamp(vault)
    package = packed(vault, running.recording_id)

    def earlier_head(documents: Documents) -> None:
        """The request left before the recording was closed; its answer came after."""
        last = documents[-1]
        head = first(documents, "trigger")
        sha256, response = token_over(package, head, START + timedelta(seconds=1))
        last.update(
            head_seq=head["seq"], head_sha256=sha256, gen_time=f"{START + timedelta(seconds=1):%Y-%m-%dT%H:%M:%SZ}",
            response=base64.b64encode(response).decode(),
        )  # fmt: skip

    rewrite(package, earlier_head)
    said, _ = both(package)
    assert said.codes("warn") == {"TIMESTAMP_ABSENT"}


@pytest.mark.parametrize(
    ("off_s", "uncertainty_ms", "found"),
    [(-60, 10, True), (-60, 70_000, False), (-60, 10**17, False), (-60, None, True), (-0.5, 10, False)],
)
def test_a_claim_after_the_fact(vault: VaultBuilder, off_s: float, uncertainty_ms: int | None, found: bool) -> None:
    stamp(vault, off_s=-3600)
    vault.clock.uncertainty_ms = uncertainty_ms
    recording_id = vault.record(1)
    vault.restart()
    vault.clock.step_wall_ns(-MINUTE_NS)
    stamp(vault, off_s=off_s)
    said, _ = both(packed(vault, recording_id))
    assert ("TIME_OUTSIDE_TIMESTAMPS" in said.codes("warn")) is found
    assert not found or "the recording existed by " in said.text


def test_a_camera_without_a_clock_is_told_the_time_by_its_timestamps(vault: VaultBuilder) -> None:
    vault.clock.source, vault.clock.uncertainty_ms = "unsynchronised", None
    away_s = 40 * 86400
    vault.clock.step_wall_ns(-away_s * NS_PER_S)
    stamp(vault, off_s=away_s)
    recording_id = vault.record(1)
    stamp(vault, off_s=away_s)
    said, _ = both(packed(vault, recording_id))
    assert said.codes("warn") == {"TIME_OUTSIDE_TIMESTAMPS"}
    assert re.search(r"\(unsynchronised\) was off by -345(5999|6000)\.\d s or more", said.text)
    assert said.verdicts()["time"] == "limited"


@pytest.mark.parametrize(
    ("drift_s", "found"),
    [(0, set()), (3, set()), (12, {"TIME_RATE"}), (-12, {"TIME_RATE"}), (-7200, {"TIMESTAMP_ORDER"})],
)
def test_two_timestamps_against_each_other(vault: VaultBuilder, drift_s: int, found: set[str]) -> None:
    stamp(vault)
    vault.clock.advance_ns(60 * MINUTE_NS)
    vault.clock.uncertainty_ms = 10**7
    stamp(vault, off_s=drift_s)
    recording_id = vault.record(1)
    stamp(vault, off_s=drift_s)
    said, _ = both(packed(vault, recording_id))
    assert said.codes("warn") == found
    moved = re.search(r"came apart by ([-+]\d+\.\d) s", said.text)
    assert ("TIME_RATE" in found) == (moved is not None)
    assert moved is None or abs(float(moved[1]) - drift_s) <= 1  # tokens give whole seconds


@pytest.mark.parametrize(
    ("name", "expired", "trusted", "code"),
    [("Test TSA", False, "Other TSA", "TIMESTAMP_UNTRUSTED"), ("Old TSA", True, "Old TSA", "TIMESTAMP_EXPIRED")],
)
def test_what_the_examiner_cannot_believe_bounds_nothing(
    vault: VaultBuilder, name: str, expired: bool, trusted: str, code: str
) -> None:
    known, good = time_authority(trusted, expired=expired), time_authority("Good TSA")
    stamp(vault, good)
    recording_id = vault.record(1)
    stamp(vault, time_authority(name, expired=expired))
    package = packed(vault, recording_id)
    said, _ = both(package, known.root, good.root)
    assert (said.codes("fail"), said.codes("warn")) == (set(), {code, "TIMESTAMP_ABSENT"})
    assert said.verdicts()["time"] == "limited"


def test_what_is_no_root_in_the_examiners_file_helps_to_lead_to_one(vault: VaultBuilder) -> None:
    """The tokens hold no certificate but the signer's."""
    authority = time_authority("Good TSA", intermediate=True)
    stamp(vault, authority)
    package = packed(vault, vault.record(1))
    chain = x509.load_pem_x509_certificates((authority.folder / "chain.pem").read_bytes())
    root, middle = chain
    assert both(package, middle, root)[0].codes("warn") == {"TIMESTAMP_ABSENT"}
    assert "TIMESTAMP_UNTRUSTED" in both(package, root)[0].codes("warn")
    assert "TIMESTAMP_UNTRUSTED" in both(package, middle)[0].codes("warn")


def test_an_authority_whose_certificate_expired_since_and_a_namesake_of_its_root(vault: VaultBuilder) -> None:
    old = time_authority("Old TSA", expired=True)
    namesakes = [time_authority.__wrapped__("Old TSA").root for _ in range(2)]
    vault.clock.step_wall_ns(-5 * 86400 * NS_PER_S)
    stamp(vault, old)
    recording_id = vault.record(1)
    stamp(vault, old)
    package = packed(vault, recording_id)
    said, _ = both(package, *namesakes, old.root)
    assert said.verdicts()["time"] == "holds"
    said, _ = both(package, *namesakes)
    assert "TIMESTAMP_UNTRUSTED" in said.codes("warn")


def token_over(
    package: Path, head: dict[str, Any], moment: datetime, authority: TimeAuthority | None = None, accuracy: bytes = b""
) -> tuple[str, bytes]:
    """A hash of a record of the package, and a response over it."""
    (data,) = [
        record.json_bytes
        for record in (parse_line(line[:-1]) for line in lines_of(journal(package)))
        if record.fields["seq"] == head["seq"]
    ]
    request = make_request(data)
    return request.imprint_sha256, (authority or time_authority()).at(moment, accuracy=accuracy)(request.der)


def rewrite(package: Path, edit: Callable[[Documents], object]) -> None:
    """What whoever holds the camera's key can do; the hashes of records before the first change stay."""

    def edited(documents: Documents) -> Documents:
        edit(documents)
        return documents

    forge(journal(package), edited, BENCH_IDENTITY.record_signer)
    renew_sums(package)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"head_seq": -1}, "RECORD_INVALID"),
        ({"head_seq": "7"}, "RECORD_INVALID"),
        ({"head_sha256": "x"}, "RECORD_INVALID"),
        ({"head_sha256": "0" * 64}, "TIMESTAMP_REPLAYED"),
        ({"head_seq": 1}, "TIMESTAMP_REPLAYED"),
        ({"requested_boottime_ns": 1 << 62}, "RECORD_INVALID"),
        ({"requested_boottime_ns": -1}, "RECORD_INVALID"),
        ({"gen_time": "2020-01-01T00:00:00Z"}, "RECORD_INVALID"),
        ({"gen_time": "$(touch pwned)"}, "RECORD_INVALID"),
        ({"response": 5}, "RECORD_INVALID"),
        ({"clock_uncertainty_ms": 5}, None),
    ],
)
def test_fields_that_cannot_be(vault: VaultBuilder, change: dict[str, Any], code: str | None) -> None:
    recording_id = vault.record(1)
    stamp(vault)
    package = packed(vault, recording_id)
    rewrite(package, lambda documents: documents[-1].update(change))
    said, _ = both(package)
    assert said.codes("fail") == (set() if code is None else {code})
    assert list(package.parents[2].rglob("pwned")) == []


class Zoo:
    """Responses of every kind, each in a timestamp record of its own behind a recording."""

    def __init__(self, package: Path) -> None:
        self._package = package
        self._head: dict[str, Any] = parse_line(lines_of(journal(package))[-1][:-1]).fields
        self._responses: list[tuple[str, str]] = []

    def add(self, response: bytes | str, gen_time: datetime = START) -> None:
        text = response if isinstance(response, str) else base64.b64encode(response).decode()
        self._responses.append((text, f"{gen_time:%Y-%m-%dT%H:%M:%SZ}"))

    def token(self, moment: datetime = START, accuracy: bytes = b"", authority: TimeAuthority | None = None) -> bytes:
        return token_over(self._package, self._head, moment, authority, accuracy)[1]

    def write(self) -> None:
        sha256 = token_over(self._package, self._head, START)[0]

        def append(documents: Documents) -> None:
            for response, gen_time in self._responses:
                documents.append(
                    self._head
                    | {"type": "timestamp", "head_seq": self._head["seq"], "head_sha256": sha256, "gen_time": gen_time}
                    | {"requested_boottime_ns": self._head["boottime_ns"], "authority": "?", "response": response}
                )
                documents[-1] = {key: value for key, value in documents[-1].items() if key in STAMPED}

        rewrite(self._package, append)

    def number_of(self, seq: int) -> int:
        """Of a response, by its record."""
        return seq - int(self._head["seq"]) - 1


STAMPED = [
    "v", "seq", "prev", "type", "utc", "boottime_ns", "boot_id", "clock_source", "clock_uncertainty_ms", "head_seq",
    "head_sha256", "requested_boottime_ns", "gen_time", "authority", "response",
]  # fmt: skip


KINDS_OF_DOUBT = ("BAD", "UNTRUSTED", "EXPIRED", "REPLAYED")


def test_responses_of_every_kind_are_judged_alike(vault: VaultBuilder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finding, "MAX_SAME_FINDINGS", 99)
    package = packed(vault, vault.record(1))
    zoo = Zoo(package)
    good = zoo.token()
    text = base64.b64encode(good).decode()
    sha256 = bytes.fromhex("0609608648016503040201")
    for moment in (
        START,
        datetime(2000, 2, 29, 23, 59, 59, tzinfo=UTC),
        datetime(9998, 12, 31, 23, 59, 59, tzinfo=UTC),
    ):
        zoo.add(zoo.token(moment), moment)
    zoo.add(zoo.token(accuracy=good_to(1, 500)))
    zoo.add(zoo.token(accuracy=good_to(86400)))
    zoo.add(zoo.token(accuracy=good_to(None, None, 7)))
    for hostile in (
        zoo.token(accuracy=good_to(86401)), zoo.token(accuracy=good_to(10**11)), zoo.token(accuracy=good_to(2**63)),
        zoo.token(datetime(1999, 12, 31, tzinfo=UTC)), zoo.token(datetime(9999, 12, 31, tzinfo=UTC)),
        good + b"\0", good[:-1], good.replace(sha256, sha256[:-1] + b"\x02", 2), b"0" * 65_537, b"",
        time_authority("Refusing TSA", digests="sha512")(make_request(b"x").der),
    ):  # fmt: skip
        zoo.add(hostile)
    for spoilt in ("AAAA", "no base64", "ä", "-", "`touch pwned`", text[:-1], text + "="):
        zoo.add(spoilt)
    for offset in (-5, 300):  # in the signature, in a certificate
        altered = bytearray(good)
        altered[offset] ^= 1
        zoo.add(bytes(altered))
    zoo.add(zoo.token(authority=time_authority("Other TSA")))
    zoo.add(zoo.token(authority=time_authority("Old TSA", expired=True)))
    zoo.add(time_authority().at(START)(make_request(b"another log").der))
    zoo.write()
    roots = [time_authority().root, time_authority("Old TSA", expired=True).root]
    report = verify_path(package, roots=[BENCH_IDENTITY.root], tsa_roots=roots)
    python = {
        zoo.number_of(found.at + 1): (found.severity.value, found.code.value)
        for found in report.findings
        if found.at is not None and found.code.startswith("TIMESTAMP_")
    }
    (package.parents[2] / "tsa.pem").write_bytes(pem(roots))
    script = package.parents[2] / "all.sh"
    script.write_bytes(verify_script().replace(b"\nMAX_SAME=10 ", b"\nMAX_SAME=99 "))
    done = subprocess.run(
        ["sh", str(script), "../../../root.pem", ".", "../../../tsa.pem"], cwd=package, capture_output=True, text=True,
        check=False, timeout=100,
    )  # fmt: skip
    assert done.stderr == ""
    said = re.findall(r"^(fail|warn) (TIMESTAMP_[A-Z]+)  The timestamp in record (\d+)", done.stdout, re.MULTILINE)
    assert {zoo.number_of(int(seq)): (severity, code) for severity, code, seq in said} == python
    assert {code for _, code in python.values()} == {f"TIMESTAMP_{kind}" for kind in KINDS_OF_DOUBT}
    assert set(range(6)).isdisjoint({number for number, (severity, _) in python.items() if severity == "fail"})
    assert all(python[number] == ("fail", "TIMESTAMP_BAD") for number in range(6, 24)), python
    assert list(package.parents[2].rglob("pwned")) == []


@pytest.mark.parametrize("between", [0, 1])
def test_the_same_timestamp_twice(vault: VaultBuilder, between: int) -> None:
    recording_id = vault.record(1)
    stamp(vault)
    package = packed(vault, recording_id)

    def again(documents: Documents) -> None:
        token = documents[-1]
        documents += [
            {k: v for k, v in token.items() if k in STAMPED[:9]} | {"type": "shutdown", "reason": "x"}
        ] * between
        documents.append(dict(token))

    rewrite(package, again)
    said, _ = both(package)
    assert said.codes("fail") == {"TIMESTAMP_REPLAYED"}


def test_a_log_rewritten_under_its_timestamps(vault: VaultBuilder) -> None:
    """The camera's own key signs anything; it cannot stamp it in the past."""
    stamp(vault)
    recording_id = vault.record(1)
    stamp(vault)
    package = packed(vault, recording_id)
    rewrite(package, lambda documents: first(documents, "boot").update(version="1"))
    said, _ = both(package)
    assert said.codes("fail") == {"TIMESTAMP_REPLAYED"}


def test_across_a_broken_chain_timestamps_bound_nothing(vault: VaultBuilder) -> None:
    stamp(vault)
    recording_id = vault.record(1)
    vault.journal.append("fault", component="storage", message="x")
    vault.journal.append("fault-cleared", component="storage", message="x")
    vault.journal.commit()
    stamp(vault)
    package = packed(vault, recording_id)
    path = journal(package)
    path.write_bytes(b"".join(line for line in lines_of(path) if b'"type":"fault",' not in line))
    renew_sums(package)
    said, report = both(package)
    assert "JOURNAL_SEQ" in said.codes("fail")
    assert report.recordings[0].time is not None
    assert report.recordings[0].time.after is None


def test_what_the_computer_trusts_for_other_purposes_does_not_count(vault: VaultBuilder, tmp_path: Path) -> None:
    stamp(vault)
    package = packed(vault, vault.record(1))
    store = tmp_path / "store-of-roots"
    store.mkdir()
    (store / "root.pem").write_bytes(time_authority().root_pem.read_bytes())
    subprocess.run(["openssl", "rehash", str(store)], check=True, capture_output=True)
    (tmp_path / "tsa.pem").write_bytes(pem([time_authority("Other TSA").root]))
    everything = {"SSL_CERT_DIR": str(store), "SSL_CERT_FILE": str(store / "root.pem"), "OPENSSL_CONF": "/absent.cnf"}
    said = run(package, tsa="../../../tsa.pem", environment=everything)
    assert "TIMESTAMP_UNTRUSTED" in said.codes("warn")
    (tmp_path / "tsa.pem").write_bytes(pem([time_authority().root]))
    assert run(package, tsa="../../../tsa.pem", environment=everything).codes("warn") == {"TIMESTAMP_ABSENT"}


@pytest.mark.parametrize("shell", AVAILABLE)
def test_its_calendar_is_that_of_everybody(shell: list[str]) -> None:
    text = verify_script().decode()
    calendar = text[text.index("# --- Times") : text.index("# --- The package's files")]
    moments = [
        datetime(year, 2, 28, 23, 59, 59, tzinfo=UTC) + timedelta(seconds=s) for year in YEARS for s in (0, 1, 86401)
    ]
    moments += [datetime(year, month, 9, 8, 9, 8, tzinfo=UTC) for year in YEARS for month in range(1, 13)]
    moments += [datetime(year, 12, 31, 23, 59, 59, tzinfo=UTC) for year in YEARS]
    script = calendar + "".join(
        f'as_epoch {moment:%Y%m%d%H%M%S}; as_date "$epoch"; echo "$epoch $date"\n' for moment in moments
    )
    done = subprocess.run([*shell, "-u"], input=script, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"{moment.timestamp():.0f} {moment:%Y-%m-%dT%H:%M:%S}" for moment in moments]


YEARS = (1970, 1971, 1972, 1999, 2000, 2001, 2026, 2028, 2038, 2100, 2400, 9998)
