"""What feeds the service manager's watchdog, and what stops it: real threads that hang, under a clock that is moved."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import agent.daemon.capture
import agent.daemon.storage
from agent.capture.camera import Camera, CameraFormat, CameraFrame
from agent.clock import NS_PER_MS, NS_PER_S, SimulatedClock
from agent.controller.signals import Indication
from agent.controller.silence import HUNG_FACTOR
from agent.controller.state import ControllerState
from agent.daemon.capture import CaptureThread
from agent.daemon.daemon import Daemon
from agent.daemon.health import Hang, HealthBoard, Part, Report, judge, needs_restart
from agent.daemon.signing_watch import SigningWatch
from agent.daemon.storage import StorageThread
from agent.daemon.watchdog import Watchdog
from agent.daemon.watched_camera import (
    FIRST_FRAME_NS,
    OPEN_NS,
    WatchedMicrophone,
    frames_allowed_ns,
    watched_camera,
    watched_ring,
)
from agent.daemon.watched_storage import STALL_NS, TURN_NS, WatchedFilesystem, WatchedOpening
from agent.encode.video import VideoEncoder
from agent.errors import CameraError, StorageError
from agent.media.packets import VideoPacket
from agent.recorder.plan import Stream
from agent.recorder.recorder import Recorder
from agent.recorder.recovery import Recovered
from agent.vault.filesystem import PosixFilesystem
from agent.vault.layout import VaultLayout
from tests.support.bench import bench_settings
from tests.unit.daemon.devices import WAIT_S, GatedCamera, GatedMicrophone
from tests.unit.daemon.test_storage import Listener
from tests.unit.vault.journals import VAULT, disk, open_journal

WATCHDOG_NS = 30 * NS_PER_S
MORE_TIME = "EXTEND_TIMEOUT_USEC=30000000"
READY = ControllerState(streaming=True, frames_fresh=True, ever_ready=True, shown=Indication.READY)


@dataclass
class Manager:
    """A service manager that listens."""

    told: list[str] = field(default_factory=list)

    @property
    def watchdog_ns(self) -> int | None:
        return WATCHDOG_NS

    def tell(self, *lines: str) -> None:
        self.told += lines


@dataclass
class AnsweringStorage:
    """A storage thread that turns at once, unless it `hangs`. records: (type, fields) of what it had to journal."""

    hangs: bool = False
    waiting: list[Callable[[Recorder], object]] = field(default_factory=list)
    records: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def do(self, command: Callable[[Recorder], object]) -> None:
        self.waiting.append(command)
        if not self.hangs:
            self.go_on()

    def go_on(self) -> None:
        """Do what waits."""
        self.hangs = False
        waiting, self.waiting = self.waiting, []
        for command in waiting:
            command(self)  # type: ignore[arg-type]  # `record` is all of a recorder that is used

    def record(self, type_: str, **fields: str) -> None:
        self.records.append((type_, fields))


class Guard:
    """A watchdog with nothing behind it but what a test puts there."""

    def __init__(self, clock: SimulatedClock | None = None) -> None:
        self.clock = clock or SimulatedClock()
        self.manager = Manager()
        self.board = HealthBoard(self.clock)
        self.faults: dict[str, str | None] = {}
        self.sound: list[str | None] = []
        self.hung: list[str] = []
        self.watchdog = Watchdog(
            self.manager,
            self.board,
            self.clock,
            note_fault=self.faults.__setitem__,
            sound_changed=self.sound.append,
            camera_hung=self.hung.append,
        )
        self.storage: AnsweringStorage | StorageThread = AnsweringStorage()

    def turn(self, seconds: float = 0.0, state: ControllerState = READY) -> list[str]:
        """Let the loop turn for so long, ten times a second; what the manager was told in the last tenth."""
        for _ in range(max(1, round(seconds * 10))):
            if seconds:
                self.clock.advance_ns(100 * NS_PER_MS)
            self.manager.told.clear()
            self.watchdog.turn(state, self.storage)
        return list(self.manager.told)

    def hears(self, line: str, seconds: float, state: ControllerState = READY) -> bool:
        """Whether the manager is told that within so long; all of it passes."""
        heard = False
        for _ in range(round(seconds * 10)):
            heard |= line in self.turn(0.1, state)
        return heard

    def is_fed(self, seconds: float = WATCHDOG_NS / NS_PER_S, state: ControllerState = READY) -> bool:
        """Whether the manager, which waits so long, hears anything."""
        return self.hears("WATCHDOG=1", seconds, state)

    def jump(self, ns: int, state: ControllerState = READY) -> bool:
        """Time passes in which nothing but the controller turns; whether it is fed after that."""
        self.let_pass(ns, state)
        return self.is_fed(state=state)

    def let_pass(self, ns: int, state: ControllerState = READY) -> None:
        """Time passes in which the controller turns."""
        end_ns = self.clock.boottime_ns() + ns
        while (left_ns := end_ns - self.clock.boottime_ns()) > 0:
            self.clock.advance_ns(min(left_ns, NS_PER_S))
            self.watchdog.turn(state, self.storage)


@pytest.fixture
def guard() -> Guard:
    made = Guard()
    made.watchdog.vault_opened()
    made.turn()
    return made


# The judgement


def test_who_is_back_in_time_does_not_hang() -> None:
    reports = {Part.CAMERA: Report("reading", 100, 50), Part.STORAGE: Report("fdatasync", 0, 200)}
    assert judge(reports, 150) == ()
    assert judge(reports, 151) == (Hang(Part.CAMERA, "reading", 51),)
    assert judge(reports, 201) == (Hang(Part.CAMERA, "reading", 101), Hang(Part.STORAGE, "fdatasync", 201))
    assert judge({}, 10**18) == ()


@pytest.mark.parametrize("part", Part)
def test_only_for_sound_a_restart_is_no_cure(part: Part) -> None:
    assert needs_restart((Hang(part, "hangs", 1),)) is (part is not Part.SOUND)


def test_saying_the_next_thing_takes_back_the_last() -> None:
    clock = SimulatedClock()
    board = HealthBoard(clock)
    board.says(Part.CAMERA, "reading", 10)
    clock.advance_ns(11)
    assert judge(board.reports(), clock.boottime_ns())
    board.says(Part.CAMERA, "reading", 10)
    assert not judge(board.reports(), clock.boottime_ns())
    board.awaits(Part.CAMERA, "something else", 1)
    assert board.reports()[Part.CAMERA].doing == "reading"
    board.rests(Part.CAMERA)
    board.rests(Part.CAMERA)
    assert board.reports() == {}


# When it is ready, and what it says


def test_ready_is_said_when_the_vault_is_open_and_not_before() -> None:
    guard = Guard()
    for _ in range(100):
        told = guard.turn(1.0, ControllerState())
        assert "READY=1" not in told
        assert "WATCHDOG=1" not in told
    guard.watchdog.vault_opened()
    told = guard.turn(0.1)
    assert told[0] == "READY=1"
    assert "WATCHDOG=1" in told
    assert not any("READY=1" in guard.turn(1.0) for _ in range(20))


def test_a_start_that_waits_for_its_card_asks_for_more_time_and_says_why() -> None:
    guard = Guard()
    state = ControllerState(storage_fault="There is no vault. Is the card in?", shown=Indication.FAULT)
    told: list[str] = []
    for _ in range(200):
        told += guard.turn(0.1, state)
        guard.board.says(Part.STORAGE, "waiting to open the vault again", TURN_NS)
    extensions = [line for line in told if line == MORE_TIME]
    assert len(extensions) >= 9  # every 2 s, each for 30 s
    assert "STATUS=fault. There is no vault. Is the card in?" in told


def test_a_card_that_stalls_is_shown_meanwhile_and_journalled_once_when_it_answers_again(guard: Guard) -> None:
    guard.storage = storage = AnsweringStorage(hangs=True)
    guard.board.says(Part.STORAGE, "fdatasync of 000001.m4s", STALL_NS)
    guard.turn(1.9)
    assert guard.faults["card"] is None
    guard.turn(8.1)
    assert "fdatasync of 000001.m4s" in str(guard.faults["card"])
    assert not storage.records
    storage.go_on()
    guard.turn(5.0)
    assert guard.faults["card"] is None
    (_, stalled), (_, cleared) = storage.records
    assert [type_ for type_, _ in storage.records] == ["fault", "fault-cleared"]
    assert stalled["component"] == cleared["component"] == "card"
    assert "for 10.1 s (fdatasync of 000001.m4s)" in stalled["message"]


def test_a_card_that_answers_within_two_seconds_is_not_journalled(guard: Guard) -> None:
    guard.storage = storage = AnsweringStorage(hangs=True)
    guard.board.says(Part.STORAGE, "fdatasync of 000001.m4s", STALL_NS)
    guard.turn(1.9)
    storage.go_on()
    guard.turn(5.0)
    assert not storage.records


def test_a_start_that_hangs_asks_for_no_more_time() -> None:
    guard = Guard()
    guard.board.says(Part.STORAGE, "opening the vault", STALL_NS)
    assert guard.hears(MORE_TIME, 4)
    guard.let_pass(STALL_NS)
    assert not guard.hears(MORE_TIME, 60)


def test_it_is_fed_often_enough_while_everything_turns(guard: Guard) -> None:
    silent = longest = 0
    for _ in range(3000):
        silent = 0 if "WATCHDOG=1" in guard.turn(0.1) else silent + 1
        longest = max(longest, silent)
    assert longest * 100 * NS_PER_MS < WATCHDOG_NS / 4


def test_status_is_said_once_for_each_change(guard: Guard) -> None:
    told: list[str] = []
    for state in (READY, READY, ControllerState(camera_fault="unplugged", shown=Indication.FAULT), READY):
        for _ in range(30):
            told += [line for line in guard.turn(0.1, state) if line.startswith("STATUS")]
    assert told == ["STATUS=fault. unplugged", "STATUS=ready."]


def test_the_end_is_said_at_once_and_not_cut_short(guard: Guard) -> None:
    guard.board.says(Part.STORAGE, "fdatasync of 000001.m4s", STALL_NS)
    guard.let_pass(STALL_NS + 1)
    stopping = ControllerState(stopping="shutdown", shown=Indication.STOPPING)
    told = guard.turn(0.1, stopping)
    assert "STOPPING=1" in told
    assert guard.is_fed(state=stopping)
    assert not any("STOPPING=1" in guard.turn(1.0, stopping) for _ in range(10))


def test_an_end_without_another_turn_is_said_once(guard: Guard) -> None:
    guard.manager.told.clear()
    guard.watchdog.ending()
    guard.watchdog.ending()
    assert guard.manager.told == ["STOPPING=1"]


def test_who_stood_still_with_the_whole_device_is_not_late(guard: Guard) -> None:
    guard.board.says(Part.CAMERA, "waiting for a frame", 10 * NS_PER_S)
    guard.let_pass(8 * NS_PER_S)
    guard.clock.advance_ns(8 * 3600 * NS_PER_S)  # suspended: CLOCK_BOOTTIME runs on
    guard.board.says(Part.ENCODER, "encoding a frame", 10 * NS_PER_S)  # this one was awake before the controller
    assert guard.is_fed(1.5)
    assert guard.hung == []
    guard.let_pass(NS_PER_S)
    assert len(guard.hung) == 1, "what it had left it has, and no more"
    guard.let_pass(9 * NS_PER_S)
    assert len(guard.hung) == 2


# The controller


def test_a_controller_that_does_not_turn_feeds_nobody() -> None:
    """It is fed by the controller's own turn: here it hangs in a light that cannot be switched."""
    guard = Guard()
    guard.watchdog.vault_opened()
    hanging, released, fed = threading.Event(), threading.Event(), threading.Semaphore(0)

    class Panel:
        def show(self, indication: Indication) -> None:
            if indication is Indication.FAULT:
                hanging.set()
                assert released.wait(WAIT_S)

        def play(self, cue: object) -> None: ...

    def check() -> None:
        guard.clock.advance_ns(3 * NS_PER_S)
        guard.watchdog.turn(daemon.state, guard.storage)
        fed.release()

    daemon = Daemon(
        bench_settings(),
        guard.clock,
        Panel(),
        force_keyframe=lambda _after_ns: None,
        check_parts=check,
        read_button=lambda: None,
    )

    def run() -> None:
        with suppress(StorageError):
            daemon.run(AnsweringStorage(hangs=True))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert fed.acquire(timeout=WAIT_S)
    daemon.storage_fault("The card is gone.")
    assert hanging.wait(WAIT_S)
    while fed.acquire(blocking=False):
        pass
    guard.manager.told.clear()
    assert not fed.acquire(timeout=0.3)  # three turns' time
    assert guard.manager.told == []
    released.set()
    assert fed.acquire(timeout=WAIT_S)
    assert fed.acquire(timeout=WAIT_S)
    daemon.fatal(StorageError(5, "enough"))
    thread.join(WAIT_S)


