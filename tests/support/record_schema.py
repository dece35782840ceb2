"""docs/record.schema.json applied to journal lines: what is written is what the page says, and nothing besides."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

SCHEMA = Path(__file__).parents[2] / "docs" / "record.schema.json"


@cache
def schema() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(SCHEMA.read_bytes())
    Draft202012Validator.check_schema(document)
    return document


@cache
def validator() -> Draft202012Validator:
    return Draft202012Validator(schema())


def documented_types() -> set[str]:
    return {entry["if"]["properties"]["type"]["const"] for entry in schema()["allOf"]}


def documented_fields(type_: str) -> set[str]:
    """Every field that a record of a type may have, in whichever of its states."""

    def properties(node: Any) -> Iterator[str]:
        if isinstance(node, dict):
            for key, value in node.items():
                if key == "properties":
                    yield from value
                elif key in ("allOf", "then", "else"):
                    yield from properties(value)
                elif key == "$ref":
                    yield from properties(schema()["$defs"][value.rpartition("/")[2]])
        elif isinstance(node, list):
            for item in node:
                yield from properties(item)

    return set(schema()["properties"]) | set(properties(schema()["$defs"][type_]))


def problems(json_bytes: bytes) -> list[str]:
    """What is wrong with one record: against the schema, or fields and types that no page names."""
    document = json.loads(json_bytes)
    found = [f"{error.json_path}: {error.message}" for error in validator().iter_errors(document)]
    if document.get("type") not in documented_types():
        return [*found, f"{document.get('type')} is no documented type"]
    return found + [f"{name} is not documented" for name in set(document) - documented_fields(document["type"])]


def assert_documented(journal: Path) -> set[str]:
    """Check every line of a journal's files up to its first that is no JSON; returns the types that were met."""
    types = set()
    for json_bytes in lines_of(sorted(journal.glob("*.journal"))):
        assert problems(json_bytes) == [], json_bytes
        types.add(json.loads(json_bytes)["type"])
    return types


def lines_of(paths: Iterable[Path]) -> Iterator[bytes]:
    for path in paths:
        for line in path.read_bytes().split(b"\n")[:-1]:
            json_bytes, tab, _ = line.partition(b"\t")
            if not tab or not json_bytes.startswith(b'{"v":1,'):
                break  # behind it lies a torn tail
            yield json_bytes
