"""A whole recording on arm64 and here, with everything random taken out: not one byte of the vault may differ.

What is taken out: the nonce of ECDSA (RFC 6979 in its place), the recording's random id, process id and what the
machine calls itself. The clock is simulated, and the bit rate so high that libx264's rate control, which computes in
floating point, has nothing to decide. There is no sound, whose encoder does. What is left is everything that is ours:
records, hashes, their chain, CMS, the signatures in the video, fragments, segments, recording.json.
"""

from __future__ import annotations

import time
from pathlib import Path

from agent.clock import NS_PER_S
from agent.vault.filesystem import PosixFilesystem
from tests.arm64.camera import CameraFolder, join, record
from tests.arm64.machine import Machine
from tests.support.playback import journal_records, of_type


def test_the_whole_vault_is_the_same_to_the_byte(machines: tuple[Machine, ...], tmp_path: Path) -> None:
    enrolled = CameraFolder(tmp_path / "enrolled").write()
    enrolled.enroll(machines[0])
    utc_ns = time.time_ns() + 3600 * NS_PER_S
    vaults = []
    for number, machine in enumerate(machines):
        camera = CameraFolder(tmp_path / str(number)).write(sound=False, bitrate_bps=20_000_000)
        camera.enroll_as(enrolled)
        record(machine, camera, repeatable=True, utc_ns=utc_ns)
        vaults.append(camera)
    host, arm64 = (tree(vault.layout.root) for vault in vaults)
    assert list(host) == list(arm64)
    assert [name for name in host if host[name] != arm64[name]] == []

    # That it was a recording, signed in its video, too, and no two empty folders that are equal.
    records = journal_records(PosixFilesystem(), vaults[1].layout)
    assert len(of_type(records, "checkpoint")) >= 4
    assert all(record.signature for record in records if record.type == "segment")
    video = join(vaults[1].recording, tmp_path / "recording.mp4")
    machines[0].run("agent", "verify", video, "--root", enrolled.root_pem)


def tree(folder: Path) -> dict[str, bytes]:
    """Every file under a folder by its path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
