"""On which hardware and operating system this runs: for the `boot` record, so that a person can describe the camera."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from pathlib import Path

MODEL_PATH = Path("/proc/device-tree/model")
"""What a board calls itself: "Raspberry Pi Zero 2 W Rev 1.0" (Devicetree Specification 2.3.2). A PC has none."""
MAX_CHARS = 100


def machine_fields(
    model_path: Path = MODEL_PATH,
    uname: Callable[[], os.uname_result] = os.uname,
    os_release: Callable[[], dict[str, str]] = platform.freedesktop_os_release,
) -> dict[str, str | None]:
    """`hardware_model`, `machine`, `kernel_release`, `os_name` and `python_version` of a `boot` record.

    Each at most MAX_CHARS printable ASCII characters ("?" for others), or None where the system does not tell. What
    cannot be read keeps no camera from recording. os_release: os-release(5), of which PRETTY_NAME is taken.
    """
    system = uname()
    return {
        "hardware_model": _bounded(_model(model_path)),
        "machine": _bounded(system.machine),
        "kernel_release": _bounded(system.release),
        "os_name": _bounded(_os_name(os_release)),
        "python_version": _bounded(platform.python_version()),
    }


def _model(path: Path) -> str:
    try:
        with path.open("rb") as file:
            # A devicetree string ends in NUL.
            return file.read(4 * MAX_CHARS).partition(b"\0")[0].decode("utf-8", "replace")
    except OSError:
        return ""


def _os_name(os_release: Callable[[], dict[str, str]]) -> str:
    try:
        return os_release().get("PRETTY_NAME", "")
    except (OSError, ValueError):
        return ""


def _bounded(text: str) -> str | None:
    shown = "".join(char if " " <= char <= "~" else "?" for char in text.strip())
    return shown[:MAX_CHARS] or None
