"""What the `boot` record says of hardware and operating system: bounded, printable, and never in the way of a start."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import pytest

from agent.daemon.machine import MAX_CHARS, machine_fields

PI = os.uname_result(("Linux", "bodycam", "6.12.25+rpt-rpi-v8", "#1 SMP", "aarch64"))


def test_a_raspberry_pi_names_its_board_and_system(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.write_bytes(b"Raspberry Pi Zero 2 W Rev 1.0\0")
    release = {"NAME": "Debian GNU/Linux", "PRETTY_NAME": "Debian GNU/Linux 12 (bookworm)"}
    assert machine_fields(model, lambda: PI, lambda: release) == {
        "hardware_model": "Raspberry Pi Zero 2 W Rev 1.0",
        "machine": "aarch64",
        "kernel_release": "6.12.25+rpt-rpi-v8",
        "os_name": "Debian GNU/Linux 12 (bookworm)",
        "python_version": platform.python_version(),
    }


@pytest.mark.parametrize("error", [OSError("no os-release"), ValueError("not UTF-8")])
def test_a_system_that_does_not_tell_is_no_reason_not_to_start(tmp_path: Path, error: Exception) -> None:
    def unreadable() -> dict[str, str]:
        raise error

    fields = machine_fields(tmp_path / "absent", lambda: PI, unreadable)
    assert (fields["hardware_model"], fields["os_name"]) == (None, None)
    assert fields["machine"] == "aarch64"
    assert machine_fields(tmp_path, lambda: PI, dict)["hardware_model"] is None, "a folder is no text"


@pytest.mark.parametrize(
    "raw", [b"\x1b[2J Board\n\0", b"B\xc3\xb6ard \xff", b"x" * 10_000, b"  Board  \0behind", b"\0"]
)
def test_what_a_board_says_stays_short_and_printable(tmp_path: Path, raw: bytes) -> None:
    model = tmp_path / "model"
    model.write_bytes(raw)
    said = machine_fields(model, lambda: PI, lambda: {"PRETTY_NAME": raw.decode("latin-1")})
    for value in (said["hardware_model"], said["os_name"]):
        assert value is None or (0 < len(value) <= MAX_CHARS and all(" " <= char <= "~" for char in value))
    assert (said["hardware_model"] is None) == raw.startswith(b"\0")
    assert "behind" not in str(said["hardware_model"])


def test_this_machine_is_described() -> None:
    fields = machine_fields()
    assert fields["machine"] == os.uname().machine
    assert fields["kernel_release"] == os.uname().release
