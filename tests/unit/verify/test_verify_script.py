"""verify.sh against `bodycam verify`: sound packages pass both; what is wrong has the same code in both; nothing in a
hostile package is run or written."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from agent.trust.certificates import fingerprint_hex, make_device_certificate, pem
from agent.trust.records import CmsRecordSigner
from agent.trust.software import SoftwareSigner
from agent.vault.layout import kept_chain_name
from agent.vault.record import parse_line
from agent.verify.finding import Code
from agent.verify.kit_files import verify_script
from tests.support.identity import BENCH_IDENTITY, make_identity
from tests.support.packages import offloaded, renew_sums
from tests.support.vault_builder import VaultBuilder
from tests.unit.trust.identities import NOW, new_key
from tests.unit.verify.tampering import check, edit_lines, fails, first, flip, forge, index_of, notes, unsigned, warns

SHELLS = {"dash": ["dash"], "bash": ["bash", "--posix"], "busybox": ["busybox", "sh"]}
AVAILABLE = [
    pytest.param(command, id=name, marks=pytest.mark.skipif(not shutil.which(command[0]), reason=f"no {name} here"))
    for name, command in SHELLS.items()
]
FINDING = re.compile(r"^(fail|warn|note) ([A-Z_]+)  (.+)$", re.MULTILINE)
# What takes a reader of MP4 or H.264, a key, or the project's own copy of the script, to see.
ONLY_PYTHON = {
    Code.FRAGMENT_DISAGREES, Code.PACKAGE_KIT, Code.TIME_STEP, Code.RECORDING_JSON_DIFFERS, Code.IDENTITY,
    Code.SUPPORT_DIFFERS, Code.PLAIN_HASH, Code.SEALED, Code.VIDEO_SIGNED, Code.VIDEO_GOP, Code.VIDEO_KEY,
    Code.VIDEO_UNSIGNED,
}  # fmt: skip


KINDS = ("plain", "long", "gap", "torn", "recovered", "pending", "nothing in the first segment")


@dataclass(frozen=True)
class Said:
    """What verify.sh said, and how it ended."""

    status: int
    text: str

    def codes(self, severity: str) -> set[str]:
        return {code for found, code, _ in FINDING.findall(self.text) if found == severity}

    def verdicts(self) -> dict[str, str]:
        lines = re.findall(r"^(INTEGRITY|ORIGIN|TIME|COMPLETENESS) +(\w+) +(.+)$", self.text, re.MULTILINE)
        return {aspect.lower(): standing for aspect, standing, _ in lines}


def run(
    package: Path,
    root: str = "../../../root.pem",
    shell: list[str] | None = None,
    environment: dict[str, str] | None = None,
    tsa: str | None = None,
) -> Said:
    script = package.parents[2] / "verify.sh"  # the examiner's, not the package's
    script.write_bytes(verify_script())
    scratch = package.parents[2] / "scratch"
    scratch.mkdir(exist_ok=True)
    arguments = [str(script), root, ".", *([] if tsa is None else [tsa])]
    done = subprocess.run(
        [*(shell or ["sh"]), *arguments], cwd=package, capture_output=True, text=True, check=False, timeout=100,
        env={**os.environ, "TMPDIR": str(scratch), **(environment or {})},
    )  # fmt: skip
    assert done.stderr == "", done.stderr
    assert list(scratch.iterdir()) == []  # it takes its temporary files away
    said = Said(done.returncode, done.stdout)
    assert (said.status == 0) == (said.codes("fail") == set()) == ("RESULT: nothing refutes" in said.text), said.text
    return said


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Packages of every kind: an ordinary one, one over several journal files, torn, recovered, pending, with a gap."""
    folder = tmp_path_factory.mktemp("kit")
    vault = VaultBuilder(folder / "simple" / "vault")
    plain = vault.record(3, sound=True, meanwhile=vault.mark)
    vault.record(2)
    plain_package = offloaded(vault, folder / "simple")[plain]
    vault = VaultBuilder(folder / "vault", rotate_bytes=7000)
    kinds = {"long": vault.record(5)}
    running = vault.begin(max_bytes=60_000, pad_bytes=20_000)
    vault.feed(running, 1)
    vault.push(running, 6)
    vault.work()
    kinds["gap"] = vault.stop(running)
    running = vault.begin()
    vault.feed(running, 2)
    vault.filesystem.fail_next_sync_of = ".m4s"
    vault.feed(running, 1)
    vault.retry()
    kinds["torn"] = vault.stop(running)
    running = vault.begin()
    vault.feed(running, 4)
    segment = vault.layout.recording(running.recording_id) / "000002.m4s"
    segment.write_bytes(segment.read_bytes() + b"\0\0\0\x10torn")
    kinds["recovered"] = running.recording_id
    with max(vault.layout.journal.iterdir()).open("ab") as file:
        file.write(b'{"v":1,"seq":')
    vault.restart()
    vault.begin()
    vault.journal.commit()
    vault.restart()
    vault.signer.busy = True
    kinds["pending"] = vault.record(2)
    vault.signer.busy = False
    vault.shut_down()
    vault.restart()
    running = vault.begin()
    vault.filesystem.fail_next_sync_of = "000001.m4s"
    vault.feed(running, 2)
    vault.retry()
    kinds["nothing in the first segment"] = vault.stop(running)
    packages = offloaded(vault, folder)
    assert len(list((packages[kinds["long"]] / "journal").iterdir())) > 1
    return {"plain": plain_package} | {kind: packages[recording_id] for kind, recording_id in kinds.items()}


