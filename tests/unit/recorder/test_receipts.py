"""Receipts against the journal: the right one passes, and every other one is refused with what is wrong with it."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.clock import SimulatedClock
from agent.errors import StoreError
from agent.recorder.receipts import MAX_OBJECTS, check_receipt, expected_objects
from agent.vault.journal import Journal
from agent.vault.layout import RECORDING_JSON_NAME
from agent.vault.record import MAX_LINE_BYTES, PENDING, ZERO_HASH, Record, encode_json, parse_line
from tests.support.crashfs import CrashFilesystem
from tests.unit.recorder.receipt_of import LAYOUT, receipt_for, recorded
from tests.unit.vault.journals import FakeSigner


def check(receipt: Any, filesystem: CrashFilesystem | None = None) -> dict[str, Any]:
    """The product's word on it."""
    return check_receipt(filesystem or recorded()[0], LAYOUT, receipt)


def good() -> dict[str, Any]:
    """A receipt that is right."""
    return receipt_for(*recorded())


def changed(index: int = 0, **fields: Any) -> dict[str, Any]:
    """A receipt with one object changed; a value of ... leaves the field out."""
    receipt = good()
    entry = receipt["objects"][index] | fields
    receipt["objects"][index] = {key: value for key, value in entry.items() if value is not ...}
    return receipt


def test_a_right_receipt_becomes_the_fields_of_a_record() -> None:
    receipt = good()
    assert len(receipt["objects"]) >= 4
    fields = check(receipt)
    media = [entry for entry in receipt["objects"] if entry["name"] != "device/chain.pem"]
    assert fields == {"recording_id": receipt["recording_id"], "store": receipt["store"], "objects": media}


def test_what_is_asked_for_is_what_lies_on_flash() -> None:
    filesystem, recording_id = recorded()
    names = [name for name in filesystem.list_dir(LAYOUT.recording(recording_id)) if name != "recording.json"]
    objects = {entry["name"]: entry for entry in receipt_for(filesystem, recording_id)["objects"]}
    assert set(names) == set(objects) - {"device/chain.pem"}
    for name in names:
        data = filesystem.read(LAYOUT.recording(recording_id) / name)
        assert (objects[name]["bytes"], objects[name]["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())


def test_an_object_that_is_not_there_is_named() -> None:
    receipt = good()
    for index, entry in enumerate(receipt["objects"][:-1]):
        objects = receipt["objects"][:index] + receipt["objects"][index + 1 :]
        with pytest.raises(StoreError, match=f"says nothing of {entry['name']}; offload it again"):
            check(receipt | {"objects": objects})
    with pytest.raises(StoreError, match="says nothing of"):
        check(receipt | {"objects": []})


@pytest.mark.parametrize("fields", [{"sha256": "b" * 64}, {"bytes": 1}])
def test_an_object_that_differs_is_named(fields: dict[str, Any]) -> None:
    for index, entry in enumerate(good()["objects"][:-1]):
        with pytest.raises(StoreError, match=f"another size or hash for {entry['name']} than the journal"):
            check(changed(index, **fields))


def test_an_object_may_not_be_named_twice() -> None:
    """Of two entries under one name, one could be right and the other be what goes into the journal."""
    receipt = good()
    receipt["objects"].insert(0, receipt["objects"][0] | {"sha256": "b" * 64})
    with pytest.raises(StoreError, match="names an object twice"):
        check(receipt)


@pytest.mark.parametrize("receipt", [None, [], "text", 5, True])
def test_what_is_no_object_is_refused(receipt: Any) -> None:
    with pytest.raises(StoreError, match="not a JSON object"):
        check(receipt)


@pytest.mark.parametrize(
    "recording_id",
    [..., None, 5, "", "../../etc", "0190a0b0-0000-7000-8000-00000000000", "0190A0B0-0000-7000-8000-000000000000",
     "0190a0b0-0000-7000-8000-000000000000\n"],
)  # fmt: skip
def test_a_receipt_for_no_recording_is_refused(recording_id: Any) -> None:
    receipt = {key: value for key, value in (good() | {"recording_id": recording_id}).items() if value is not ...}
    with pytest.raises(StoreError, match="names no recording"):
        check(receipt)


def test_a_recording_that_is_unknown_or_not_finished_gets_no_receipt() -> None:
    with pytest.raises(StoreError, match="no finished recording 0190a0b0-0000-7000-8000-000000000000"):
        check(good() | {"recording_id": "0190a0b0-0000-7000-8000-000000000000"})
    filesystem, recording_id = recorded()
    cut = CrashFilesystem(LAYOUT.root)
    summary = LAYOUT.recording(recording_id) / RECORDING_JSON_NAME
    cut.put(summary, filesystem.read(summary))
    lines = filesystem.read(LAYOUT.journal / "000001.journal").splitlines(keepends=True)
    cut.put(
        LAYOUT.journal / "000001.journal", b"".join(line for line in lines if b'"type":"recording-close"' not in line)
    )
    with pytest.raises(StoreError, match=f"knows no finished recording {recording_id}"):
        check(good(), cut)


@pytest.mark.parametrize(
    "fields", [{"store": ""}, {"store": 5}, {"store": "x" * 2000}, {"objects": {}}, {"objects": None}]
)
def test_a_receipt_without_store_or_objects_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(StoreError, match="names no store or no objects"):
        check(good() | fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"name": ...}, {"name": 5}, {"name": ""}, {"name": "x" * 256}, {"name": "a\tb"}, {"name": "\u00e9.m4s"},
        {"bytes": ...}, {"bytes": "5"}, {"bytes": 1.0}, {"bytes": True}, {"bytes": -1}, {"bytes": 10**30},
        {"sha256": ...}, {"sha256": "A" * 64}, {"sha256": "a" * 63}, {"sha256": "a" * 64 + "\n"}, {"sha256": 5},
        {"read_back": ...}, {"read_back": "trusted"}, {"read_back": None}, {"read_back": ["buffered"]},
    ],
)  # fmt: skip
def test_an_object_that_is_not_whole_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(StoreError, match="lacks name, bytes, sha256 or read_back"):
        check(changed(-1, **fields))


