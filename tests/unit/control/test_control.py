"""The control socket over real sockets: framing, who may ask, and what a hostile or broken client cannot do."""

from __future__ import annotations

import errno
import os
import socket
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.control.client import ControlClient
from agent.control.protocol import MAX_MESSAGE_BYTES, LineReader, decode, encode
from agent.control.server import MAX_CONNECTIONS, ControlServer, Handler
from agent.errors import ControlError, StoreError

Start = Callable[..., Path]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a server with these handlers; returns its path."""
    with ExitStack() as stack:

        def start(handlers: Mapping[str, Handler] | None = None, uids: tuple[int, ...] = ()) -> Path:
            path = tmp_path / "control.sock"
            server = ControlServer(path, handlers or {"echo": echo}, allowed_uids=uids)
            stack.callback(server.close)
            server.start()
            return path

        yield start


def echo(message: dict[str, Any]) -> dict[str, Any]:
    """Says back what it was asked."""
    return {"said": message.get("say")}


def connect(path: Path) -> socket.socket:
    """A bare connection that waits for at most a few seconds."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.connect(str(path))
    connection.settimeout(5)
    return connection


def answers(connection: socket.socket, count: int) -> list[dict[str, Any]]:
    """The next answers on it."""
    reader = LineReader(connection.recv)
    lines = [reader.read() for _ in range(count)]
    return [decode(line) for line in lines if line is not None]


# Messages


@given(st.dictionaries(st.text(), st.none() | st.integers() | st.text() | st.lists(st.booleans())))
def test_a_message_is_one_line_and_comes_back_as_it_was(message: dict[str, Any]) -> None:
    data = encode(message)
    assert data.count(b"\n") == 1
    assert decode(data.removesuffix(b"\n")) == message


@given(st.binary(max_size=200))
def test_any_line_ends_in_a_message_or_in_a_sentence(data: bytes) -> None:
    try:
        assert isinstance(decode(data), dict)
    except ControlError as error:
        sentence = str(error)
        assert sentence.startswith("A control message is")


@pytest.mark.parametrize(
    "line", [b"[" * 100_000, b"[]", b"1", b"", b"\xff\xfe", b'{"a":', b" " * (MAX_MESSAGE_BYTES + 1)]
)
def test_what_is_no_message_is_a_sentence(line: bytes) -> None:
    with pytest.raises(ControlError, match="A control message is"):
        decode(line)


def test_a_line_is_refused_by_its_length_before_it_is_parsed() -> None:
    decode(b"{" + b" " * (MAX_MESSAGE_BYTES - 2) + b"}")
    with pytest.raises(ControlError, match="larger than"):
        decode(b"{" + b" " * (MAX_MESSAGE_BYTES - 1) + b"}")


