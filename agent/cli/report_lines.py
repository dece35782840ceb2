"""Lines of a report for people: wrapped to the console, and without a space at their ends."""

from __future__ import annotations

import textwrap

from rich.console import Console
from rich.text import Text

MAX_WIDTH = 120


def printable(text: str) -> str:
    """Names and texts come from strangers: nothing in them moves a terminal's cursor."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


class Lines:
    """Prints wrapped lines, without a space at their ends, and keeps what was said."""

    def __init__(self, console: Console) -> None:
        """said: all that was wrapped, so that its words can be explained."""
        self._console = console
        self.width = max(40, min(console.width, MAX_WIDTH))
        self.said: list[str] = []

    def line(self, text: str | Text = "") -> None:
        """One line as it is: rich would wrap it, and fill it up with spaces."""
        self._console.print(text if isinstance(text, Text) else Text(text), soft_wrap=True)

    def wrapped(self, lead: str, text: str, *, indent: int, style: str = "", hang: int | None = None) -> None:
        """`lead` in a style, then text; further lines begin below the text, or at column `hang`.

        Without `lead` all of the text is in the style.
        """
        text = printable(text)
        self.said.append(text)
        hang = indent + len(lead) if hang is None else hang
        lines = textwrap.wrap(
            lead + text,
            self.width,
            initial_indent=" " * indent,
            subsequent_indent=" " * hang,
            break_long_words=False,
            break_on_hyphens=False,
        )
        for number, line in enumerate(lines):
            shown = Text(line.rstrip())
            if style and not lead:
                shown.stylize(style)
            elif number == 0 and style:
                shown.stylize(style, indent, indent + len(lead.rstrip()))
            self.line(shown)

    def hash(self, digits: str) -> None:
        """In two lines: a fingerprint does not fit into 80 columns, and is compared by people."""
        half = 48 if ":" in digits else 32
        self.line(f"{'':15}SHA-256 {digits[:half]}")
        if digits[half:]:
            self.line(f"{'':23}{digits[half:]}")
