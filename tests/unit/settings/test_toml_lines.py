"""The line of every key, in every way that TOML can write one."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from datetime import date, datetime, time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.settings.toml_lines import KeyPath, key_lines


def flattened(value: Any, path: KeyPath = ()) -> Iterator[KeyPath]:
    """Every path in a parsed document."""
    if path:
        yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from flattened(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from flattened(inner, (*path, index))


EVERYTHING = '''\
# a comment with [brackets] and = signs
top = 1
"quoted = key" = "value # not a comment"
'literal.key' = 'C:\\'

[section] # comment
plain = true
dotted.inner.most = 1
dotted . spaced = 2
site."google.com" = true
"\\u00e9t\\u00e9" = 1
long = """
fake = 1
[not.a.table]
escaped \\""" quote"""
literal = \'\'\'
also = "fake"\'\'\'
quotes_at_end = """a""""" # two of them
array = [
  1, # one
  [ 2,
    3 ],

  { x = 4 },
]
inline = { a = 1, b.c = "}", "d]" = [ "]", 5 ] }
date = 1979-05-27T07:32:00-08:00
clock = 07:32:00

[section.sub.deep]
key = "[x]"

[[items]]
name = "a"
[items.sub]
k = 1
[[items]]
name = "b"
[[items.nested]]
z = 0
[[items.nested]]
z = 1
'''


def test_names_each_line_of_a_file_with_everything_in_it() -> None:
    lines = key_lines(EVERYTHING)

    assert set(lines) == set(flattened(tomllib.loads(EVERYTHING)))
    expected: dict[KeyPath, str] = {
        ("top",): "top",
        ("quoted = key",): '"quoted = key"',
        ("literal.key",): "'literal.key'",
        ("section",): "[section]",
        ("section", "dotted", "inner", "most"): "dotted.inner.most",
        ("section", "dotted", "spaced"): "dotted . spaced",
        ("section", "site", "google.com"): "site",
        ("section", "été"): '"\\u00e9',
        ("section", "literal"): "literal = ",
        ("section", "quotes_at_end"): "quotes_at_end",
        ("section", "array", 0): "  1,",
        ("section", "array", 1, 1): "    3",
        ("section", "array", 2, "x"): "  { x",
        ("section", "inline", "b", "c"): "inline",
        ("section", "inline", "d]", 1): "inline",
        ("section", "clock"): "clock",
        ("section", "sub", "deep"): "[section.sub.deep]",
        ("section", "sub", "deep", "key"): 'key = "[x]"',
        ("items", 0): "[[items]]",
        ("items", 0, "sub", "k"): "k = 1",
        ("items", 1, "name"): 'name = "b"',
        ("items", 1, "nested", 1, "z"): "z = 1",
    }
    text = EVERYTHING.split("\n")
    for path, start in expected.items():
        assert text[lines[path] - 1].startswith(start), path


@pytest.mark.parametrize(
    "text", ["", "\n", "# only a comment", "a=1", "[a]", 'a="""\n"""', "a=[]", "a={}", "[ a . b ]\nc=1"]
)
def test_small_texts(text: str) -> None:
    assert set(key_lines(text)) == set(flattened(tomllib.loads(text)))


def test_windows_line_ends_count_once() -> None:
    assert key_lines("a = 1\r\n\r\nb = '''\r\n\r\n'''\r\nc = 2\r\n")[("c",)] == 6


KEYS = st.text(st.characters(codec="utf-8"), max_size=6)
SCALARS = (
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.text(st.characters(codec="utf-8"), max_size=20)
    | st.dates(min_value=date(1, 1, 1))
    | st.times()
    | st.floats()
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=8
)


class Writer:
    """Writes a document in ways that vary with `draw`, and keeps the line of each key."""

    def __init__(self, data: st.DataObject) -> None:
        self.data = data
        self.text = ""
        self.lines: dict[KeyPath, int] = {}

    def put(self, text: str) -> None:
        self.text += text

    def note(self, path: KeyPath) -> None:
        self.lines[path] = self.text.count("\n") + 1

    def blank(self, *, newlines: bool) -> None:
        options = ["", " ", "\t"] + (["\n", ' # = ["\n', "\n\n  "] if newlines else [])
        self.put(self.data.draw(st.sampled_from(options)))

    def string(self, text: str) -> str:
        escaped = "".join(f"\\U{ord(character):08X}" for character in text)
        styles = [f'"{escaped}"']
        if text.isascii() and text.isprintable() and not set(text) & set("\"'\\"):
            styles += [f"'{text}'", f'"{text}"', f'"""{text}"""', f"'''\n{text}'''", f'"""{text}\\\n  """']
        return self.data.draw(st.sampled_from(styles))

    def key(self, key: str) -> None:
        quoted = '"' + "".join(f"\\U{ord(character):08X}" for character in key) + '"'
        bare = key.isascii() and key.replace("_", "a").replace("-", "a").isalnum()
        self.put(self.data.draw(st.sampled_from([quoted, key] if bare else [quoted])))

    def value(self, value: Any, path: KeyPath) -> None:
        match value:
            case bool():
                self.put(str(value).lower())
            case str():
                self.put(self.string(value))
            case date() | datetime() | time():
                self.put(value.isoformat())
            case list():
                self.put("[")
                for index, element in enumerate(value):
                    self.blank(newlines=True)
                    self.note((*path, index))
                    self.value(element, (*path, index))
                    self.blank(newlines=True)
                    self.put(",")
                self.blank(newlines=True)
                self.put("]")
            case dict():
                self.put("{")
                for index, (key, element) in enumerate(value.items()):
                    self.put(", " if index else "")
                    self.assignment(key, element, path)
                self.put("}")
            case _:
                self.put(repr(value))

    def assignment(self, key: str, value: Any, path: KeyPath) -> None:
        inner = (*path, key)
        self.note(inner)
        self.key(key)
        while isinstance(value, dict) and len(value) == 1 and self.data.draw(st.booleans()):
            key, value = next(iter(value.items()))
            self.put(self.data.draw(st.sampled_from([".", " . "])))
            inner = (*inner, key)
            self.note(inner)
            self.key(key)
        self.put(self.data.draw(st.sampled_from(["=", " = "])))
        self.value(value, inner)

    def document(self, document: dict[str, Any]) -> None:
        tables = {key for key, value in document.items() if isinstance(value, dict) and self.data.draw(st.booleans())}
        for key, value in document.items():
            if key not in tables:
                self.blank(newlines=True)
                self.assignment(key, value, ())
                self.put("\n")
        for key in tables:
            self.blank(newlines=True)
            self.note((key,))
            self.put("[")
            self.key(key)
            self.put("] # [comment]\n")
            for inner_key, inner in document[key].items():
                self.blank(newlines=True)
                self.assignment(inner_key, inner, (key,))
                self.put("\n")


@given(st.dictionaries(KEYS, VALUES, max_size=4), st.data())
def test_finds_every_key_of_any_document_on_its_line(document: dict[str, Any], data: st.DataObject) -> None:
    writer = Writer(data)
    writer.document(document)

    assert set(flattened(tomllib.loads(writer.text))) == set(writer.lines)  # the writer wrote what it meant
    assert key_lines(writer.text) == writer.lines
