"""Small vaults whose video is signed in itself, as a camera leaves them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from agent.clock import NS_PER_S, SimulatedClock
from agent.daemon.stream_signer import open_stream_signer
from agent.media.packets import VideoPacket
from agent.settings.schema import DeviceSettings
from agent.signing.desk import InlineDesk
from agent.signing.signer import StreamSigner
from agent.trust.signer import Signer
from agent.vault.filesystem import PosixFilesystem
from tests.support.bench import Bench, bench_settings
from tests.support.identity import BENCH_IDENTITY
from tests.support.vault_builder import FRAME_NS, Running, VaultBuilder, gop_data
from tests.unit.signing.streams import VENDOR


class SignedBench(Bench):
    """The whole camera. stream_key: signs the video in place of the device key; None films unsigned."""

    stream_key: Signer | None = BENCH_IDENTITY.signer

    def _stream_signer(self) -> StreamSigner | None:
        key = self.stream_key
        if key is None:
            return None
        return open_stream_signer(self.settings, self.clock, key, self.daemon.stream_signing, InlineDesk(key))


def signed_bench(
    vault: Path,
    *,
    key: Signer | None = BENCH_IDENTITY.signer,
    clock: SimulatedClock | None = None,
    sound: bool = True,
    recipients: tuple[str, ...] = (),
) -> SignedBench:
    """Not started yet."""
    settings = bench_settings(vault=vault, sound=sound, recipients=recipients, hold_ms=1000, double_press_ms=200)
    settings = replace(settings, device=DeviceSettings(id="CAM-TEST"))
    bench = SignedBench(PosixFilesystem(), settings, clock=clock)
    bench.stream_key = key
    bench.identity.install(bench.layout)
    return bench


@dataclass
class SignedVaultBuilder(VaultBuilder):
    """Its recordings' pictures are the same in each GOP but for padding, so that no two GOPs are."""

    signers: dict[int, StreamSigner] = field(default_factory=dict)

    def push(self, running: Running, seconds: int) -> None:
        if running.number not in self.signers:
            key = self.identity.signer
            self.signers[running.number] = StreamSigner(key, self.clock, VENDOR, desk=InlineDesk(key))
        signer = self.signers[running.number]
        for _ in range(seconds):
            for index, data in enumerate(gop_data()):
                padding = b"\x55" * (running.pad_bytes + running.fed_s + 1) if index == 0 else b""
                packet = VideoPacket(data + padding, running.next_ns + index * FRAME_NS, is_keyframe=index == 0)
                running.ring.push_video(signer.push(packet))
            running.next_ns += NS_PER_S
            running.fed_s += 1
            self.clock.sleep_until_ns(running.next_ns)
