"""`bodycam verify` on a terminal, in a pipe and without colours: the real command on pseudo-terminals."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys

import pytest

from tests.support.vault_builder import VaultBuilder

COLOUR = re.compile(rb"\x1b\[(?:[0-9;]*;)?(?:3|4|9)[0-7](?:;[0-9;]*)?m")


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> VaultBuilder:
    vault = VaultBuilder(tmp_path_factory.mktemp("streams") / "vault")
    vault.record(3)
    vault.shut_down()
    return vault


def run(vault: VaultBuilder, *, out_terminal: bool, error_terminal: bool, **environment: str) -> tuple[bytes, bytes]:
    """What came out at each end."""
    ends = []
    for terminal in (out_terminal, error_terminal):
        ends.append(pty.openpty() if terminal else os.pipe())
    (out, out_far), (error, error_far) = ends
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "FORCE_COLOR")}
    command = [sys.executable, "-m", "agent", "verify", str(vault.root), "--root", str(vault.layout.root_certificate)]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=out_far, stderr=error_far,
        env=kept | {"TERM": "xterm-256color"} | environment,
    )  # fmt: skip
    os.close(out_far)
    os.close(error_far)
    said = (_read(out), _read(error))
    assert process.wait() == 0
    return said


def _read(end: int) -> bytes:
    """All of it; a pseudo-terminal whose far end is closed says EIO."""
    data = b""
    try:
        while piece := os.read(end, 1 << 16):
            data += piece
    except OSError:
        pass
    os.close(end)
    return data


def test_in_a_pipe_there_are_words_and_nothing_else(vault: VaultBuilder) -> None:
    out, error = run(vault, out_terminal=False, error_terminal=False)
    assert b"Complete, unchanged and signed." in out
    assert b"\x1b" not in out
    assert b"\r" not in out
    assert error == b""
    assert all(len(line) <= 80 for line in out.decode().splitlines() if not line.startswith("  Folder"))


def test_the_bar_is_on_the_terminal_and_not_in_the_file(vault: VaultBuilder) -> None:
    out, error = run(vault, out_terminal=False, error_terminal=True)
    assert b"Checking" in error
    assert b"Checking" not in out
    assert b"\x1b" not in out


def test_a_terminal_has_colours_and_no_color_takes_them_away(vault: VaultBuilder) -> None:
    out, _ = run(vault, out_terminal=True, error_terminal=False)
    assert COLOUR.search(out)
    plain, bar = run(vault, out_terminal=True, error_terminal=True, NO_COLOR="1")
    assert b"VERIFIED" in plain
    assert not COLOUR.search(plain + bar)
