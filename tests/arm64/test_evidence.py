"""What a camera on arm64 leaves is checked here, and the other way round: the same reports, to the byte.

Each machine does all of a camera's work with its own hands: it makes its key, records with sound and signatures in the
video, once in the clear and once encrypted, and offloads. Signatures have random nonces here, as on a camera.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.vault.filesystem import PosixFilesystem
from agent.verify.kit_files import verify_script
from tests.arm64.camera import CameraFolder, join, record
from tests.arm64.machine import Machine
from tests.arm64.test_encode import ffprobe
from tests.support.evidence_key import EvidenceKey, stock_age
from tests.support.playback import journal_records, of_type

KEY = EvidenceKey.generate()
MAKERS = {"host": 0, "arm64": 1}


@dataclass(frozen=True)
class Evidence:
    """Of one maker. plain, encrypted: its cameras. video: the plain recording in one file. key: opens the other."""

    maker: Machine
    plain: CameraFolder
    encrypted: CameraFolder
    video: Path
    key: Path

    @property
    def options(self) -> tuple[object, ...]:
        """What an examiner gives `bodycam verify` besides the evidence."""
        return "--root", self.plain.root_pem, "--identity", self.key, "--json"


@pytest.fixture(scope="module")
def made(machines: tuple[Machine, ...], tmp_path_factory: pytest.TempPathFactory) -> list[Evidence]:
    """By both machines."""
    return [_make(machine, tmp_path_factory.mktemp(f"evidence-{number}")) for number, machine in enumerate(machines)]


def _make(machine: Machine, folder: Path) -> Evidence:
    plain = CameraFolder(folder / "plain").write()
    plain.enroll(machine)
    encrypted = CameraFolder(folder / "encrypted").write(recipient=KEY.recipient)
    encrypted.enroll_as(plain)
    record(machine, plain, encrypted)
    plain.offload(machine)
    return Evidence(
        machine, plain, encrypted, join(plain.recording, folder / "recording.mp4"), KEY.write(folder / "key.txt")
    )


@pytest.fixture(params=MAKERS)
def evidence(request: pytest.FixtureRequest, made: list[Evidence]) -> Evidence:
    """Of one machine, then of the other."""
    return made[MAKERS[request.param]]


def test_both_verify_it_with_the_same_report(evidence: Evidence, machines: tuple[Machine, ...]) -> None:
    paths = (evidence.plain.package, evidence.plain.layout.root, evidence.encrypted.layout.root, evidence.video)
    here, there = (machine.run("agent", "verify", *paths, *evidence.options) for machine in machines)
    assert here == there
    package, vault, encrypted, video = json.loads(here)
    for report in (package, vault, encrypted):
        (recording,) = report["recordings"]
        assert recording["verdict"] == "verified"
        assert recording["frames"] > 50
    assert video["ok"]


def test_the_log_says_on_what_machine_it_was_made(evidence: Evidence) -> None:
    (boot,) = of_type(journal_records(PosixFilesystem(), evidence.plain.layout), "boot")
    assert boot["machine"] == evidence.maker.name


def test_stock_tools_verify_and_play_it(evidence: Evidence, tmp_path: Path) -> None:
    code, said = by_script(evidence.plain.package, evidence, tmp_path)
    assert code == 0, said
    (closed,) = of_type(journal_records(PosixFilesystem(), evidence.plain.layout), "recording-close")
    video, sound = ffprobe(evidence.video)
    assert int(video["nb_read_frames"]) == closed["frames"]
    assert int(sound["nb_read_frames"]) > 0


def test_stock_age_opens_what_was_encrypted(evidence: Evidence, tmp_path: Path) -> None:
    recording = evidence.encrypted.recording
    plain = (recording / "init.mp4").read_bytes()
    for segment in sorted(recording.glob("0*.m4s.age")):
        code, data, complaint = stock_age(segment, evidence.key)
        assert code == 0, complaint
        plain += data
    video = tmp_path / "opened.mp4"
    video.write_bytes(plain)
    assert [stream["codec_name"] for stream in ffprobe(video)] == ["h264", "aac"]


@dataclass(frozen=True)
class Tampering:
    """What is done to a copy, of what, and what has to be found of it."""

    subject: Callable[[Evidence], Path]
    file: str
    change: Callable[[bytes], bytes]
    codes: frozenset[str]


def flip_a_bit(data: bytes) -> bytes:
    """In the middle."""
    changed = bytearray(data)
    changed[len(data) // 2] ^= 1
    return bytes(changed)


def change_a_picture(data: bytes) -> bytes:
    """The first one, some way into it: in the middle there may be sound, which the video's signatures leave out."""
    changed = bytearray(data)
    changed[data.index(b"mdat") + 400] ^= 1
    return bytes(changed)


