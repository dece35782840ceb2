"""Secrets that the service manager hands over (systemd, LoadCredential=): files in memory that only this service sees.

One that is there goes before the path in the configuration, which stays what `bodycam enroll` and `bodycam doctor` use,
because they run outside the service.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

DEVICE_KEY = "bodycam_device.key"
TOKEN_PIN = "bodycam_token.pin"
"""As systemd names the files of a folder that is loaded under the name "bodycam"."""


def credential(name: str, otherwise: Path, environment: Mapping[str, str] = os.environ) -> Path:
    """The file of that credential if this process was given it, else the path `otherwise`."""
    folder = environment.get("CREDENTIALS_DIRECTORY", "")
    given = Path(folder) / name
    return given if folder and given.exists() else otherwise
