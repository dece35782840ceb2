"""The sound packages that are tampered with: recorded by the real recorder, offloaded by the real dock, once a session.

One department, one of its cameras, and what a forger could get hold of besides: another recording of that camera, the
recording that another camera of the department made in the same millisecond (so under the same number), and the
recording of a camera that is called the same under a CA that is called the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from agent.clock import NS_PER_MS, NS_PER_S, SimulatedClock
from agent.offload.folder import FolderStore
from agent.offload.offload import offload_once
from agent.offload.receipts import ReceiptQueue
from agent.settings.schema import DeviceSettings
from agent.trust.certificates import make_device_certificate, pem
from agent.trust.records import CmsRecordSigner
from agent.trust.software import SoftwareSigner
from agent.vault.filesystem import PosixFilesystem
from agent.vault.layout import kept_chain_name
from tests.support.bench import Bench, bench_settings
from tests.support.evidence_key import EVIDENCE
from tests.support.identity import BenchIdentity
from tests.support.stamping import stamp
from tests.support.time_authority import TimeAuthority, time_authority
from tests.support.vault_builder import VaultBuilder
from tests.unit.trust.identities import NOW, custom_certificate, new_key

CAMERA = "CAM-TEST"
OTHER_CAMERA = "CAM-0002"
START_NS = int(NOW.timestamp()) * NS_PER_S


def ca_extensions(path_length: int | None = 1) -> list[tuple[x509.ExtensionType, bool]]:
    """Of a CA's certificate."""
    usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    return [(x509.BasicConstraints(ca=True, path_length=path_length), True), (usage, True)]


def device_extensions() -> list[tuple[x509.ExtensionType, bool]]:
    """Of a device's certificate."""
    usage = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
    return [
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (usage, True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), False),
    ]


@dataclass(frozen=True)
class Department:
    """A CA. Two of them have the same name and different keys."""

    key: ec.EllipticCurvePrivateKey
    root: x509.Certificate

    @classmethod
    def new(cls) -> Department:
        """One that is called as all others."""
        key = new_key()
        name = "Evidence CA"
        span = {"start": NOW - timedelta(days=30), "end": NOW + timedelta(days=3000)}
        return cls(key, custom_certificate(name, key.public_key(), name, key, ca_extensions(), **span))  # type: ignore[arg-type]

    def camera(self, device_id: str) -> BenchIdentity:
        """A camera under it, enrolled as every camera is."""
        key = new_key()
        leaf = make_device_certificate(key.public_key(), device_id, "serial-1", self.key, self.root, NOW)
        return identity_of(self.root, key, leaf)


def identity_of(root: x509.Certificate, key: ec.EllipticCurvePrivateKey, *chain: x509.Certificate) -> BenchIdentity:
    """A key with the chain that it goes by."""
    signer = SoftwareSigner(key, chain)
    return BenchIdentity(root, signer, CmsRecordSigner(signer))


@dataclass
class Bases:
    """What was built. packages: by name. camera: that of all but the last two packages. successor: its next key."""

    folder: Path
    department: Department
    camera: BenchIdentity
    successor: BenchIdentity
    other: BenchIdentity
    stranger: Department
    impostor: BenchIdentity
    authority: TimeAuthority
    packages: dict[str, Path] = field(default_factory=dict)

    @property
    def root_pem(self) -> Path:
        """The examiner's."""
        return self.folder / "root.pem"


SOUND = {
    "plain": "three seconds with sound and a marker",
    "signed video": "three seconds from the whole daemon, with signatures in the video",
    "power cut": "cut off by a power failure and sealed at the next start: two runs, a torn segment and a torn record",
    "gap": "with frames that the camera could not keep, as it says itself",
    "pending": "with records that were written while the signer was busy",
    "encrypted": "encrypted to the evidence system's key, with a sealed wearer",
    "stamped": "between two timestamps",
    "long log": "with a log of several files",
    "rotated": "with a change of the camera's key inside the extract",
}
"""The camera's packages that tampering is tried on."""
STOLEN = {
    "sibling": "another recording of the same camera, of its next run",
    "other camera": "the same recording number of another camera under the same CA",
    "other CA": "the same recording number of a camera of the same name under another CA of the same name",
    "encrypted sibling": "another encrypted recording of the same camera",
    "stamped sibling": "another stamped recording of the same camera",
}
"""What a forger takes things from."""


def build(folder: Path) -> Bases:
    """All of them."""
    department, stranger = Department.new(), Department.new()
    bases = Bases(
        folder, department, department.camera(CAMERA), department.camera(CAMERA), department.camera(OTHER_CAMERA),
        stranger, stranger.camera(CAMERA), time_authority(),
    )  # fmt: skip
    bases.root_pem.write_bytes(pem([department.root]))
    for make in (_plain, _others, _signed_video, _power_cut, _gap, _pending, _encrypted, _stamped, _long_log, _rotated):
        make(bases)
    assert set(bases.packages) == set(SOUND) | set(STOLEN)
    return bases


def _vault(bases: Bases, name: str, **options: object) -> VaultBuilder:
    defaults = {"identity": bases.camera, "clock": SimulatedClock(utc_ns=START_NS)}
    return VaultBuilder(bases.folder / name / "vault", **(defaults | options))  # type: ignore[arg-type]