@pytest.mark.parametrize("shell", AVAILABLE)
@pytest.mark.parametrize(
    "kind", ["plain", "long", "gap", "torn", "recovered", "pending", "nothing in the first segment"]
)
def test_sound_packages_pass_and_both_checks_say_the_same(made: dict[str, Path], kind: str, shell: list[str]) -> None:
    if shell != ["dash"] and kind not in ("plain", "recovered"):
        pytest.skip("the other shells are tried with two kinds")
    said = run(made[kind], shell=shell)
    report = check(made[kind])
    assert report.ok
    assert said.status == 0
    assert said.codes("warn") == {code.value for code in warns(report)}
    assert said.codes("note") == {code.value for code in notes(report) - ONLY_PYTHON}
    limited = kind in ("gap", "recovered")
    assert said.verdicts() == {
        "integrity": "holds", "origin": "holds", "time": "open", "completeness": "limited" if limited else "holds",
    }  # fmt: skip


def test_the_script_in_the_package_is_the_one_that_the_project_ships(made: dict[str, Path]) -> None:
    assert (made["plain"] / "verify.sh").read_bytes() == verify_script()
    page = (Path(__file__).parents[3] / "docs" / "examiner.md").read_text()
    assert hashlib.sha256(verify_script()).hexdigest() in page


def test_codes_and_aspects_are_those_of_the_verifier() -> None:
    text = verify_script().decode("ascii")
    said = r"\b(?:fail|warn|note|occurs|fail_of \S+|found \S+) ([A-Z_]{3,})\b"
    used = set(re.findall(said, text)) | {"INIT_HASH", "SEGMENT_HASH", "SEGMENT_SIZE"}
    assert used <= {code.value for code in Code}
    assert {code.value for code in Code} - used <= {code.value for code in ONLY_PYTHON} | {
        # of vaults only
        "RUN_NOT_ENDED", "JOURNAL_UNFINISHED", "JOURNAL_LEFTOVER", "RECORDING_MISSING", "RECORDING_UNRECORDED",
        # it goes on to the end or not at all
        "FILE_UNREADABLE",
    }  # fmt: skip


@pytest.fixture
def package(made: dict[str, Path], tmp_path: Path) -> Path:
    """A copy that may be harmed."""
    target = tmp_path / "store" / "CAM-TEST" / made["plain"].name
    shutil.copytree(made["plain"], target)
    shutil.copy(made["plain"].parents[2] / "root.pem", tmp_path)
    return target


def journal(package: Path) -> Path:
    return min((package / "journal").iterdir())


Harm = Callable[[Path], object]


def change_field(old: bytes, new: bytes, nth: int = 0) -> Harm:
    def harm(package: Path) -> None:
        def edit(lines: list[bytes]) -> list[bytes]:
            at = [n for n, line in enumerate(lines) if old in line][nth]
            lines[at] = lines[at].replace(old, new)
            return lines

        edit_lines(journal(package), edit)

    return harm


def drop(type_: str, nth: int = 0) -> Harm:
    def harm(package: Path) -> None:
        at = index_of(journal(package), type_, nth)
        edit_lines(journal(package), lambda lines: lines[:at] + lines[at + 1 :])

    return harm


