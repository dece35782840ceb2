"""The one list of everything that reads what a stranger may have written. A new reader gets a line here."""

from __future__ import annotations

from tests.fuzz import control, evidence, media, records, trust
from tests.fuzz.target import Target

TARGETS: tuple[Target, ...] = (
    *media.TARGETS,
    *records.TARGETS,
    *control.TARGETS,
    *trust.TARGETS,
    *evidence.TARGETS,
)


def target(name: str) -> Target:
    """The one of this name. Raises KeyError."""
    return {found.name: found for found in TARGETS}[name]
