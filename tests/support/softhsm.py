"""A real PKCS#11 token in a folder: SoftHSM2, which `make test` installs. It can be taken away, and made to hang."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from agent.trust.token import TokenAddress

PIN = "271828"
SO_PIN = "314159"
LABEL = "camera-key"


def module_path() -> Path:
    """Where Debian puts the module."""
    return Path("/usr/lib/softhsm/libsofthsm2.so")


_HOLD = """
import fcntl, pathlib, sys
files = [path.open("r+b") for path in pathlib.Path(sys.argv[1]).iterdir()]
for file in files:
    fcntl.lockf(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


@dataclass
class SoftToken:
    """One token. `away` takes it out; `hanging` makes every call that touches it wait, as a stuck bus would."""

    home: Path
    name: str

    @property
    def address(self) -> TokenAddress:
        return TokenAddress(module_path(), self.name, LABEL, self.home / f"{self.name}.pin")

    @property
    def folder(self) -> Path:
        """The token's own folder."""
        (found,) = [path for path in (self.home / "tokens").iterdir() if self._is_mine(path)]
        return found

    def _is_mine(self, path: Path) -> bool:
        return self.name.encode() in (path / "token.object").read_bytes()

    @contextmanager
    def away(self) -> Iterator[None]:
        """Taken out of its reader."""
        folder = self.folder
        elsewhere = folder.rename(self.home / f"{folder.name}.away")
        try:
            yield
        finally:
            elsewhere.rename(folder)

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """SoftHSM waits for the record locks (fcntl) on its files, which another process holds here."""
        command = [sys.executable, "-c", _HOLD, str(self.folder)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
            assert holder.stdout is not None
            assert holder.stdin is not None
            assert holder.stdout.readline() == b"held\n"
            try:
                yield
            finally:
                holder.stdin.close()


class SoftHsm:
    """SoftHSM2 for one test session. The module reads SOFTHSM2_CONF when it is initialised, so there is one of it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.configuration = home / "softhsm2.conf"
        self._made = 0
        (home / "tokens").mkdir()
        self.configuration.write_text(
            f"directories.tokendir = {home / 'tokens'}\nobjectstore.backend = file\nlog.level = ERROR\n"
        )

    def make(self, name: str | None = None) -> SoftToken:
        """A new token with a PIN and nothing else on it."""
        self._made += 1
        name = name or f"token-{self._made}-of-test"
        token = SoftToken(self.home, name)
        token.address.pin_path.write_text(f"{PIN}\n")
        token.address.pin_path.chmod(0o600)
        self.util("--init-token", "--free", "--label", name, "--pin", PIN, "--so-pin", SO_PIN)
        return token

    def util(self, *arguments: str) -> None:
        """Run softhsm2-util."""
        environment = os.environ | {"SOFTHSM2_CONF": str(self.configuration)}
        subprocess.run(["softhsm2-util", *arguments], check=True, capture_output=True, env=environment)
