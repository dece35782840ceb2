"""Which files make up a configuration, read and parsed; what they mean is the loader's business.

One rule: a file may name one other by its top-level key `extends`, or the command line names a profile; the file that
is extended extends nothing itself. So what is in force can always be read off two files.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.errors import ConfigError
from agent.settings.keys import show
from agent.settings.toml_lines import KeyPath, key_lines

EXTENDS = "extends"
MAX_FILE_BYTES = 1 << 16
"""Five times the documented defaults, comments and all."""
MAX_DOTS_IN_LINE = 200
"""A key of thousands of parts, each a table in the one before, takes memory by the square of their number."""
SYSTEM_PROFILES = Path("/etc/bodycam/profiles")
CHECKOUT_PROFILES = Path(__file__).resolve().parents[2] / "config" / "profiles"


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """A parsed file. `path` is absolute and free of links. lines: where each key stands."""

    path: Path
    document: dict[str, Any]
    lines: dict[KeyPath, int]

    @property
    def extends_line(self) -> int:
        """The line of `extends`; only where there is one."""
        return self.lines[(EXTENDS,)]


def read_files(path: Path | None, profile: str | None) -> tuple[ConfigFile, ...]:
    """The files that count, base first.

    Raises ConfigError for one that is missing, unreadable or no TOML, and for wrong `extends`.
    """
    local = _read(path, "the configuration file") if path else None
    base_path = _extended_path(local) if local else None
    if local and base_path and profile is not None:
        raise ConfigError(
            f"{local.path}, line {local.extends_line}: extends = {show(local.document[EXTENDS])} stands against "
            f'the profile "{profile}" of the command line; expected only one of the two.'
        )
    if profile is not None:
        base_path = find_profile(profile, local.path.parent if local else None)
    if base_path is None:
        return (local,) if local else ()
    base = _read(base_path, "the file to extend" if local else f'the profile "{profile}"')
    if EXTENDS in base.document:
        circle = ", in a circle" if local and _extended_path(base) == local.path else ""
        raise ConfigError(
            f"{base.path}, line {base.extends_line}: extends = {show(base.document[EXTENDS])} is in a file that is "
            f"itself extended{circle}; expected no extends there, because only one file may stand behind another."
        )
    return (base, local) if local else (base,)


def find_profile(name: str, beside: Path | None) -> Path:
    """The file of a named profile: profiles/NAME.toml in the folder `beside`, SYSTEM_PROFILES, then CHECKOUT_PROFILES.

    Raises ConfigError that lists the profiles there are.
    """
    folders = [*([beside / "profiles"] if beside else []), SYSTEM_PROFILES, CHECKOUT_PROFILES]
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        for folder in folders:
            if (folder / f"{name}.toml").is_file():
                return (folder / f"{name}.toml").resolve()
    known = ", ".join(sorted({file.stem for folder in folders for file in folder.glob("*.toml")}))
    looked_in = ", ".join(map(str, folders))
    raise ConfigError(f'The profile "{name}" is not in {looked_in}; expected one of: {known or "none is installed"}.')


def _read(path: Path, what: str) -> ConfigFile:
    try:
        path = path.resolve()
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read as {what} ({error.strerror}); expected a TOML file there."
        ) from error
    if len(data) > MAX_FILE_BYTES:
        raise ConfigError(f"{path}: is larger than {MAX_FILE_BYTES} bytes; expected a configuration, which is not.")
    for line, content in enumerate(data.split(b"\n"), 1):
        if content.count(b".") > MAX_DOTS_IN_LINE:
            raise ConfigError(f"{path}, line {line}: has more than {MAX_DOTS_IN_LINE} dots; expected a few at most.")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            f"{path}, line {line}: the byte 0x{data[error.start]:02x} is not UTF-8; expected TOML, which is UTF-8 only."
        ) from error
    try:
        return ConfigFile(path, tomllib.loads(text), key_lines(text))
    except (ValueError, RecursionError) as error:
        # Mostly TOMLDecodeError; a number of thousands of digits or absurd nesting escapes tomllib as the bare classes.
        raise ConfigError(_syntax_problem(path, text, error)) from error


def _syntax_problem(path: Path, text: str, error: Exception) -> str:
    lines = text.replace("\r\n", "\n").rstrip("\n").split("\n")
    found = re.search(r" \(at (?:line (\d+), column (\d+)|end of document)\)$", str(error))
    if not found:
        return f"{path}: is not TOML ({error}); expected key = value lines under [section] headers."
    line = min(int(found[1]) if found[1] else len(lines), len(lines))
    reason = str(error)[: found.start()]
    said = show(lines[line - 1].strip())
    return f"{path}, line {line}: {said} is not TOML ({reason}); expected key = value or [section]."


def _extended_path(file: ConfigFile) -> Path | None:
    if EXTENDS not in file.document:
        return None
    value = file.document[EXTENDS]
    said = f"{file.path}, line {file.extends_line}: extends = {show(value)}"
    if not isinstance(value, str) or not value or "\0" in value:
        raise ConfigError(f'{said}; expected the path of one profile, such as "profiles/bench.toml".')
    extended = (file.path.parent / value).resolve()
    if extended == file.path:
        raise ConfigError(f"{said} is this file itself, in a circle; expected another file.")
    if not extended.is_file():
        raise ConfigError(f"{said} means {extended}, which is no file; expected the path of one.")
    return extended
