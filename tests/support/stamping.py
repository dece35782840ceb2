"""Timestamps in the journal of a vault that tests build, taken as `run` takes them."""

from __future__ import annotations

import base64
from collections.abc import Callable
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta

from agent.clock import NS_PER_S, SimulatedClock
from agent.daemon.timestamps import TimestampDesk
from agent.recorder.recorder import Recorder
from tests.support.time_authority import TimeAuthority, time_authority
from tests.support.vault_builder import VaultBuilder


class DirectStorage:
    """The storage thread's `ask`, done at once."""

    def __init__(self, vault: VaultBuilder) -> None:
        self._vault = vault

    def ask(self, command: Callable[[Recorder], object]) -> Future[object]:
        """See AsksStorage.ask."""
        answer: Future[object] = Future()
        result = command(self._vault.recorder)
        self._vault.work()
        answer.set_result(result)
        return answer


def at(clock: SimulatedClock) -> datetime:
    """What time it is there."""
    return datetime.fromtimestamp(clock.utc_ns() / NS_PER_S, UTC)


def stamp(
    vault: VaultBuilder, authority: TimeAuthority | None = None, *, off_s: float = 0, moment: datetime | None = None
) -> None:
    """A timestamp as `run` takes one, half a second under way, from an authority whose clock is off by `off_s`."""
    desk = TimestampDesk(DirectStorage(vault), vault.clock)
    request = base64.b64decode(desk.request({})["request"])
    vault.clock.advance_ns(NS_PER_S // 4)
    moment = moment or at(vault.clock) + timedelta(seconds=off_s)
    response = (authority or time_authority()).at(moment)(request)
    vault.clock.advance_ns(NS_PER_S // 4)
    desk.token({"response": base64.b64encode(response).decode()})
