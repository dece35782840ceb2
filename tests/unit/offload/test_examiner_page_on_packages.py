"""docs/examiner.md as printed, on evidence packages."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from agent.trust.certificates import pem
from agent.verify.kit_files import verify_script
from tests.support.evidence_key import EVIDENCE
from tests.support.packages import offloaded
from tests.support.stamping import stamp
from tests.support.time_authority import time_authority
from tests.support.vault_builder import VaultBuilder
from tests.unit.trust.test_examiner_page import PAGE, names_in, script
from tests.unit.verify.tampering import edit_lines, flip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The last of several runs, so that its extract begins in the middle of the journal; with a torn segment."""
    folder = tmp_path_factory.mktemp("page")
    vault = VaultBuilder(folder / "vault", rotate_bytes=6000)
    vault.record(2)
    vault.restart()
    running = vault.begin()
    vault.feed(running, 2)
    vault.filesystem.fail_next_sync_of = ".m4s"
    vault.feed(running, 1)
    vault.retry()
    vault.feed(running, 4)
    return offloaded_one(vault, folder, vault.stop(running))


def offloaded_one(vault: VaultBuilder, folder: Path, recording_id: str) -> Path:
    return offloaded(vault, folder)[recording_id]


@pytest.fixture
def package(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / made.name)
    shutil.copy(made.parents[2] / "root.pem", tmp_path)
    for name in ("check-journal.sh", "check-media.sh"):
        (tmp_path / name).write_text(script(name), encoding="utf-8")
    return tmp_path / made.name


JOURNAL = ["sh", "../check-journal.sh", "journal", "device", "../root.pem", "../records.json"]


def by_hand(package: Path) -> tuple[int, str]:
    """Both scripts, from inside the package, as the page says; nothing is added to it."""
    said = ""
    before = names_in(package)
    for command in ([*JOURNAL, "extract"], ["sh", "../check-media.sh", package.name, ".", "../records.json"]):
        done = subprocess.run(command, cwd=package, capture_output=True, text=True, check=False, timeout=60)
        said += done.stdout + done.stderr
        assert names_in(package) == before
        if done.returncode:
            return done.returncode, said
    return 0, said


def test_a_package_passes(package: Path) -> None:
    assert min(path.name for path in (package / "journal").iterdir()) > "000001.journal"
    status, said = by_hand(package)
    assert status == 0, said
    assert "note: this is a part of the journal, from record" in said
    assert "OK: init.mp4" in said
    assert "NOT OK" not in said


def test_an_extract_does_not_pass_for_a_whole_journal(package: Path) -> None:
    done = subprocess.run(JOURNAL, cwd=package, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode != 0
    assert "record 1 is missing" in done.stderr


def test_an_extract_that_begins_in_the_middle_of_a_run_is_refused(package: Path) -> None:
    min((package / "journal").iterdir()).unlink()
    status, said = by_hand(package)
    assert status != 0
    assert "does not begin with a start of the camera" in said


def test_harm_is_found(package: Path) -> None:
    flip(package / "000002.m4s", 300)
    status, said = by_hand(package)
    assert (status, "NOT OK: 000002.m4s" in said) == (1, True)
    flip(package / "000002.m4s", 300)
    (package / "000077.m4s").write_bytes(b"x")
    assert "NOT OK: 000077.m4s is in no record" in by_hand(package)[1]
    edit_lines(max((package / "journal").iterdir()), lambda lines: lines[:1] + lines[2:])
    assert "is missing, moved" in by_hand(package)[1]


def test_the_page_s_own_commands_for_a_package(package: Path) -> None:
    (commands,) = re.findall(r"^```sh\n(sha256sum verify\.sh\n.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    (package.parent / "verify.sh").write_bytes(verify_script())
    (package.parent / "tsa.pem").write_bytes(time_authority().root_pem.read_bytes())
    done = subprocess.run(
        ["sh", "-e", "-c", commands.replace("PACKAGE-FOLDER", package.name)],
        cwd=package.parent, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.split()[0] in PAGE.read_text()
    assert "RESULT: nothing refutes this package." in done.stdout


BLOCKS = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def test_every_command_of_the_page_adds_nothing_to_a_package_and_it_still_verifies(tmp_path: Path) -> None:
    """As a person does who reads the page from top to bottom, inside the package."""
    vault = VaultBuilder(tmp_path / "vault")
    stamp(vault)
    recording_id = vault.record(2)
    stamp(vault)
    package = offloaded_one(vault, tmp_path, recording_id)
    beside = package.parent
    (beside / "root.pem").write_bytes(pem([vault.identity.root]))
    (beside / "tsa.pem").write_bytes(time_authority().root_pem.read_bytes())
    (beside / "verify.sh").write_bytes(verify_script())
    before = {name: (package / name).read_bytes() for name in names_in(package) if (package / name).is_file()}
    ran = []
    for block in BLOCKS:
        if block.startswith("#!/bin/sh\n# "):
            name = block.split()[2]
            (beside / name).write_text(block, encoding="utf-8")
            arguments = {
                "check-journal.sh": ["journal", "device", "../root.pem", "../records.json", "extract"],
                "check-media.sh": [recording_id, ".", "../records.json"],
                "check-time.sh": ["../tsa.pem", "../records.json"],
            }[name]
            said = " ".join(arguments).replace(recording_id, "RECORDING-ID").removesuffix(" extract")
            assert f"sh ../{name} {said}" in PAGE.read_text(encoding="utf-8")
            command = ["sh", f"../{name}", *arguments]
        elif "age -d" in block or block.startswith("sha256sum verify.sh"):
            continue  # has a test of its own
        else:
            block = block.replace("media=recordings/RECORDING-ID", "media=.").replace("RECORDING-ID", recording_id)
            command = ["sh", "-e", "-c", block]
        done = subprocess.run(command, cwd=package, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, (block, done.stdout, done.stderr)
        ran.append(done.stdout)
    assert len(ran) == 8
    after = {name: (package / name).read_bytes() for name in names_in(package) if (package / name).is_file()}
    assert after == before
    done = subprocess.run(
        ["sh", "../verify.sh", "../root.pem", ".", "../tsa.pem"],
        cwd=package, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_an_encrypted_package_passes_and_a_changed_byte_of_it_does_not(tmp_path: Path) -> None:
    vault = VaultBuilder(tmp_path / "vault", recipients=(EVIDENCE.recipient,))
    package = offloaded_one(vault, tmp_path, vault.record(3))
    (package.parent / "root.pem").write_bytes(pem([vault.identity.root]))
    for name in ("check-journal.sh", "check-media.sh"):
        (package.parent / name).write_text(script(name), encoding="utf-8")
    status, said = by_hand(package)
    assert status == 0, said
    assert "OK: 000001.m4s.age" in said
    assert "OK: 000002.m4s.age" in said
    assert "NOT OK" not in said
    flip(package / "000002.m4s.age", 5000)
    status, said = by_hand(package)
    assert status == 1
    assert "NOT OK: 000002.m4s.age" in said
