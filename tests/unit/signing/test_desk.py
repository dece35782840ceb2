"""The worker thread: newest first, bounded, and closed without waiting for anyone."""

from __future__ import annotations

import threading
from collections import deque

import pytest

from agent.errors import DeviceKeyError
from agent.signing.desk import InlineDesk, ThreadDesk, Ticket, next_to_sign
from tests.unit.signing.streams import DEVICE, FailingSigner
from tests.unit.trust.identities import identity


class GatedSigner(FailingSigner):
    """Signs when the test lets it."""

    def __init__(self) -> None:
        super().__init__(identity(DEVICE).signer)
        self.failing = False
        self.entered = threading.Semaphore(0)
        self.gate = threading.Semaphore(0)
        self.documents: list[bytes] = []

    def sign(self, data: bytes) -> bytes:
        self.documents.append(data)
        self.entered.release()
        assert self.gate.acquire(timeout=10)
        return super().sign(data)


def wait_for(ticket: Ticket) -> None:
    deadline = threading.Event()
    for _ in range(2000):
        if ticket.answered:
            return
        deadline.wait(0.005)
    raise AssertionError("The ticket was never answered.")


def test_asking_never_waits_and_the_newest_document_is_signed_next() -> None:
    signer = GatedSigner()
    desk = ThreadDesk(signer)
    first = desk.ask(b"1")
    assert signer.entered.acquire(timeout=10)
    second, third, fourth = desk.ask(b"2"), desk.ask(b"3"), desk.ask(b"4")
    assert not any(ticket.answered for ticket in (first, second, third, fourth))
    signer.gate.release(2)
    wait_for(fourth)
    assert signer.documents == [b"1", b"4"]
    assert first.signature is not None
    assert fourth.signature is not None
    assert second.refusal is not None
    assert "slower" in second.refusal
    assert third.refusal == second.refusal
    desk.close()


def test_a_hanging_signer_keeps_nothing_that_was_given_up_and_its_late_answer_does_not_count() -> None:
    signer = GatedSigner()
    desk = ThreadDesk(signer)
    hanging = desk.ask(b"0")
    assert signer.entered.acquire(timeout=10)
    for number in range(1000):
        desk.ask(b"x%d" % number).refuse("given up")
    assert len(desk._waiting) == 1
    hanging.refuse("It took too long.")
    last = desk.ask(b"last")
    signer.gate.release(2)
    wait_for(last)
    assert signer.documents == [b"0", b"last"]
    assert (hanging.signature, hanging.refusal) == (None, "It took too long.")
    desk.close()


def test_closing_refuses_what_waits_and_waits_for_nobody() -> None:
    signer = GatedSigner()
    desk = ThreadDesk(signer)
    in_flight = desk.ask(b"1")
    assert signer.entered.acquire(timeout=10)
    waiting = desk.ask(b"2")
    desk.close()
    assert not in_flight.answered
    assert waiting.refusal is not None
    assert desk.ask(b"3").refusal is not None
    signer.gate.release()
    desk._thread.join(10)
    assert not desk._thread.is_alive()
    assert signer.documents == [b"1"]


@pytest.mark.parametrize("failure", [DeviceKeyError("The key is gone."), RuntimeError("driver"), ValueError("x")])
def test_whatever_a_signer_raises_is_a_refusal(failure: Exception) -> None:
    ticket = InlineDesk(FailingSigner(identity(DEVICE).signer, failure)).ask(b"document")
    assert ticket.signature is None
    assert ticket.refusal is not None
    assert str(failure) in ticket.refusal


def test_a_signature_of_another_kind_of_key_is_a_refusal() -> None:
    class RsaLike(FailingSigner):
        def sign(self, data: bytes) -> bytes:
            return data * 256

    ticket = InlineDesk(RsaLike(identity(DEVICE).signer)).ask(b"x")
    assert ticket.refusal is not None


def test_a_thread_that_failed_once_goes_on() -> None:
    signer = FailingSigner(identity(DEVICE).signer, RuntimeError("driver"))
    desk = ThreadDesk(signer)
    failed = desk.ask(b"1")
    wait_for(failed)
    signer.failing = False
    signed = desk.ask(b"2")
    wait_for(signed)
    assert (failed.signature, signed.refusal) == (None, None)
    desk.close()


def test_the_only_one_waiting_is_never_refused() -> None:
    ticket = Ticket(b"")
    waiting = deque([ticket])
    assert next_to_sign(waiting) is ticket
    assert not waiting
    assert not ticket.answered
