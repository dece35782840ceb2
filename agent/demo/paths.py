"""Paths as a person at this shell would write them."""

from __future__ import annotations

import os
import shlex
from pathlib import Path


def shown(path: Path) -> str:
    """Relative where it lies below the working directory, else absolute."""
    relative = os.path.relpath(path)
    return str(path.absolute()) if relative.startswith("..") else relative


def quoted(path: Path | str) -> str:
    """A path to be pasted into a shell; a Path is shortened as `shown` does."""
    return shlex.quote(shown(path) if isinstance(path, Path) else path)