def swap(package: Path) -> None:
    at = index_of(journal(package), "checkpoint")
    edit_lines(journal(package), lambda lines: [*lines[:at], lines[at + 1], lines[at], *lines[at + 2 :]])


def forged(type_: str, **fields: object) -> Harm:
    """Signed anew by whoever holds the key."""

    def harm(package: Path) -> None:
        def edit(documents: list[dict[str, object]]) -> list[dict[str, object]]:
            first(documents, type_).update(fields)
            return documents

        forge(journal(package), edit, BENCH_IDENTITY.record_signer)

    return harm


def forged_without(type_: str, nth: int = 0) -> Harm:
    def harm(package: Path) -> None:
        def edit(documents: list[dict[str, object]]) -> list[dict[str, object]]:
            documents.remove(first(documents, type_, nth))
            return documents

        forge(journal(package), edit, BENCH_IDENTITY.record_signer)

    return harm


def resigned_by_another(package: Path) -> None:
    forge(journal(package), lambda documents: documents, make_identity().record_signer)


def another_camera_of_the_department(package: Path) -> None:
    """A certificate that does lead to the root, but is not the one that the log names."""
    other = make_identity()
    (package / "device" / "chain.pem").write_bytes(pem(other.signer.chain))


class _WithCertificate:
    """Signs with another key and puts that key's certificate into the signature."""

    certificate_sha256 = BENCH_IDENTITY.record_signer.certificate_sha256
    description = "software (exportable)"

    def sign_record(self, json_bytes: bytes) -> bytes:
        key, root = new_key(), make_identity().root
        certificate = make_device_certificate(key.public_key(), "CAM-TEST", "2", key, root, NOW)
        builder = pkcs7.PKCS7SignatureBuilder().set_data(json_bytes).add_signer(certificate, key, hashes.SHA256())
        options = [pkcs7.PKCS7Options.DetachedSignature, pkcs7.PKCS7Options.Binary, pkcs7.PKCS7Options.NoAttributes]
        return builder.sign(Encoding.DER, options)


def signed_with_a_certificate_of_its_own(package: Path) -> None:
    forge(journal(package), lambda documents: documents, _WithCertificate())


def self_made_chain(package: Path) -> None:
    other = make_identity()

    def edit(documents: list[dict[str, object]]) -> list[dict[str, object]]:
        first(documents, "journal-open").update(certificate_sha256=other.record_signer.certificate_sha256)
        return documents

    forge(journal(package), edit, other.record_signer)
    (package / "device" / "chain.pem").write_bytes(pem(other.signer.chain))
    (package / "device" / "root.pem").write_bytes(pem([other.root]))


def link(name: str, target: str) -> Harm:
    def harm(package: Path) -> None:
        (package / name).unlink()
        (package / name).symlink_to(target)

    return harm


def pipe(package: Path) -> None:
    (package / "000002.m4s").unlink()
    os.mkfifo(package / "000002.m4s")


def swap_segments(package: Path) -> None:
    a, b = package / "000001.m4s", package / "000002.m4s"
    content = a.read_bytes()
    a.write_bytes(b.read_bytes())
    b.write_bytes(content)


def edited_and_unsigned(package: Path) -> None:
    change_field(b'"reason":"button"', b'"reason":"camera"')(package)
    edit_lines(journal(package), lambda lines: [unsigned(line) if b'"camera"}' in line else line for line in lines])


def claims(old: str, new: str) -> Harm:
    def harm(package: Path) -> None:
        path = package / "PACKAGE.txt"
        path.write_text(path.read_text().replace(old, new))

    return harm


def append(name: str, data: bytes) -> Harm:
    def harm(package: Path) -> None:
        with (package / name).open("ab") as file:
            file.write(data)

    return harm


def truncate(name: str, count: int) -> Harm:
    return lambda package: os.truncate(package / name, (package / name).stat().st_size - count)


def cut_tail(package: Path) -> None:
    at = index_of(journal(package), "stop")
    edit_lines(journal(package), lambda lines: lines[:at])


def cut_head(package: Path) -> None:
    edit_lines(journal(package), lambda lines: lines[1:])


