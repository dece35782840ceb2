"""Timestamps from a time authority (RFC 3161 over HTTP, section 3.4) for the camera, which has no network itself."""

from __future__ import annotations

import base64
import binascii
import http.client
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from agent.clock import NS_PER_S, Clock
from agent.errors import ControlError, TimestampError

QUERY_TYPE = "application/timestamp-query"
REPLY_TYPE = "application/timestamp-reply"
MAX_REPLY_BYTES = 65_536
FIRST_RETRY_NS = 5 * NS_PER_S

Ask = Callable[[dict[str, Any]], dict[str, Any]]
"""One request to the daemon. Raises ControlError when it does not run or refuses."""
Authority = Callable[[bytes], bytes]
"""TimeStampReq to TimeStampResp. Raises TimestampError when there is no answer."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    # urllib would go on with a GET and without the request; and an authority that moved is for a person to look at.
    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


class HttpAuthority:
    """A time authority at a URL. TLS is checked against the system's certificates; proxies as the environment says."""

    def __init__(self, url: str, *, timeout_s: float = 10.0, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        """timeout_s: for the whole exchange, and for each step of it. Raises TimestampError for no http(s) URL."""
        try:
            parts = urllib.parse.urlsplit(url)
            fit = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
        except ValueError:
            fit = False
        if not fit:  # urllib would open file:// too
            raise TimestampError(f"{url!r} is no address of a time authority; give one that begins with http(s)://.")
        self._url = url
        self._timeout_s = timeout_s
        self._monotonic_s = monotonic_s
        self._opener = urllib.request.build_opener(_NoRedirect)

    def __call__(self, request: bytes) -> bytes:
        """See Authority."""
        deadline_s = self._monotonic_s() + self._timeout_s
        query = urllib.request.Request(
            self._url, data=request, method="POST", headers={"Content-Type": QUERY_TYPE, "Accept": REPLY_TYPE}
        )
        try:
            with self._opener.open(query, timeout=self._timeout_s) as reply:
                kind = reply.headers.get_content_type()
                if kind != REPLY_TYPE:
                    raise TimestampError(
                        f"{self._url} answered with {kind[:60]!r} and not with a timestamp; is there a login page or a "
                        "proxy in between?"
                    )
                return self._read(reply, deadline_s)
        except urllib.error.HTTPError as error:
            error.close()
            raise TimestampError(
                f"The time authority {self._url} refused with HTTP {error.code}; check time.authority_url."
            ) from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            raise TimestampError(
                f"The time authority {self._url} does not answer ({reason or type(error).__name__}); check the network "
                "and time.authority_url."
            ) from error

    def _read(self, reply: http.client.HTTPResponse, deadline_s: float) -> bytes:
        data = b""
        while chunk := reply.read1(MAX_REPLY_BYTES + 1 - len(data)):
            data += chunk
            if len(data) > MAX_REPLY_BYTES:
                raise TimestampError(
                    f"{self._url} answered with more than {MAX_REPLY_BYTES} bytes, which is no timestamp."
                )
            if self._monotonic_s() > deadline_s:  # each byte in time, and the whole never
                raise TimestampError(f"The time authority {self._url} took longer than {self._timeout_s:g} s.")
        return data


@dataclass(frozen=True, slots=True)
class Taken:
    """A timestamp that is in the journal. head_seq: the record that existed by gen_time (RFC 3339, UTC)."""

    head_seq: int
    gen_time: str


def take_timestamp(ask: Ask, authority: Authority) -> Taken:
    """Have the journal's head stamped, once. Raises TimestampError and ControlError; then nothing was journalled."""
    request = ask({"command": "timestamp-request"}).get("request")
    try:
        der = base64.b64decode(request if isinstance(request, str) else "", validate=True)
    except (binascii.Error, ValueError) as error:
        raise ControlError("The daemon's timestamp request is not base64; it is of another version.") from error
    reply = ask({"command": "timestamp-token", "response": base64.b64encode(authority(der)).decode()})
    head_seq, gen_time = reply.get("head_seq"), reply.get("gen_time")
    if not isinstance(head_seq, int) or not isinstance(gen_time, str):
        raise ControlError("The daemon took the timestamp and does not say what it covers; it is of another version.")
    return Taken(head_seq, gen_time)


class TimestampSchedule:
    """When to try next: at once, then every `every_s` seconds; after failures sooner, backing off up to that."""

    def __init__(self, every_s: int) -> None:
        self._every_ns = every_s * NS_PER_S
        self._retry_ns = 0

    def next_ns(self, now_ns: int, *, taken: bool) -> int:
        """Boot time of the next try, after one that ended now."""
        if taken:
            self._retry_ns = 0
            return now_ns + self._every_ns
        self._retry_ns = min(max(2 * self._retry_ns, FIRST_RETRY_NS), self._every_ns)
        return now_ns + self._retry_ns


def keep_timestamping(
    ask: Ask,
    authority: Authority,
    clock: Clock,
    *,
    every_s: int,
    say: Callable[[str], None],
    going_on: Callable[[], bool] = lambda: True,
) -> None:
    """Take timestamps while `going_on`. A failure is said once, until it is another one or over."""
    schedule = TimestampSchedule(every_s)
    trouble = ""
    while going_on():
        try:
            taken = take_timestamp(ask, authority)
        except (TimestampError, ControlError) as error:
            if str(error) != trouble:
                trouble = str(error)
                say(f"No timestamp: {trouble}")
        else:
            trouble = ""
            say(f"Timestamp: record {taken.head_seq} and all before it existed by {taken.gen_time}.")
        clock.sleep_until_ns(schedule.next_ns(clock.boottime_ns(), taken=not trouble))