def test_the_controllers_own_report_is_judged_too() -> None:
    clock = SimulatedClock()
    guard = Guard(clock)
    guard.turn()
    clock.advance_ns(2 * NS_PER_S + 1)
    assert [hang.part for hang in judge(guard.board.reports(), clock.boottime_ns())] == [Part.CONTROLLER]


# Camera and encoder


class StuckEncoder:
    """Stands where the agent's encoder stands: encodes `normally` first, then takes frames and gives nothing."""

    def __init__(self, real: type) -> None:
        self._real = real
        self.stuck = threading.Event()
        self.blocks = threading.Event()
        self.free = threading.Event()

    def __call__(self, *arguments: object) -> object:
        encoder = self._real(*arguments)
        encode = encoder.encode

        def wrapped(frame: CameraFrame, *, force_keyframe: bool = False) -> list[VideoPacket]:
            if self.blocks.is_set():
                assert self.free.wait(WAIT_S)
            return [] if self.stuck.is_set() else encode(frame, force_keyframe=force_keyframe)

        encoder.encode = wrapped
        return encoder


class CaptureGuard(Guard):
    """A watchdog over a real capture thread on a gated camera."""

    def __init__(self) -> None:
        super().__init__()
        self.watchdog.vault_opened()
        self.settings = bench_settings()
        self.camera = GatedCamera(self.clock)
        self.started: queue.Queue[Stream] = queue.Queue()
        self.ended: queue.Queue[str] = queue.Queue()
        self.absent = False
        self.thread = CaptureThread(
            self.settings,
            open_camera=lambda: watched_camera(self._made, self.board, self.settings),
            open_microphone=lambda _camera: None,
            open_signer=lambda: None,
            signing=SigningWatch(lambda _message: None, lambda _gops: None),
            on_progress=watched_ring(lambda: None, self.board),
            on_started=self.started.put,
            on_ended=lambda _stream, message: self.ended.put(message),
            on_sound=lambda _message: None,
            on_silence=lambda _from_ns, _to_ns: None,
        )

    def _made(self) -> Camera:
        if self.absent:
            raise CameraError("There is no camera; plug one in.")
        return self.camera

    def frames(self, count: int) -> None:
        self.camera.give(count)
        self.camera.taken(count)

    def begin(self) -> None:
        self.thread.start()
        self.camera.taken(1)
        self.frames(1)
        self.started.get(timeout=WAIT_S)


