"""From the press to the file: what lies in the vault is a signed stream, wherever in it the recording begins."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pytest

from agent.signing.file import read_file
from agent.signing.finding import GopState
from agent.vault.filesystem import PosixFilesystem
from tests.support.bench import Bench, bench_settings
from tests.support.identity import BENCH_IDENTITY


@pytest.mark.parametrize("sound", [False, True])
@pytest.mark.parametrize("waited_s", [0.3, 9.7])
def test_a_recording_reads_as_signed_from_its_first_gop_on(tmp_path: Path, sound: bool, waited_s: float) -> None:
    """With 9.7 s before the press the recording begins in the middle of the stream."""
    vault = tmp_path / "vault"
    settings = bench_settings(vault=vault, sound=sound, buffer_audio=sound)
    bench = Bench(PosixFilesystem(), settings).start()
    bench.run_for(waited_s)
    bench.record(5)
    (recording,) = (vault / "recordings").iterdir()
    data = (recording / "init.mp4").read_bytes()
    data += b"".join(path.read_bytes() for path in sorted(recording.glob("0*.m4s")))
    report = read_file(BytesIO(data))
    assert report.is_valid
    assert report.counts[GopState.PENDING] <= 2
    assert report.counts[GopState.VALID] >= 4
    assert report.chain == BENCH_IDENTITY.signer.chain
    assert report.vendor is not None
    assert report.vendor.serial_number == settings.device.id
