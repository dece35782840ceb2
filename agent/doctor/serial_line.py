"""The bridge's serial line: can it be opened?"""

from __future__ import annotations

from collections.abc import Callable

from agent.doctor.check import Check, fail, ok, skipped
from agent.settings.schema import BridgeSettings

_ADVICE = {
    "ENOENT": "Correct bridge.device, plug the microcontroller in, or put enable_uart=1 into config.txt.",
    "EACCES": "Add this user to the group of the device (`dialout` on Debian).",
    "EBUSY": "Stop the other program that has it open; on a Pi that is often the login console (`raspi-config`).",
}


def probe_serial(settings: BridgeSettings) -> None:
    """Open the port as the daemon does, and close it again. Raises OSError (serial.SerialException is one)."""
    import serial

    serial.Serial(settings.device, settings.baud, timeout=0, exclusive=True).close()


def judge_serial(error: Exception | None, settings: BridgeSettings) -> Check:
    """From what opening it ended with."""
    if error is None:
        return ok("serial", f"{settings.device} opens at {settings.baud} baud.")
    import errno

    code = errno.errorcode.get(getattr(error, "errno", None) or 0, "")
    # pyserial reports a lock that somebody else holds as an exclusive-lock error whose number is EAGAIN.
    advice = _ADVICE.get({"EAGAIN": "EBUSY", "EWOULDBLOCK": "EBUSY", "EPERM": "EACCES"}.get(code, code))
    return fail(
        "serial",
        f"{settings.device} does not open at {settings.baud} baud: {str(error).rstrip('.')}.",
        advice or "Check that bridge.device is a serial line and bridge.baud a speed that it has.",
    )


def check_serial(settings: BridgeSettings, probe: Callable[[BridgeSettings], None] = probe_serial) -> Check:
    """The serial line's check."""
    if not settings.device:
        return skipped("serial", "No bridge is fitted (bridge.device is empty).")
    try:
        probe(settings)
    except (OSError, ValueError) as error:  # ValueError: a speed that the line cannot have
        return judge_serial(error, settings)
    return judge_serial(None, settings)