@pytest.fixture
def capture(monkeypatch: pytest.MonkeyPatch) -> Iterator[CaptureGuard]:
    monkeypatch.setattr(agent.daemon.capture, "FIRST_RETRY_S", 0.001)
    guard = CaptureGuard()
    yield guard
    guard.thread._stopping.set()
    guard.camera.give(1000)
    assert guard.thread.stop(WAIT_S)


def test_a_camera_that_gives_frames_is_no_hang(capture: CaptureGuard) -> None:
    capture.begin()
    for _ in range(20):
        capture.frames(10)
        assert capture.is_fed(seconds=8)
    assert Part.STORAGE in capture.board.reports()


def test_a_camera_that_hangs_in_open_stops_the_feed(capture: CaptureGuard) -> None:
    opening, released = threading.Event(), threading.Event()
    real_open = capture.camera.open

    def stuck() -> CameraFormat:
        opening.set()
        assert released.wait(WAIT_S)
        return real_open()

    capture.camera.open = stuck  # type: ignore[method-assign]
    capture.thread.start()
    assert opening.wait(WAIT_S)
    assert capture.is_fed()
    assert not capture.jump(OPEN_NS)
    assert "hangs: opening" in (capture.faults["camera-hung"] or "")
    assert capture.hung == [capture.faults["camera-hung"]], "the controller is asked to end in order, once"
    released.set()
    capture.camera.taken(1)
    capture.frames(1)
    assert capture.is_fed()
    assert capture.faults["camera-hung"] is None


