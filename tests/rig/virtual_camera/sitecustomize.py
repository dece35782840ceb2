"""On PYTHONPATH Python loads this before any program: `import picamera2` then brings `adapter` along.

The program and picamera2 stay as they are; nothing happens in a program that does not import picamera2.
"""

from __future__ import annotations

import importlib.util
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


class AfterPicamera2(MetaPathFinder):
    """Finds picamera2 as everybody else does, once, and has the adapter follow it."""

    def find_spec(self, name: str, *_: Any) -> ModuleSpec | None:
        """As importlib asks."""
        if name != "picamera2":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is None or spec.loader is None:
            return None
        load = spec.loader.exec_module

        def load_both(module: ModuleType) -> None:
            load(module)
            importlib.import_module("adapter").adapt()

        spec.loader.exec_module = load_both  # type: ignore[method-assign]
        return spec


sys.meta_path.insert(0, AfterPicamera2())
