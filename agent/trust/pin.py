"""A token's PIN, from a file of its own: it stands in no configuration file, no environment and no command line."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from agent.errors import DeviceKeyError
from agent.trust.software import is_private

MAX_PIN_FILE_BYTES = 1024


def read_pin(path: Path) -> str:
    """The PIN in a file that only its owner can read, without one newline at its end.

    Raises DeviceKeyError when the file is absent, unreadable, open to others, empty, or more than a PIN.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise DeviceKeyError(
            f"The file with the token's PIN {path} cannot be opened ({error.strerror}); set key.pin_path to it, and "
            f"give it to the user who runs the camera (this is uid {os.geteuid()})."
        ) from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise DeviceKeyError(f"{path} is not a regular file; set key.pin_path to the file with the token's PIN.")
        if not is_private(status):
            raise DeviceKeyError(
                f"The file with the token's PIN {path} has mode {stat.S_IMODE(status.st_mode):04o} and must be for its "
                f"owner alone; run `chmod 0600 {path}`. If others may have read it, change the PIN."
            )
        data = os.read(descriptor, MAX_PIN_FILE_BYTES + 1)
    except OSError as error:
        raise DeviceKeyError(f"Reading the token's PIN from {path} failed ({error.strerror}).") from error
    finally:
        os.close(descriptor)
    try:
        pin = data.removesuffix(b"\n").decode()
    except ValueError:
        pin = ""
    if not pin or len(data) > MAX_PIN_FILE_BYTES or any(character.isspace() for character in pin):
        # A PIN that is not the token's costs one of the few tries before the token locks itself.
        raise DeviceKeyError(f"{path} must hold the token's PIN in one line of UTF-8 and nothing else.")
    return pin