def test_a_camera_stack_that_hangs_while_it_is_loaded_stops_the_feed(capture: CaptureGuard) -> None:
    loading, released = threading.Event(), threading.Event()

    def stuck() -> Camera:
        loading.set()
        assert released.wait(WAIT_S)
        return capture.camera

    capture._made = stuck  # type: ignore[method-assign]
    capture.thread.start()
    assert loading.wait(WAIT_S)
    assert capture.is_fed()
    assert not capture.jump(OPEN_NS)
    released.set()


def test_loading_a_camera_takes_nothing_from_the_time_for_opening_it(capture: CaptureGuard) -> None:
    loading, loaded, opening, opened = (threading.Event() for _ in range(4))
    real_open = capture.camera.open

    def load() -> None:
        loading.set()
        assert loaded.wait(WAIT_S)

    def slow() -> CameraFormat:
        opening.set()
        assert opened.wait(WAIT_S)
        return real_open()

    capture.camera.load = load  # type: ignore[attr-defined]
    capture.camera.open = slow  # type: ignore[method-assign]
    capture.thread.start()
    assert loading.wait(WAIT_S)
    assert capture.jump(OPEN_NS - 2 * NS_PER_S)
    loaded.set()
    assert opening.wait(WAIT_S)
    assert capture.jump(OPEN_NS - 2 * NS_PER_S)
    assert not capture.jump(2 * NS_PER_S)
    assert "hangs: opening" in (capture.faults["camera-hung"] or "")
    opened.set()


