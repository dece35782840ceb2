"""Bench only: a Unix socket that presses the mock pins from the far side and shows what the outputs do.

One line a command, one line back, UTF-8:

    press PIN      close the contact on an input: drives its pin as the button is wired
    release PIN    open it again
    pins           levels of all pins in use, as JSON: {"17": 1, "22": 0}
    watch          then one JSON line for each change of an output:
                   {"boottime_ns": 123, "pin": 22, "name": "led_red", "level": 1}; first one line for each level now

PIN is a BCM number or "record" for the record button. Commands answer "ok" (press, release, watch) or
"error: …" in one line; a line that is not understood does nothing else, and the lines after it are carried out.
How long a press lasts and how far two are apart is the far side's business: see `agent.panel.pin_client`.
"""

from __future__ import annotations

import json
import os
import selectors
import socket
import stat
import threading
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.clock import Clock
from agent.errors import PanelError
from agent.panel.pins import BenchFactory, claim
from agent.settings.schema import GpioSettings

_LONGEST_LINE_BYTES = 256
_LONGEST_BACKLOG_BYTES = 1_000_000
_PATH_BYTES = 107  # sun_path of unix(7), less the final zero byte


@dataclass(slots=True)
class _Peer:
    connection: socket.socket
    received: bytearray
    to_send: bytearray
    watching: bool = False
    skipping: bool = False
    """In the rest of a line that was too long; it has had its error."""


