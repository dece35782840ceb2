"""Tells what happens as it happens: one line an event, with the time since the start."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.text import Text

from agent.clock import NS_PER_S, Clock

GOOD, BAD, PLAIN = "bold green", "bold red", "bold"
_WORD_WIDTH = 9


class Story:
    """Lines on a console. Without a terminal there is neither colour nor anything that moves."""

    def __init__(self, console: Console, clock: Clock) -> None:
        self._console = console
        self._clock = clock
        self._start_ns = clock.boottime_ns()

    def tell(self, word: str, text: str, *, style: str = PLAIN) -> None:
        """One event."""
        seconds = (self._clock.boottime_ns() - self._start_ns) / NS_PER_S
        head = Text.assemble((f"{seconds:5.1f} s  ", "dim"), (f"{word:<{_WORD_WIDTH}}  ", style))
        # Not broken inside words, so that a path can be copied.
        lines = textwrap.wrap(text, max(20, self._console.width - len(head)), break_long_words=False) or [""]
        # Text, not markup: messages and paths may hold square brackets.
        self._console.print(Text.assemble(head, lines[0]), soft_wrap=True)
        for line in lines[1:]:
            self._console.print(Text(" " * len(head) + line), soft_wrap=True)

    def say(self, text: str = "", style: str = "") -> None:
        """A sentence between the events."""
        self._console.print(Text(text, style=style))

    def show(self, command: str, *, above: str, style: str = "bold") -> None:
        """Something to be copied, under a line that says what it is: the story breaks no line of it."""
        self._console.print(Text(above, style=style), soft_wrap=True)
        self._console.print(Text(command, style="cyan"), soft_wrap=True)

    @contextmanager
    def waiting(self, text: str) -> Iterator[Callable[[str], None]]:
        """Something that moves while one waits, on a terminal; call it with the newest text."""
        if not self._console.is_terminal:
            yield lambda _: None
            return
        with self._console.status(Text(text)) as status:
            yield lambda newest: status.update(Text(newest))
