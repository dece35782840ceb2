"""Small real vaults on the real disk: the real recorder, journal and recovery, under a clock that is told to move.

Pictures are encoded once and repeated, so that a vault of seconds of video takes milliseconds to make.
"""

from __future__ import annotations

import errno
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from agent.clock import NS_PER_MS, NS_PER_S, SimulatedClock
from agent.encryption.recipients import Recipients
from agent.errors import SignerBusyError, StorageError
from agent.media.packets import AudioPacket, VideoFormat, VideoPacket
from agent.media.units import samples_to_ns
from agent.recorder.enrolment import journalled_recipients, start_record
from agent.recorder.fragment import MediaTracks
from agent.recorder.plan import RecordingPlan, Stream
from agent.recorder.recorder import Recorder
from agent.recorder.recovery import Recovered, recover
from agent.ring.ring import PacketRing
from agent.vault.filesystem import AppendFile, PosixFilesystem
from agent.vault.journal import Journal
from agent.vault.layout import VaultLayout
from tests.support.identity import BENCH_IDENTITY, BenchIdentity
from tests.unit.encode.pictures import HEIGHT, WIDTH, encode_numbered
from tests.unit.recorder.media import AUDIO, audio_config, tone

DEVICE_ID = "CAM-TEST"
GOP_FRAMES = 10
FRAME_NS = NS_PER_S // GOP_FRAMES
"""A second is one GOP of ten frames."""


@cache
def gop_data() -> tuple[bytes, ...]:
    """The access units of one closed GOP, from the real encoder."""
    packets = encode_numbered([number * FRAME_NS for number in range(GOP_FRAMES)])
    assert packets[0].is_keyframe
    return tuple(bytes(packet.data) for packet in packets)


