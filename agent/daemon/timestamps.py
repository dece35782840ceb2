"""Where `run` takes timestamps: it asks for a token over the journal's head, and journals the answer if it fits.

`run` has no network. Whoever has one fetches the request over the control socket, gets it answered by a time authority,
and hands the response in. What is accepted is only the answer to the one request that is outstanding, once; whether the
authority is to be trusted is for whoever examines the evidence.
"""

from __future__ import annotations

import base64
import binascii
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

from agent.clock import NS_PER_S, Clock
from agent.errors import ControlError, TimestampError
from agent.recorder.recorder import Recorder

if TYPE_CHECKING:
    from agent.trust.timestamps import TimestampRequest

REQUEST_LIFETIME_NS = 120 * NS_PER_S
STORAGE_TIMEOUT_S = 25.0


class AsksStorage(Protocol):
    """What is needed of the storage thread."""

    def ask(self, command: Callable[[Recorder], object]) -> Future[object]:
        """See StorageThread.ask."""


@dataclass(frozen=True, slots=True)
class _Outstanding:
    request: TimestampRequest
    head_seq: int
    boottime_ns: int


class TimestampDesk:
    """The control commands `timestamp-request` and `timestamp-token`. May be called from any thread."""

    def __init__(self, storage: AsksStorage, clock: Clock) -> None:
        self._storage = storage
        self._clock = clock
        self._lock = threading.Lock()
        self._outstanding: _Outstanding | None = None

    def request(self, message: dict[str, Any]) -> dict[str, Any]:
        """Answers `{"request": base64 of a TimeStampReq, "head_seq"}`; a request that was outstanding is void.

        Raises TimestampError when nothing is journalled yet, ControlError when storage does not answer.
        """
        del message
        from agent.trust.timestamps import make_request  # 3 MB that a camera without a network never needs

        head = self._wait(self._storage.ask(lambda recorder: recorder.journal_head))
        head_seq, head_json = cast(tuple[int, bytes], head)
        if not head_seq:
            raise TimestampError("The journal is empty; ask again in a moment.")
        outstanding = _Outstanding(make_request(head_json), head_seq, self._clock.boottime_ns())
        with self._lock:
            self._outstanding = outstanding
        return {"request": base64.b64encode(outstanding.request.der).decode(), "head_seq": head_seq}

    def token(self, message: dict[str, Any]) -> dict[str, Any]:
        """Takes `{"response": base64 of a TimeStampResp}` and journals it. Answers `{"head_seq", "gen_time"}`.

        Raises TimestampError when it does not answer the outstanding request, ControlError when storage does not.
        """
        from agent.trust.timestamps import check_response

        response = _decoded(message.get("response"))
        with self._lock:
            outstanding = self._outstanding
            if outstanding is None:
                raise TimestampError("No timestamp request is outstanding; ask for one with timestamp-request first.")
            if self._clock.boottime_ns() - outstanding.boottime_ns > REQUEST_LIFETIME_NS:
                self._outstanding = None
                raise TimestampError(
                    f"The timestamp came more than {REQUEST_LIFETIME_NS // NS_PER_S} s after it was asked for; "
                    "ask again."
                )
            # A response that does not fit leaves the request standing: whoever sends rubbish cannot void it.
            timestamp = check_response(response, outstanding.request)
            self._outstanding = None
        gen_time = timestamp.gen_time.strftime("%Y-%m-%dT%H:%M:%SZ")
        fields = {
            "head_seq": outstanding.head_seq,
            "head_sha256": outstanding.request.imprint_sha256,
            "requested_boottime_ns": outstanding.boottime_ns,
            "gen_time": gen_time,
            "authority": timestamp.authority,
            "response": base64.b64encode(response).decode(),
        }
        self._wait(self._storage.ask(lambda recorder: recorder.record("timestamp", **fields)))
        return {"head_seq": outstanding.head_seq, "gen_time": gen_time}

    @staticmethod
    def _wait(answer: Future[object]) -> object:
        try:
            return answer.result(STORAGE_TIMEOUT_S)
        except TimeoutError as error:
            raise ControlError("The journal could not be written in time; ask for a timestamp again later.") from error


def _decoded(value: object) -> bytes:
    if not isinstance(value, str):
        raise TimestampError("A timestamp response is handed in as base64 in `response`.")
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise TimestampError("A timestamp response is handed in as base64 in `response`; this is none.") from error
