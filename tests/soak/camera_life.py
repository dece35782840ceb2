"""Starts of the camera one after another on one vault: the bench, killed and stopped, with time that runs on."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path

from agent.capture.synthetic import Spoil
from agent.clock import NS_PER_MS, NS_PER_S, SimulatedClock
from agent.errors import BodycamError
from agent.settings.schema import DeviceSettings, Settings
from agent.trust.certificates import pem
from agent.trust.records import CmsRecordSigner
from agent.vault.layout import VaultLayout
from agent.vault.lock import VaultLock
from tests.soak.card import Card, KilledError
from tests.soak.frame_log import FrameLogWriter
from tests.soak.signer import UnwellSigner
from tests.soak.story import Life, Story
from tests.support.bench import Bench, bench_settings, rebooted
from tests.support.identity import BENCH_IDENTITY

JITTER_NS = 20 * NS_PER_MS
MAX_BUFFER_BYTES = 500_000
"""About a minute: a longer outage has to become a gap."""
DOWN_NS = 2 * NS_PER_S
"""From the end of a process to the next one's start."""
OFF_NS = 20 * NS_PER_S
"""The same across a reboot."""
_LOOK_NS = 2 * NS_PER_S
_REOPEN_NS = 500 * NS_PER_MS
VAULT_NAME = "vault"
_OUT_NAME = "vault-that-is-out"
FRAMES_NAME = "frames"
ROOT_NAME = "root.pem"


def soak_settings(folder: Path) -> Settings:
    """Small pictures and sound, all else as on a camera."""
    settings = bench_settings(
        fps=5,
        pre_event_s=10,
        segment_s=10,
        sound=True,
        sample_rate_hz=8_000,
        buffer_audio=True,
        max_bytes=MAX_BUFFER_BYTES,
        vault=folder / VAULT_NAME,
        hold_ms=1000,
        double_press_ms=400,
    )
    # At twice the bitrate libavcodec's AAC takes three times as long for such a narrow band, and most of the shift.
    audio = replace(settings.audio, bitrate_bps=16_000)
    return replace(settings, audio=audio, device=DeviceSettings(id="CAM-TEST"))


