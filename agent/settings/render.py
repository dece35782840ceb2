"""Settings back into text: TOML for people and files, canonical JSON for the hash in the journal."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from pathlib import Path
from typing import Any

from agent.settings.schema import Settings

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_NOT_BARE_IN_TOML = re.compile(r"[\x00-\x1f\x7f\"\\]")


def to_toml(settings: Settings) -> str:
    """A configuration file with every key, that loads back as exactly these settings."""
    lines: list[str] = []
    _table(dataclasses.asdict(settings), (), lines)
    return "\n".join(lines) + "\n"


def canonical_json(settings: Settings) -> bytes:
    """The bytes that config_sha256 is the hash of.

    One JSON object with every key of the schema, defaults included, sections as objects; keys sorted by code point, no
    spaces, ASCII with \\u escapes, paths absolute and as strings, lists in the order they were given. So two files that
    mean the same have one hash, whatever their comments and order, and whichever profile they extend.

    device.wearer stands in it as "": the hash is journalled in clear, and a name could be found by trying names.
    """
    values = dataclasses.asdict(settings)
    values["device"]["wearer"] = ""
    return json.dumps(values, default=_path_text, **_CANONICAL).encode("ascii")


_CANONICAL: dict[str, Any] = {"sort_keys": True, "separators": (",", ":"), "ensure_ascii": True, "allow_nan": False}


def settings_sha256(settings: Settings) -> str:
    """SHA-256 (FIPS 180-4) of the canonical JSON, lower-case hex."""
    return hashlib.sha256(canonical_json(settings)).hexdigest()


def _path_text(value: object) -> str:
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"Settings hold {type(value).__name__}, which has no canonical form.")


def _table(table: dict[str, Any], path: tuple[str, ...], lines: list[str]) -> None:
    for key, value in table.items():
        if not isinstance(value, dict):
            lines.append(f"{_key(key)} = {_value(value)}")
    for key, value in table.items():
        if isinstance(value, dict) and value:
            inner = (*path, key)
            lines += ["", f"[{'.'.join(_key(part) for part in inner)}]"]
            _table(value, inner, lines)


def _key(name: str) -> str:
    return name if _BARE_KEY.fullmatch(name) else _string(name)


def _value(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case str() | Path():
            return _string(str(value))
        case list() | tuple():
            return f"[{', '.join(_value(element) for element in value)}]"
    raise TypeError(f"Settings hold {type(value).__name__}, which has no TOML form here.")


def _string(text: str) -> str:
    """A basic string of TOML 1.0: quotes, backslashes and control characters escaped, the rest as it is."""
    return '"' + _NOT_BARE_IN_TOML.sub(lambda match: f"\\u{ord(match.group()):04X}", text) + '"'
