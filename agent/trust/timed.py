"""A signer that never keeps its caller waiting: evidence goes on with a pending signature instead."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue

from cryptography import x509

from agent.errors import SignerBusyError
from agent.trust.signer import Signer


class TimedSigner:
    """Runs another signer in one worker thread and gives it `timeout_s` for each answer.

    A call that is not answered in time raises SignerBusyError; its late answer is dropped. Until that call has returned
    every further one raises SignerBusyError at once: nothing queues up behind a hanging secure element. Callers in
    several threads share one budget rule: waiting for another's healthy call counts against one's own `timeout_s`.
    """

    def __init__(self, inner: Signer, timeout_s: float, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        """`monotonic_s` is a clock in seconds that never goes back. Raises ValueError without a positive timeout."""
        if timeout_s <= 0:
            raise ValueError("timeout_s must be more than 0 seconds.")
        self._inner = inner
        self._timeout_s = timeout_s
        self._monotonic_s = monotonic_s
        self._idle = threading.Condition()
        self._running = False
        self._overdue = False
        self._closed = False
        self._calls: SimpleQueue[tuple[bytes, Future[bytes]] | None] = SimpleQueue()
        # A daemon thread: a call that hangs in a driver must not keep a stopping process alive.
        self._worker = threading.Thread(target=self._work, name="signer", daemon=True)
        self._worker.start()

    @property
    def certificate(self) -> x509.Certificate:
        return self._inner.certificate

    @property
    def chain(self) -> tuple[x509.Certificate, ...]:
        return self._inner.chain

    @property
    def description(self) -> str:
        return self._inner.description

    def sign(self, data: bytes) -> bytes:
        """See Signer.sign. Returns or raises within `timeout_s`; an error of the inner signer is passed on."""
        deadline_s = self._monotonic_s() + self._timeout_s
        with self._idle:
            while self._running:
                left_s = deadline_s - self._monotonic_s()
                if self._overdue or left_s <= 0:
                    raise SignerBusyError("The signer has not answered its last call; the record stays unsigned.")
                self._idle.wait(left_s)
            if self._closed:
                raise SignerBusyError("The signer was closed; the record stays unsigned.")
            self._running = True
        answer: Future[bytes] = Future()
        self._calls.put((data, answer))
        try:
            return answer.result(max(deadline_s - self._monotonic_s(), 0))
        except TimeoutError as error:
            with self._idle:
                if answer.done():  # it ended in the very moment that the wait gave up, or raised a timeout itself
                    return answer.result()
                self._overdue = True
                self._idle.notify_all()
            raise SignerBusyError(
                f"The signer did not answer within {self._timeout_s * 1000:.0f} ms; the record stays unsigned."
            ) from error

    def close(self) -> None:
        """End the worker thread after the call in flight, without waiting for it; later calls raise SignerBusyError."""
        with self._idle:
            self._closed = True
        self._calls.put(None)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            data, answer = call
            signature: bytes | None = None
            failure: BaseException | None = None
            try:
                signature = self._inner.sign(data)
            except BaseException as error:  # noqa: BLE001  any failure belongs to the caller; the worker must live on
                failure = error
            # Answer and idleness change together: the caller decides "overdue" under the same lock.
            with self._idle:
                self._running = False
                self._overdue = False
                if failure is not None:
                    answer.set_exception(failure)
                elif signature is not None:
                    answer.set_result(signature)
                self._idle.notify_all()
