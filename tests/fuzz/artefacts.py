"""The real things that seeds are made of: a vault, a package, an encrypted vault, a signed stream, tokens, receipts.

They lie in a folder, so that an input which broke a reader can be run again beside the very files it was made for: keys
and signatures are new each time they are made.
"""

from __future__ import annotations

import base64
import json
import shutil
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from cryptography import x509

from agent.clock import NS_PER_S
from agent.encryption.identity import Identities
from agent.encryption.recipients import Recipients
from agent.recorder.receipts import expected_objects
from agent.recorder.recovery import records_of
from agent.trust.certificates import load_chain, pem
from agent.trust.timestamps import make_request
from agent.vault.filesystem import PosixFilesystem
from agent.vault.layout import VaultLayout
from tests.support.evidence_key import EvidenceKey
from tests.support.packages import offloaded
from tests.support.time_authority import time_authority
from tests.support.vault_builder import VaultBuilder
from tests.unit.recorder.media import file_of, fragments_of
from tests.unit.signing.streams import sign, slow, unsigned_stream

_COMPLETE = "complete"
_HEAD = b"what the camera's newest record says"
STAMPED_AT = datetime(2026, 6, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Artefacts:
    """A folder of them; `work` is for what readers want as files, and is overwritten by each input."""

    folder: Path
    work: Path

    @classmethod
    def kept_in(cls, folder: Path) -> Artefacts:
        """Those in `folder`, made first where there are none."""
        if not (folder / _COMPLETE).exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            _make(folder)
            (folder / _COMPLETE).write_bytes(b"")
        work = Path(tempfile.mkdtemp(prefix="bodycam-fuzz-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
        return cls(folder, work)

    def close(self) -> None:
        """Take `work` away."""
        shutil.rmtree(self.work)

    def one(self, name: str) -> bytes:
        """One artefact."""
        return (self.folder / name).read_bytes()

    def tree(self, name: str) -> dict[str, bytes]:
        """The files of a folder among them, by name, in order."""
        root = self.folder / name
        return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}

    @cached_property
    def layout(self) -> VaultLayout:
        """The vault of which nothing is changed."""
        return VaultLayout(self.folder / "vault")

    @cached_property
    def roots(self) -> tuple[x509.Certificate, ...]:
        """What the examiner trusts."""
        return load_chain(self.folder / "root.pem")

    @cached_property
    def chain(self) -> tuple[x509.Certificate, ...]:
        """The camera's certificates."""
        return load_chain(self.layout.chain)

    @cached_property
    def tsa_roots(self) -> tuple[x509.Certificate, ...]:
        """The time authority's root."""
        return load_chain(self.folder / "tsa-root.pem")

    @cached_property
    def identities(self) -> Identities:
        """What opens what is encrypted."""
        return Identities.load(self.folder / "identity.txt")

    @cached_property
    def recording_id(self) -> str:
        """A recording in the vault."""
        return sorted(path.name for path in self.layout.recordings.iterdir())[0]

    @cached_property
    def journals(self) -> list[bytes]:
        """Whole files."""
        return [data for name, data in self.tree("vault").items() if name.endswith(".journal")]


def _make(folder: Path) -> None:
    vault = VaultBuilder(folder / "vault", rotate_bytes=12_000)
    vault.record(2, sound=True, meanwhile=vault.mark)
    running = vault.begin()
    vault.feed(running, 2)
    vault.restart()  # so that one recording was recovered
    vault.record(2)
    vault.shut_down()
    packages = offloaded(vault, folder)
    (package, *_) = (packages[key] for key in sorted(packages))
    shutil.copytree(package, folder / "package")
    shutil.rmtree(folder / "store")
    _encrypted(folder)
    _stream(folder)
    _times(folder)
    _receipt(folder)


def _encrypted(folder: Path) -> None:
    key = EvidenceKey.generate()
    key.write(folder / "identity.txt")
    (folder / "recipient.txt").write_text(key.recipient)
    (folder / "sealed.txt").write_text(Recipients([key.recipient]).seal({"wearer": "Officer 1234", "unit": "7"}))
    vault = VaultBuilder(folder / "encrypted", recipients=(key.recipient,), wearer="Officer 1234")
    recording_id = vault.record(2)
    vault.shut_down()
    segment = vault.layout.recording(recording_id) / "000001.m4s.age"
    (folder / "segment.age").write_bytes(segment.read_bytes())


def _stream(folder: Path) -> None:
    packets = sign(unsigned_stream(1, 4), slow(3))
    (folder / "stream.h264").write_bytes(b"".join(bytes(packet.data) for packet in packets))
    fragments = fragments_of(packets, origin_ns=packets[0].pts_ns)
    (folder / "stream.mp4").write_bytes(file_of(fragments[:3]))
    (folder / "fragments.m4s").write_bytes(b"".join(bytes(fragment.data) for fragment in fragments[:3]))


def _times(folder: Path) -> None:
    authority, request = time_authority(), make_request(_HEAD)
    (folder / "tsa-root.pem").write_bytes(pem([authority.root]))
    (folder / "token.tsr").write_bytes(authority(request.der))
    (folder / "token-cades.tsr").write_bytes(authority.at(STAMPED_AT)(request.der))
    (folder / "rejected.tsr").write_bytes(time_authority("No SHA-256", digests="sha512")(request.der))


def _receipt(folder: Path) -> None:
    filesystem, layout = PosixFilesystem(), VaultLayout(folder / "vault")
    recording_id = sorted(path.name for path in layout.recordings.iterdir())[0]
    objects = expected_objects(records_of(filesystem, layout, recording_id))
    receipt = {
        "recording_id": recording_id,
        "store": "folder /mnt/store",
        "utc": "2026-01-01T00:00:00.000000Z",
        "objects": [
            {"name": name, "bytes": size, "sha256": sha256, "read_back": "buffered"}
            for name, (size, sha256) in objects.items()
        ],
    }
    (folder / "receipt.json").write_text(json.dumps(receipt, separators=(",", ":")))
    token = base64.b64encode((folder / "token.tsr").read_bytes()).decode()
    messages = [
        {"command": "status"},
        {"command": "receipt", "receipt": receipt},
        {"command": "timestamp-request"},
        {"command": "timestamp-token", "response": token},
    ]
    (folder / "messages.jsonl").write_text("".join(json.dumps(message) + "\n" for message in messages))


MOMENT_NS = 1_780_000_000 * NS_PER_S
"""A moment at which the certificates of all artefacts are valid."""
