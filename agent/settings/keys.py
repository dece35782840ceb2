"""What one configuration key takes: read from the schema, told to people, and enforced.

One source for the loader's refusals, the comments in config/bodycam.toml and the tests that compare the two.
"""

from __future__ import annotations

import dataclasses
import json
import os.path
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from agent.settings.schema import Settings

_UNITS = (
    ("_bytes", "bytes"),
    ("_bps", "bits per second"),
    ("_hz", "hertz"),
    ("_ms", "milliseconds"),
    ("_s", "seconds"),
)
_UNITS_BY_NAME = {"fps": "frames per second", "width": "pixels", "height": "pixels", "baud": "baud"}
# AF_UNIX: sun_path is 108 bytes with its closing NUL (unix(7)).
MAX_SOCKET_PATH_BYTES = 107


class UnfitValueError(ValueError):
    """A value that its key cannot take. `expected` completes "expected …"; `index` is the element of a list, if one."""

    def __init__(self, expected: str, index: int | None = None) -> None:
        super().__init__(expected)
        self.expected = expected
        self.index = index


def show(value: object, levels: int = 8) -> str:
    """A value as it could stand in TOML, cut when long or nested deeper than `levels`."""
    match value:
        case list() | tuple() | dict() if levels == 0:
            return "…"
        case bool():
            text = "true" if value else "false"
        case str():
            text = json.dumps(value, ensure_ascii=False)
        case Path():
            text = json.dumps(str(value), ensure_ascii=False)
        case list() | tuple():
            text = f"[{', '.join(show(element, levels - 1) for element in value)}]"
        case dict():
            text = "{" + ", ".join(f"{key} = {show(element, levels - 1)}" for key, element in value.items()) + "}"
        case int() if abs(value) >= 1 << 64:
            text = hex(value)  # which TOML knows, and which Python writes at any length
        case _:
            text = str(value)
    return text if len(text) <= 80 else f"{text[:77]}…"


@dataclass(frozen=True, slots=True)
class KeySpec:
    """One key. `kind`: bool, int, str, Path, tuple[int, ...] or tuple[str, ...]."""

    path: tuple[str, ...]
    kind: Any
    default: Any
    metadata: dict[str, Any]

    @property
    def name(self) -> str:
        """The key without its sections."""
        return self.path[-1]

    @property
    def dotted(self) -> str:
        """The key with its sections: "buffer.pre_event_s"."""
        return ".".join(self.path)

    @property
    def unit(self) -> str:
        """What a number counts, for people; empty when it counts nothing."""
        if self.name in _UNITS_BY_NAME:
            return _UNITS_BY_NAME[self.name]
        return next((unit for suffix, unit in _UNITS if self.name.endswith(suffix)), "")

    @property
    def expectation(self) -> str:
        """What the key takes, as words that complete "expected …"."""
        if "choices" in self.metadata:
            return "one of " + ", ".join(show(choice) for choice in self.metadata["choices"])
        bounds = f" from {self.metadata['low']} to {self.metadata['high']}" if "low" in self.metadata else ""
        if self.kind is bool:
            return "true or false"
        if self.kind is int:
            return f"a whole number{' of ' + self.unit if self.unit else ''}{bounds}"
        if self.kind == tuple[int, ...]:
            return f"a list of whole numbers{', each' + bounds if bounds else ''}, such as []"
        if self.kind == tuple[str, ...]:
            return f"a list of {self.metadata.get('pattern_text', 'strings that are not empty')}"
        if self.kind is Path:
            return "a path in quotes"
        return str(self.metadata.get("pattern_text", "a string in quotes"))

    def convert(self, value: object, folder: Path) -> Any:
        """The setting for a value out of TOML; a relative path is taken from `folder`, which is absolute.

        Raises UnfitValueError, and TypeError for a schema that asks for what TOML cannot say.
        """
        if "choices" in self.metadata:
            # `in` alone would let true pass for 1.
            if any(type(value) is type(choice) and value == choice for choice in self.metadata["choices"]):
                return value
            raise UnfitValueError(self.expectation)
        if self.kind is bool:
            if isinstance(value, bool):
                return value
            raise UnfitValueError(self.expectation)
        if self.kind is int:
            return self._whole_number(value)
        if get_origin(self.kind) is tuple:
            return self._elements(value)
        if self.kind is Path:
            return self._path(value, folder)
        if self.kind is str:
            return self._string(value, folder)
        raise TypeError(f"The schema has {self.dotted} in a type that configuration files cannot hold: {self.kind}.")

    def _whole_number(self, value: object) -> int:
        if type(value) is not int:
            hint = f", without quotes or unit, such as {show(self.default)}" if isinstance(value, str) else ""
            raise UnfitValueError(self.expectation + hint)
        self._check_bounds(value)
        return value

    def _check_bounds(self, value: int, index: int | None = None) -> None:
        if not self.metadata.get("low", value) <= value <= self.metadata.get("high", value):
            raise UnfitValueError(self.expectation, index)

    def _elements(self, value: object) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise UnfitValueError(self.expectation)
        element_type = get_args(self.kind)[0]
        for index, element in enumerate(value):
            if type(element) is not element_type or element == "":
                raise UnfitValueError(self.expectation, index)
            if element_type is int:
                self._check_bounds(element, index)
            elif "pattern" in self.metadata and not re.fullmatch(self.metadata["pattern"], element):
                raise UnfitValueError(self.expectation, index)
        return tuple(value)

    def _string(self, value: object, folder: Path) -> str:
        if not isinstance(value, str) or "\0" in value:
            raise UnfitValueError(self.expectation)
        if "pattern" in self.metadata and not re.fullmatch(self.metadata["pattern"], value):
            raise UnfitValueError(self.expectation)
        if self.metadata.get("path") and value:
            return str(self._path(value, folder))
        return value

    def _path(self, value: object, folder: Path) -> Path:
        if not isinstance(value, str) or not value or "\0" in value:
            raise UnfitValueError("a path in quotes, not empty")
        # Lexical on purpose: `folder` has no links left in it, and resolving the rest now would freeze what an
        # administrator may want to point elsewhere later.
        path = Path(os.path.normpath(folder / value))
        if "socket" in self.name and len(bytes(path)) > MAX_SOCKET_PATH_BYTES:
            raise UnfitValueError(
                f"a path of at most {MAX_SOCKET_PATH_BYTES} bytes, which is all that a Unix socket can have "
                f"(this one is {path})"
            )
        return path


def key_specs(section: Any = Settings, prefix: tuple[str, ...] = ()) -> Iterator[KeySpec]:
    """Every key of the schema in order; tables keyed by free names ([panel.patterns]) are not among them."""
    hints = get_type_hints(section)
    for field in dataclasses.fields(section):
        hint = hints[field.name]
        if dataclasses.is_dataclass(hint):
            yield from key_specs(hint, (*prefix, field.name))
        elif get_origin(hint) is not dict:
            yield KeySpec((*prefix, field.name), hint, field.default, dict(field.metadata))


def sections(section: Any = Settings) -> dict[str, Any]:
    """The tables directly below a section: name to dataclass, or to dict[str, dataclass] for free names."""
    hints = get_type_hints(section)
    return {
        field.name: hints[field.name]
        for field in dataclasses.fields(section)
        if dataclasses.is_dataclass(hints[field.name]) or get_origin(hints[field.name]) is dict
    }


def entry_names(section: Any, name: str) -> list[str]:
    """The names that the entries of a table of tables may have, as [panel.patterns] has."""
    return [entry for field in dataclasses.fields(section) if field.name == name for entry in field.metadata["names"]]
