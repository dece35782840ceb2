"""What is made to stop verify.sh, to fill a disk, or to have it and `bodycam verify` judge otherwise."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.vault.layout import kept_chain_name
from agent.verify.finding import Code
from agent.verify.kit_files import verify_script
from tests.support.packages import offloaded, renew_sums
from tests.support.vault_builder import VaultBuilder
from tests.unit.verify.tampering import check, fails, warns
from tests.unit.verify.test_verify_script import AVAILABLE, run

HANG_S = 90
NOBODYS = "0" * 64
MEBIBYTE = 1 << 20
LARGER_THAN_A_JOURNAL = 105 * MEBIBYTE


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    vault = VaultBuilder(folder / "vault")
    recording_id = vault.record(1)
    vault.shut_down()
    return offloaded(vault, folder)[recording_id]


@pytest.fixture
def package(made: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "store" / "CAM-TEST" / made.name
    shutil.copytree(made, copy)
    shutil.copy(made.parents[2] / "root.pem", tmp_path)
    return copy


def journal_of(package: Path) -> Path:
    (path,) = (package / "journal").iterdir()
    return path


def with_field(package: Path, value: str) -> None:
    """One more field in the last record; no signature fits it any more, and it is looked at before that is known."""
    path = journal_of(package)
    *before, last = path.read_bytes().splitlines(keepends=True)
    json, _, signature = last.partition(b"\t")
    path.write_bytes(b"".join([*before, json[:-1], b',"more":', value.encode(), b"}\t", signature]))
    renew_sums(package)


@pytest.mark.parametrize("shell", AVAILABLE)
def test_a_sound_package_passes_in_every_shell(package: Path, shell: list[str]) -> None:
    assert run(package, shell=shell).status == 0


@pytest.mark.parametrize("shell", AVAILABLE)
@pytest.mark.parametrize(
    ("value", "code"),
    [
        ('"' + ("x" * 100 + "[") * 9000 + '"', Code.JOURNAL_LINE_BAD),  # no record holds as much text
        ('"' + "[" * 9900 + '"', Code.SIGNATURE_BAD),
        ("[" + ",".join(['"]"'] * 3000) + "]", Code.SIGNATURE_BAD),
        ('"' + "x" * 120_000 + '"', Code.SIGNATURE_BAD),
        ("[" * 4000 + "]" * 4000, Code.JOURNAL_LINE_BAD),
        ("1" + "".join(f',"k{number:04}":1' for number in range(9000)), Code.SIGNATURE_BAD),
        ("~", Code.JOURNAL_LINE_BAD),
        ("[1}", Code.JOURNAL_LINE_BAD),
    ],
    ids=[
        "much text",
        "brackets in a string",
        "many strings",
        "a long string",
        "many levels",
        "many keys",
        "the mark",
        "a wrong end",
    ],
)
def test_what_a_record_is_made_of_does_not_hold_it_up(package: Path, shell: list[str], value: str, code: Code) -> None:
    with_field(package, value)  # a step of brackets times length took minutes for each; `run` stops after 100 s
    assert code.value in run(package, shell=shell).codes("fail")


@pytest.mark.parametrize(("depth", "sound"), [(14, True), (15, False)])
def test_both_take_sixteen_levels_and_no_more(package: Path, depth: int, sound: bool) -> None:
    with_field(package, "[" * depth + "1" + "]" * depth)
    assert (Code.JOURNAL_LINE_BAD not in fails(check(package))) is sound
    assert ("JOURNAL_LINE_BAD" not in run(package).codes("fail")) is sound


@pytest.mark.parametrize("shell", AVAILABLE)
def test_thousands_of_names_in_the_sums_cost_no_process_each(package: Path, shell: list[str]) -> None:
    sums = package / "SHA256SUMS"
    sums.write_bytes(sums.read_bytes() + b"".join(b"%064x  journal/x%05d\n" % (n, n) for n in range(10_000)))
    said = run(package, shell=shell)
    assert said.codes("fail") == {"PACKAGE_SUM"} == {code.value for code in fails(check(package))}
    assert said.text.count("fail PACKAGE_SUM") == 11


def test_a_name_that_only_the_sums_or_only_the_folder_has(package: Path) -> None:
    sums = package / "SHA256SUMS"
    lines = sums.read_bytes().splitlines(keepends=True)
    sums.write_bytes(b"".join([*[line for line in lines if b"README" not in line], b"0" * 64 + b"  zzz\n"]))
    said = run(package)
    assert said.codes("fail") == {"FILE_UNKNOWN", "PACKAGE_SUM"}
    assert "README.txt is in the package but not in SHA256SUMS" in said.text
    assert "zzz is in SHA256SUMS but not in the package" in said.text
    assert said.text.count("fail FILE_UNKNOWN") == said.text.count("fail PACKAGE_SUM") == 1


def test_a_file_with_any_name_has_to_be_in_the_sums(package: Path) -> None:
    (package / "1").write_bytes(b"")
    assert "1 is in the package but not in SHA256SUMS" in run(package).text


@pytest.mark.parametrize("shell", AVAILABLE)
def test_a_journal_that_no_camera_writes_is_not_copied(package: Path, shell: list[str]) -> None:
    with journal_of(package).open("r+b") as file:
        file.truncate(LARGER_THAN_A_JOURNAL)  # a hole, which takes no room
    said = run(package, shell=shell)
    assert "is larger than any journal file" in said.text
    assert "JOURNAL_LINE_BAD" in said.codes("fail")


def test_a_line_without_end_is_found_before_anything_holds_it(package: Path) -> None:
    journal_of(package).write_bytes(b"x" * 8 * MEBIBYTE)
    said = run(package)
    assert "JOURNAL_LINE_BAD" in said.codes("fail")
    assert "a line is longer than 1 MiB" in said.text


def test_a_huge_root_in_the_package_is_no_root(package: Path) -> None:
    (package / "device" / "root.pem").write_bytes(b"\n" * (2 * MEBIBYTE))
    renew_sums(package)
    said = run(package, root="-")
    assert "CERT_UNKNOWN" in said.codes("fail")
    assert "ROOT_ABSENT" in said.codes("warn")


def kept(package: Path) -> Path:
    return package / "device" / kept_chain_name(NOBODYS)


def chain(package: Path) -> bytes:
    return (package / "device" / "chain.pem").read_bytes()


def rewritten(edit: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    return lambda package: (package / "device" / "chain.pem").write_bytes(edit(chain(package)))


CHAINS: dict[str, Callable[[Path], object]] = {
    "unnamed, garbage": lambda p: kept(p).write_bytes(b"hello"),
    "unnamed, empty": lambda p: kept(p).write_bytes(b""),
    "unnamed, huge": lambda p: kept(p).write_bytes(b"a" * 2 * MEBIBYTE),
    "unnamed, 65 certificates": lambda p: kept(p).write_bytes(chain(p) * 65),
    "CRLF": rewritten(lambda data: data.replace(b"\n", b"\r\n")),
    "a blank behind the dashes": rewritten(lambda data: data.replace(b"-----\n", b"----- \n")),
    "X509": rewritten(lambda data: data.replace(b" CERTIFICATE", b" X509 CERTIFICATE")),
    "one long line": rewritten(lambda data: b"\n".join([data[:27], data[28:-26].replace(b"\n", b""), data[-25:]])),
    "a text in front": rewritten(lambda data: b"Department CA\n" + data),
    "an unfinished one behind": rewritten(lambda data: data + b"-----BEGIN CERTIFICATE-----\nAAAA\n"),
    "NUL": rewritten(lambda data: b"\0" + data),
}


@pytest.mark.parametrize("name", CHAINS)
def test_both_refuse_what_is_no_chain_as_cameras_write_it(package: Path, name: str) -> None:
    CHAINS[name](package)
    renew_sums(package)
    assert Code.CERT_UNKNOWN in fails(check(package))
    assert "CERT_UNKNOWN" in run(package).codes("fail")


def test_an_unnamed_chain_that_is_one_passes_both(package: Path) -> None:
    kept(package).write_bytes(chain(package))
    renew_sums(package)
    assert check(package).ok
    assert run(package).status == 0


@pytest.mark.parametrize(("root", "name"), [("../../../root.pem", kept_chain_name(NOBODYS)), ("-", "root.pem")])
def test_nothing_in_a_package_makes_openssl_ask(package: Path, root: str, name: str) -> None:
    """With a terminal, which is where it would ask and wait."""
    headers = b"-----BEGIN CERTIFICATE-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC," + b"00" * 16 + b"\n\n"
    (package / "device" / name).write_bytes(chain(package).replace(b"-----BEGIN CERTIFICATE-----\n", headers))
    renew_sums(package)
    (script := package.parents[2] / "verify.sh").write_bytes(verify_script())
    controller, terminal = pty.openpty()
    try:
        done = subprocess.run(
            ["setsid", "--ctty", "--wait", "sh", str(script), root, "."], cwd=package, stdin=terminal,
            capture_output=True, text=True, check=False, timeout=HANG_S,
        )  # fmt: skip
        os.set_blocking(controller, False)
        with pytest.raises(BlockingIOError):
            os.read(controller, 100)
    finally:
        os.close(controller)
        os.close(terminal)
    assert done.returncode == 1
    assert "fail CERT_UNKNOWN" in done.stdout


@pytest.mark.parametrize("name", [".evil.part", "journal/.x.part", "device/.y.part"])
def test_a_folder_is_no_leftover_whatever_it_is_called(package: Path, name: str) -> None:
    (package / name).mkdir()
    assert fails(check(package)) == {Code.FILE_UNKNOWN}
    assert run(package).codes("fail") == {"FILE_UNKNOWN"}


def test_a_leftover_in_the_journal_is_noted_and_no_more(package: Path) -> None:
    (package / "journal" / ".000002.journal.part").write_bytes(b"{")
    report, said = check(package), run(package)
    assert (fails(report), warns(report)) == (set(), set())
    assert (said.codes("fail"), said.codes("warn")) == (set(), set())
    assert "FILE_UNKNOWN" in said.codes("note")
