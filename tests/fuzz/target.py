"""What a fuzz target is: a reader, real things for it to read, and what its docstring promises to raise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.fuzz.artefacts import Artefacts


class DefectError(AssertionError):
    """A reader answered, and its answer breaks a promise; the message says which."""


@dataclass(frozen=True, slots=True)
class Target:
    """One reader. read: feeds it one input, and raises DefectError when an answer is wrong in itself.

    promised: what the reader's docstring says that it raises; everything else that comes out is a defect.
    seeds: real inputs, made by the project's own code. max_bytes: inputs are not longer. tries: inputs in the short
    run. is_json: seeds are lines of JSON, whose values are worth replacing one by one.
    """

    name: str
    read: Callable[[Artefacts, bytes], None]
    seeds: Callable[[Artefacts], Sequence[bytes]]
    promised: tuple[type[Exception], ...] = ()
    max_bytes: int = 1 << 16
    tries: int = 300
    is_json: bool = False

    def feed(self, artefacts: Artefacts, data: bytes) -> None:
        """Let the reader have one input. Raises whatever it should not have raised."""
        try:
            self.read(artefacts, data)
        except self.promised:
            return
