"""The evidence system's key pair, which only the far side of an offload has; and stock age."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyrage import x25519

from agent.encryption.identity import Identities


@dataclass(frozen=True)
class EvidenceKey:
    """One identity of pyrage's."""

    key: Any

    @classmethod
    def generate(cls) -> EvidenceKey:
        """A new one."""
        return cls(x25519.Identity.generate())

    @property
    def recipient(self) -> str:
        """What a camera is given."""
        return str(self.key.to_public())

    @property
    def identities(self) -> Identities:
        """What an examiner has."""
        return Identities([self.key])

    def write(self, path: Path) -> Path:
        """An identity file as age-keygen writes it."""
        path.write_text(f"# created: 2026-11-01T00:00:00Z\n# public key: {self.recipient}\n{self.key}\n")
        return path


EVIDENCE = EvidenceKey.generate()


def opened(cipher: bytes, key: EvidenceKey = EVIDENCE) -> bytes:
    """What an age file, torn or not, opens to; nothing when it is cut inside its header."""
    plain = bytearray()
    if not cipher:
        return b""
    key.identities.decrypt(iter([cipher]), plain.extend)
    return bytes(plain)


def stock_age(cipher: Path, identity: Path) -> tuple[int, bytes, str]:
    """Exit code, output and complaint of `age -d`."""
    run = subprocess.run(["age", "-d", "-i", str(identity), str(cipher)], capture_output=True, check=False)
    return run.returncode, run.stdout, run.stderr.decode()
