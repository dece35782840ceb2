"""Configuration files into Settings, or a refusal that says where, what, and what instead.

How files combine: the defaults of the schema, then the file named by the top-level key `extends` (or the profile of the
command line), then the file itself, then overrides from the command line; key by key, the later wins. A relative path,
`extends` included, is taken from the folder of the file it stands in; in an override, from the working directory.

The hash that the journal calls config_sha256 is over the *effective* settings: `agent.settings.render.canonical_json`.
"""

from __future__ import annotations

import difflib
import os.path
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_origin

from agent.errors import ConfigError
from agent.settings.combinations import conflicts
from agent.settings.files import EXTENDS, ConfigFile, read_files
from agent.settings.keys import KeySpec, UnfitValueError, entry_names, key_specs, sections, show
from agent.settings.render import settings_sha256
from agent.settings.schema import Settings
from agent.settings.toml_lines import KeyPath

MAX_PROBLEMS = 50


@dataclass(frozen=True, slots=True)
class LoadedSettings:
    """Effective settings, the files that made them (base first), and the hash of what is in force."""

    settings: Settings
    sources: tuple[Path, ...]
    sha256: str


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a value stands: "bodycam.toml, line 3", or an override."""

    where: str
    folder: Path


@dataclass(slots=True)
class _Collected:
    """Values by key as they are gathered, later sources over earlier ones, and everything that is wrong with them."""

    values: dict[tuple[str, ...], Any] = field(default_factory=dict)
    places: dict[tuple[str, ...], _Place] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def load_settings(
    path: Path | None, *, profile: str | None = None, overrides: Mapping[str, str] | None = None
) -> LoadedSettings:
    """Settings from a file, a profile, or both; without either, the defaults.

    profile: name of a profile ("bench", "pi-zero-2w") for a file that does not itself say `extends`; where it is looked
    for: `agent.settings.files.find_profile`.
    overrides: dotted key to value as text ("camera.fps" to "15"), as in TOML; text and paths need no quotes. A shell
    often hands quotes on, so a pair around text is taken for what it is in TOML, and not for a part of the text.

    Raises ConfigError with one sentence for each thing that is wrong, all of them at once, up to MAX_PROBLEMS.
    """
    collected = _Collected()
    files = read_files(path, profile)
    for file in files:
        _collect_file(file, collected)
    for key, text in (overrides or {}).items():
        _collect_override(key, text, collected)
    _resolve_camera_file(collected)
    if not collected.problems:
        settings = _build(Settings, (), collected.values)
        collected.problems += [
            _conflict_text(conflict.keys, conflict.expected, settings, collected) for conflict in conflicts(settings)
        ]
    if collected.problems:
        raise ConfigError("\n".join(collected.problems))
    return LoadedSettings(settings, tuple(file.path for file in files), settings_sha256(settings))


def _collect_file(file: ConfigFile, collected: _Collected) -> None:
    table = {key: value for key, value in file.document.items() if key != EXTENDS}
    _Walk(file.path, file.lines, collected).table(table, Settings, ())


@dataclass(frozen=True, slots=True)
class _Walk:
    """One file's tables against the schema's."""

    file: Path
    lines: dict[KeyPath, int]
    collected: _Collected

    def table(self, table: dict[str, Any], section: Any, path: tuple[str, ...]) -> None:
        """Take the known keys of one table and complain of the others."""
        specs = {spec.name: spec for spec in key_specs(section, path) if len(spec.path) == len(path) + 1}
        subsections = sections(section)
        for key, value in table.items():
            if len(self.collected.problems) >= MAX_PROBLEMS:
                return  # nobody reads on; finding out what each was meant to be takes its time
            inner = (*path, key)
            if key in specs:
                self._take(specs[key], value)
            elif key not in subsections:
                self._problem(inner, _unknown(inner, value, [*specs, *subsections]))
            elif not isinstance(value, dict):
                self._problem(inner, f"{'.'.join(inner)} = {show(value)}; expected a section, [{'.'.join(inner)}]")
            elif is_dataclass(subsections[key]):
                self.table(value, subsections[key], inner)
            else:
                self._named_tables(value, get_args(subsections[key])[1], inner, entry_names(section, key))

    def _named_tables(self, table: dict[str, Any], section: Any, path: tuple[str, ...], names: list[str]) -> None:
        for key, value in table.items():
            inner = (*path, key)
            if key not in names:
                self._problem(inner, _unknown(inner, value, names))
            elif isinstance(value, dict):
                # Present even when empty: an entry without keys is an entry of defaults.
                self.collected.values.setdefault(inner, {})
                self.table(value, section, inner)
            else:
                self._problem(inner, f"{'.'.join(inner)} = {show(value)}; expected a section, [{'.'.join(inner)}]")

    def _take(self, spec: KeySpec, value: object) -> None:
        place = _Place(self._where(spec.path), self.file.parent)
        try:
            self.collected.values[spec.path] = spec.convert(value, place.folder)
            self.collected.places[spec.path] = place
        except UnfitValueError as error:
            at: KeyPath = spec.path if error.index is None else (*spec.path, error.index)
            self._problem(at, f"{spec.dotted} = {show(value)}; expected {error.expected}")

    def _where(self, path: KeyPath) -> str:
        return f"{self.file}, line {self.lines[path]}"

    def _problem(self, path: KeyPath, text: str) -> None:
        self.collected.problems.append(f"{self._where(path)}: {text}.")


def _collect_override(key: str, text: str, collected: _Collected) -> None:
    where = "command line"
    path = tuple(key.split("."))
    specs = {spec.path: spec for spec in key_specs()}
    if path not in specs:
        collected.problems.append(
            f"{where}: {_unknown(path, text, [spec.dotted for spec in specs.values()], whole=True)}."
        )
        return
    spec = specs[path]
    value: object = text
    if spec.kind not in (str, Path) or _is_quoted(text):
        try:
            document = tomllib.loads(f"value = {text}")
            # A newline in the text must not smuggle in a second key.
            value = document["value"] if len(document) == 1 else text
        except tomllib.TOMLDecodeError:
            value = text
    folder = Path.cwd()
    try:
        collected.values[path] = spec.convert(value, folder)
        collected.places[path] = _Place(where, folder)
    except UnfitValueError as error:
        collected.problems.append(f"{where}: {key} = {show(value)}; expected {error.expected}.")


def _is_quoted(text: str) -> bool:
    return len(text) >= 2 and text[0] == text[-1] and text[0] in "\"'"


def _unknown(path: tuple[str, ...], value: object, candidates: list[str], *, whole: bool = False) -> str:
    """What to say of a key or section that the schema lacks. `candidates`: what stands there, or all dotted keys."""
    dotted = ".".join(path)
    is_section = isinstance(value, dict)
    said = f"[{dotted}] is an unknown section" if is_section else f"{dotted} = {show(value)} is an unknown key"
    specs = list(key_specs())
    wanted = dotted if whole else path[-1]
    guesses = [name for name in candidates if _stem(name) == _stem(wanted)] or difflib.get_close_matches(
        wanted, candidates, 1
    )
    if guesses:
        meant = guesses[0] if whole else ".".join((*path[:-1], guesses[0]))
        spec = next((spec for spec in specs if spec.dotted == meant), None)
        detail = f" ({spec.expectation})" if spec else ""
        return f"{said}; expected {guesses[0] if spec or whole else f'[{meant}]'}{detail}, if that was meant"
    elsewhere = [spec for spec in specs if spec.name == path[-1] and not is_section]
    if elsewhere:
        return f"{said}; expected in " + " or ".join(
            f"[{'.'.join(spec.path[:-1])}]" if spec.path[:-1] else "the top of the file" for spec in elsewhere
        )
    return f"{said}; expected one of: {', '.join(candidates)}"


def _stem(name: str) -> str:
    """A key without its unit, so that pre_event, pre_event_ms and pre_event_s are seen as one wish."""
    return re.sub(
        r"_(ns|us|ms|s|sec|secs|seconds|min|bytes|kb|mb|gb|mib|bps|kbps|mbps|hz|khz|pin|pins)$", "", name.lower()
    )


def _resolve_camera_file(collected: _Collected) -> None:
    """camera.device is a path of ours only for the backend "file"; a V4L2 device is named as the system names it."""
    key = ("camera", "device")
    device = collected.values.get(key)
    if device and collected.values.get(("camera", "backend")) == "file":
        collected.values[key] = os.path.normpath(collected.places[key].folder / device)


def _build(section: Any, path: tuple[str, ...], values: dict[tuple[str, ...], Any]) -> Any:
    arguments: dict[str, Any] = {
        key[-1]: value for key, value in values.items() if len(key) == len(path) + 1 and key[: len(path)] == path
    }
    for name, kind in sections(section).items():
        inner = (*path, name)
        if is_dataclass(kind):
            arguments[name] = _build(kind, inner, values)
        elif get_origin(kind) is dict:
            names = sorted({key[len(inner)] for key in values if len(key) > len(inner) and key[: len(inner)] == inner})
            arguments[name] = {entry: _build(get_args(kind)[1], (*inner, entry), values) for entry in names}
    return section(**arguments)


def _conflict_text(keys: tuple[str, ...], expected: str, settings: Settings, collected: _Collected) -> str:
    """A conflict at the first of its keys that anybody wrote; a default alone is never to blame."""
    paths = [tuple(key.split(".")) for key in keys]
    place = next((collected.places[path] for path in paths if path in collected.places), None)
    values = {path: _value_at(settings, path) for path in paths}
    said = " with ".join(
        f"{'.'.join(path)} = {show(value)}" + ("" if path in collected.places else " (the default)")
        for path, value in values.items()
    )
    return f"{place.where if place else 'defaults'}: {said}; expected {keys[0]} to be {expected}."


def _value_at(settings: Settings, path: tuple[str, ...]) -> object:
    value: object = settings
    for name in path:
        value = getattr(value, name)
    return value
