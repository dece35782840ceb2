"""The shell of docs/operations.md that makes a CA and a time authority, run as it is pasted."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from agent.offload.timestamp import HttpAuthority
from agent.trust.certificates import check_chain, load_chain
from agent.trust.identity import IdentityPaths, install_chain, request_certificate
from agent.trust.timestamps import check_response, doubt, make_request
from agent.vault.layout import VaultLayout

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"
TRIES = 1200
"""Of 50 ms. Only against a hang."""


def shell_under(heading: str) -> list[str]:
    """The blocks of shell under a heading of the page."""
    _, rest = PAGE.read_text(encoding="utf-8").split(f"\n### {heading}\n")
    (section, *_) = re.split(r"^##+ ", rest, maxsplit=1, flags=re.MULTILINE)
    return re.findall(r"^```sh\n(.*?)^```", section, re.MULTILINE | re.DOTALL)


def paste(shell: str, folder: Path) -> str:
    done = subprocess.run(["sh", "-e", "-c", shell], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_small_ca_makes_a_certificate_that_a_camera_takes(tmp_path: Path) -> None:
    once, for_each = shell_under("A small CA")
    assert "Fingerprint=" in paste(once, tmp_path)
    ca = tmp_path / "bodycam-ca"
    layout = VaultLayout(tmp_path / "vault")
    paths = IdentityPaths(tmp_path / "key" / "device.key", layout.chain, layout.root_certificate)
    request_certificate(paths, "CAM-0001", "1000", ca / "camera.csr", has_records=False)
    said = paste(for_each, ca)
    assert "CAM-0001" in said
    assert "chain.pem: OK" in said
    now = datetime.now(UTC)
    install_chain(paths, ca / "chain.pem", ca / "root.pem", now, has_records=False)
    assert check_chain(load_chain(paths.chain), load_chain(paths.root), now) == []
    assert (ca / "root.key").stat().st_mode & 0o077 == 0


@contextmanager
def serving(folder: Path, port: int) -> Iterator[HttpAuthority]:
    with subprocess.Popen([sys.executable, "authority.py"], cwd=folder, stderr=subprocess.DEVNULL) as process:
        try:
            for _ in range(TRIES):
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                assert process.poll() is None
                threading.Event().wait(0.05)
            yield HttpAuthority(f"http://127.0.0.1:{port}/", timeout_s=60.0)
        finally:
            process.terminate()


def test_the_time_authority_stamps_what_a_camera_asks_for(tmp_path: Path) -> None:
    (once,) = shell_under("A time authority of one's own")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert once.count('("", 3180)') == 1
    paste(once.replace('("", 3180)', f'("127.0.0.1", {port})'), tmp_path)
    folder = tmp_path / "bodycam-tsa"
    with serving(folder, port) as authority:
        for message in (b"the journal's head", b"and the next"):  # the serial number goes on
            request = make_request(message)
            stamp = check_response(authority(request.der), request)
            assert doubt(stamp, load_chain(folder / "tsa.pem")) is None
            assert "Our time authority" in stamp.authority
    assert (folder / "root.key").stat().st_mode & 0o077 == 0
