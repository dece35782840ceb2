"""One target under atheris, in a process of its own: libFuzzer takes the process with it when it ends.

Run as `python -m tests.fuzz.child TARGET ARTEFACTS WORK [libFuzzer's arguments]`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from random import Random

import atheris

# Ours, and what of the standard library is written in Python and parses for us.
_INSTRUMENTED = ["agent", "json", "tomllib", "base64"]


def main() -> None:
    """Fuzz until libFuzzer's arguments say stop; what a reader should not raise ends the process with its traceback."""
    name, folder, work, *arguments = sys.argv[1:]
    with atheris.instrument_imports(include=_INSTRUMENTED):
        from tests.fuzz.artefacts import Artefacts
        from tests.fuzz.mutation import json_mutated
        from tests.fuzz.targets import target

    found, artefacts = target(name), Artefacts(Path(folder), Path(work))

    def mutate(data: bytes, max_bytes: int, seed: int) -> bytes:
        random = Random(seed)
        if random.random() < 0.5:
            return json_mutated(random, data)[:max_bytes]
        changed: bytes = atheris.Mutate(data, max_bytes)
        return changed

    options = {"custom_mutator": mutate} if found.is_json else {}
    atheris.Setup([sys.argv[0], *arguments], lambda data: found.feed(artefacts, data), **options)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