CASES: dict[str, tuple[Harm, Code]] = {
    "a bit of a segment": (lambda p: flip(p / "000001.m4s", 900), Code.CHECKPOINT_HASH),
    "the last bit of a segment": (
        lambda p: flip(p / "000002.m4s", (p / "000002.m4s").stat().st_size - 1),
        Code.SEGMENT_HASH,
    ),
    "a bit of init": (lambda p: flip(p / "init.mp4", 100), Code.INIT_HASH),
    "init cut": (truncate("init.mp4", 1), Code.INIT_HASH),
    "init gone": (lambda p: (p / "init.mp4").unlink(), Code.INIT_HASH),
    "segment cut": (truncate("000001.m4s", 1), Code.SEGMENT_SIZE),
    "segment longer": (append("000001.m4s", b"\0"), Code.SEGMENT_SIZE),
    "segment gone": (lambda p: (p / "000002.m4s").unlink(), Code.SEGMENT_MISSING),
    "segments swapped": (swap_segments, Code.SEGMENT_HASH),
    "segment renumbered": (lambda p: (p / "000002.m4s").rename(p / "000003.m4s"), Code.FILE_UNKNOWN),
    "segment is a link": (link("000002.m4s", "/etc/passwd"), Code.SEGMENT_MISSING),
    "segment is a pipe": (pipe, Code.SEGMENT_MISSING),
    "a file too many": (lambda p: (p / "000009.m4s").write_bytes(b"x"), Code.FILE_UNKNOWN),
    "a folder too many": (lambda p: (p / "journal" / "more").mkdir(), Code.FILE_UNKNOWN),
    "record edited": (change_field(b'"frames":10', b'"frames":11'), Code.SIGNATURE_BAD),
    "record edited, and unsigned": (edited_and_unsigned, Code.JOURNAL_CHAIN_BROKEN),
    "record out": (drop("checkpoint", 1), Code.JOURNAL_SEQ),
    "marker out": (drop("marker"), Code.JOURNAL_SEQ),
    "records swapped": (swap, Code.JOURNAL_SEQ),
    "record twice": (lambda p: edit_lines(journal(p), lambda x: [*x[:4], x[3], *x[4:]]), Code.JOURNAL_SEQ),
    "head cut": (cut_head, Code.JOURNAL_LINE_BAD),
    "tail cut": (cut_tail, Code.RECORDING_UNCLOSED),
    "no signatures": (lambda p: edit_lines(journal(p), lambda x: [unsigned(y) for y in x]), Code.SIGNATURE_UNCOVERED),
    "signed by another": (resigned_by_another, Code.SIGNATURE_BAD),
    "signed by another who brings a certificate": (signed_with_a_certificate_of_its_own, Code.SIGNATURE_BAD),
    "another certificate": (another_camera_of_the_department, Code.CERT_UNKNOWN),
    "no certificate": (lambda p: (p / "device" / "chain.pem").write_bytes(b""), Code.CERT_UNKNOWN),
    "a whole chain of one's own": (self_made_chain, Code.CERT_CHAIN),
    "journal gone": (lambda p: journal(p).unlink(), Code.JOURNAL_MISSING),
    "journal renamed": (lambda p: journal(p).rename(p / "journal" / "000007.journal"), Code.JOURNAL_FILE_MISSING),
    "unfinished line": (append("journal/000001.journal", b'{"v":1'), Code.JOURNAL_LINE_BAD),
    "NUL in a record": (change_field(b'"pid":1', b'"pid":\x001'), Code.JOURNAL_LINE_BAD),
    "not UTF-8": (change_field(b'"pid":1', b'"pid":"\xff"'), Code.JOURNAL_LINE_BAD),
    "doubled key": (change_field(b'"pid":1', b'"pid":1,"pid":1'), Code.JOURNAL_LINE_BAD),
    "white space": (change_field(b'"pid":1', b'"pid": 1'), Code.JOURNAL_LINE_BAD),
    "deep": (change_field(b'"pid":1', b'"pid":' + b"[" * 12_000 + b"]" * 12_000), Code.JOURNAL_LINE_BAD),
    "huge": (change_field(b'"pid":1', b'"pid":"' + b"x" * (1 << 20) + b'"'), Code.JOURNAL_LINE_BAD),
    "base64 with padding too much": (change_field(b"\n", b"=\n"), Code.JOURNAL_LINE_BAD),
    "key holder: a path": (forged("checkpoint", file="../../../../../etc/passwd"), Code.FILE_NAME),
    "key holder: an absolute path": (forged("recording-open", init_file="/etc/passwd"), Code.FILE_NAME),
    "key holder: a number that is a command": (forged("checkpoint", bytes="a[$(touch pwned)]"), Code.RECORD_INVALID),
    "key holder: a number that is octal or huge": (forged("segment", bytes=10**30), Code.RECORD_INVALID),
    "key holder: other counts": (forged("segment", frames=19), Code.FRAGMENT_COUNT),
    "key holder: other totals": (forged("recording-close", gaps=1), Code.RECORDING_TOTALS),
    "key holder: a fragment left out": (forged_without("checkpoint", 1), Code.FRAGMENT_COUNT),
    "key holder: a fragment later": (forged("checkpoint", first_media_90k=5), Code.MEDIA_TIME),
    "key holder: no trigger": (forged_without("trigger"), Code.PACKAGE_INCOMPLETE),
    "key holder: sealed twice": (forged("segment", file="000002.m4s"), Code.RECORD_INVALID),
    "key holder: an unknown state": (forged("segment", state="fine"), Code.RECORD_INVALID),
    "key holder: a time that is none": (forged("boot", utc="yesterday"), Code.RECORD_INVALID),
    "key holder: a time after the certificate": (
        forged("stop", utc="2099-01-01T00:00:00.000000Z"),
        Code.TIME_OUTSIDE_CERTIFICATE,
    ),
    "key holder: in the middle of a run": (forged("journal-open", reason="rotated"), Code.JOURNAL_FILE_MISSING),
    "another camera's name": (claims("Device: CAM-TEST", "Device: CAM-0009"), Code.PACKAGE_DEVICE),
    "another recording's id": (claims("Recording: 0", "Recording: 1"), Code.PACKAGE_INCOMPLETE),
    "another version": (claims("Package: 1", "Package: 2"), Code.PACKAGE_VERSION),
    "no PACKAGE.txt": (lambda p: (p / "PACKAGE.txt").unlink(), Code.PACKAGE_INCOMPLETE),
    "no support sheet": (lambda p: (p / "support.txt").unlink(), Code.PACKAGE_INCOMPLETE),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_what_is_wrong_is_found_by_both_under_one_code_though_the_sums_were_made_anew(package: Path, name: str) -> None:
    harm, code = CASES[name]
    harm(package)
    renew_sums(package)
    report, said = check(package), run(package)
    assert code in fails(report), report.findings
    assert code.value in said.codes("fail"), said.text
    assert said.status == 1
    assert list(package.parents[2].rglob("pwned")) == []


@pytest.mark.parametrize("name", ["segment cut", "init cut", "segment longer"])
def test_of_a_file_that_was_cut_short_something_is_missing_too(package: Path, name: str) -> None:
    CASES[name][0](package)
    renew_sums(package)
    (recording,) = check(package).recordings
    said = run(package)
    assert said.verdicts() == {v.aspect.value: v.standing.value for v in recording.aspects}
    assert said.verdicts()["completeness"] == ("fails" if "cut" in name else "holds")


@pytest.mark.parametrize(
    ("harm", "code"),
    [
        (lambda p: flip(p / "README.txt", 10), Code.PACKAGE_SUM),
        (lambda p: (p / "recording.json").write_bytes(b"{}"), Code.PACKAGE_SUM),
        (lambda p: (p / "support.json").unlink(), Code.PACKAGE_SUM),
        (lambda p: (p / "note").write_text("hello"), Code.FILE_UNKNOWN),
        (lambda p: (p / "SHA256SUMS").unlink(), Code.PACKAGE_INCOMPLETE),
        (lambda p: (p / "SHA256SUMS").write_bytes(b"\xff\0" + (p / "SHA256SUMS").read_bytes()), Code.PACKAGE_SUM),
        (truncate("SHA256SUMS", 1), Code.PACKAGE_SUM),
        (append("SHA256SUMS", b"0" * 64 + b"  ../../root.pem\n"), Code.PACKAGE_SUM),
        (append("SHA256SUMS", b"0" * 64 + b"  /etc/passwd\n"), Code.PACKAGE_SUM),
        (append("SHA256SUMS", b"0" * 64 + b"  init.mp4\n"), Code.PACKAGE_SUM),
        (append("SHA256SUMS", b"0" * 64 + b"  $(touch pwned)\n"), Code.PACKAGE_SUM),
        (lambda p: (p / "a\nfail FORGED  line").write_text(""), Code.FILE_UNKNOWN),
        (lambda p: (p / "$(touch pwned)").write_text(""), Code.FILE_UNKNOWN),
        (lambda p: (p / "-rf").write_text(""), Code.FILE_UNKNOWN),
        (lambda p: (p / ".hidden").write_text(""), Code.FILE_UNKNOWN),
        (lambda p: (p / "\x1b[2J").write_text(""), Code.FILE_UNKNOWN),
    ],
)
def test_the_sums_and_names_of_files(package: Path, harm: Harm, code: Code) -> None:
    harm(package)
    said = run(package)
    assert code in fails(check(package))
    assert code.value in said.codes("fail"), said.text
    assert "FORGED" not in said.codes("fail")
    assert "\x1b" not in said.text
    assert list(package.parents[2].rglob("pwned")) == []


@pytest.mark.parametrize("folder", ["journal", "device"])
def test_a_folder_that_is_a_link_is_not_entered(package: Path, folder: str) -> None:
    (package / folder).rename(package.parents[2] / "elsewhere")
    (package / folder).symlink_to(package.parents[2] / "elsewhere")
    said = run(package)
    assert "FOLDER_NOT_PLAIN" in said.codes("fail") & {code.value for code in fails(check(package))}


def test_pending_records_before_a_break_are_not_covered_by_what_comes_behind_it(
    made: dict[str, Path], tmp_path: Path
) -> None:
    package = tmp_path / "store" / "CAM-TEST" / made["pending"].name
    shutil.copytree(made["pending"], package)
    shutil.copy(made["pending"].parents[2] / "root.pem", tmp_path)

    def edit(lines: list[bytes]) -> list[bytes]:
        at = [n for n, line in enumerate(lines) if line.endswith(b"\t-\n")][1]
        return [*lines[:at], lines[at].replace(b'_uncertainty_ms":10', b'_uncertainty_ms":11'), *lines[at + 1 :]]

    (path,) = (path for path in (package / "journal").iterdir() if b"\t-\n" in path.read_bytes())
    edit_lines(path, edit)
    renew_sums(package)
    expected = {"JOURNAL_CHAIN_BROKEN", "SIGNATURE_UNCOVERED"}
    assert {code.value for code in fails(check(package))} >= expected
    assert run(package).codes("fail") >= expected


def test_without_a_root_the_origin_stays_open(package: Path) -> None:
    said = run(package, "-")
    assert said.codes("note") == {"ROOT_FROM_EVIDENCE", "EXTRACT"}
    assert said.verdicts()["origin"] == "open"
    (package / "device" / "root.pem").unlink()
    renew_sums(package)
    said = run(package, "-")
    assert said.codes("warn") == {"ROOT_ABSENT"}
    assert said.verdicts()["origin"] == "open"
    assert said.status == 0


def test_what_the_computer_trusts_for_other_purposes_does_not_count(package: Path) -> None:
    root = package.parents[2] / "root.pem"
    good = root.read_bytes()
    (package.parents[2] / "store-of-roots").mkdir()
    (package.parents[2] / "store-of-roots" / "root.pem").write_bytes(good)
    subprocess.run(["openssl", "rehash", str(package.parents[2] / "store-of-roots")], check=True, capture_output=True)
    root.write_bytes(pem([make_identity().root]))
    everything = {"SSL_CERT_DIR": str(package.parents[2] / "store-of-roots"), "SSL_CERT_FILE": str(root)}
    said = run(package, environment=everything)
    assert said.codes("fail") == {"CERT_CHAIN"}
    assert said.verdicts() == {"integrity": "holds", "origin": "fails", "time": "open", "completeness": "holds"}


def test_a_second_chain_in_device_serves_a_log_that_changes_its_certificate(tmp_path: Path) -> None:
    vault = VaultBuilder(tmp_path / "vault")
    vault.shut_down()
    key = new_key()
    # The bench identity's root key is gone; a second certificate of the same camera is under a root of its own here.
    other = make_identity()
    certificate = make_device_certificate(key.public_key(), "CAM-TEST", "2", key, other.root, NOW)
    assert certificate.subject
    name = kept_chain_name(fingerprint_hex(other.signer.chain[0]))
    (vault.layout.device / name).write_bytes(pem(other.signer.chain))
    vault.signer._signer = CmsRecordSigner(SoftwareSigner(other.signer._key, other.signer.chain))
    vault.restart()
    recording_id = vault.record(2)
    package = offloaded(vault, tmp_path)[recording_id]
    (package / "device" / "chain.pem").rename(package / "device" / name)
    shutil.copy(vault.layout.device / "chain.pem", package / "device")
    renew_sums(package)
    said = run(package)
    assert said.codes("fail") == {"CERT_CHAIN"}  # found, its signatures fit, and it leads to another root
    (tmp_path / "root.pem").write_bytes(pem([other.root]))
    assert run(package).status == 0


def test_times_before_the_certificate_are_a_warning(tmp_path: Path) -> None:
    vault = VaultBuilder(tmp_path / "vault")
    vault.clock.step_wall_ns(-20 * 365 * 86_400 * 10**9)
    recording_id = vault.record(2)
    package = offloaded(vault, tmp_path)[recording_id]
    said = run(package)
    assert said.codes("warn") == {"TIME_OUTSIDE_CERTIFICATE"} == {code.value for code in warns(check(package))}
    assert said.verdicts()["time"] == "limited"


@pytest.mark.parametrize(
    "arguments",
    [
        [], ["-", ".", "-", "-"], ["absent.pem"], ["verify.sh"], ["root.pem", "absent"], ["root.pem", "."],
        ["root.pem", "PACKAGE", "absent.pem"], ["root.pem", "PACKAGE", "verify.sh"],
    ],
)  # fmt: skip
def test_wrong_use_is_said_and_is_no_verdict(package: Path, arguments: list[str]) -> None:
    folder = package.parents[2]
    (folder / "verify.sh").write_bytes(verify_script())
    done = subprocess.run(
        ["sh", "verify.sh", *(str(package) if word == "PACKAGE" else word for word in arguments)],
        cwd=folder, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("verify.sh: ")
    assert done.stdout == ""


def test_a_long_list_of_findings_is_cut_off(package: Path) -> None:
    edit_lines(journal(package), lambda lines: [line.replace(b'"utc":"2026', b'"utc":"x026') for line in lines] * 2)
    said = run(package)
    assert said.text.count("fail JOURNAL_LINE_BAD") == 1
    for number in range(20):
        (package / f"00{number:02}00.m4s").write_bytes(b"x")
    said = run(package)
    assert said.text.count("fail FILE_UNKNOWN") == 11
    assert "There are more of this kind, which are not listed." in said.text


def line_of(said: Said, code: str) -> str:
    (sentence,) = [sentence for _, found, sentence in FINDING.findall(said.text) if found == code]
    return str(sentence)


def test_records_that_are_wrong_side_by_side_are_said_in_one_line(package: Path) -> None:
    def edit(lines: list[bytes]) -> list[bytes]:
        return [
            line.replace(b'"boottime_ns":', b'"boottime_ns":1') if number in (4, 5, 6, 9) else line
            for number, line in enumerate(lines, 1)
        ]

    edit_lines(journal(package), edit)
    renew_sums(package)
    said = run(package)
    kinds = [parse_line(line).type for line in journal(package).read_bytes().splitlines()]
    bad = [sentence for _, code, sentence in FINDING.findall(said.text) if code == "SIGNATURE_BAD"]
    assert bad == [
        f"The signatures of records 4 to 6 ({kinds[3]} to {kinds[5]}, 000001.journal from line 4 on) do not fit them: "
        "they were changed, or another key signed them.",
        f"The signature of record 9 ({kinds[8]}, 000001.journal line 9) does not fit it: it was changed, or another "
        "key signed it.",
    ]
    broken = [sentence for _, code, sentence in FINDING.findall(said.text) if code == "JOURNAL_CHAIN_BROKEN"]
    assert broken[0].startswith(f"Records 5 to 7 ({kinds[4]} to {kinds[6]}, ")
    assert broken[1].startswith(f"Record 10 ({kinds[9]}, 000001.journal line 10) does not hold the hash")
    assert len(broken) == 2
    assert said.verdicts()["integrity"] == "fails"


@pytest.mark.parametrize(
    "harm",
    [
        lambda p: flip(p / "README.txt", 10),
        lambda p: flip(p / "support.txt", 10),
        lambda p: (p / "recording.json").write_bytes(b"{}"),
        lambda p: (p / "records.json").write_text("a file too many"),
        lambda p: (p / "[a name").write_text(""),
        lambda p: [(p / f"note-{number}").write_text("") for number in range(20)],
        claims("Device: CAM-TEST", "Device: CAM-0009"),
    ],
)
def test_what_is_no_evidence_fails_but_leaves_integrity_limited(package: Path, harm: Harm) -> None:
    harm(package)
    said = run(package)
    assert said.status == 1
    assert said.verdicts() == {"integrity": "limited", "origin": "holds", "time": "open", "completeness": "holds"}
    assert (
        "INTEGRITY     limited  The video and the log are what the camera signed; the package around them was changed: "
        in said.text
    )
    flip(package / "000002.m4s", 900)
    said = run(package)
    assert said.verdicts()["integrity"] == "fails"
    assert "INTEGRITY     fails    000002.m4s was changed between bytes" in said.text


def test_the_twentieth_wrong_file_counts_though_it_is_not_listed(package: Path) -> None:
    for number in range(20):
        (package / f"a{number:02}").write_text("")
    (package / "SHA256SUMS").write_text(re.sub(r".*  init\.mp4\n", "", (package / "SHA256SUMS").read_text()))
    said = run(package)
    assert "fail FILE_UNKNOWN  init.mp4" not in said.text
    assert said.verdicts()["integrity"] == "fails"


@pytest.mark.parametrize("name", ["000001.journal", "device/chain.pem", "init.mp4", "000001.m4s"])
def test_the_sum_of_evidence_is_no_label(package: Path, name: str) -> None:
    sums = package / "SHA256SUMS"
    sums.write_text(re.sub(rf"[0-9a-f]{{8}}(.*{re.escape(name)}\n)", r"00000000\1", sums.read_text()))
    assert run(package).verdicts()["integrity"] == "fails"


def test_without_a_journal_nothing_is_said_of_records_that_are_not_there(package: Path) -> None:
    journal(package).unlink()
    renew_sums(package)
    said = run(package)
    assert said.codes("fail") == {"JOURNAL_MISSING", "PACKAGE_INCOMPLETE"}
    assert "records ?" not in said.text
    assert "0 frames" not in said.text
    assert "Log           none that can be read" in said.text


def test_what_is_missing_is_said_as_a_time_of_the_recording(package: Path) -> None:
    segment = package / "000001.m4s"
    first_bytes = next(
        int(record.fields["bytes"])
        for record in map(parse_line, journal(package).read_bytes().splitlines())
        if record.type == "checkpoint"
    )
    os.truncate(segment, first_bytes + 1)
    assert "its record says" in line_of(run(package), "SEGMENT_SIZE")
    assert line_of(run(package), "SEGMENT_SIZE").endswith(": it lacks 1.000 to 2.000 s of the recording.")
    segment.unlink()
    assert line_of(run(package), "SEGMENT_MISSING").endswith(" were signed, 0.000 to 2.000 s of the recording.")


def test_frames_that_are_missing_have_a_place(package: Path) -> None:
    def edit(documents: list[dict[str, object]]) -> list[dict[str, object]]:
        checkpoint, segment = first(documents, "checkpoint", 1), first(documents, "segment")
        checkpoint["frames"], segment["frames"] = 9, 19
        close = first(documents, "recording-close")
        close["frames"], close["missed_frames"] = 29, 1
        return documents

    forge(journal(package), edit, BENCH_IDENTITY.record_signer)
    renew_sums(package)
    said = run(package)
    assert line_of(said, "FRAMES_MISSED").startswith(
        "1 frame is missing in its picture, in the fragments at 1.000 to 2.000 s: "
    )


def test_why_a_certificate_does_not_lead_to_the_root_is_said_in_words(package: Path) -> None:
    (package.parents[2] / "root.pem").write_bytes(pem([make_identity().root]))
    sentence = line_of(run(package), "CERT_CHAIN")
    assert re.search(
        r"under which records 1 to \d+ stand, does not lead to the root certificate or is unfit: none of the "
        r"certificates here issued it\.",
        sentence,
    )


def test_what_the_script_does_not_make_anew_is_said(package: Path) -> None:
    last = run(package).text.splitlines()[-2]
    assert (
        last == "note  recording.json, support.* and the pages are no evidence and were compared with SHA256SUMS only."
    )
