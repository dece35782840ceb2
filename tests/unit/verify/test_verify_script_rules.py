"""Rules between records that whoever holds the key can break without breaking a hash: verify.sh and verify see them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.vault.record import Record, parse_line, sha256_hex
from agent.verify.finding import Code
from tests.support.identity import BENCH_IDENTITY
from tests.support.packages import offloaded, renew_sums
from tests.support.vault_builder import VaultBuilder
from tests.unit.verify.tampering import check, fails
from tests.unit.verify.test_verify_script import run

Documents = list[dict[str, Any]]


def forge_all(package: Path, edit: Callable[[Documents], Documents]) -> None:
    """Edit the records of all journal files, with a chain and signatures that fit again."""
    paths = sorted((package / "journal").iterdir())
    documents = [parse_line(line).fields | {"in": path} for path in paths for line in path.read_bytes().splitlines()]
    seq, prev = documents[0]["seq"] - 1, documents[0]["prev"]
    lines: dict[Path, list[bytes]] = {path: [] for path in paths}
    for document in edit(documents):
        path = document.pop("in")
        seq += 1
        document |= {"seq": seq, "prev": prev}
        if document["type"] == "journal-open" and document["prev_file"] in (before := {p.name: p for p in paths}):
            document["prev_file_bytes"] = sum(map(len, lines[before[document["prev_file"]]]))
        data = json.dumps(document, separators=(",", ":")).encode()
        prev = sha256_hex(data)
        lines[path].append(Record(data, BENCH_IDENTITY.record_signer.sign_record(data), {}).line())
    for path in paths:
        path.write_bytes(b"".join(lines[path]))
    renew_sums(package)


def of_type(documents: Documents, type_: str) -> Documents:
    return [document for document in documents if document["type"] == type_]


def renumbered(documents: Documents) -> Documents:
    of_type(documents, "checkpoint")[1]["fragment"] = 7
    return documents


def without_length(documents: Documents) -> Documents:
    last = of_type(documents, "checkpoint")[-1]
    last["end_media_90k"] = last["first_media_90k"]
    return documents


def marked_after_its_end(documents: Documents) -> Documents:
    at = documents.index(of_type(documents, "recording-close")[-1])
    marker = of_type(documents, "marker")[-1] | {"in": documents[at]["in"]}
    return [*documents[: at + 1], marker, *documents[at + 1 :]]


def other_checkpoint_recovered(documents: Documents) -> Documents:
    """The recovered bytes are signed as they lie, and are not those of the checkpoint before, though it says so."""
    (recovered,) = [document for document in of_type(documents, "segment") if document["state"] == "recovered"]
    for checkpoint in of_type(documents, "checkpoint"):
        if checkpoint["file"] == recovered["file"]:
            checkpoint["sha256"] = "ab" * 32
    recovered["checkpointed_sha256"] = "ab" * 32
    return documents


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording with a marker, cut off in its second segment and recovered; forged, and sound all the same.

    What is forged without being edited passes both, so that the edit is what they find.
    """
    folder = tmp_path_factory.mktemp("rules")
    vault = VaultBuilder(folder / "vault")
    running = vault.begin()
    vault.feed(running, 2)
    vault.mark(running)
    vault.feed(running, 2)
    vault.restart()
    package = offloaded(vault, folder)[running.recording_id]
    forge_all(package, list)
    assert check(package).ok
    assert run(package).status == 0
    return package


@pytest.mark.parametrize(
    ("edit", "code"),
    [
        (renumbered, Code.FRAGMENT_COUNT),
        (without_length, Code.MEDIA_TIME),
        (marked_after_its_end, Code.RECORD_INVALID),
        (other_checkpoint_recovered, Code.CHECKPOINT_HASH),
    ],
)
def test_both_checks_see_it(made: Path, tmp_path: Path, edit: Callable[[Documents], Documents], code: Code) -> None:
    package = tmp_path / "store" / "CAM-TEST" / made.name
    shutil.copytree(made, package)
    shutil.copy(made.parents[2] / "root.pem", tmp_path)
    forge_all(package, edit)
    assert code in fails(check(package))
    assert code.value in run(package).codes("fail")