@given(lines=st.lists(st.binary(max_size=30).map(lambda line: line.replace(b"\n", b""))), data=st.data())
def test_lines_are_the_same_however_the_stream_is_cut(lines: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(line + b"\n" for line in lines)
    pieces = iter(data.draw(st.lists(st.integers(1, 20))))
    at = 0

    def receive(_limit: int) -> bytes:
        nonlocal at
        piece = stream[at : at + next(pieces, 1 << 16)]
        at += len(piece)
        return piece

    reader = LineReader(receive)
    assert [reader.read() for _ in lines] == lines
    assert reader.read() is None


def test_a_line_that_never_ends_is_given_up_in_bounded_memory() -> None:
    asked = 0

    def receive(limit: int) -> bytes:
        nonlocal asked
        asked += limit
        return b"x" * limit

    with pytest.raises(ControlError, match="larger than"):
        LineReader(receive).read()
    assert asked <= 2 * MAX_MESSAGE_BYTES


# Requests


def test_a_request_is_answered(start: Start) -> None:
    assert ControlClient(start()).request({"command": "echo", "say": "héllo\n"}) == {"said": "héllo\n"}


def test_one_connection_may_ask_again_and_again_and_ahead(start: Start) -> None:
    with connect(start()) as connection:
        for number in range(3):
            connection.sendall(encode({"command": "echo", "say": number}))
            assert answers(connection, 1) == [{"ok": True, "said": number}]
        connection.sendall(b"".join(encode({"command": "echo", "say": number}) for number in range(5)))
        assert [answer["said"] for answer in answers(connection, 5)] == list(range(5))


def test_a_request_may_come_in_pieces(start: Start) -> None:
    with connect(start()) as connection:
        for byte in encode({"command": "echo", "say": 1}):
            connection.sendall(bytes([byte]))
        assert answers(connection, 1) == [{"ok": True, "said": 1}]


def test_an_unknown_command_is_told_which_there_are(start: Start) -> None:
    path = start({"status": echo, "receipt": echo})
    for command in ("stop", None, 5, ["status"], {"a": 1}):
        with pytest.raises(ControlError, match=r"There is no command .*; there are receipt, status"):
            ControlClient(path).request({"command": command})
    with pytest.raises(ControlError) as caught:
        ControlClient(path).request({"command": "x" * 500_000})
    assert len(str(caught.value)) < 200


def test_junk_gets_a_sentence_and_the_connection_goes_on(start: Start) -> None:
    with connect(start()) as connection:
        connection.sendall(b"\x00\xff junk\n" + b"\n" + encode({"command": "echo", "say": 1}))
        first, second, third = answers(connection, 3)
        assert not first["ok"]
        assert not second["ok"]
        assert "not valid JSON" in first["error"]
        assert third == {"ok": True, "said": 1}


def test_a_request_that_is_too_large_is_told_so(start: Start) -> None:
    with connect(start()) as connection:
        with suppress(BrokenPipeError):  # it may have heard enough before the end
            connection.sendall(b"x" * (MAX_MESSAGE_BYTES + 200_000))
        (answer,) = answers(connection, 1)
        assert answer == {"ok": False, "error": f"A control message is larger than {MAX_MESSAGE_BYTES} bytes."}


def test_a_client_that_hangs_up_in_the_middle_leaves_the_server_as_it_was(start: Start) -> None:
    path = start()
    for data in (b"", b'{"command":', encode({"command": "echo"})):
        for _ in range(MAX_CONNECTIONS + 3):
            with connect(path) as connection:
                connection.sendall(data)
    assert _patiently(path) == {"said": 2}


def _patiently(path: Path) -> dict[str, Any]:
    """Connections that were hung up on leave their places one after the other."""
    for _ in range(200):
        try:
            return ControlClient(path).request({"command": "echo", "say": 2})
        except ControlError as error:
            if "Too many" not in str(error):
                raise
    raise AssertionError("The places never became free.")


def test_half_a_request_is_told_when_its_sender_still_listens(start: Start) -> None:
    with connect(start()) as connection:
        connection.sendall(b'{"command":')
        connection.shutdown(socket.SHUT_WR)
        (answer,) = answers(connection, 1)
        assert "hung up in the middle" in answer["error"]


def test_a_refusal_by_a_handler_is_its_sentence(start: Start) -> None:
    def refuse(message: dict[str, Any]) -> dict[str, Any]:
        raise StoreError(f"The receipt {message['command']} is refused.")

    with pytest.raises(ControlError, match=r"^The receipt receipt is refused\.$"):
        ControlClient(start({"receipt": refuse})).request({"command": "receipt"})


def test_a_defect_in_a_handler_is_told_and_harms_nobody_else(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    def broken(message: dict[str, Any]) -> dict[str, Any]:
        raise KeyError(message["command"])

    def unanswerable(_message: dict[str, Any]) -> dict[str, Any]:
        return {"x": object()}

    path = start({"broken": broken, "echo": echo, "unanswerable": unanswerable})
    with connect(path) as connection:
        for command in ("broken", "unanswerable", "echo"):
            connection.sendall(encode({"command": command, "say": 1}))
        first, second, third = answers(connection, 3)
    assert "could not answer (KeyError('broken'))" in first["error"]
    assert "could not answer (TypeError" in second["error"]
    assert third == {"ok": True, "said": 1}
    assert "control-failed" in caplog.text


def test_more_connections_than_places_are_sent_away_with_a_sentence(start: Start) -> None:
    entered = threading.Semaphore(0)
    leave = threading.Event()

    def wait(_message: dict[str, Any]) -> dict[str, Any]:
        entered.release()
        assert leave.wait(600)
        return {}

    path = start({"wait": wait, "echo": echo})
    with ExitStack() as stack:
        stack.callback(leave.set)
        for _ in range(MAX_CONNECTIONS):
            stack.enter_context(connect(path)).sendall(encode({"command": "wait"}))
            assert entered.acquire(timeout=60)
        with pytest.raises(ControlError, match="Too many connections"):
            ControlClient(path).request({"command": "echo"})
    assert _patiently(path) == {"said": 2}


def test_a_client_that_says_nothing_holds_up_nobody(start: Start) -> None:
    path = start()
    with connect(path):
        assert ControlClient(path).request({"command": "echo", "say": 1}) == {"said": 1}


def test_an_accept_that_fails_does_not_end_the_only_way_in(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Out of descriptors for a moment: accept(2) fails, and works again."""
    failures = iter([errno.EMFILE, errno.ECONNABORTED])
    accept = socket.socket.accept

    def failing(self: socket.socket) -> tuple[socket.socket, Any]:
        number = next(failures, None)
        if number is not None:
            raise OSError(number, os.strerror(number))
        return accept(self)

    monkeypatch.setattr(socket.socket, "accept", failing)
    assert ControlClient(start()).request({"command": "echo", "say": 1}) == {"said": 1}
    assert next(failures, None) is None


# The socket file


def test_a_socket_file_that_a_killed_run_left_is_replaced(tmp_path: Path, start: Start) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(str(tmp_path / "control.sock"))
    assert (tmp_path / "control.sock").is_socket()
    assert ControlClient(start()).request({"command": "echo", "say": 1}) == {"said": 1}


def test_a_socket_that_another_daemon_answers_on_is_left_to_it(start: Start) -> None:
    path = start()
    with pytest.raises(ControlError, match=f"Another daemon answers at {path}; stop it first"):
        ControlServer(path, {}, allowed_uids=())
    assert ControlClient(path).request({"command": "echo", "say": 1}) == {"said": 1}


def test_a_file_that_is_no_socket_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    path.write_text("precious")
    with pytest.raises(ControlError, match=r"cannot be opened \(Address already in use\)"):
        ControlServer(path, {}, allowed_uids=())
    assert path.read_text() == "precious"


def test_a_path_that_is_too_long_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 120)
    with pytest.raises(ControlError, match=r"cannot be opened \(AF_UNIX path too long\).*shorter than 108"):
        ControlServer(path, {}, allowed_uids=())
    with pytest.raises(ControlError, match=r"does not answer at .* \(AF_UNIX path too long\)"):
        ControlClient(path).request({})


def test_a_place_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ControlError, match=r"set vault\.socket_path"):
        ControlServer(tmp_path / "file" / "control.sock", {}, allowed_uids=())


def test_missing_folders_are_made_and_the_name_goes_with_the_server(tmp_path: Path) -> None:
    path = tmp_path / "run" / "bodycam" / "control.sock"
    server = ControlServer(path, {}, allowed_uids=())
    server.start()
    server.close()
    server.close()
    assert not path.exists()
    unstarted = ControlServer(path, {}, allowed_uids=())
    unstarted.close()
    assert not path.exists()


def test_only_named_users_may_even_knock(start: Start, tmp_path: Path) -> None:
    assert stat.S_IMODE(start().stat().st_mode) == 0o600
    open_server = ControlServer(tmp_path / "open.sock", {}, allowed_uids=(12345,))
    assert stat.S_IMODE((tmp_path / "open.sock").stat().st_mode) == 0o666
    open_server.close()


# Who asks


@contextmanager
def acting_as(uid: int) -> Iterator[None]:
    """What connect(2) tells the other side is the effective user."""
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_the_kernels_word_decides_who_may_ask() -> None:
    with tempfile.TemporaryDirectory() as public:
        path = Path(public) / "control.sock"
        Path(public).chmod(0o755)  # so that a refusal is the server's own
        server = ControlServer(path, {"echo": echo}, allowed_uids=(12345,))
        server.start()
        client = ControlClient(path)
        refusal = r"User 54321 may not control this camera; add it to vault\.socket_uids"
        try:
            assert client.request({"command": "echo", "say": 1}) == {"said": 1}
            with acting_as(12345):
                assert client.request({"command": "echo", "say": 1}) == {"said": 1}
            with acting_as(54321):
                for _ in range(20):  # the server may hang up before the request is out; its word must come all the same
                    with pytest.raises(ControlError, match=refusal):
                        client.request({"command": "echo"})
        finally:
            server.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_some_commands_are_the_owners_alone() -> None:
    with tempfile.TemporaryDirectory() as public:
        path = Path(public) / "control.sock"
        Path(public).chmod(0o755)
        handlers = {"echo": echo, "examine": echo}
        server = ControlServer(path, handlers, allowed_uids=(12345,), owner_commands=frozenset({"examine"}))
        server.start()
        client = ControlClient(path)
        try:
            assert client.request({"command": "examine", "say": 1}) == {"said": 1}
            with acting_as(12345):
                assert client.request({"command": "echo", "say": 1}) == {"said": 1}
                with pytest.raises(ControlError, match="User 12345 may not ask for examine"):
                    client.request({"command": "examine"})
        finally:
            server.close()


# The client


def test_no_daemon_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(
        ControlError, match=r"The daemon does not answer at .*No such file.*start it with `bodycam run`"
    ):
        ControlClient(tmp_path / "absent.sock").request({"command": "status"})


@pytest.mark.parametrize(
    ("reply", "sentence"),
    [
        (b"", "hung up without an answer"),
        (b'{"ok":tr', "hung up in the middle"),
        (b"[]\n", "not a JSON object"),
        (b"{}\n", "refused without saying why"),
        (b'{"ok":1}\n', "refused without saying why"),
        (b'{"ok":false,"error":"No."}\n', r"^No\.$"),
    ],
)
def test_a_daemon_that_answers_badly_is_a_sentence(tmp_path: Path, reply: bytes, sentence: str) -> None:
    path = tmp_path / "odd.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(str(path))
        server.listen()

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(reply)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(ControlError, match=sentence):
            ControlClient(path).request({"command": "status"})
        thread.join()


def test_a_daemon_that_never_answers_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "silent.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(str(path))
        server.listen()
        with pytest.raises(ControlError, match=r"does not answer at .* \(timed out\)"):
            ControlClient(path, timeout_s=0.05).request({"command": "status"})