@cache
def sound_data() -> tuple[bytes, ...]:
    """AAC frames that fit into one second, whole ones only."""
    packets, _ = tone(1.0, 0)
    return tuple(bytes(packet.data) for packet in packets)[: AUDIO.sample_rate_hz // 1024]


class NobodyListens:
    """A RecorderListener that only remembers faults."""

    def __init__(self) -> None:
        self.faults: list[str] = []

    def fragment_durable(self, number: int, fragment: int) -> None:
        """Nothing to do."""

    def recording_closed(self, number: int) -> None:
        """Nothing to do."""

    def storage_fault(self, message: str) -> None:
        self.faults.append(message)

    def storage_restored(self) -> None:
        """Nothing to do."""

    def storage_room(self, spare_bytes: int) -> None:
        """Nothing to do."""

    def signer_state(self, fault: str | None) -> None:
        """Nothing to do."""


class MoodySigner:
    """A record signer that is busy while `busy` is True."""

    def __init__(self, identity: BenchIdentity) -> None:
        self._signer = identity.record_signer
        self.busy = False

    @property
    def certificate_sha256(self) -> str:
        return self._signer.certificate_sha256

    @property
    def description(self) -> str:
        return self._signer.description

    def sign_record(self, json_bytes: bytes) -> bytes:
        if self.busy:
            raise SignerBusyError("The signer is busy.")
        return self._signer.sign_record(json_bytes)


class _FailingFile:
    def __init__(self, inner: AppendFile, path: Path, filesystem: FailingFilesystem) -> None:
        self._inner, self._path, self._filesystem = inner, path, filesystem

    def write(self, data: bytes) -> None:
        self._inner.write(data)

    def datasync(self) -> None:
        if (failing := self._filesystem.fail_next_sync_of) and failing in self._path.name:
            self._filesystem.fail_next_sync_of = None
            raise StorageError(errno.EIO, "fdatasync failed: Input/output error", str(self._path))
        self._inner.datasync()

    def close(self) -> None:
        self._inner.close()


class FailingFilesystem(PosixFilesystem):
    """The real one, but the next sync of a file with this in its name fails once, with its bytes written."""

    fail_next_sync_of: str | None = None

    def create(self, path: Path) -> AppendFile:
        return _FailingFile(super().create(path), path, self)


@dataclass
class Running:
    """A recording that goes on."""

    recording_id: str
    number: int
    ring: PacketRing
    next_ns: int
    pad_bytes: int
    sound: bool
    fed_s: int = 0


@dataclass
class VaultBuilder:
    """Makes one vault. `record` is all that most tests need; the rest does its steps one by one."""

    root: Path
    identity: BenchIdentity = BENCH_IDENTITY
    segment_s: int = 2
    rotate_bytes: int = 4_000_000
    clock: SimulatedClock = field(default_factory=SimulatedClock)
    filesystem: FailingFilesystem = field(default_factory=FailingFilesystem)
    boots: int = 1
    recipients: tuple[str, ...] = ()
    """Whom it encrypts to."""
    wearer: str = ""
    device_id: str = DEVICE_ID
    recordings_made: int = 0

    def __post_init__(self) -> None:
        self.layout = VaultLayout(self.root)
        for folder in (self.layout.root, self.layout.journal, self.layout.recordings):
            folder.mkdir(parents=True, exist_ok=True)
        self.identity.install(self.layout)
        self.signer = MoodySigner(self.identity)
        self.listener = NobodyListens()
        self.recovered: Recovered | None = None
        self.start()

    def start(self) -> None:
        """What the daemon does with a vault at its start."""
        self.journal = Journal(
            self.filesystem,
            self.layout.journal,
            self.signer,
            self.clock,
            device_id=self.device_id,
            rotate_bytes=self.rotate_bytes,
        )
        journalled = journalled_recipients(self.filesystem, self.layout)
        encryption = start_record(journalled, self.recipients)
        self.journal.append("boot", software="bodycam-agent", version="0", pid=1)
        if journalled or self.recipients:  # the daemon writes it at each start
            self.journal.append("encryption", **encryption)
        self.journal.commit()
        self.recovered = recover(self.filesystem, self.layout, self.journal, self.clock, resume_within_s=0)
        self.recorder = Recorder(
            self.filesystem,
            self.layout,
            self.journal,
            self.clock,
            self.listener,
            segment_s=self.segment_s,
            recipients=Recipients(self.recipients) if self.recipients else None,
            personal={"wearer": self.wearer} if self.wearer else None,
        )

    def restart(self) -> None:
        """The process is gone and starts again, after a reboot."""
        self.journal.close()
        self.boots += 1
        clock = SimulatedClock(
            boottime_ns=20 * NS_PER_S,
            utc_ns=self.clock.utc_ns() + 60 * NS_PER_S,
            boot_id=f"00000000-0000-4000-8000-{self.boots:012d}",
        )
        self.clock = clock
        self.start()

    def shut_down(self) -> None:
        """An orderly end."""
        self.journal.append("shutdown", reason="signal")
        self.journal.commit()
        self.journal.close()

    def begin(self, *, sound: bool = False, pad_bytes: int = 0, max_bytes: int = 1 << 30) -> Running:
        """Trigger a recording; nothing is written before `feed`. pad_bytes: make each GOP that much larger."""
        self.recordings_made += 1
        ring = PacketRing(keep_ns=NS_PER_S, max_bytes=max_bytes, frame_ns=FRAME_NS, audio_before_trigger=True)
        start_ns = self.clock.boottime_ns()
        cursor = ring.open_cursor(start_ns=start_ns, audio_from_ns=start_ns)
        recording_id = str(
            uuid.UUID(int=(self.clock.utc_ns() // NS_PER_MS << 80) | 7 << 76 | 2 << 62 | self.recordings_made)
        )
        tracks = MediaTracks(
            VideoFormat(WIDTH, HEIGHT, GOP_FRAMES), AUDIO if sound else None, audio_config() if sound else b""
        )
        plan = RecordingPlan(
            recording_id=recording_id,
            number=self.recordings_made,
            linked_from=None,
            trigger_ns=start_ns + NS_PER_S,
            pre_event_ns=NS_PER_S,
            pre_event_audio=True,
            stream=Stream(ring, tracks, "synthetic", "libx264"),
            cursor=cursor,
        )
        self.recorder.start(plan, source="button", gesture_ns=(start_ns, start_ns + 300 * NS_PER_MS))
        return Running(recording_id, plan.number, ring, start_ns, pad_bytes, sound)

    def push(self, running: Running, seconds: int) -> None:
        """Let the camera run without the recorder."""
        for _ in range(seconds):
            for index, data in enumerate(gop_data()):
                # No byte is 0, so that nothing in the padding looks like a start code.
                padding = b"\x55" * running.pad_bytes if index == 0 else b""
                running.ring.push_video(
                    VideoPacket(data + padding, running.next_ns + index * FRAME_NS, is_keyframe=index == 0)
                )
            if running.sound:
                for index, data in enumerate(sound_data()):
                    at_ns = running.next_ns + samples_to_ns(index * 1024, AUDIO.sample_rate_hz)
                    duration_ns = samples_to_ns(1024, AUDIO.sample_rate_hz)
                    running.ring.push_audio(AudioPacket(data, at_ns, duration_ns))
            running.next_ns += NS_PER_S
            running.fed_s += 1
            self.clock.sleep_until_ns(running.next_ns)

    def feed(self, running: Running, seconds: int) -> None:
        """Let camera and recorder run."""
        for _ in range(seconds):
            self.push(running, 1)
            self.work()

    def work(self) -> None:
        """Let the recorder do what it can."""
        while self.recorder.step():
            pass

    def retry(self) -> None:
        """Let the recorder try again what failed."""
        self.clock.advance_ns(10 * NS_PER_S)
        self.work()

    def mark(self, running: Running) -> None:
        """The wearer's marker, now."""
        self.recorder.mark(running.number, at_ns=self.clock.boottime_ns(), source="button")

    def stop(self, running: Running) -> str:
        """Hold to stop; returns the recording's id."""
        self.recorder.stop(running.number, stop_ns=running.next_ns - 1, reason="button")
        running.ring.end()
        self.work()
        return running.recording_id

    def record(
        self,
        seconds: int = 3,
        *,
        sound: bool = False,
        pad_bytes: int = 0,
        meanwhile: Callable[[Running], None] | None = None,
    ) -> str:
        """A whole recording; `meanwhile` is called after its first second. Returns its id."""
        running = self.begin(sound=sound, pad_bytes=pad_bytes)
        self.feed(running, 1)
        if meanwhile is not None:
            meanwhile(running)
        self.feed(running, seconds - 1)
        return self.stop(running)