class CameraLife:
    """What is wrong with camera, sound, card and signer stays as it is across a start, as it would.

    Times in seconds count from the beginning of the shift, through kills, stops and reboots.
    """

    def __init__(self, folder: Path, story: Story, *, syncs: bool) -> None:
        """Enrols; nothing runs yet. syncs: see Card."""
        self.story = story
        self.settings = soak_settings(folder)
        self.clock = SimulatedClock()
        self.card = Card(self.clock_stands, syncs=syncs)
        self.signer = UnwellSigner()
        self.unplugged = False
        self.frozen = False
        self.silent = False
        self.bench: Bench
        self._lock: VaultLock | None = None
        self._spoil: Spoil | None = None
        self._identity = replace(BENCH_IDENTITY, record_signer=CmsRecordSigner(self.signer))
        self._frames = FrameLogWriter(folder / FRAMES_NAME)
        self._zero_ns = self.clock.boottime_ns()
        self._from_ns = 0
        self._asked_ns: int | None = None
        self._reboots = False
        self._lives = 0
        self._order = count()
        self._plans: list[tuple[float, int, Callable[[], None]]] = []
        (folder / VAULT_NAME).mkdir(parents=True)
        BENCH_IDENTITY.install(VaultLayout(self.settings.vault.path))
        (folder / ROOT_NAME).write_bytes(pem([BENCH_IDENTITY.root]))

    # -- time -------------------------------------------------------------------------------------------------

    @property
    def now_s(self) -> float:
        """How much of the shift is over."""
        return (self.clock.boottime_ns() - self._zero_ns) / NS_PER_S

    @property
    def number(self) -> int:
        """Which start this is, from 0."""
        return self._lives - 1

    def clock_stands(self, ns: int) -> None:
        """Time passes and nothing moves: the machine is suspended, or busy with something else."""
        self.clock.advance_ns(ns)

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Plan something, whatever becomes of the process until then."""
        heapq.heappush(self._plans, (self.now_s + seconds, next(self._order), action))

    def live(self, until_s: float) -> None:
        """Let time pass, with all that was planned."""
        while self._plans and self._plans[0][0] <= until_s:
            due_s, _, action = heapq.heappop(self._plans)
            self._live(due_s)
            action()
        self._live(until_s)

    def _live(self, until_s: float) -> None:
        until_ns = round(until_s * NS_PER_S)
        while (now_ns := self.clock.boottime_ns() - self._zero_ns) < until_ns:
            look_ns = _LOOK_NS if self.bench.stream is not None else _REOPEN_NS
            try:
                self.bench.run_until(self._zero_ns + min(until_ns, now_ns + look_ns))
                self._reopen_camera()
                if self.bench.daemon.exit is not None:
                    self._ended()
            except KilledError:
                self._over("kill-in-operation")
            self.write_frames()

    # -- starts and ends --------------------------------------------------------------------------------------

    def start(self) -> None:
        """A new process on the same vault. One that is killed while it recovers is started again."""
        while True:
            self._lives += 1
            self._from_ns, self._asked_ns = self.clock.boottime_ns(), None
            self.bench = Bench(
                self.card,
                self.settings,
                clock=self.clock,
                identity=self._identity,
                jitter_ns=JITTER_NS,
                seed=self._lives,
            )
            self.bench.lock = self._lock = VaultLock(self.settings.vault.path)
            self._spoil_camera()
            try:
                self.bench.open_vault()
            except KilledError:
                self._note_end("kill-in-operation", rested=False)
                continue
            self._reopen_camera()
            return

    def kill(self) -> None:
        """SIGKILL between two operations."""
        self._over("kill")

    def terminate(self) -> None:
        """SIGTERM."""
        if self._asked_ns is None:
            self._asked_ns = self.clock.boottime_ns()
            self.bench.terminate()

    def stop(self, limit_s: float = 60.0) -> None:
        """SIGTERM, and wait for the end."""
        number = self.number
        self.terminate()
        until_s = self.now_s + limit_s
        while self.number == number and self.now_s < until_s:
            self._live(self.now_s + 0.1)

    def reboot(self) -> None:
        """Power off in order, and on again: the boot clock begins anew."""
        self._reboots = True
        self.stop()

    def end(self) -> None:
        """The shift is over: the last process ends in order, and none is started any more."""
        self.terminate()
        while self.bench.daemon.exit is None:
            self.bench.run_for(0.1)
        self._close_process()

    def _ended(self) -> None:
        self._close_process()
        if self._reboots:
            self._reboots = False
            shift_ns = self.clock.boottime_ns() - self._zero_ns + OFF_NS
            source, uncertainty_ms = self.clock.source, self.clock.uncertainty_ms
            self.clock = rebooted(self.clock, OFF_NS / NS_PER_S)
            self.clock.source, self.clock.uncertainty_ms = source, uncertainty_ms
            self._zero_ns = self.clock.boottime_ns() - shift_ns
        else:
            self.clock.advance_ns(DOWN_NS)
        self.start()

    def _close_process(self) -> None:
        bench, end = self.bench, self.bench.daemon.exit
        assert end is not None
        if bench.recorder is not None:
            bench.settle()
            bench.recorder.end(end.reason)
            bench.recorder.close()
        bench.end_stream("The agent is stopping.")
        self.write_frames()
        self._note_end("stop", rested=False)

    def _over(self, how: str) -> None:
        self.write_frames()
        self._note_end(how, rested=how == "kill" and self.card.error is None and not self.bench.storage_held)
        self.clock.advance_ns(DOWN_NS)
        self.start()

    def _note_end(self, how: str, *, rested: bool) -> None:
        to_ns = self.clock.boottime_ns() if self._asked_ns is None else self._asked_ns
        if self._lock is not None:
            self._lock.release()
            self._lock = None
        life = Life(self.clock.boot_id, self._from_ns, to_ns, how, self.card.process_ended(), rested)
        self.story.lives.append(life)
        self.story.count(f"end: {how}")

    # -- the card ---------------------------------------------------------------------------------------------

    def exchange_card(self) -> None:
        """Another card, an empty one, stands in the vault's place."""
        vault = self.settings.vault.path
        vault.rename(vault.with_name(_OUT_NAME))
        vault.mkdir()

    def put_card_back(self) -> None:
        """The own one is mounted anew: its folder is another to the kernel. The other one must have got nothing.

        What was open on it stays open, and can still be written; who does so writes to no new name.
        """
        vault = self.settings.vault.path
        out = vault.with_name(_OUT_NAME)
        if not out.exists():
            return
        vault.rmdir()  # raises when it is not empty
        vault.mkdir()
        for path in list(out.iterdir()):
            path.rename(vault / path.name)
        out.rmdir()

    # -- the camera -------------------------------------------------------------------------------------------

    def spoil(self, how: Spoil | None) -> None:
        """What the pictures show from now on."""
        self.write_frames()
        self._spoil = how
        self._spoil_camera()

    def set_camera(self, *, unplugged: bool | None = None, frozen: bool | None = None) -> None:
        """Break it, or mend it; it is opened again by itself."""
        self.unplugged = self.unplugged if unplugged is None else unplugged
        self.frozen = self.frozen if frozen is None else frozen
        self._spoil_camera()

    def set_sound(self, *, silent: bool) -> None:
        """Take the microphone away, or bring it back."""
        self.silent = silent
        self._spoil_camera()

    def _spoil_camera(self) -> None:
        camera, microphone = self.bench.camera, self.bench.microphone
        assert microphone is not None
        (camera.unplug if self.unplugged else camera.plug_in)()
        (camera.freeze if self.frozen else camera.thaw)()
        (microphone.unplug if self.silent else microphone.plug_in)()
        camera.spoil(self._spoil)

    def _reopen_camera(self) -> None:
        if self.bench.stream is not None or self.bench.daemon.exit is not None:
            return
        try:
            self.bench.open_camera()
        except BodycamError as error:
            self.bench.daemon.stream_ended(None, str(error))
            self.bench.daemon.drain()

    def write_frames(self) -> None:
        """Hand on what the bench remembers only for us; the shift would be long otherwise."""
        bench = self.bench
        self._frames.write(self.clock.boot_id, bench.frame_counters, readable=self._spoil is None)
        bench.frame_counters.clear()
        del bench.panel.shown[:-1], bench.panel.played[:-1]
