"""The published schema of records: real vaults fit it, it names every field, and it refuses what is wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.verify.verify import KNOWN_TYPES
from tests.support.record_schema import (
    SCHEMA,
    assert_documented,
    documented_fields,
    documented_types,
    lines_of,
    problems,
)
from tests.support.vault_builder import VaultBuilder

PAGE = SCHEMA.with_name("evidence-format.md")


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> VaultBuilder:
    """Everything that a recorder can write: sound, a marker, a gap, a failed sync, a power cut, a busy signer."""
    vault = VaultBuilder(tmp_path_factory.mktemp("schema") / "vault", rotate_bytes=6000)
    vault.record(3, sound=True, meanwhile=vault.mark)
    running = vault.begin(max_bytes=60_000, pad_bytes=20_000)
    vault.feed(running, 1)
    vault.push(running, 6)
    vault.work()
    vault.stop(running)
    running = vault.begin()
    vault.feed(running, 1)
    vault.filesystem.fail_next_sync_of = ".m4s"
    vault.feed(running, 1)
    vault.retry()
    vault.signer.busy = True
    vault.feed(running, 2)
    vault.signer.busy = False
    vault.feed(running, 1)
    vault.stop(running)
    running = vault.begin()
    vault.feed(running, 4)
    (vault.layout.recording(running.recording_id) / "000002.m4s").unlink()
    vault.restart()
    vault.feed(vault.begin(), 2)
    vault.restart()
    vault.begin()
    vault.journal.commit()
    vault.restart()
    vault.shut_down()
    return vault


def records(vault: VaultBuilder) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines_of(sorted(vault.layout.journal.iterdir()))]


def test_every_record_of_a_real_vault_fits(vault: VaultBuilder) -> None:
    types = assert_documented(vault.layout.journal)
    # The others are written by the daemon: tests/end_to_end looks at those.
    by_daemon = {
        "certificate-changed", "clock", "config", "encryption", "offload", "ready", "records-lost", "scrub",
        "self-test", "sound-missing", "storage", "timestamp", "trigger-dropped", "trigger-pending",
    }  # fmt: skip
    assert types >= documented_types() - by_daemon
    states = {record["state"] for record in records(vault) if record["type"] == "segment"}
    assert states == {"whole", "torn", "recovered", "missing"}


def test_page_schema_and_verifier_name_the_same_types_and_fields() -> None:
    section = PAGE.read_text().partition("| type | own fields |\n")[2].partition("\n\n")[0]
    table = dict(re.findall(r"^\| (`[a-z-]+`(?:, `[a-z-]+`)*) \| (.*) \|$", section, re.MULTILINE))
    rows = {name: text for names, text in table.items() for name in re.findall(r"`([a-z-]+)`", names)}
    assert set(rows) == documented_types() == KNOWN_TYPES
    common = documented_fields("shutdown") - {"reason"}
    text = PAGE.read_text()
    for type_, row in rows.items():
        for field in documented_fields(type_) - common:
            assert f"`{field}`" in (text if type_ == "journal-open" else row), (type_, field)


@pytest.mark.parametrize(
    ("type_", "change"),
    [
        ("boot", lambda record: record.pop("boot_id")),
        ("boot", lambda record: record.update(v=2)),
        ("boot", lambda record: record.update(seq=0)),
        ("boot", lambda record: record.update(utc="2026-01-01 00:00:00")),
        ("checkpoint", lambda record: record.update(bytes=-1)),
        ("checkpoint", lambda record: record.update(bytes=1.5)),
        ("checkpoint", lambda record: record.update(bytes=True)),
        ("checkpoint", lambda record: record.update(file="../init.mp4")),
        ("checkpoint", lambda record: record.update(sha256="AB" * 32)),
        ("checkpoint", lambda record: record.update(recording_id="../..")),
        ("segment", lambda record: record.pop("frames")),
        ("segment", lambda record: record.update(state="lost")),
        ("segment", lambda record: record.update(state="torn")),
        ("segment", lambda record: record.update(state="recovered")),
        ("recording-close", lambda record: record.update(recovered=True)),
        ("recording-close", lambda record: record.update(init_file="init.mp4")),
        ("recording-open", lambda record: record.update(audio={"codec": "mp3"})),
        ("marker", lambda record: record.update(wearer="somebody")),
        ("marker", lambda record: record.update(type="party")),
    ],
)
def test_what_no_camera_writes_is_refused(
    vault: VaultBuilder, type_: str, change: Callable[[dict[str, Any]], object]
) -> None:
    record = next(record for record in records(vault) if record["type"] == type_)
    assert problems(json.dumps(record).encode()) == []
    change(record)
    assert problems(json.dumps(record).encode()) != []


def test_lines_of_a_torn_file_end_at_the_tear(tmp_path: Path) -> None:
    path = tmp_path / "000001.journal"
    path.write_bytes(b'{"v":1,"a":1}\t-\nrubbish\n{"v":1,"a":2}\t-\n{"v":1')
    assert list(lines_of([path])) == [b'{"v":1,"a":1}']
