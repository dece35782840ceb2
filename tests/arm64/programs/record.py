"""A whole small recording for each configuration that is named: every part of `run` but threads, pins and lights.

The key and chain are those that lie where the configuration says; time is simulated from `--utc-ns` on.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from unittest.mock import patch

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from agent.clock import SimulatedClock
from agent.daemon.identifiers import uuid7
from agent.settings.load import load_settings
from agent.settings.schema import Settings
from agent.trust.certificates import load_chain
from agent.trust.records import CmsRecordSigner
from agent.trust.software import SoftwareSigner
from agent.vault.filesystem import PosixFilesystem
from agent.vault.layout import VaultLayout
from tests.support.bench import Bench
from tests.support.identity import BenchIdentity

BEFORE_S = 2.7
"""How long the camera has run when the button is pressed: the recording begins in the middle of the stream."""
SECONDS = 4.0


class RepeatableSigner(SoftwareSigner):
    """ECDSA with the nonce of RFC 6979 in place of a random one: the same signature each time."""

    def sign(self, data: bytes) -> bytes:
        return self._key.sign(data, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))


def main() -> None:
    """Record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--utc-ns", type=int, required=True)
    parser.add_argument("--repeatable", action="store_true", help="nothing random, nothing about this machine")
    parser.add_argument("configurations", type=Path, nargs="+")
    arguments = parser.parse_args()
    for path in arguments.configurations:
        settings = load_settings(path).settings
        if arguments.repeatable:
            with (
                patch("agent.daemon.daemon.uuid7", lambda utc_ns: uuid7(utc_ns, bytes(10))),
                patch("agent.daemon.vault_opening.machine_fields", dict),
                patch.object(os, "getpid", lambda: 1),
            ):
                record(settings, arguments.utc_ns, RepeatableSigner)
        else:
            record(settings, arguments.utc_ns, SoftwareSigner)


def record(settings: Settings, utc_ns: int, kind: type[SoftwareSigner]) -> None:
    """Press, record, stop, seal, shut down."""
    layout = VaultLayout(settings.vault.path)
    signer = kind.load(settings.vault.key_path, layout.chain)
    (root,) = load_chain(layout.root_certificate)
    identity = BenchIdentity(root, signer, CmsRecordSigner(signer))
    bench = Bench(PosixFilesystem(), settings, clock=SimulatedClock(utc_ns=utc_ns), identity=identity).start()
    bench.run_for(BEFORE_S)
    bench.record(SECONDS)
    bench.terminate()
    bench.settle()


if __name__ == "__main__":
    main()