class PinSocketServer:
    """Serves the pins of a BenchFactory at [gpio] bench_pin_socket_path, in a thread of its own."""

    def __init__(self, gpio: GpioSettings, factory: Any, clock: Clock) -> None:
        """Listen, mode 0600; answered once started. Raises PanelError for real pins, or a path that cannot be used."""
        if not isinstance(factory, BenchFactory):
            raise PanelError(
                "The pin socket drives mock pins only and refuses this pin factory. Remove [gpio] "
                'bench_pin_socket_path, or use factory = "mock" in the bench profile.'
            )
        self._factory = factory
        self._gpio = gpio
        self._path = path = Path(gpio.bench_pin_socket_path)
        self._clock = clock
        names = ("led_red", "led_green", "led_blue", "buzzer", "vibration")
        self._outputs = {getattr(gpio, f"{name}_pin"): name for name in names if getattr(gpio, f"{name}_pin") >= 0}
        self._inputs = {pin for pin in (gpio.record_button_pin, *gpio.trigger_input_pins) if pin >= 0}
        for pin in (*self._outputs, *self._inputs):
            claim(
                lambda pin, pin_factory: pin_factory.pin(pin), pin, self._outputs.get(pin, "record_button_pin"), factory
            )
        self._changes: deque[bytes] = deque()
        self._listening = _listen(path)
        self._wake, self._woken = socket.socketpair()
        self._wake.setblocking(False)
        self._peers = selectors.DefaultSelector()
        self._peers.register(self._listening, selectors.EVENT_READ)
        self._peers.register(self._woken, selectors.EVENT_READ)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="pin-socket", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._factory.listeners.append(self._changed)
        self._thread.start()

    def close(self) -> None:
        """Hang up on everybody and remove the socket; again does nothing."""
        if self._closing.is_set():
            return
        self._closing.set()
        if self._changed in self._factory.listeners:
            self._factory.listeners.remove(self._changed)
        if self._thread.is_alive():
            self._nudge()
            self._thread.join()
        for key in tuple(self._peers.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
        self._peers.close()
        self._wake.close()
        self._path.unlink(missing_ok=True)

    def _changed(self, pin: int, level: bool) -> None:
        # Called by the thread that switches the pin, often the panel's, under its lock: only hand over.
        if (name := self._outputs.get(pin)) is not None:
            self._changes.append(_change_line(self._clock.boottime_ns(), pin, name, level))
            self._nudge()

    def _nudge(self) -> None:
        try:
            self._wake.send(b"\0")
        except BlockingIOError:
            return  # the thread has been nudged plenty and has yet to wake

    def _serve(self) -> None:
        while not self._closing.is_set():
            for key, events in self._peers.select():
                if key.fileobj is self._listening:
                    self._welcome()
                elif key.fileobj is self._woken:
                    self._woken.recv(4096)
                else:
                    self._attend(key.data, events)
            self._tell_watchers()

    def _welcome(self) -> None:
        connection, _ = self._listening.accept()
        connection.setblocking(False)
        self._peers.register(connection, selectors.EVENT_READ, _Peer(connection, bytearray(), bytearray()))

    def _attend(self, peer: _Peer, events: int) -> None:
        try:
            if events & selectors.EVENT_READ and peer.connection.fileno() >= 0:
                data = peer.connection.recv(4096)
                if not data:
                    self._part(peer)
                    return
                peer.received += data
                self._take_lines(peer)
            self._flush(peer)
        except (BrokenPipeError, ConnectionResetError):
            self._part(peer)

    def _part(self, peer: _Peer) -> None:
        self._peers.unregister(peer.connection)
        peer.connection.close()

    def _take_lines(self, peer: _Peer) -> None:
        while (end := peer.received.find(b"\n")) >= 0:
            line = bytes(peer.received[:end])
            del peer.received[: end + 1]
            if peer.skipping:
                peer.skipping = False
            else:
                peer.to_send += self._answer(peer, line)
        if len(peer.received) > _LONGEST_LINE_BYTES:
            peer.received.clear()
            if not peer.skipping:
                peer.to_send += _error(f"a line has at most {_LONGEST_LINE_BYTES} bytes")
                peer.skipping = True

    def _answer(self, peer: _Peer, line: bytes) -> bytes:
        if len(line) > _LONGEST_LINE_BYTES:
            return _error(f"a line has at most {_LONGEST_LINE_BYTES} bytes")
        match line.decode("utf-8", errors="replace").split():
            case ["press" | "release" as verb, pin]:
                return self._drive(pin, verb == "press")
            case ["pins"]:
                in_use = {pin._number: int(bool(pin.state)) for pin in tuple(self._factory.pins.values())}
                return json.dumps({str(pin): in_use[pin] for pin in sorted(in_use)}).encode() + b"\n"
            case ["watch"]:
                self._tell_watchers()  # what others have yet to hear must not reach this one after its first levels
                peer.watching = True
                now_ns = self._clock.boottime_ns()
                levels = [
                    _change_line(now_ns, pin, name, bool(self._factory.pin(pin).state))
                    for pin, name in self._outputs.items()
                ]
                return b"ok\n" + b"".join(levels)
            case _:
                return _error("expected press PIN, release PIN, pins or watch")

    def _drive(self, name: str, pressed: bool) -> bytes:
        pin = self._gpio.record_button_pin if name == "record" else int(name) if name.isdecimal() else -1
        if pin not in self._inputs:
            return _error(f"expected record or one of the input pins {sorted(self._inputs)}")
        if pressed != self._gpio.button_pull_up:
            self._factory.pin(pin).drive_high()
        else:
            self._factory.pin(pin).drive_low()
        return b"ok\n"

    def _tell_watchers(self) -> None:
        lines = bytearray()
        while self._changes:
            lines += self._changes.popleft()
        if not lines:
            return
        for key in tuple(self._peers.get_map().values()):
            if isinstance(key.data, _Peer) and key.data.watching:
                key.data.to_send += lines
                self._attend(key.data, selectors.EVENT_WRITE)

    def _flush(self, peer: _Peer) -> None:
        if peer.connection.fileno() < 0:
            return  # parted from while another was served
        if peer.to_send:
            try:
                del peer.to_send[: peer.connection.send(peer.to_send)]
            except BlockingIOError:
                if len(peer.to_send) > _LONGEST_BACKLOG_BYTES:
                    self._part(peer)  # a watcher that reads nothing must not fill the memory
                    return
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if peer.to_send else 0)
        self._peers.modify(peer.connection, wanted, peer)


def _listen(path: Path) -> socket.socket:
    if len(os.fsencode(path)) > _PATH_BYTES:
        raise PanelError(f"[gpio] bench_pin_socket_path has more than {_PATH_BYTES} bytes: {path}. Use a shorter path.")
    listening = socket.socket(socket.AF_UNIX)
    try:
        if path.exists() and stat.S_ISSOCK(path.lstat().st_mode) and not _answers(path):
            path.unlink()  # left by a process that was killed
        listening.bind(os.fspath(path))
        # Nobody can connect between bind and listen, so it is never open to others.
        path.chmod(0o600)
        listening.listen()
    except OSError as problem:
        listening.close()
        raise PanelError(
            f"[gpio] bench_pin_socket_path = {str(path)!r} cannot be used ({problem.strerror}). Give a path in a "
            "directory that exists and is writable, used by no other bodycam."
        ) from problem
    return listening


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(os.fspath(path)) == 0


def _change_line(boottime_ns: int, pin: int, name: str, level: bool) -> bytes:
    return json.dumps({"boottime_ns": boottime_ns, "pin": pin, "name": name, "level": int(level)}).encode() + b"\n"


def _error(what: str) -> bytes:
    return f"error: {what}\n".encode()
