"""`bodycam timestamp`: trusted time into the journal, for as long as there is a network."""

from __future__ import annotations

from agent.cli.output import say
from agent.clock import SystemClock
from agent.control.client import ControlClient
from agent.errors import ConfigError, ControlError, TimestampError
from agent.offload.timestamp import HttpAuthority, keep_timestamping, take_timestamp
from agent.settings.schema import Settings


def timestamp(settings: Settings, *, authority: str | None, every_s: int | None, once: bool) -> int:
    """Take one timestamp (returns 0), or go on until the process is ended.

    Raises ConfigError without an authority; with `once` also TimestampError and ControlError.
    """
    url = authority or settings.time.authority_url
    if not url:
        raise ConfigError("No time authority is configured; set time.authority_url, or give one with --authority URL.")
    ask = ControlClient(settings.vault.socket_path).request
    exchange = HttpAuthority(url)
    if once:
        taken = take_timestamp(ask, exchange)
        say(f"Timestamp: record {taken.head_seq} and all before it existed by {taken.gen_time}.")
        return 0
    every_s = every_s or settings.time.timestamp_interval_s
    keep_timestamping(ask, exchange, SystemClock(), every_s=every_s, say=say)
    return 0


def stamp_first(settings: Settings) -> None:
    """One timestamp before anything else is done at the dock: what is on the camera existed by then.

    Nothing when no authority is configured; a failure is said and holds nothing up.
    """
    if not settings.time.authority_url:
        return
    try:
        taken = take_timestamp(
            ControlClient(settings.vault.socket_path).request, HttpAuthority(settings.time.authority_url)
        )
    except (ControlError, TimestampError) as error:
        say(f"No timestamp was taken before this offload: {error}")
    else:
        say(f"Timestamp: record {taken.head_seq} and all before it existed by {taken.gen_time}.")
