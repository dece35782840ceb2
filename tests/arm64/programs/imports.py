"""Imports every module of the agent, and the libraries that it loads late; prints as JSON what each said."""

from __future__ import annotations

import importlib
import json
import pkgutil
import platform
import sys

import agent

LATE = ("cv2", "gpiozero", "lgpio", "pkcs11", "pyrage", "rfc3161_client", "serial")
"""What is installed and has compiled parts, or is for the pins; picamera2 comes with a Pi's system."""


def main() -> None:
    """Everything that failed has its error, everything else None."""
    names = [found.name for found in pkgutil.walk_packages(agent.__path__, "agent.")]
    said: dict[str, str | None] = {}
    for name in [*names, *LATE]:
        try:
            importlib.import_module(name)
        except Exception as error:  # noqa: BLE001  whatever it is, it is the answer
            said[name] = f"{type(error).__name__}: {error}"
        else:
            said[name] = None
    json.dump({"machine": platform.machine(), "imports": said}, sys.stdout)


if __name__ == "__main__":
    main()
