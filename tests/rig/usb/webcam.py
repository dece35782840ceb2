"""A USB webcam without a body: plays one to the guest's own kernel, which takes it for real hardware.

Runs inside the guest: system Python, standard library, nothing of the project but this folder. The stock vhci_hcd is
its host controller: it hands USB requests over a socket (USB/IP, the kernel's Documentation/usb/usbip_protocol.rst), of
which a socketpair is enough. uvcvideo binds to what is described here and makes /dev/video0 of it.

    python3 -m tests.rig.usb.webcam SOCKET JPEG YUYV WIDTH HEIGHT FPS

JPEG: a picture whose every 16x16 block can be decoded alone (restart interval 1), YUYV: the same one raw; both hold the
counter (agent/capture/counter.py) with the number 0. Each frame that is sent holds the number of its time slot, so that
one which was never sent, or never seen, leaves a hole in the numbers. SOCKET takes requests, one JSON line each; see
`Desk`.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.rig.usb.descriptors import FORMATS, PAYLOAD_BYTES, PROBE_BYTES, STREAMING_INTERFACE, Descriptors
from tests.rig.usb.pictures import Jpeg, Yuyv

VHCI = Path("/sys/devices/platform/vhci_hcd.0")
PORT = 0
DEVICE_ID = 1 << 16 | 2
HIGH_SPEED = 3  # USB_SPEED_HIGH, <linux/usb/ch9.h>

BROKEN = bytes(100)
"""No picture of any format, but small enough for all of them."""
NS_PER_S = 1_000_000_000
EPIPE, ECONNRESET = -32, -104
CMD_SUBMIT, CMD_UNLINK, RET_SUBMIT, RET_UNLINK = 1, 2, 3, 4
SET_CUR, GET_LEN, GET_INFO = 0x01, 0x85, 0x86


def boottime_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class Webcam:
    """The camera itself, plugged in or not. Its clock runs on in any case."""

    def __init__(self, jpeg: Jpeg, yuyv: Yuyv, width: int, height: int, fps: float) -> None:
        self._pictures: dict[str, Jpeg | Yuyv] = {"MJPG": jpeg, "YUYV": yuyv}
        self._shape = (width, height, fps)
        self._fps = fps
        self._began_ns = boottime_ns()
        self._changed = threading.Condition()
        self._sending = threading.Lock()
        self._line: socket.socket | None = None
        self._waiting: deque[tuple[int, int]] = deque()
        self._silent: list[tuple[int, bytes]] = []
        self._descriptors = Descriptors(list(FORMATS), *self._shape)
        self._streamed = self._descriptors.probe()
        self._rest = b""
        self._toggle = 0
        self._frozen = ""
        self.dark = False
        self.broken = 0
        self.sent: list[tuple[int, int]] = []
        threading.Thread(target=self._stream, daemon=True).start()

    def plug(self, formats: list[str]) -> None:
        """Plug it in; returns when the host controller has taken it."""
        ours, theirs = socket.socketpair()
        with theirs:
            text = f"{PORT} {theirs.fileno()} {DEVICE_ID} {HIGH_SPEED}"
            deadline_s = time.monotonic() + 10
            while True:
                try:
                    (VHCI / "attach").write_text(text)
                    break
                except OSError:
                    # The port is still busy with the end of what was plugged in before.
                    if time.monotonic() > deadline_s:
                        raise
                    time.sleep(0.02)
        with self._changed:
            self._descriptors = Descriptors(formats, *self._shape)
            self._streamed = self._descriptors.probe()
            self._line, self._frozen, self._rest = ours, "", b""
            self._waiting.clear()
            self._silent.clear()
        threading.Thread(target=self._serve, args=(ours,), daemon=True).start()

    def unplug(self) -> None:
        """Pull the plug, whatever is under way."""
        with self._changed:
            line, self._line = self._line, None
        if line is not None:
            line.shutdown(socket.SHUT_RDWR)

    def freeze(self, what: str) -> None:
        """From now on complete no transfer: of pictures ("stream") or of anything ("all"); "" goes on.

        What the host takes back is given back all the same: that is between it and its controller.
        """
        with self._changed:
            self._frozen = what
            silent, self._silent = ([], self._silent) if what == "all" else (self._silent, [])
            self._changed.notify_all()
        for seq, answer in silent:
            self._give_back(seq, answer)

    def _serve(self, line: socket.socket) -> None:
        with suppress(EOFError, OSError), line:
            while True:
                head = received(line, 48)
                command, seq, _, incoming, endpoint = struct.unpack(">IIIII", head[:20])
                if command == CMD_UNLINK:
                    self._unlink(seq, *struct.unpack(">I", head[20:24]))
                    continue
                _, length = struct.unpack(">Ii", head[20:28])
                data = b"" if incoming else received(line, length)
                if endpoint:
                    with self._changed:
                        self._waiting.append((seq, length))
                        self._changed.notify_all()
                else:
                    self._answer(seq, head[40:48], data)

    def _answer(self, seq: int, setup: bytes, data: bytes) -> None:
        answer = self._control(setup, data)
        if answer is None:
            packed = struct.pack(">iiiii8x", EPIPE, 0, 0, 0, 0)
        elif setup[0] & 0x80:
            answer = answer[: struct.unpack("<H", setup[6:8])[0]]
            packed = struct.pack(">iiiii8x", 0, len(answer), 0, 0, 0) + answer
        else:
            packed = struct.pack(">iiiii8x", 0, len(data), 0, 0, 0)
        with self._changed:
            if self._frozen == "all":
                self._silent.append((seq, packed))
                return
        self._give_back(seq, packed)

    def _control(self, setup: bytes, data: bytes) -> bytes | None:
        """The answer to a request on endpoint 0 (USB 2.0 section 9.4, UVC 1.5 section 4); None refuses it."""
        kind, request, value, index, _ = struct.unpack("<BBHHH", setup)
        if (kind, request) == (0x80, 6):  # GET_DESCRIPTOR
            return self._describe(value >> 8, value & 0xFF)
        if kind == 0x80:  # GET_STATUS, GET_CONFIGURATION
            return b"\1\0"
        if kind in (0x81, 0x82):
            return b"\0\0"
        if kind in (0x00, 0x01, 0x02):  # SET_CONFIGURATION, SET_INTERFACE, CLEAR_FEATURE
            return b""
        if index & 0xFF != STREAMING_INTERFACE:
            return None
        if (kind, request) == (0x21, SET_CUR):
            with self._changed:
                self._streamed, self._rest = self._descriptors.probe(data), b""
            return b""
        if kind == 0xA1:
            if request == GET_LEN:
                return struct.pack("<H", PROBE_BYTES)
            return b"\3" if request == GET_INFO else self._streamed
        return None

    def _describe(self, kind: int, number: int) -> bytes | None:
        if kind == 3:
            text = self._descriptors.strings.get(number, "").encode("utf-16le")
            return b"\4\3\x09\4" if number == 0 else bytes((2 + len(text), 3)) + text
        return {1: self._descriptors.device, 2: self._descriptors.configuration}.get(kind)

    def _unlink(self, seq: int, victim: int) -> None:
        with self._changed:
            waits = [seq for seq, _ in self._waiting] + [seq for seq, _ in self._silent]
            self._waiting = deque(entry for entry in self._waiting if entry[0] != victim)
            self._silent = [entry for entry in self._silent if entry[0] != victim]
        self._say(struct.pack(">IIIIIi24x", RET_UNLINK, seq, 0, 0, 0, ECONNRESET if victim in waits else 0))

    def _give_back(self, seq: int, packed: bytes) -> None:
        self._say(struct.pack(">IIIII", RET_SUBMIT, seq, 0, 0, 0) + packed)

    def _say(self, message: bytes) -> None:
        with self._sending, suppress(OSError):  # unplugged in the middle of it
            if self._line is not None:
                self._line.sendall(message)

    def _stream(self) -> None:
        slot = -1
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting and not self._frozen and self._line is not None)
                begins = not self._rest
            if begins:
                slot = max(slot + 1, self._slot())
                # A sensor does not wait for the bus: what comes too late is not sent later, but not at all.
                time.sleep(max(0, self._began_ns + slot * NS_PER_S / self._fps - boottime_ns()) / NS_PER_S)
            with self._changed:
                if begins:
                    self._rest = self._picture(slot)
                    self._toggle ^= 1
                if not self._waiting or self._frozen or not self._rest:
                    continue
                seq, length = self._waiting.popleft()
                room = min(length, PAYLOAD_BYTES) - 2
                part, self._rest = self._rest[:room], self._rest[room:]
                # Table 2-6 of section 2.4.3.3: end of header, end of frame, frame toggle.
                head = bytes((2, 0x80 | (0 if self._rest else 2) | self._toggle))
                if not self._rest:
                    self.sent.append((slot, boottime_ns()))
            data = head + part
            self._give_back(seq, struct.pack(">iiiii8x", 0, len(data), 0, 0, 0) + data)

    def _slot(self) -> int:
        return -(-(boottime_ns() - self._began_ns) * round(self._fps) // NS_PER_S)

    def _picture(self, slot: int) -> bytes:
        source = self._pictures[self._descriptors.formats[self._streamed[2] - 1]]
        if self.broken:
            self.broken -= 1
            return BROKEN
        return source.dark() if self.dark else source.numbered(slot)


def received(line: socket.socket, length: int) -> bytes:
    """So many bytes. Raises EOFError at the end."""
    data = b""
    while len(data) < length:
        chunk = line.recv(length - len(data))
        if not chunk:
            raise EOFError
        data += chunk
    return data


class Desk:
    """What can be asked for, as JSON lines: {"do": NAME, ...} is answered with {"boottime_ns": …, …}."""

    def __init__(self, webcam: Webcam) -> None:
        self._webcam = webcam

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Do one thing. Answers with the boot time at which that began."""
        webcam, at_ns, told = self._webcam, boottime_ns(), {}
        match request:
            case {"do": "plug", "formats": formats}:
                webcam.plug(formats)
            case {"do": "unplug"}:
                webcam.unplug()
            case {"do": "freeze", "what": what}:
                webcam.freeze(what)
            case {"do": "dark", "on": on}:
                webcam.dark = on
            case {"do": "break", "pictures": pictures}:
                webcam.broken = pictures
            case {"do": "sent"}:
                told = {"sent": list(webcam.sent)}
            case _:
                return {"error": f"The webcam does not know how to {request}."}
        return {"boottime_ns": at_ns, **told}


def main() -> None:
    path, jpeg, yuyv, width, height, fps = sys.argv[1:]
    shape = (int(width), int(height), float(fps))
    # Hardware is not late because programs are busy.
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(20))
    webcam = Webcam(Jpeg(Path(jpeg).read_bytes(), shape[0]), Yuyv(Path(yuyv).read_bytes(), shape[0]), *shape)
    desk = Desk(webcam)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        while True:
            connection, _ = listener.accept()
            with connection, connection.makefile("rwb") as lines:
                for line in lines:
                    lines.write(json.dumps(desk.answer(json.loads(line))).encode() + b"\n")
                    lines.flush()


if __name__ == "__main__":
    main()
