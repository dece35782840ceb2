"""Where documents wait for their signatures: off the encode path, in order, bounded, and never in anyone's way."""

from __future__ import annotations

import threading
from collections import deque
from typing import Protocol

from agent.errors import BodycamError
from agent.signing.sei import MAX_SIGNATURE_BYTES
from agent.trust.signer import Signer


class Ticket:
    """One document on its way to a signature. It is answered once; what comes later does not count."""

    def __init__(self, document: bytes) -> None:
        self.document = document
        self._lock = threading.Lock()
        self._signature: bytes | None = None
        self._refusal: str | None = None

    @property
    def answered(self) -> bool:
        """Whether there is a signature or a refusal."""
        return self._signature is not None or self._refusal is not None

    @property
    def signature(self) -> bytes | None:
        """The signature, DER, once it is there."""
        return self._signature

    @property
    def refusal(self) -> str | None:
        """Why there will be none, as a sentence."""
        return self._refusal

    def sign(self, signature: bytes) -> None:
        """Answer with a signature, unless it was answered before."""
        with self._lock:
            if not self.answered:
                self._signature = signature

    def refuse(self, reason: str) -> None:
        """Answer that there will be none, unless it was answered before."""
        with self._lock:
            if not self.answered:
                self._refusal = reason


class SigningDesk(Protocol):
    """Takes documents and answers their tickets in its own time."""

    def ask(self, document: bytes) -> Ticket:
        """Hand a document in; never waits."""

    def close(self) -> None:
        """Take no more and answer what waits with refusals, without waiting for a call in flight."""


def answer(signer: Signer, ticket: Ticket) -> None:
    """Sign one document on the calling thread. Every failure of a signer becomes a refusal."""
    try:
        signature = signer.sign(ticket.document)
        if 0 < len(signature) <= MAX_SIGNATURE_BYTES:
            ticket.sign(signature)
        else:
            ticket.refuse(f"The signer gave {len(signature)} bytes, which is no P-256 signature; check the key.")
    except BodycamError as error:
        ticket.refuse(str(error))
    except Exception as error:  # noqa: BLE001  a driver may raise anything; the stream must go on and say so
        ticket.refuse(f"The signer failed ({error}); check the key and its driver.")


class InlineDesk:
    """Signs while the caller waits. For tests and for tools that are in no hurry."""

    def __init__(self, signer: Signer) -> None:
        self._signer = signer

    def ask(self, document: bytes) -> Ticket:
        ticket = Ticket(document)
        answer(self._signer, ticket)
        return ticket

    def close(self) -> None:
        """Nothing waits."""


class ThreadDesk:
    """One worker thread, which always takes the newest document that waits.

    A signer that cannot keep up signs every n-th GOP and the ones between are refused at once, instead of all of them
    coming later and later: the next signature covers them.
    """

    def __init__(self, signer: Signer) -> None:
        self._signer = signer
        self._changed = threading.Condition()
        self._waiting: deque[Ticket] = deque()
        self._closed = False
        # A daemon thread: a call that hangs in a driver must not keep a stopping process alive.
        self._thread = threading.Thread(target=self._work, name="stream-signer", daemon=True)
        self._thread.start()

    def ask(self, document: bytes) -> Ticket:
        ticket = Ticket(document)
        with self._changed:
            if self._closed:
                ticket.refuse("The signer was closed; this part of the stream stays unsigned.")
            else:
                # A hanging signer takes nothing out: what was given up meanwhile must not pile up here.
                self._waiting = deque(waiting for waiting in self._waiting if not waiting.answered)
                self._waiting.append(ticket)
                self._changed.notify()
        return ticket

    def close(self) -> None:
        with self._changed:
            self._closed = True
            for ticket in self._waiting:
                ticket.refuse("The signer was closed; this part of the stream stays unsigned.")
            self._waiting.clear()
            self._changed.notify()

    def _work(self) -> None:
        while (ticket := self._next()) is not None:
            answer(self._signer, ticket)

    def _next(self) -> Ticket | None:
        with self._changed:
            while not self._waiting and not self._closed:
                self._changed.wait()
            if self._closed:
                return None
            return next_to_sign(self._waiting)


def next_to_sign(waiting: deque[Ticket]) -> Ticket:
    """Take what is to be signed next out of `waiting` and refuse what the signer has no time for."""
    newest = waiting.pop()
    for ticket in waiting:
        ticket.refuse("The signer is slower than the pictures; a later signature covers this GOP.")
    waiting.clear()
    return newest
