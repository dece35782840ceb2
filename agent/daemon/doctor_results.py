"""What `bodycam doctor --record` found, on its way into the journal: checked, bounded, and not often."""

from __future__ import annotations

import re
import threading
from typing import Any

from agent.clock import NS_PER_S, Clock
from agent.daemon.timestamps import STORAGE_TIMEOUT_S, AsksStorage
from agent.errors import ControlError

MAX_TESTS = 40
MAX_FOUND_CHARS = 300
PAUSE_NS = 10 * NS_PER_S
"""Between two examinations: whoever repeats them must not fill the card with what is no evidence of anything else."""
_NAME = re.compile(r"[a-z][a-z0-9 -]{0,31}")
_STATES = ("ok", "warn", "fail", "skipped")


class DoctorResults:
    """The control command `self-test`. May be called from any thread."""

    def __init__(self, storage: AsksStorage, clock: Clock) -> None:
        self._storage = storage
        self._clock = clock
        self._lock = threading.Lock()
        self._taken_ns: int | None = None

    def take(self, message: dict[str, Any]) -> dict[str, Any]:
        """Takes `{"tests": [{"name", "state", "found"}, …]}`, journals it, and answers `{"passed": bool}`.

        Raises ControlError for anything else, too soon after another, and when storage does not answer.
        """
        tests = parse_tests(message.get("tests"))
        with self._lock:
            now_ns = self._clock.boottime_ns()
            if self._taken_ns is not None and now_ns - self._taken_ns < PAUSE_NS:
                raise ControlError(
                    f"An examination was journalled less than {PAUSE_NS // NS_PER_S} s ago; wait a moment."
                )
            self._taken_ns = now_ns
        passed = all(test["passed"] for test in tests)
        answer = self._storage.ask(
            lambda recorder: recorder.record("self-test", passed=passed, tests=tests, source="doctor")
        )
        try:
            answer.result(STORAGE_TIMEOUT_S)
        except TimeoutError as error:
            raise ControlError("The examination could not be journalled in time; see `bodycam status`.") from error
        return {"passed": passed}


def parse_tests(tests: object) -> list[dict[str, Any]]:
    """The `tests` of a `self-test` record. Raises ControlError."""
    if not isinstance(tests, list) or not 0 < len(tests) <= MAX_TESTS:
        raise ControlError(f"An examination is a list of 1 to {MAX_TESTS} tests; this one is refused.")
    return [_parse_test(test) for test in tests]


def _parse_test(test: object) -> dict[str, Any]:
    if not isinstance(test, dict):
        raise ControlError("A test of an examination is no JSON object; it is refused.")
    name, state, found = (test.get(key) for key in ("name", "state", "found"))
    if not isinstance(name, str) or not _NAME.fullmatch(name) or state not in _STATES:
        raise ControlError("A test of an examination has no proper name or state; it is refused.")
    if not isinstance(found, str) or len(found) > MAX_FOUND_CHARS or not found.isprintable():
        raise ControlError(f"What test {name} found is no text of at most {MAX_FOUND_CHARS} characters; it is refused.")
    return {"name": name, "passed": state != "fail", "found": found, "state": state}
