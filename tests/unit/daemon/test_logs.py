"""Log lines: one line each, fields that can be told apart, nothing that steers a terminal."""

from __future__ import annotations

import ast
import io
import json
import logging
import re
import shlex
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import agent.daemon.run
from agent.daemon.logs import LOG, KeyValueFormatter, LogThread, configure_logs, log

TIME = r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z "


def untimed(text: str) -> str:
    """What follows the time at the beginning of each line that is not a traceback's."""
    first, *rest = re.split(TIME, text)
    assert first == ""
    return "".join(rest)


class Output:
    """The agent's log, into a string."""

    def __init__(self) -> None:
        self.stream = io.StringIO()
        configure_logs(self.stream)

    def text(self) -> str:
        """All of it without the times, each of which must be there; nothing can be logged afterwards."""
        for handler in LOG.handlers:
            handler.close()
        return untimed(self.stream.getvalue())


@pytest.fixture
def output() -> Iterator[Output]:
    """Logs as `run` configures them; what was configured before is put back."""
    loggers = [LOG, logging.getLogger("agent")]
    before = [(logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
    yield Output()
    for logger, (handlers, level, propagate) in zip(loggers, before, strict=True):
        for handler in logger.handlers:
            handler.close()
        logger.handlers[:], logger.propagate = handlers, propagate
        logger.setLevel(level)


def test_a_line_is_level_event_and_fields(output: Output) -> None:
    log("stop", recording="0190", reason="button", frames=3, short=None)
    log("clock-step", logging.WARNING, step_ms=-5)
    assert output.text() == (
        "info stop recording=0190 reason=button frames=3 short=null\nwarning clock-step step_ms=-5\n"
    )


def test_the_time_is_the_wall_clock_in_utc_and_journald_keeps_its_own() -> None:
    record = logging.LogRecord("bodycam", logging.WARNING, "", 0, "event", None, None)
    record.created = 1_795_291_303.25
    assert KeyValueFormatter(journald=False).format(record) == "2026-11-21T20:01:43.250Z warning event"
    assert KeyValueFormatter(journald=True).format(record) == "<4>warning event"


def test_what_is_below_information_is_left_out(output: Output) -> None:
    log("detail", logging.DEBUG)
    assert output.text() == ""


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("plain", "plain"),
        ("/a/b.c", "/a/b.c"),
        ("", '""'),
        ("two words", '"two words"'),
        ("a=b", '"a=b"'),
        ('say "no"', r'"say \"no\""'),
        ("line\nbreak", r'"line\nbreak"'),
        ("tab\tbed", r'"tab\tbed"'),
        ("back\rover", r'"back\rover"'),
        ("\x1b[2Jcleared", r'"\u001b[2Jcleared"'),
        ("nul\x00", r'"nul\u0000"'),
        ("next\x85line", r'"next\u0085line"'),
        ("para\u2029graph", r'"para\u2029graph"'),
        ("zürich", "zürich"),
        (1.5, "1.5"),
        (True, "true"),
        ([1, 2], '"[1, 2]"'),
        ({"a": 1}, r'"{\"a\": 1}"'),
    ],
)
def test_a_value_that_could_be_misread_is_quoted(output: Output, value: object, text: str) -> None:
    log("event", key=value)
    assert output.text() == f"info event key={text}\n"


@given(st.dictionaries(st.sampled_from(["a", "b", "message"]), st.text() | st.integers() | st.none()))
def test_a_line_is_one_line_and_its_fields_come_back(fields: dict[str, object]) -> None:
    record = logging.LogRecord("bodycam", logging.INFO, "", 0, "event", None, None)
    record.__dict__["fields"] = fields
    line = KeyValueFormatter(journald=False).format(record)
    assert re.match(TIME, line)
    assert len(line.splitlines()) == 1
    assert line.isprintable()
    decoder = json.JSONDecoder()
    rest = line[25:].removeprefix("info event")
    for key, value in fields.items():
        rest = rest.removeprefix(f" {key}=")
        if rest.startswith('"'):
            found, end = decoder.raw_decode(rest)
        else:
            found, end = rest.split(" ", 1)[0], len(rest.split(" ", 1)[0])
        assert found == (value if isinstance(value, str) else json.dumps(value))
        rest = rest[end:]
    assert rest == ""


def test_simple_lines_are_read_by_a_shell_as_well(output: Output) -> None:
    log("event", message="It's gone; plug it in.")
    assert shlex.split(output.text().replace("'", "")) == ["info", "event", "message=Its gone; plug it in."]


@pytest.mark.parametrize(
    ("level", "priority"),
    [(logging.DEBUG, 7), (logging.INFO, 6), (logging.WARNING, 4), (logging.ERROR, 3), (logging.CRITICAL, 2), (25, 6)],
)
def test_journald_is_told_the_priority(level: int, priority: int) -> None:
    record = logging.LogRecord("bodycam", level, "", 0, "event", None, None)
    assert KeyValueFormatter(journald=True).format(record).startswith(f"<{priority}>")


def test_an_error_brings_its_traceback(output: Output) -> None:
    try:
        raise ZeroDivisionError("a defect")
    except ZeroDivisionError:
        LOG.exception("control-failed")
    first, *rest = output.text().splitlines()
    assert first == "error control-failed"
    assert rest[-1] == "ZeroDivisionError: a defect"


def test_configuring_twice_does_not_say_everything_twice(output: Output) -> None:
    again = io.StringIO()
    configure_logs(again)
    log("once")
    for handler in LOG.handlers:
        handler.close()
    assert output.text() == ""
    assert untimed(again.getvalue()) == "info once\n"


def test_a_reader_that_does_not_read_holds_up_nobody_and_what_is_lost_is_counted() -> None:
    gate = threading.Event()
    written: list[str] = []

    class Stalled(io.StringIO):
        def write(self, text: str) -> int:
            assert gate.wait(20)
            written.append(text)
            return len(text)

    handler = LogThread(Stalled(), capacity=10)
    handler.setFormatter(KeyValueFormatter(journald=False))
    for number in range(40):
        handler.emit(logging.makeLogRecord({"msg": f"line-{number}", "levelname": "INFO"}))
    gate.set()
    handler.drained()
    handler.emit(logging.makeLogRecord({"msg": "after", "levelname": "INFO"}))
    handler.close()
    assert "after" in written[-1]
    (lost,) = (line for line in written if "log-lost" in line)
    kept = [line for line in written if "line-" in line]
    assert f"lines={40 - len(kept)}" in lost


def test_a_signal_handler_of_the_daemon_logs_nothing() -> None:
    """It may interrupt a log line that holds the log's lock; what it would write then waits for itself."""
    (handler,) = (
        node
        for node in ast.walk(ast.parse(Path(agent.daemon.run.__file__).read_text()))
        if isinstance(node, ast.FunctionDef) and node.name == "_asked_to_end"
    )
    called = {
        node.func.attr if isinstance(node.func, ast.Attribute) else ast.unparse(node.func)
        for node in ast.walk(handler)
        if isinstance(node, ast.Call)
    }
    assert called == {"post", "TerminationAsked"}