def another_source(data: bytes) -> bytes:
    """The trigger's record says another source."""
    changed = data.replace(b'"source":"button"', b'"source":"bottom"', 1)
    assert changed != data
    return changed


TAMPERINGS = {
    "segment": Tampering(
        lambda of: of.plain.package,
        "000002.m4s",
        change_a_picture,
        frozenset({"CHECKPOINT_HASH", "PACKAGE_SUM", "SEGMENT_HASH", "VIDEO_GOP"}),
    ),
    "journal": Tampering(
        lambda of: of.plain.package,
        "journal/*.journal",
        another_source,
        frozenset({"JOURNAL_CHAIN_BROKEN", "PACKAGE_SUM", "SIGNATURE_BAD", "SIGNATURE_UNCOVERED"}),
    ),
    "encrypted": Tampering(
        lambda of: of.encrypted.layout.root,
        "recordings/*/000002.m4s.age",
        flip_a_bit,
        frozenset({"CHECKPOINT_HASH", "PLAIN_HASH", "SEGMENT_HASH", "VIDEO_GOP"}),
    ),
}


def test_both_refuse_a_tampered_copy_for_the_same_reasons(
    evidence: Evidence, machines: tuple[Machine, ...], tmp_path: Path
) -> None:
    copies = {name: tampered_copy(evidence, tampering, tmp_path / name) for name, tampering in TAMPERINGS.items()}
    video = tmp_path / "recording.mp4"
    video.write_bytes(change_a_picture(evidence.video.read_bytes()))
    paths = [*copies.values(), video]
    here, there = (machine.run("agent", "verify", *paths, *evidence.options, expect=1) for machine in machines)
    assert here == there
    *reports, of_video = json.loads(here)
    found = {name: failures(report) for name, report in zip(TAMPERINGS, reports, strict=True)}
    assert found == {name: tampering.codes for name, tampering in TAMPERINGS.items()}
    assert not any(report["ok"] for report in [*reports, of_video])
    assert of_video["states"]["invalid"]["gops"] == 1
    for name in ("segment", "journal"):
        code, said = by_script(copies[name], evidence, tmp_path)
        assert code == 1, said


def tampered_copy(evidence: Evidence, tampering: Tampering, copy: Path) -> Path:
    """A copy of the subject with one file changed."""
    shutil.copytree(tampering.subject(evidence), copy)
    (file,) = copy.glob(tampering.file)
    file.write_bytes(tampering.change(file.read_bytes()))
    return copy


def failures(report: dict[str, object]) -> frozenset[str]:
    """The codes of all that refutes the evidence."""
    findings = report["findings"]
    assert isinstance(findings, list)
    return frozenset(finding["code"] for finding in findings if finding["severity"] == "fail")


def by_script(package: Path, evidence: Evidence, folder: Path) -> tuple[int, str]:
    """Exit code and words of the examiner's own verify.sh."""
    script = folder / "verify.sh"
    script.write_bytes(verify_script())
    done = subprocess.run(
        ["sh", str(script), str(evidence.plain.root_pem), "."], cwd=package, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr
