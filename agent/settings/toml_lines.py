"""On which line of a TOML file each key stands.

tomllib parses but keeps no positions, and a message without a line sends people searching. This scanner reads only as
much of TOML 1.0 (toml.io/en/v1.0.0) as it takes to tell keys from values; it expects a text that tomllib has accepted
and leaves all judgement of values to it.
"""

from __future__ import annotations

import tomllib

KeyPath = tuple[str | int, ...]
"""Keys from the root down; an int is the index in an array of tables or of values."""

_END_OF_BARE = frozenset(" \t\r\n=.]#,}[{")


def key_lines(text: str) -> dict[KeyPath, int]:
    """Line numbers, from 1, of every table, key and array element of a valid TOML text; the first place wins."""
    return _Scanner(text).scan()


class _Scanner:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._line = 1
        self._lines: dict[KeyPath, int] = {}
        self._array_lengths: dict[KeyPath, int] = {}

    def scan(self) -> dict[KeyPath, int]:
        table: KeyPath = ()
        while self._skip_blank():
            if self._peek() == "[":
                table = self._header()
            else:
                self._assignment(table)
        return self._lines

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _advance(self, count: int = 1) -> None:
        self._line += self._text.count("\n", self._at, self._at + count)
        self._at += count

    def _skip_blank(self) -> bool:
        """Pass spaces, newlines and comments; False at the end of the text."""
        while character := self._peek():
            if character in " \t\r\n":
                self._advance()
            elif character == "#":
                end = self._text.find("\n", self._at)
                self._advance((end if end >= 0 else len(self._text)) - self._at)
            else:
                return True
        return False

    def _skip_spaces(self) -> None:
        while self._peek() and self._peek() in " \t":
            self._advance()

    def _note(self, path: KeyPath, line: int) -> None:
        self._lines.setdefault(path, line)

    def _header(self) -> KeyPath:
        line = self._line
        is_array = self._text.startswith("[[", self._at)
        self._advance(2 if is_array else 1)
        path: KeyPath = ()
        keys = self._key()
        for position, key in enumerate(keys):
            path = (*path, key)
            self._note(path, line)
            if is_array and position == len(keys) - 1:
                self._array_lengths[path] = self._array_lengths.get(path, 0) + 1
            # A name that is an array of tables means its latest element (TOML 1.0, "Array of Tables").
            if length := self._array_lengths.get(path):
                path = (*path, length - 1)
                self._note(path, line)
        self._advance(2 if is_array else 1)
        return path

    def _key(self) -> list[str]:
        """A possibly dotted key, and the spaces around it."""
        parts = []
        while True:
            self._skip_spaces()
            parts.append(self._key_part())
            self._skip_spaces()
            if self._peek() != ".":
                return parts
            self._advance()

    def _key_part(self) -> str:
        start = self._at
        if self._peek() in {'"', "'"}:
            self._string()
            # Escapes are tomllib's business: it turns the quoted key into the name that it will have in the document.
            return next(iter(tomllib.loads(f"{self._text[start : self._at]} = 0")))
        while self._peek() and self._peek() not in _END_OF_BARE:
            self._advance()
        return self._text[start : self._at]

    def _assignment(self, table: KeyPath) -> None:
        line = self._line
        path = table
        for key in self._key():
            path = (*path, key)
            self._note(path, line)
        self._advance()  # "="
        self._skip_spaces()
        self._value(path)

    def _value(self, path: KeyPath) -> None:
        match self._peek():
            case '"' | "'":
                self._string()
            case "[":
                self._array(path)
            case "{":
                self._inline_table(path)
            case _:
                while self._peek() and self._peek() not in "\n#,]}":
                    self._advance()

    def _array(self, path: KeyPath) -> None:
        self._advance()
        index = 0
        while self._skip_blank() and self._peek() != "]":
            if self._peek() == ",":
                self._advance()
                continue
            self._note((*path, index), self._line)
            self._value((*path, index))
            index += 1
        self._advance()

    def _inline_table(self, path: KeyPath) -> None:
        self._advance()
        while self._skip_blank() and self._peek() != "}":
            if self._peek() == ",":
                self._advance()
                continue
            self._assignment(path)
        self._advance()

    def _string(self) -> None:
        quote = self._peek()
        is_long = self._text.startswith(quote * 3, self._at)
        delimiter = quote * 3 if is_long else quote
        self._advance(len(delimiter))
        while not self._text.startswith(delimiter, self._at):
            # A backslash escapes in basic strings only; in literal ones it is a character like any other.
            self._advance(2 if quote == '"' and self._peek() == "\\" else 1)
        self._advance(len(delimiter))
        # Up to two more quotes may belong to the end of a long string: """a""""" is a"".
        while is_long and self._peek() == quote:
            self._advance()
