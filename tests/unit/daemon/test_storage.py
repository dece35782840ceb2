"""The storage thread: opening is tried again, orders keep their order, and done means durable."""

from __future__ import annotations

import errno
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import pytest

import agent.daemon.storage
from agent.clock import NS_PER_MS, NS_PER_S, SimulatedClock
from agent.daemon.storage import StorageThread
from agent.errors import JournalError, StorageError, StoreError
from agent.recorder.recorder import Recorder
from agent.recorder.recovery import Recovered
from agent.vault.layout import VaultLayout
from tests.support.crashfs import OpKind
from tests.unit.vault.journals import VAULT, disk, open_journal, read_chain

WAIT_S = 10.0


@dataclass
class Listener:
    """What the recorder and the thread told, in order."""

    told: list[str] = field(default_factory=list)
    faulted: threading.Event = field(default_factory=threading.Event)

    def fragment_durable(self, number: int, fragment: int) -> None:
        self.told.append(f"durable {number} {fragment}")

    def recording_closed(self, number: int) -> None:
        self.told.append(f"closed {number}")

    def storage_fault(self, message: str) -> None:
        self.told.append(f"fault {message}")
        self.faulted.set()

    def storage_restored(self) -> None:
        self.told.append("restored")

    def storage_room(self, spare_bytes: int) -> None:
        self.spare_bytes = spare_bytes

    def signer_state(self, fault: str | None) -> None:
        self.told.append(f"signer {fault}")


class Desk:
    """A storage thread over a disk in memory, and doors to wait at."""

    def __init__(self) -> None:
        self.filesystem = disk()
        self.clock = SimulatedClock()
        self.listener = Listener()
        self.failures: list[Exception] = []
        self.always: Exception | None = None
        self.tries = 0
        self.opened = threading.Event()
        self.tried_often = threading.Event()
        self.died = threading.Event()
        self.fatal: BaseException | None = None
        self.thread = StorageThread(
            self.open, self.clock, self.listener, on_opened=self._on_opened, on_fatal=self._on_fatal
        )

    def open(self) -> tuple[Recorder, Recovered]:
        self.tries += 1
        if self.tries >= 5:
            self.tried_often.set()
        if self.always is not None:
            raise self.always
        if self.failures:
            raise self.failures.pop(0)
        journal = open_journal(self.filesystem)
        recorder = Recorder(self.filesystem, VaultLayout(VAULT), journal, self.clock, self.listener, segment_s=10)
        return recorder, Recovered(("a",), "a")

    def _on_opened(self, recovered: Recovered) -> None:
        assert recovered.resume_from == "a"
        self.listener.told.append("opened")
        self.opened.set()

    def _on_fatal(self, error: BaseException) -> None:
        self.fatal = error
        self.died.set()

    def sync(self) -> None:
        """Wait until the thread has done what it was told so far, and all of it is durable."""
        self.thread.ask(lambda recorder: recorder.record("sync")).result(WAIT_S)

    def journal(self) -> list[str]:
        """The types of the records that a power cut now would leave."""
        dead = self.filesystem.cut_before(len(self.filesystem.operations))
        return [record.type for record in read_chain(dead.smallest_state())]


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """A desk that is cleared away; pauses between tries are short."""
    monkeypatch.setattr(agent.daemon.storage, "FIRST_RETRY_NS", NS_PER_MS)
    monkeypatch.setattr(agent.daemon.storage, "LAST_RETRY_NS", 4 * NS_PER_MS)
    desk = Desk()
    yield desk
    if desk.thread._thread.is_alive():
        assert desk.thread.stop(WAIT_S)


def note(name: str) -> Callable[[Recorder], object]:
    """A command that writes a record."""
    return lambda recorder: recorder.record(name)


def test_commands_are_carried_out_in_order_and_made_durable(desk: Desk) -> None:
    for name in ("one", "two", "three"):
        desk.thread.do(note(name))
    desk.thread.start()
    desk.thread.wake()
    desk.thread.do(note("four"))
    desk.sync()
    assert desk.journal()[1:] == ["one", "two", "three", "four", "sync"]


def test_opening_is_tried_again_until_it_succeeds_and_told_once(desk: Desk) -> None:
    desk.failures = [StorageError(errno.EIO, text) for text in ("first", "second", "third")]
    desk.thread.do(note("early"))
    desk.thread.start()
    desk.thread.do(note("late"))
    desk.sync()
    assert desk.tries == 4
    assert desk.listener.told == ["fault [Errno 5] first", "restored", "opened"]
    assert desk.journal()[1:] == ["early", "late", "sync"]
    assert desk.fatal is None


def test_a_vault_that_opens_at_once_is_no_fault(desk: Desk) -> None:
    desk.thread.start()
    desk.sync()
    assert desk.listener.told == ["opened"]


def test_commands_that_wait_for_the_vault_never_change_their_order(desk: Desk) -> None:
    """One comes in the very moment in which the pause ends and those held during it are taken up again."""
    desk.failures = [StorageError(errno.EROFS, "not in")]
    inner = desk.thread._commands

    class Moment:
        """A queue in which a command arrives just as a wait for one has ended without."""

        late = False

        def put(self, command: Any) -> None:
            inner.put(command)

        def get(self, block: bool = True, timeout: float | None = None) -> Any:
            try:
                return inner.get(block and self.late, timeout)
            except queue.Empty:
                if not self.late:
                    self.late = True
                    inner.put(note("late"))
                raise

    desk.thread._commands = Moment()  # type: ignore[assignment]
    desk.thread.do(note("early"))
    desk.thread.start()
    assert desk.opened.wait(WAIT_S)
    desk.sync()
    assert desk.journal()[1:] == ["early", "late", "sync"]


