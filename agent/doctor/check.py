"""One result of the doctor, and how a probe that cannot be trusted to return is run."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

from agent.errors import BodycamError

_ResultT = TypeVar("_ResultT")


class State(Enum):
    """How bad it is. Only FAIL means that recording will not work, or would not be evidence."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Check:
    """What was looked at, a sentence on what was found, and one on what to do, which is empty when there is nothing."""

    name: str
    state: State
    found: str
    advice: str = ""


def ok(name: str, found: str) -> Check:
    """Nothing to do."""
    return Check(name, State.OK, found)


def warn(name: str, found: str, advice: str) -> Check:
    """Recording works, but not as well as it should."""
    return Check(name, State.WARN, found, advice)


def fail(name: str, found: str, advice: str) -> Check:
    """Recording does not work, or would not be evidence."""
    return Check(name, State.FAIL, found, advice)


def skipped(name: str, found: str) -> Check:
    """Not looked at, and why."""
    return Check(name, State.SKIPPED, found)


def failed_with(name: str, error: BodycamError, advice: str) -> Check:
    """A failure that an error of ours describes. Its message says after a semicolon what to do; `advice` is for one
    that does not."""
    found, semicolon, to_do = str(error).partition("; ")
    if not semicolon:
        return fail(name, found, advice)
    return fail(name, f"{found}.", to_do[:1].upper() + to_do[1:])


def within(timeout_s: float, call: Callable[[], _ResultT]) -> _ResultT:
    """The result of `call`, or TimeoutError when it has none in time.

    A frozen camera blocks inside the kernel, where nothing can interrupt it. So the call has a thread of its own, which
    is left behind when it hangs; being a daemon thread it does not keep the process alive.
    """
    results: list[_ResultT] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            results.append(call())
        except BaseException as error:  # noqa: BLE001  carried over to the caller's thread below, whatever it is
            errors.append(error)

    thread = threading.Thread(target=work, name="doctor-probe", daemon=True)
    thread.start()
    thread.join(timeout_s)
    if errors:
        raise errors[0]
    if not results:
        raise TimeoutError(f"no answer within {timeout_s:g} s")
    return results[0]