def test_objects_must_be_objects() -> None:
    with pytest.raises(StoreError, match="object is not a JSON object"):
        check(good() | {"objects": ["init.mp4"]})


def test_what_a_receipt_adds_of_its_own_is_not_written_down() -> None:
    receipt = changed(0, comment="x" * 100) | {"comment": "y"}
    assert "comment" not in json.dumps(check(receipt))


def many(count: int, name_chars: int) -> dict[str, Any]:
    """A receipt that names many things besides."""
    receipt = good()
    receipt["objects"] += [
        {"name": f"{number:0{name_chars}d}", "bytes": 1 << 40, "sha256": "f" * 64, "read_back": "buffered"}
        for number in range(count - len(receipt["objects"]))
    ]
    return receipt


def test_a_receipt_too_large_for_a_line_never_reaches_the_journal() -> None:
    """Behind a line that no reader takes all that follows in the journal would count as torn."""
    filesystem, _ = recorded()
    with pytest.raises(StoreError, match=f"names {MAX_OBJECTS + 1} objects; at most {MAX_OBJECTS}"):
        check(many(MAX_OBJECTS + 1, 6))
    with pytest.raises(StoreError, match="larger than a record may be"):
        check(many(MAX_OBJECTS, 255))
    fields = check(many(MAX_OBJECTS, 10) | {"store": "\U0001f600" * 1024})
    journal = Journal(filesystem, LAYOUT.journal, FakeSigner(), SimulatedClock(), device_id="x", rotate_bytes=1 << 20)
    journal.append("offload", **fields)
    journal.commit()
    (line,) = [
        line for line in filesystem.read(LAYOUT.journal / "000002.journal").splitlines() if b'"type":"offload"' in line
    ]
    assert len(line) <= MAX_LINE_BYTES
    assert parse_line(line).fields["objects"] == fields["objects"]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["recording_id", "store", "objects", "name", "bytes", "sha256", "read_back"]), inner
            )
        ),
    )
)
def test_any_json_is_refused_with_a_sentence(receipt: Any) -> None:
    with pytest.raises(StoreError, match=r"refused\.$"):
        check(receipt)


# What has to be in a receipt


def record(type_: str, **fields: Any) -> Record:
    """A record with these fields."""
    json_bytes = encode_json(1, ZERO_HASH, type_, SimulatedClock().observe(), "boot", fields)
    return parse_line(json_bytes + b"\t" + PENDING.encode())


def segment(name: str, state: str, size: int, sha256: str = "d" * 64) -> Record:
    """A segment's record."""
    return record("segment", file=name, state=state, bytes=size, sha256=sha256)


def test_every_file_that_is_vouched_for_is_asked_for() -> None:
    records = [
        record("trigger", source="button"),
        record("recording-open", init_file="init.mp4", init_bytes=700, init_sha256="a" * 64),
        record("checkpoint", file="000001.m4s", bytes=5, sha256="b" * 64),
        segment("000001.m4s", "whole", 10, "b" * 64),
        segment("000002.m4s", "torn", 20, "c" * 64),
        segment("000003.m4s", "recovered", 30, "d" * 64),
        record("recording-close", recovered=False),
    ]
    assert expected_objects(records) == {
        "init.mp4": (700, "a" * 64),
        "000001.m4s": (10, "b" * 64),
        "000002.m4s": (20, "c" * 64),
        "000003.m4s": (30, "d" * 64),
    }


@pytest.mark.parametrize("state", ["torn", "recovered", "missing", "whole"])
def test_a_file_of_which_nothing_is_vouched_for_is_not_asked_for(state: str) -> None:
    assert expected_objects([segment("000001.m4s", state, 0, hashlib.sha256().hexdigest())]) == {}


def test_a_recording_that_was_cut_before_its_first_checkpoint() -> None:
    close = record("recording-close", never_opened=True, init_file="init.mp4", init_bytes=7, init_sha256="e" * 64)
    assert expected_objects([segment("000001.m4s", "recovered", 9), close]) == {
        "000001.m4s": (9, "d" * 64),
        "init.mp4": (7, "e" * 64),
    }
    assert expected_objects([record("recording-close", never_opened=True, init_file=None)]) == {}
