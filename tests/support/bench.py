"""The whole of `run` on one thread under a simulated clock: real controller, encoder, ring, recorder, journal.

Only threads, pins and lights are left out. Time stands still except in `run_until`, which moves it from one thing that
is due to the next: a frame, a chunk of sound, a planned press, the end of a gesture, a tick.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path

from agent.capture.synthetic import SyntheticCamera, SyntheticMicrophone
from agent.clock import NS_PER_MS, NS_PER_S, SimulatedClock
from agent.controller import controller
from agent.controller.events import ButtonEdge, TerminationAsked
from agent.controller.signals import Cue, Indication
from agent.daemon.capture import make_ring, make_tracks
from agent.daemon.daemon import TICK_NS, Daemon
from agent.daemon.picture_watch import PictureWatch
from agent.daemon.signed_ring import SignedRing
from agent.daemon.sound import RETRY_S as SOUND_RETRY_S
from agent.daemon.stream_signer import open_stream_signer
from agent.daemon.vault_opening import open_recorder
from agent.daemon.witness_desk import WitnessDesk
from agent.encode.audio import AudioEncoder
from agent.encode.video import VideoEncoder
from agent.errors import BodycamError, MicrophoneError, StorageError
from agent.media.units import samples_to_ns
from agent.recorder.plan import Stream
from agent.recorder.recorder import Hold, Recorder
from agent.settings.load import LoadedSettings
from agent.settings.schema import (
    AudioSettings,
    BufferSettings,
    CameraSettings,
    DeviceSettings,
    EncryptionSettings,
    GestureSettings,
    RecordingSettings,
    Settings,
    VaultSettings,
    VideoSettings,
)
from agent.signing.desk import InlineDesk
from agent.signing.signer import StreamSigner
from agent.vault.filesystem import Filesystem
from agent.vault.layout import VaultLayout
from agent.witness.keeper import WitnessKeeper
from tests.support.identity import BENCH_IDENTITY, BenchIdentity

VAULT = Path("/vault")


def bench_settings(
    *,
    pre_event_s: int = 3,
    segment_s: int = 2,
    fps: int = 10,
    sound: bool = False,
    buffer_audio: bool = False,
    gop_ms: int = 1000,
    max_bytes: int = 64_000_000,
    sample_rate_hz: int = 16_000,
    resume_within_s: int = 120,
    vault: Path = VAULT,
    hold_ms: int = 3000,
    double_press_ms: int = 600,
    recipients: tuple[str, ...] = (),
    wearer: str = "",
) -> Settings:
    """Settings for a small, fast bench."""
    return Settings(
        profile="bench",
        device=DeviceSettings(wearer=wearer),
        encryption=EncryptionSettings(recipients=recipients),
        vault=VaultSettings(path=vault, segment_s=segment_s, receipt_queue_path=vault / "no-receipts"),
        buffer=BufferSettings(pre_event_s=pre_event_s, audio=buffer_audio, max_bytes=max_bytes),
        camera=CameraSettings(backend="synthetic", width=96, height=64, fps=fps),
        video=VideoSettings(encoder="libx264", bitrate_bps=100_000, gop_ms=gop_ms, preset="ultrafast", threads=1),
        audio=AudioSettings(source="camera" if sound else "none", sample_rate_hz=sample_rate_hz, bitrate_bps=32_000),
        gestures=GestureSettings(hold_ms=hold_ms, double_press_ms=double_press_ms),
        recording=RecordingSettings(resume_within_s=resume_within_s),
    )


@dataclass
class FakePanel:
    """Remembers what the wearer would have seen and heard, and when."""

    clock: SimulatedClock
    shown: list[tuple[int, Indication]] = field(default_factory=list)
    played: list[tuple[int, Cue]] = field(default_factory=list)

    def show(self, indication: Indication) -> None:
        self.shown.append((self.clock.boottime_ns(), indication))

    def play(self, cue: Cue) -> None:
        self.played.append((self.clock.boottime_ns(), cue))

    @property
    def now(self) -> Indication | None:
        """What it shows."""
        return self.shown[-1][1] if self.shown else None


class Bench:
    """See the module's text. `start` opens the vault (and recovers); `run_until` lives; power goes by raising."""

    def __init__(
        self,
        filesystem: Filesystem,
        settings: Settings | None = None,
        *,
        clock: SimulatedClock | None = None,
        identity: BenchIdentity = BENCH_IDENTITY,
        jitter_ns: int = 0,
        seed: int = 0,
    ) -> None:
        self.settings = settings or bench_settings()
        self.clock = clock or SimulatedClock()
        self.filesystem = filesystem
        self.layout = VaultLayout(self.settings.vault.path)
        self.panel = FakePanel(self.clock)
        self.identity = identity
        self._order = count()
        self._due: list[tuple[int, int, Callable[[], None]]] = []
        self._commands: list[Callable[[Recorder], object]] = []
        self._keyframe_after_ns: int | None = None
        self.camera = SyntheticCamera(
            self.clock,
            self.settings.camera.width,
            self.settings.camera.height,
            self.settings.camera.fps,
            jitter_ns=jitter_ns,
            seed=seed,
            stall_ms=self.settings.camera.stall_ms,
        )
        self.microphone: SyntheticMicrophone | None = None
        if self.settings.audio.source == "camera":
            self.microphone = SyntheticMicrophone(
                self.camera.time_base, self.settings.audio.sample_rate_hz, self.settings.audio.channels
            )
        self.daemon = Daemon(
            self.settings,
            self.clock,
            self.panel,
            force_keyframe=self._force_keyframe,
            check_parts=lambda: None,
            read_button=lambda: None,
        )
        self.daemon.attach(self)
        self.pictures = PictureWatch(self.daemon.post)
        self.witness: WitnessDesk | None = None
        self.lock: Hold | None = None
        """What tells this vault's card from another one; a file system in memory needs none."""
        self.recorder: Recorder | None = None
        self.stream: Stream | None = None
        self._video: VideoEncoder | None = None
        self._signed: SignedRing | None = None
        self._audio: AudioEncoder | None = None
        self._next_frame_ns = 0
        self._sound_until_ns = 0
        self._sound_retry_ns: int | None = None
        self._sound_failed = False
        self._next_tick_ns = 0
        self._frame_ns = NS_PER_S // self.settings.camera.fps
        self.frame_counters: list[tuple[int, int]] = []
        """(captured_ns, painted counter) of every frame that went into the encoder."""
        self._retry_open_ns = 0
        self.commands_held = False
        """While True the recorder writes but is told nothing: a command is still on its way between the threads."""
        self.storage_held = False
        """While True nothing is written: the storage thread hangs in an operation, and all else goes on."""

    # -- life -------------------------------------------------------------------------------------------------

    def start(self) -> Bench:
        """Open the vault and the camera. Storage errors are tried again as time passes."""
        self.open_vault()
        self.open_camera()
        return self

    def attach_witness(self, keeper: WitnessKeeper) -> None:
        """Remember the vault's journal outside of it. Nobody works for the keeper but who calls its `step`."""
        self.witness = WitnessDesk(keeper, self.clock, self.daemon.card_forgot)

    def open_vault(self) -> None:
        """Open the vault and seal what an earlier run left, once."""
        loaded = LoadedSettings(self.settings, (), "0" * 64)
        try:
            self.recorder, recovered = open_recorder(
                self.filesystem,
                self.layout,
                self.identity.record_signer,
                self.clock,
                self.daemon,
                loaded,
                witness=self.witness,
                hold=self.lock,
            )
        except StorageError as error:
            self.daemon.storage_fault(str(error))
            self._retry_open_ns = self.clock.boottime_ns() + 100 * NS_PER_MS
            return
        self.recovered = recovered
        self.daemon.vault_opened(recovered)
        if self._retry_open_ns:
            self.daemon.storage_restored()
        self._retry_open_ns = 0

    def open_camera(self) -> None:
        """Begin a camera session: a new encoder and ring."""
        camera_format = self.camera.open()
        self._video = VideoEncoder(self.settings.video, camera_format)
        ring = make_ring(self.settings, camera_format.fps, None)
        tracks = make_tracks(self.settings, self._video)
        self.stream = Stream(ring, tracks, self.camera.name, self._video.name)
        self._signed = SignedRing(ring, self._stream_signer, self.daemon.stream_signing)
        if self.microphone is not None and tracks.audio is not None:
            self._audio = AudioEncoder(self.settings.audio, tracks.audio)
            self._open_microphone()
        self._next_frame_ns = self.clock.boottime_ns()

    def _stream_signer(self) -> StreamSigner | None:
        signer = self.identity.record_signer.signer  # one key signs both
        return open_stream_signer(self.settings, self.clock, signer, self.daemon.stream_signing, InlineDesk(signer))

    def do(self, command: Callable[[Recorder], object]) -> None:
        """The daemon's way to the storage thread."""
        self._commands.append(command)

    def _force_keyframe(self, after_ns: int) -> None:
        self._keyframe_after_ns = after_ns

    def run_for(self, seconds: float) -> Bench:
        """Let time pass."""
        return self.run_until(self.clock.boottime_ns() + round(seconds * NS_PER_S))

    def run_until(self, until_ns: int) -> Bench:
        """Let time pass up to a boot time."""
        while (now_ns := self._next_due_ns()) <= until_ns:
            self.clock.sleep_until_ns(now_ns)
            self._act()
        self.clock.sleep_until_ns(until_ns)
        return self

    def run_until_idle(self, limit_s: float = 10.0) -> Bench:
        """Let time pass until nothing is being recorded or sealed any more."""
        end_ns = self.clock.boottime_ns() + round(limit_s * NS_PER_S)
        while self.clock.boottime_ns() < end_ns:
            self.run_for(0.05)
            if self.recorder is not None and not self.recorder.active and not self._commands:
                return self
        raise AssertionError("The recorder never came to rest.")

    def _next_due_ns(self) -> int:
        times = [self._next_tick_ns]
        if self.stream is not None:
            times.append(self._next_frame_ns)
        if self._due:
            times.append(self._due[0][0])
        gesture_ns = controller.next_deadline_ns(self.daemon.state, self.settings)
        if gesture_ns is not None:
            times.append(gesture_ns)
        return max(min(times), self.clock.boottime_ns())

    def _act(self) -> None:
        now_ns = self.clock.boottime_ns()
        while self._due and self._due[0][0] <= now_ns:
            heapq.heappop(self._due)[2]()
            self.daemon.drain()
        gesture_ns = controller.next_deadline_ns(self.daemon.state, self.settings)
        if now_ns >= self._next_tick_ns or (gesture_ns is not None and now_ns >= gesture_ns):
            self._next_tick_ns = now_ns + TICK_NS
            self.daemon.tick()
        if self.stream is not None and now_ns >= self._next_frame_ns:
            self._frame()
        self.daemon.drain()
        self._store()

    def _frame(self) -> None:
        assert self.stream is not None
        assert self._video is not None
        assert self._signed is not None
        first = self.stream.ring.newest_video_ns is None
        try:
            frame = self.camera.read()
        except BodycamError as error:
            self.end_stream(str(error))
            return
        self.frame_counters.append((frame.captured_ns, self.camera.delivered - 1))
        self.pictures.saw(frame)
        if self.pictures.waits:
            self.pictures.measure_waiting()
        wanted = self._keyframe_after_ns is not None and frame.captured_ns > self._keyframe_after_ns
        if wanted:
            self._keyframe_after_ns = None
        for packet in self._video.encode(frame, force_keyframe=wanted):
            self._signed.push_video(packet)
        self._sound()
        if first:
            self.daemon.stream_started(self.stream)
        self._next_frame_ns += self._frame_ns

    def _sound(self) -> None:
        """All the sound that has been captured by now, and what the sound thread does about a microphone that fails."""
        if self.microphone is None or self._audio is None or self.stream is None:
            return
        if self._sound_retry_ns is not None:
            if self.clock.boottime_ns() < self._sound_retry_ns:
                return
            self._open_microphone()
        rate = self.settings.audio.sample_rate_hz
        while self._sound_retry_ns is None and self._sound_until_ns + 20 * NS_PER_MS <= self.clock.boottime_ns():
            try:
                chunk = self.microphone.read()
            except MicrophoneError as error:
                self.microphone.close()
                self._sound_gone(str(error))
                return
            self._sound_until_ns = chunk.captured_ns + samples_to_ns(chunk.samples.shape[1], rate)
            packets = self._audio.encode(chunk)
            for packet in packets:
                self.stream.ring.push_audio(packet)
            for from_ns, to_ns in self._audio.take_silence():
                self.daemon.sound_missing(from_ns, to_ns)
            if packets and self._sound_failed:
                self._sound_failed = False
                self.daemon.sound_changed(None)

    def _open_microphone(self) -> None:
        assert self.microphone is not None
        try:
            self.microphone.open()
        except MicrophoneError as error:
            self._sound_gone(str(error))
            return
        self._sound_retry_ns = None
        self._sound_until_ns = self.clock.boottime_ns()

    def _sound_gone(self, message: str) -> None:
        self._sound_retry_ns = self.clock.boottime_ns() + round(SOUND_RETRY_S * NS_PER_S)
        if not self._sound_failed:
            self._sound_failed = True
            self.daemon.sound_changed(message)

    def end_stream(self, message: str) -> None:
        """The camera session ends."""
        stream, self.stream = self.stream, None
        if self._signed is not None:
            self._signed.close()
        if self._video is not None:
            self._video.close()
        self.camera.close()
        self.daemon.stream_ended(stream, message)
        self.daemon.drain()

    def reopen_camera(self) -> None:
        """The camera is back: a new session, ring and encoder."""
        self.open_camera()

    def settle(self) -> None:
        """Carry out what is queued, and let the recorder do what it can."""
        self.daemon.drain()
        self._store()

    def _store(self) -> None:
        if self.storage_held:
            return
        if self.recorder is None:
            if self._retry_open_ns and self.clock.boottime_ns() >= self._retry_open_ns:
                self.open_vault()
            return
        commands: list[Callable[[Recorder], object]] = []
        if not self.commands_held:
            commands, self._commands = self._commands, []
        for command in commands:
            command(self.recorder)
        while self.recorder.step():
            pass
        self.daemon.drain()

    # -- the wearer -------------------------------------------------------------------------------------------

    def at(self, when_ns: int, action: Callable[[], None]) -> None:
        """Plan something for a boot time."""
        heapq.heappush(self._due, (when_ns, next(self._order), action))

    def edge(self, pressed: bool, when_ns: int) -> None:
        """Plan one edge of the record button."""
        self.at(when_ns, lambda: self.daemon.post(ButtonEdge(pressed, when_ns)))

    def double_press(self, second_ns: int) -> None:
        """Plan a double press whose second press falls on a boot time."""
        for offset_ms, pressed in ((-180, True), (-90, False), (0, True), (90, False)):
            self.edge(pressed, second_ns + offset_ms * NS_PER_MS)

    def hold(self, recognised_ns: int) -> None:
        """Plan a hold that is recognised at a boot time."""
        self.edge(True, recognised_ns - self.settings.gestures.hold_ms * NS_PER_MS)
        self.edge(False, recognised_ns + 200 * NS_PER_MS)

    def single_press(self, when_ns: int) -> None:
        """Plan a single press."""
        self.edge(True, when_ns)
        self.edge(False, when_ns + 120 * NS_PER_MS)

    def terminate(self) -> None:
        """SIGTERM."""
        self.daemon.post(TerminationAsked())

    def record(self, seconds: float) -> Bench:
        """Double press now, hold so that it stops after `seconds`, wait until all is sealed."""
        now_ns = self.clock.boottime_ns() + 300 * NS_PER_MS
        self.double_press(now_ns)
        self.hold(now_ns + round(seconds * NS_PER_S))
        self.run_until(now_ns + round(seconds * NS_PER_S))
        return self.run_until_idle()


def rebooted(clock: SimulatedClock, after_s: float = 20.0) -> SimulatedClock:
    """The clock of the next boot: boot time starts anew, wall time has gone on."""
    number = int(clock.boot_id[-4:]) + 1
    return SimulatedClock(
        boottime_ns=8 * NS_PER_S,
        utc_ns=clock.utc_ns() + round(after_s * NS_PER_S),
        boot_id=f"{clock.boot_id[:-4]}{number:04d}",
    )


def with_vault(settings: Settings, vault: Path) -> Settings:
    """The same settings on another vault."""
    return replace(settings, vault=replace(settings.vault, path=vault))
