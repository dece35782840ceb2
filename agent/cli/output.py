"""Plain lines for people and programs on standard output."""

from __future__ import annotations

import sys


def say(text: str) -> None:
    """One line."""
    sys.stdout.write(text + "\n")