def _offload(bases: Bases, vault: Path, **recordings: str) -> None:
    """Have the dock make packages; recordings: ids by the package's name, blanks for underscores."""
    store = vault.parent / "store"
    store.mkdir()
    queue = ReceiptQueue(vault.parent / "receipts")
    report = offload_once(vault, FolderStore(store), control=None, queue=queue, clock=SimulatedClock())
    assert report.ok, report.refused
    for name, recording_id in recordings.items():
        (bases.packages[name.replace("_", " ")],) = store.glob(f"*/{recording_id}")


def _plain(bases: Bases) -> None:
    vault = _vault(bases, "plain")
    plain = vault.record(3, sound=True, meanwhile=vault.mark)
    vault.shut_down()
    vault.restart()
    sibling = vault.record(3, sound=True, pad_bytes=300)
    _offload(bases, vault.root, plain=plain, sibling=sibling)


def _others(bases: Bases) -> None:
    vault = _vault(bases, "other camera", identity=bases.other, device_id=OTHER_CAMERA)
    _offload(bases, vault.root, other_camera=vault.record(3, sound=True, pad_bytes=700))
    vault = _vault(bases, "other CA", identity=bases.impostor)
    _offload(bases, vault.root, other_CA=vault.record(3, sound=True, pad_bytes=900))
    assert len({bases.packages[name].name for name in ("plain", "other camera", "other CA")}) == 1


def _signed_video(bases: Bases) -> None:
    settings = bench_settings(
        sound=True, buffer_audio=True, pre_event_s=1, segment_s=4, hold_ms=500, double_press_ms=200,
        vault=bases.folder / "signed video" / "vault",
    )  # fmt: skip
    settings = replace(settings, device=DeviceSettings(id=CAMERA))
    bench = Bench(PosixFilesystem(), settings, clock=SimulatedClock(utc_ns=START_NS), identity=bases.camera)
    bases.camera.install(bench.layout)
    bench.start().run_for(1.5)
    bench.single_press(bench.clock.boottime_ns() + 1500 * NS_PER_MS)
    bench.record(2)
    bench.settle()
    assert bench.recorder is not None
    bench.recorder.end("test")
    bench.recorder.close()
    (recording,) = bench.layout.recordings.iterdir()
    _offload(bases, bench.layout.root, signed_video=recording.name)


def _power_cut(bases: Bases) -> None:
    vault = _vault(bases, "power cut")
    running = vault.begin(sound=True)
    vault.feed(running, 4)
    segment = vault.layout.recording(running.recording_id) / "000002.m4s"
    segment.write_bytes(segment.read_bytes() + b"\0\0\0\x10torn")
    with max(vault.layout.journal.iterdir()).open("ab") as file:
        file.write(b'{"v":1,"seq":')
    vault.restart()
    _offload(bases, vault.root, power_cut=running.recording_id)


def _gap(bases: Bases) -> None:
    vault = _vault(bases, "gap")
    running = vault.begin(max_bytes=60_000, pad_bytes=20_000)
    vault.feed(running, 1)
    vault.push(running, 5)
    vault.work()
    _offload(bases, vault.root, gap=vault.stop(running))


def _pending(bases: Bases) -> None:
    vault = _vault(bases, "pending")
    running = vault.begin()
    vault.feed(running, 1)
    vault.signer.busy = True
    vault.feed(running, 1)
    vault.signer.busy = False
    vault.feed(running, 1)
    _offload(bases, vault.root, pending=vault.stop(running))


def _encrypted(bases: Bases) -> None:
    vault = _vault(bases, "encrypted", recipients=(EVIDENCE.recipient,), wearer="Jane Doe")
    encrypted = vault.record(3, sound=True)
    vault.shut_down()
    vault.wearer = "John Roe"
    vault.restart()
    _offload(bases, vault.root, encrypted=encrypted, encrypted_sibling=vault.record(3, sound=True, pad_bytes=80_000))


def _stamped(bases: Bases) -> None:
    vault = _vault(bases, "stamped")
    stamp(vault)
    stamped = vault.record(2)
    stamp(vault)
    vault.shut_down()
    vault.restart()
    stamp(vault)
    sibling = vault.record(2)
    stamp(vault)
    _offload(bases, vault.root, stamped=stamped, stamped_sibling=sibling)


def _long_log(bases: Bases) -> None:
    vault = _vault(bases, "long log", rotate_bytes=2500)
    _offload(bases, vault.root, long_log=vault.record(3))
    assert len(list((bases.packages["long log"] / "journal").iterdir())) >= 3


def _rotated(bases: Bases) -> None:
    vault = _vault(bases, "rotated")
    for identity in (bases.camera, bases.successor):
        chain = vault.layout.device / kept_chain_name(identity.record_signer.certificate_sha256)
        chain.write_bytes(pem(identity.signer.chain))
    signer = bases.successor.record_signer
    vault.journal.append("certificate-changed", certificate_sha256=signer.certificate_sha256, key=signer.description)
    vault.journal.commit()
    vault.layout.chain.write_bytes(pem(bases.successor.signer.chain))
    vault.journal.change_signer(signer)
    _offload(bases, vault.root, rotated=vault.record(2))