def test_the_pauses_between_tries_grow_and_are_bounded(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.always = StorageError(errno.EROFS, "not in")
    pauses: list[float] = []

    def wait(timeout_s: float) -> bool:
        pauses.append(timeout_s * NS_PER_S / NS_PER_MS)
        return len(pauses) == 6

    monkeypatch.setattr(desk.thread, "_wait_for_stop", wait)
    desk.thread.start()
    assert desk.thread.stop(WAIT_S)
    assert pauses == [1, 2, 4, 4, 4, 4]


def test_the_end_does_not_wait_for_a_vault_that_never_opens(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent.daemon.storage, "FIRST_RETRY_NS", 3600 * NS_PER_S)
    monkeypatch.setattr(agent.daemon.storage, "LAST_RETRY_NS", 3600 * NS_PER_S)
    desk.always = StorageError(errno.EROFS, "not in")
    desk.thread.start()
    desk.thread.do(note("lost"))
    assert desk.thread.stop(WAIT_S)
    assert desk.fatal is None


def test_a_journal_that_a_person_has_to_look_at_is_fatal(desk: Desk) -> None:
    desk.always = JournalError("Look at it.")
    desk.thread.start()
    assert desk.died.wait(WAIT_S)
    assert desk.fatal is desk.always
    assert desk.tries == 1


def test_a_defect_in_a_command_is_fatal_and_nothing_runs_behind_it(desk: Desk) -> None:
    def broken(_recorder: Recorder) -> None:
        raise ZeroDivisionError

    desk.thread.start()
    desk.sync()
    desk.thread.do(broken)
    desk.thread.do(note("behind"))
    assert desk.died.wait(WAIT_S)
    assert isinstance(desk.fatal, ZeroDivisionError)
    assert "behind" not in desk.journal()


def test_an_answer_comes_only_when_its_record_is_durable(desk: Desk) -> None:
    """The first commit that could hold it fails; by the time the answer comes a power cut keeps the record."""
    desk.thread.start()
    desk.sync()
    desk.filesystem.fail_at(len(desk.filesystem.operations), errno.EIO, None, kinds=(OpKind.DATASYNC,))

    def command(recorder: Recorder) -> str:
        recorder.record("offload")
        return "done"

    kept: list[bool] = []
    answer = desk.thread.ask(command)
    answer.add_done_callback(lambda _future: kept.append("offload" in desk.journal()))
    assert desk.listener.faulted.wait(WAIT_S)
    assert not answer.done()
    desk.filesystem.heal()
    desk.clock.advance_ns(10 * NS_PER_S)
    desk.thread.wake()
    assert answer.result(WAIT_S) == "done"
    assert kept == [True]
    desk.sync()
    assert [told for told in desk.listener.told if not told.startswith("durable")][-1] == "restored"


def test_a_refusal_is_handed_back_and_harms_nothing(desk: Desk) -> None:
    def refuse(_recorder: Recorder) -> object:
        raise StoreError("No.")

    desk.thread.start()
    with pytest.raises(StoreError, match=r"^No\.$"):
        desk.thread.ask(refuse).result(WAIT_S)
    desk.sync()
    assert desk.fatal is None


def test_an_answer_is_not_given_while_the_vault_is_not_open(desk: Desk) -> None:
    desk.always = StorageError(errno.EROFS, "not in")
    desk.thread.start()
    answer: Future[Any] = desk.thread.ask(lambda _recorder: 1)
    assert desk.tried_often.wait(WAIT_S)
    assert not answer.done()
    desk.always = None
    assert answer.result(WAIT_S) == 1


def test_what_was_ordered_before_the_end_is_durable_after_it(desk: Desk) -> None:
    desk.thread.start()
    desk.sync()
    desk.thread.do(note("shutdown"))
    assert desk.thread.stop(WAIT_S)
    assert desk.journal()[-1] == "shutdown"


def test_that_a_fault_was_over_is_written_down_before_the_end(desk: Desk) -> None:
    desk.thread.start()
    desk.sync()
    desk.filesystem.fail_at(len(desk.filesystem.operations), errno.EIO, kinds=(OpKind.DATASYNC,))
    desk.thread.do(note("one"))
    assert desk.listener.faulted.wait(WAIT_S)
    desk.clock.advance_ns(10 * NS_PER_S)
    assert desk.thread.stop(WAIT_S)
    assert desk.journal()[-3:] == ["one", "fault", "fault-cleared"]


def test_a_card_that_blocks_is_left_behind(desk: Desk) -> None:
    entered, leave = threading.Event(), threading.Event()

    def block(_recorder: Recorder) -> None:
        entered.set()
        leave.wait(WAIT_S)

    desk.thread.start()
    desk.thread.do(block)
    assert entered.wait(WAIT_S)
    assert not desk.thread.stop(0.01)
    leave.set()


def test_the_journals_file_is_let_go_of_at_the_end(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = threading.Event()
    monkeypatch.setattr(Recorder, "close", lambda _recorder: closed.set())
    desk.thread.start()
    assert desk.thread.stop(WAIT_S)
    assert closed.is_set()
