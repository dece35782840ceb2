"""From the start of the process until it could record (READY=1), in an empty vault and in one of many thousands."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from agent.settings.load import load_settings
from agent.trust.certificates import load_chain
from agent.trust.records import CmsRecordSigner
from agent.trust.software import SoftwareSigner
from agent.vault.layout import VaultLayout
from tests.benchmarks.figure import Figure, percentile
from tests.benchmarks.process import environment
from tests.support.identity import BenchIdentity
from tests.support.large_vault import LargeVault

RECORDINGS = 10_000
NEWEST_RUN_BYTES = 10_000_000
JOURNAL_BYTES = 200_000_000
_CONFIG = """\
extends = "{bench}"
[vault]
path = "{vault}"
key_path = "{folder}/key/device.key"
socket_path = "{folder}/control.sock"
receipt_queue_path = "{folder}/receipts"
[gpio]
bench_pin_socket_path = "{folder}/pins.sock"
"""


def run(folder: Path, *, quick: bool) -> list[Figure]:
    """The journal is out of the page cache at each start; folders are in it, which a boot makes slower.

    Therefore how many folders are looked into is counted elsewhere: tests/unit/recorder/test_settled.py.
    """
    starts = 2 if quick else 5
    recordings = RECORDINGS // 20 if quick else RECORDINGS
    bench = folder.resolve() / "scale"
    shutil.rmtree(bench, ignore_errors=True)
    bench.mkdir(parents=True)
    empty, large = _Camera(bench / "empty"), _Camera(bench / "large")
    vault = LargeVault.begin(large.vault, identity=large.identity)
    vault.run(recordings)
    rest_bytes = 0 if quick else JOURNAL_BYTES - NEWEST_RUN_BYTES - vault.journal_bytes
    vault.run(0, filler_bytes=max(0, rest_bytes))
    empty.start_s()  # compiles what has to be
    # Its first start looks into every folder, and says so for the next ones.
    first_s = large.start_s()
    vault.run(0, filler_bytes=NEWEST_RUN_BYTES, ended=False)
    cut_s = large.start_s()
    empties, larges = [], []
    for _ in range(starts):
        empties.append(empty.start_s())
        larges.append(large.start_s())
    base_s, large_s = percentile(empties, 50), percentile(larges, 50)
    what = f"{recordings} recordings, journal of {vault.journal_bytes / 1e6:.0f} MB"
    return [
        Figure("scale", "process start → could record, empty vault, p50", base_s, "s"),
        Figure("scale", "the same, large vault, newest run of 10 MB cut off", cut_s, "s", note=what),
        Figure("scale", "more than an empty one", cut_s - base_s, "s", None if quick else ("<=", 2.0)),
        Figure("scale", "large vault after an ordinary short run, p50", large_s, "s"),
        Figure("scale", "large ÷ empty after an ordinary short run", large_s / base_s, ""),
        Figure("scale", "the first start of all in a large vault", first_s, "s", note="looks into every folder"),
    ]


class _Camera:
    """A bench camera of its own, started and ended again."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self.vault = folder / "vault"
        self._config = folder / "bodycam.toml"
        profile = Path("config/profiles/bench.toml").resolve()
        self._config.write_text(_CONFIG.format(bench=profile, folder=folder, vault=self.vault))
        command = [sys.executable, "-m", "agent", "enroll", "--bench", "-c", str(self._config)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        settings = load_settings(self._config).settings
        layout = VaultLayout(self.vault)
        signer = SoftwareSigner.load(settings.vault.key_path, layout.chain)
        self.identity = BenchIdentity(load_chain(layout.root_certificate)[-1], signer, CmsRecordSigner(signer))

    def start_s(self) -> float:
        """Seconds from the start of the process to READY=1; then it is ended in order."""
        for file in (self.vault / "journal").glob("*"):
            descriptor = os.open(file, os.O_RDONLY)
            os.fsync(descriptor)  # only what is on the disk can be forgotten
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)
        path = self._folder / "notify.sock"
        path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
            ready.bind(str(path))
            ready.settimeout(300)
            began_s = time.monotonic()
            process = subprocess.Popen(
                [sys.executable, "-m", "agent", "run", "-c", str(self._config)],
                stderr=subprocess.DEVNULL,
                env={**environment(), "NOTIFY_SOCKET": str(path)},
            )
            try:
                while b"READY=1" not in ready.recv(4096):
                    pass
                took_s = time.monotonic() - began_s
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(60)
        return took_s
