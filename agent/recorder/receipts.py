"""What `run` makes of a receipt: it is compared with the journal, and only then written down. Nothing is released."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from agent.errors import StoreError
from agent.recorder.places import RecordPlaces
from agent.vault.filesystem import Filesystem
from agent.vault.layout import RECORDING_ID, RECORDING_JSON_NAME, VaultLayout
from agent.vault.record import MAX_JSON_BYTES, Record

_NAME = re.compile(r"[A-Za-z0-9._/-]{1,255}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_READ_BACK = ("o_direct", "buffered")
_MAX_STORE_CHARS = 1024
_MAX_BYTES = 1 << 62
MAX_OBJECTS = 5_000
"""As many as one journal line holds; a recording of 10 s segments reaches it after more than half a day."""


def check_receipt(
    filesystem: Filesystem, layout: VaultLayout, receipt: Any, places: RecordPlaces | None = None
) -> dict[str, Any]:
    """The fields of an `offload` record. Raises StoreError saying in what the receipt and the journal differ.

    A receipt is `{"recording_id", "store", "objects": [{"name", "bytes", "sha256", "read_back"}, …]}`; every media file
    that the journal vouches for has to be in it with the journal's size and hash.

    places: of this vault, for who checks one after another.
    """
    places = places or RecordPlaces(filesystem, layout)
    recording_id, store, objects = _parse(receipt)
    if filesystem.size_bytes(layout.recording(recording_id) / RECORDING_JSON_NAME) is None:
        # Asked first: looking through the whole journal for an id that somebody made up takes seconds.
        raise StoreError(f"There is no finished recording {recording_id}; the receipt is refused.")
    records = places.records_of(recording_id)
    if not any(record.type == "recording-close" for record in records):
        raise StoreError(f"The journal knows no finished recording {recording_id}; the receipt is refused.")
    by_name = {entry["name"]: entry for entry in objects}
    if len(by_name) < len(objects):
        raise StoreError(f"The receipt for {recording_id} names an object twice; it is refused.")
    media: list[dict[str, Any]] = []
    try:
        expected = expected_objects(records)
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(f"The journal's records of {recording_id} cannot be used; the receipt is refused.") from error
    for name, (size_bytes, sha256) in expected.items():
        entry = by_name.get(name)
        if entry is None:
            raise StoreError(f"The receipt for {recording_id} says nothing of {name}; offload it again.")
        if (entry["bytes"], entry["sha256"]) != (size_bytes, sha256):
            raise StoreError(f"The receipt for {recording_id} has another size or hash for {name} than the journal.")
        media.append(entry)
    # Only what the journal vouches for is written down: what else a store holds is its own word, of any length.
    return {"recording_id": recording_id, "store": store, "objects": media}


def is_written_down(
    filesystem: Filesystem, layout: VaultLayout, fields: dict[str, Any], places: RecordPlaces | None = None
) -> bool:
    """Whether this receipt is in the journal already; a repeated one is answered, and not written again."""
    places = places or RecordPlaces(filesystem, layout)
    return any(
        record.type == "offload" and all(record.fields.get(name) == value for name, value in fields.items())
        for record in places.records_of(str(fields["recording_id"]))
    )


def expected_objects(records: Iterable[Record]) -> dict[str, tuple[int, str]]:
    """Name of each media file that leaves the camera, and the bytes and SHA-256 that the journal vouches for.

    Of a torn segment that is its confirmed beginning. A file of which nothing is vouched for is no object.
    """
    expected: dict[str, tuple[int, str]] = {}
    for record in records:
        fields = record.fields
        if record.type == "recording-open" or (record.type == "recording-close" and fields.get("init_file")):
            expected[str(fields["init_file"])] = (int(fields["init_bytes"]), str(fields["init_sha256"]))
        elif record.type == "segment" and fields["bytes"]:
            expected[str(fields["file"])] = (int(fields["bytes"]), str(fields["sha256"]))
    return expected


def _parse(receipt: Any) -> tuple[str, str, list[dict[str, Any]]]:
    if not isinstance(receipt, dict):
        raise StoreError("A receipt is not a JSON object; it is refused.")
    recording_id, store, objects = receipt.get("recording_id"), receipt.get("store"), receipt.get("objects")
    if not isinstance(recording_id, str) or not RECORDING_ID.fullmatch(recording_id):
        raise StoreError("A receipt names no recording; it is refused.")
    if not isinstance(store, str) or not 0 < len(store) <= _MAX_STORE_CHARS or not isinstance(objects, list):
        raise StoreError("A receipt names no store or no objects; it is refused.")
    if len(objects) > MAX_OBJECTS:
        raise StoreError(f"A receipt names {len(objects)} objects; at most {MAX_OBJECTS} fit into a record.")
    clean: list[dict[str, Any]] = []
    for entry in objects:
        if not isinstance(entry, dict):
            raise StoreError("A receipt's object is not a JSON object; it is refused.")
        name, size, sha256, read_back = (entry.get(key) for key in ("name", "bytes", "sha256", "read_back"))
        if (
            not isinstance(name, str)
            or not _NAME.fullmatch(name)
            or not isinstance(size, int)
            or isinstance(size, bool)
            or not 0 <= size <= _MAX_BYTES
            or not isinstance(sha256, str)
            or not _SHA256.fullmatch(sha256)
            or read_back not in _READ_BACK
        ):
            raise StoreError("A receipt's object lacks name, bytes, sha256 or read_back; it is refused.")
        clean.append({"name": name, "bytes": size, "sha256": sha256, "read_back": read_back})
    # A line that no reader takes would make all that the journal says after it count as torn.
    if len(json.dumps([store, clean])) > MAX_JSON_BYTES - 4096:
        raise StoreError("A receipt is larger than a record may be; it is refused.")
    return recording_id, store, clean
