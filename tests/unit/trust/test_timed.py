from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future

import pytest
from cryptography import x509

from agent.errors import DeviceKeyError, SignerBusyError
from agent.trust import timed
from agent.trust.timed import TimedSigner
from tests.unit.trust.identities import identity

LONG_S = 30.0
SHORT_S = 0.02


class SteeredSigner:
    """Answers when told to."""

    description = "steered"

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.may_answer = threading.Event()
        self.left = threading.Semaphore(0)
        self.calls: list[bytes] = []
        self.threads: set[int] = set()
        self.error: BaseException | None = None

    @property
    def certificate(self) -> x509.Certificate:
        return identity().leaf

    @property
    def chain(self) -> tuple[x509.Certificate, ...]:
        return (identity().leaf,)

    def sign(self, data: bytes) -> bytes:
        self.calls.append(data)
        self.threads.add(threading.get_ident())
        self.entered.release()
        assert self.may_answer.wait(LONG_S)
        self.left.release()
        if self.error is not None:
            raise self.error
        return b"signed " + data


@pytest.fixture
def inner() -> Iterator[SteeredSigner]:
    signer = SteeredSigner()
    yield signer
    signer.may_answer.set()  # let the worker go, whatever the test did


def wait_until_idle(signer: TimedSigner) -> None:
    """The worker reports idleness after the inner call returned; this waits on its own condition, not on time."""
    with signer._idle:
        assert signer._idle.wait_for(lambda: not signer._running, LONG_S)


def test_answers_come_from_one_worker_thread(inner: SteeredSigner) -> None:
    inner.may_answer.set()
    signer = TimedSigner(inner, LONG_S)
    assert [signer.sign(b"a"), signer.sign(b"b")] == [b"signed a", b"signed b"]
    assert len(inner.threads) == 1
    assert threading.get_ident() not in inner.threads
    assert (signer.certificate, signer.chain, signer.description) == (inner.certificate, inner.chain, "steered")
    signer.close()


def test_a_hanging_signer_is_busy_after_the_budget_and_at_once_from_then_on(inner: SteeredSigner) -> None:
    signer = TimedSigner(inner, SHORT_S)
    with pytest.raises(SignerBusyError, match="within 20 ms"):
        signer.sign(b"first")
    assert inner.entered.acquire(timeout=LONG_S)
    # A budget of half a minute from here on: whoever waited for it instead of raising at once would hit the time limit.
    signer._timeout_s = LONG_S * 100
    for _ in range(50):
        with pytest.raises(SignerBusyError, match="last call"):
            signer.sign(b"later")
    assert inner.calls == [b"first"]
    inner.may_answer.set()
    wait_until_idle(signer)
    assert signer.sign(b"again") == b"signed again"
    assert inner.calls == [b"first", b"again"]  # nothing had queued up, and no late answer was mixed in
    signer.close()


def test_it_never_blocks_longer_than_the_budget(inner: SteeredSigner, monkeypatch: pytest.MonkeyPatch) -> None:
    waits_s: list[float | None] = []

    class WatchedFuture(Future[bytes]):
        def result(self, timeout: float | None = None) -> bytes:
            waits_s.append(timeout)
            return super().result(timeout)

    monkeypatch.setattr(timed, "Future", WatchedFuture)
    signer = TimedSigner(inner, SHORT_S)
    monkeypatch.setattr(signer._idle, "wait", lambda _timeout_s: pytest.fail("a refusal waits for nothing"))
    for _ in range(20):
        with pytest.raises(SignerBusyError):
            signer.sign(b"x")
    (wait_s,) = waits_s  # one budget and nineteen refusals
    assert wait_s is not None
    assert 0 <= wait_s <= SHORT_S
    signer.close()


def test_the_answer_of_a_timed_out_call_is_dropped(inner: SteeredSigner) -> None:
    signer = TimedSigner(inner, SHORT_S)
    with pytest.raises(SignerBusyError):
        signer.sign(b"old")
    inner.may_answer.set()
    wait_until_idle(signer)
    signer._timeout_s = LONG_S
    assert signer.sign(b"new") == b"signed new"
    signer.close()