def test_an_absent_camera_is_a_declared_state_for_ever(capture: CaptureGuard) -> None:
    capture.absent = True
    capture.thread.start()
    for _ in range(8):
        capture.ended.get(timeout=WAIT_S)
        capture.let_pass(capture.settings.camera.retry_max_s * NS_PER_S)
        capture.turn(0.1)
        assert not judge(capture.board.reports(), capture.clock.boottime_ns())


def test_a_camera_that_freezes_is_left_to_the_controller_first(capture: CaptureGuard) -> None:
    capture.begin()
    limit_ns = frames_allowed_ns(capture.settings)
    assert limit_ns >= HUNG_FACTOR * capture.settings.camera.stall_ms * NS_PER_MS + 33 * NS_PER_S
    capture.let_pass(limit_ns - WATCHDOG_NS)
    assert capture.is_fed(seconds=25)
    assert not capture.jump(WATCHDOG_NS)


def test_a_camera_that_hangs_before_its_first_frame_is_not_waited_for_so_long(capture: CaptureGuard) -> None:
    capture.thread.start()
    capture.camera.taken(1)
    assert not capture.jump(FIRST_FRAME_NS)
    assert capture.hung
    assert "waiting for the first frame" in capture.hung[0]


def test_an_encoder_that_blocks_stops_the_feed(capture: CaptureGuard, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = StuckEncoder(VideoEncoder)
    monkeypatch.setattr(agent.daemon.capture, "VideoEncoder", encoder)
    capture.begin()
    encoder.blocks.set()
    capture.camera.give(1)
    while Part.ENCODER not in capture.board.reports():
        pass
    assert capture.is_fed()
    assert not capture.jump(frames_allowed_ns(capture.settings))
    assert "encoding a frame" in (capture.faults["encoder-hung"] or "")
    assert capture.faults["encoder-hung"] in capture.hung
    encoder.free.set()


def test_an_encoder_that_swallows_frames_stops_the_feed(capture: CaptureGuard, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = StuckEncoder(VideoEncoder)
    monkeypatch.setattr(agent.daemon.capture, "VideoEncoder", encoder)
    capture.begin()
    encoder.stuck.set()
    for _ in range(10):  # the camera is well and gives its frames
        capture.frames(5)
        capture.let_pass(frames_allowed_ns(capture.settings) // 5)
        capture.turn()
    assert not capture.is_fed()
    assert "ring-hung" in capture.faults
    assert "camera-hung" not in capture.faults


def test_an_encoder_that_never_gave_anything_stops_the_feed_too(
    capture: CaptureGuard, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = StuckEncoder(VideoEncoder)
    encoder.stuck.set()
    monkeypatch.setattr(agent.daemon.capture, "VideoEncoder", encoder)
    capture.thread.start()
    capture.camera.taken(1)
    for _ in range(10):
        capture.frames(5)
        capture.let_pass(frames_allowed_ns(capture.settings) // 5)
        capture.turn()
    assert not capture.is_fed()


# Sound


def test_a_microphone_that_hangs_is_declared_and_video_goes_on(guard: Guard) -> None:
    microphone = GatedMicrophone(guard.clock)
    watched = WatchedMicrophone(microphone, guard.board)
    watched.open()
    reading = threading.Thread(target=watched.read, daemon=True)
    reading.start()
    while Part.SOUND not in guard.board.reports():
        pass
    guard.turn(2.0)
    assert len(guard.sound) == 1, "told within 2 s"
    assert guard.jump(60 * NS_PER_S)
    assert len(guard.sound) == 1
    assert guard.hung == [], "sound that hangs ends nothing"
    assert "The sound hangs" in (guard.sound[0] or "")
    microphone.give()
    reading.join(WAIT_S)
    guard.turn()
    assert guard.sound[1:] == [None]


# Storage


class StorageGuard(Guard):
    """A watchdog over a real storage thread on a disk in memory whose next sync may block."""

    def __init__(self) -> None:
        super().__init__()
        self.filesystem = disk()
        self.listener = Listener()
        self.failures: list[Exception] = []
        self.opened = threading.Event()
        self.reached, self.released = threading.Event(), threading.Event()
        self.watched = WatchedFilesystem(self.filesystem, self.board)
        self.thread = StorageThread(
            WatchedOpening(self._open, self.board),
            self.clock,
            self.listener,
            on_opened=self._opened,
            on_fatal=lambda _error: None,
        )
        self.storage = self.thread

    def _open(self) -> tuple[Recorder, Recovered]:
        if self.failures:
            raise self.failures.pop(0)
        journal = open_journal(self.watched)
        recorder = Recorder(self.watched, VaultLayout(VAULT), journal, self.clock, self.listener, segment_s=10)
        return recorder, Recovered((), None)

    def _opened(self, _recovered: Recovered) -> None:
        self.watchdog.vault_opened()
        self.opened.set()

    def begin(self) -> None:
        self.thread.start()
        assert self.opened.wait(WAIT_S)
        self.sync()

    def sync(self) -> None:
        self.thread.ask(lambda _recorder: None).result(WAIT_S)

    def settle(self) -> None:
        """A ping is answered by a real thread: give it its turn."""
        self.turn(1.5)
        self.sync()
        self.turn(0.1)

    def hang(self, _recorder: Recorder) -> None:
        self.reached.set()
        assert self.released.wait(WAIT_S)


@pytest.fixture
def storage() -> Iterator[StorageGuard]:
    guard = StorageGuard()
    yield guard
    guard.released.set()
    if guard.thread._thread.is_alive():
        assert guard.thread.stop(WAIT_S)


def test_a_storage_thread_that_turns_is_no_hang(storage: StorageGuard) -> None:
    storage.begin()
    for _ in range(10):
        storage.settle()
        storage.let_pass(TURN_NS // 2)
        storage.settle()
        assert not judge(storage.board.reports(), storage.clock.boottime_ns())
    assert storage.is_fed(seconds=3)


def test_a_storage_thread_that_hangs_undeclared_stops_the_feed(storage: StorageGuard) -> None:
    storage.begin()
    storage.settle()
    storage.thread.do(storage.hang)
    assert storage.reached.wait(WAIT_S)
    assert storage.is_fed()
    assert not storage.jump(TURN_NS)
    assert "between two operations" in (storage.faults["storage-hung"] or "")
    # However long it lasts, no more than one ping waits for it.
    assert storage.thread._commands.qsize() <= 1
    storage.released.set()
    storage.sync()
    storage.settle()
    assert storage.is_fed()


def test_a_card_that_stalls_is_declared_and_shown_and_the_feed_goes_on(storage: StorageGuard) -> None:
    storage.begin()
    storage.settle()
    storage.thread.do(lambda _recorder: self_blocking(storage))
    assert storage.reached.wait(WAIT_S)
    storage.turn(1.0)
    assert storage.faults["card"] is None
    storage.turn(2.0)
    assert "fdatasync of 000001.m4s" in (storage.faults["card"] or "")
    assert storage.jump(STALL_NS - 2 * WATCHDOG_NS)
    assert not storage.jump(2 * WATCHDOG_NS)
    storage.released.set()
    storage.sync()
    storage.settle()
    assert storage.faults["card"] is None
    assert storage.is_fed()


def self_blocking(storage: StorageGuard) -> None:
    """What a writer does on a card that hangs in fdatasync."""
    with storage.watched.during("fdatasync of 000001.m4s"):
        storage.reached.set()
        assert storage.released.wait(WAIT_S)


def test_a_vault_that_cannot_be_opened_yet_is_declared(storage: StorageGuard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent.daemon.storage, "FIRST_RETRY_NS", NS_PER_MS)
    monkeypatch.setattr(agent.daemon.storage, "LAST_RETRY_NS", 4 * NS_PER_MS)
    storage.failures = [StorageError(30, "read-only")] * 20
    storage.thread.start()
    while not storage.opened.wait(0.001):
        assert storage.hears(MORE_TIME, 3) or storage.opened.is_set()
    assert storage.turn(0.1)[0] == "READY=1"


def test_every_operation_on_flash_is_said_and_does_what_it_did(tmp_path: Path) -> None:
    clock = SimulatedClock()
    board = HealthBoard(clock)
    said: list[str] = []
    says = board.says

    def listening(part: Part, doing: str, allowed_ns: int) -> None:
        said.append(doing)
        says(part, doing, allowed_ns)

    board.says = listening  # type: ignore[method-assign]
    watched = WatchedFilesystem(PosixFilesystem(), board)
    watched.make_dir(tmp_path / "a")
    watched.sync_dir(tmp_path)
    file = watched.create(tmp_path / "a/b")
    file.write(b"bytes")
    file.datasync()
    file.close()
    watched.sync_file(tmp_path / "a/b")
    watched.rename(tmp_path / "a/b", tmp_path / "a/c")
    assert watched.list_dir(tmp_path / "a") == ["c"]
    assert watched.read(tmp_path / "a/c") == b"bytes"
    assert list(watched.read_chunks(tmp_path / "a/c", 2)) == [b"by", b"te", b"s"]
    with watched.open_read(tmp_path / "a/c") as opened:
        assert opened.read() == b"bytes"
    assert watched.size_bytes(tmp_path / "a/c") == 5
    assert not watched.is_link(tmp_path / "a/c")
    assert watched.free_bytes(tmp_path) > 0
    with pytest.raises(StorageError):
        watched.create(tmp_path / "a/c")
    operations = said[::2]
    assert set(said[1::2]) == {"between two operations"}
    assert operations == [
        "creating the folder a",
        f"fsync of the folder {tmp_path.name}",
        "creating b",
        "writing b",
        "fdatasync of b",
        "closing b",
        "fsync of b",
        "renaming b",
        "listing a",
        "reading c",
        *["reading c"] * 4,
        "opening c",
        "looking at c",
        "looking at c",
        f"statvfs of {tmp_path.name}",
        "creating c",
    ]
