"""What `run` makes of a receipt: it is compared with the journal, and only then written down. Nothing is released."""

from __future__ import annotations

import re
from typing import Any

from agent.errors import StoreError
from agent.recorder.recovery import records_of
from agent.vault.filesystem import Filesystem
from agent.vault.layout import VaultLayout

_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_READ_BACK = ("o_direct", "buffered")


def check_receipt(filesystem: Filesystem, layout: VaultLayout, receipt: Any) -> dict[str, Any]:
    """The fields of an `offload` record. Raises StoreError saying in what the receipt and the journal differ.

    A receipt is `{"recording_id", "store", "objects": [{"name", "bytes", "sha256", "read_back"}, …]}`; every media file
    that the journal vouches for has to be in it with the journal's hash.
    """
    recording_id, store, objects = _parse(receipt)
    records = records_of(filesystem, layout, recording_id)
    if not any(record.type == "recording-close" for record in records):
        raise StoreError(f"The journal knows no finished recording {recording_id}; the receipt is refused.")
    by_name = {entry["name"]: entry for entry in objects}
    for name, sha256 in expected_objects(record.fields | {"type": record.type} for record in records):
        entry = by_name.get(name)
        if entry is None:
            raise StoreError(f"The receipt for {recording_id} says nothing of {name}; offload it again.")
        if entry["sha256"] != sha256:
            raise StoreError(f"The receipt for {recording_id} has another hash for {name} than the journal.")
    return {"recording_id": recording_id, "store": store, "objects": objects}


def expected_objects(records: Any) -> list[tuple[str, str]]:
    """(name, SHA-256 of the whole file) of each media file that the records vouch for as a whole.

    A torn segment has no such hash: what its file holds behind the confirmed bytes nobody knows.
    """
    expected: list[tuple[str, str]] = []
    for fields in records:
        if fields["type"] == "recording-open" or (fields["type"] == "recording-close" and fields.get("init_file")):
            expected.append((str(fields["init_file"]), str(fields["init_sha256"])))
        elif fields["type"] == "segment" and fields["state"] in ("whole", "recovered"):
            expected.append((str(fields["file"]), str(fields["sha256"])))
    return expected


def _parse(receipt: Any) -> tuple[str, str, list[dict[str, Any]]]:
    if not isinstance(receipt, dict):
        raise StoreError("A receipt is not a JSON object; it is refused.")
    recording_id, store, objects = receipt.get("recording_id"), receipt.get("store"), receipt.get("objects")
    if not isinstance(recording_id, str) or not _ID.fullmatch(recording_id):
        raise StoreError("A receipt names no recording; it is refused.")
    if not isinstance(store, str) or not store or not isinstance(objects, list) or len(objects) > 100_000:
        raise StoreError("A receipt names no store or no objects; it is refused.")
    clean: list[dict[str, Any]] = []
    for entry in objects:
        if not isinstance(entry, dict):
            raise StoreError("A receipt's object is not a JSON object; it is refused.")
        name, size, sha256, read_back = (entry.get(key) for key in ("name", "bytes", "sha256", "read_back"))
        if (
            not isinstance(name, str)
            or not isinstance(size, int)
            or not isinstance(sha256, str)
            or not re.fullmatch(r"[0-9a-f]{64}", sha256)
            or read_back not in _READ_BACK
        ):
            raise StoreError("A receipt's object lacks name, bytes, sha256 or read_back; it is refused.")
        clean.append({"name": name, "bytes": size, "sha256": sha256, "read_back": read_back})
    return recording_id, store, clean