@pytest.mark.parametrize("error", [DeviceKeyError("The token is gone; insert it."), TimeoutError("bus"), SystemExit(3)])
def test_an_error_of_the_signer_is_passed_on_and_the_worker_lives(inner: SteeredSigner, error: BaseException) -> None:
    inner.may_answer.set()
    inner.error = error
    signer = TimedSigner(inner, LONG_S)
    for _ in range(3):
        with pytest.raises(type(error)) as caught:
            signer.sign(b"x")
        assert caught.value is error
    inner.error = None
    assert signer.sign(b"y") == b"signed y"
    signer.close()


def test_an_error_that_comes_too_late_does_not_stick(inner: SteeredSigner) -> None:
    signer = TimedSigner(inner, SHORT_S)
    inner.error = DeviceKeyError("The token is gone; insert it.")
    with pytest.raises(SignerBusyError):
        signer.sign(b"x")
    inner.may_answer.set()
    wait_until_idle(signer)
    inner.error = None
    signer._timeout_s = LONG_S
    assert signer.sign(b"y") == b"signed y"
    signer.close()


def test_a_second_caller_waits_for_a_healthy_call_within_its_own_budget(inner: SteeredSigner) -> None:
    signer = TimedSigner(inner, LONG_S)
    answers: list[bytes] = []
    callers = [threading.Thread(target=lambda name=name: answers.append(signer.sign(name))) for name in (b"a", b"b")]
    for caller in callers:
        caller.start()
    assert inner.entered.acquire(timeout=LONG_S)
    assert len(inner.calls) == 1
    inner.may_answer.set()
    for caller in callers:
        caller.join(LONG_S)
    assert sorted(answers) == [b"signed a", b"signed b"]
    signer.close()


def test_a_waiting_caller_is_told_when_the_call_before_it_turns_overdue(inner: SteeredSigner) -> None:
    signer = TimedSigner(inner, SHORT_S * 10)
    failures: list[SignerBusyError] = []

    def call() -> None:
        try:
            signer.sign(b"x")
        except SignerBusyError as error:
            failures.append(error)

    first = threading.Thread(target=call)
    first.start()
    assert inner.entered.acquire(timeout=LONG_S)
    signer._timeout_s = LONG_S  # the waiting ones have all the time in the world and must not use it
    waiting = [threading.Thread(target=call) for _ in range(3)]
    for caller in waiting:
        caller.start()
    for caller in (*waiting, first):
        caller.join(LONG_S / 3)
        assert not caller.is_alive()
    assert len(failures) == 4
    assert len(inner.calls) == 1
    signer.close()


def test_after_a_hang_a_second_caller_waits_again_for_a_healthy_call(inner: SteeredSigner) -> None:
    signer = TimedSigner(inner, SHORT_S)
    with pytest.raises(SignerBusyError):
        signer.sign(b"hung")
    inner.may_answer.set()
    wait_until_idle(signer)
    inner.may_answer.clear()
    assert inner.entered.acquire(timeout=LONG_S)
    signer._timeout_s = LONG_S
    answers: list[bytes] = []
    caller = threading.Thread(target=lambda: answers.append(signer.sign(b"healthy")))
    caller.start()
    assert inner.entered.acquire(timeout=LONG_S)
    signer._timeout_s = SHORT_S
    with pytest.raises(SignerBusyError) as caught:  # its own short budget ends while the healthy call goes on
        signer.sign(b"second")
    assert caught.value.__cause__ is None
    assert not signer._overdue
    inner.may_answer.set()
    caller.join(LONG_S)
    assert answers == [b"signed healthy"]
    signer.close()


def test_closing_ends_the_worker_and_refuses_later_calls(inner: SteeredSigner) -> None:
    inner.may_answer.set()
    signer = TimedSigner(inner, LONG_S)
    signer.close()
    signer._worker.join(LONG_S)
    assert not signer._worker.is_alive()
    with pytest.raises(SignerBusyError, match="closed"):
        signer.sign(b"x")


def test_a_hanging_worker_does_not_keep_the_process_alive(inner: SteeredSigner) -> None:
    assert TimedSigner(inner, SHORT_S)._worker.daemon


def test_a_budget_must_be_positive(inner: SteeredSigner) -> None:
    with pytest.raises(ValueError, match="more than 0"):
        TimedSigner(inner, 0)
