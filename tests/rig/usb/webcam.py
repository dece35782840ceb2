#!/usr/bin/python3
"""A USB webcam without a body: plays one to the guest's own kernel, which takes it for real hardware.

Runs inside the guest: system Python, standard library, nothing of the project. The stock vhci_hcd is its host
controller: it hands USB requests over a socket (USB/IP, the kernel's Documentation/usb/usbip_protocol.rst), of which a
socketpair is enough. uvcvideo binds to what is described here and makes /dev/video0 of it.

    webcam.py SOCKET JPEG YUYV WIDTH HEIGHT FPS

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

VHCI = Path("/sys/devices/platform/vhci_hcd.0")
PORT = 0
DEVICE_ID = 1 << 16 | 2
HIGH_SPEED = 3  # USB_SPEED_HIGH, <linux/usb/ch9.h>

NS_PER_S = 1_000_000_000
ENDPOINT = 0x81
PAYLOAD_BYTES = 16384
"""Of one bulk transfer, UVC 1.5 section 2.4.3.2; not more than the 32 packets of 512 that uvcvideo allots."""
PROBE_BYTES = 26  # UVC 1.0; 34 came with 1.1

CELL, COLUMNS, ROWS = 16, 12, 4
CELLS = COLUMNS * ROWS
BLACK, WHITE = 16, 235

EPIPE, ECONNRESET = -32, -104
CMD_SUBMIT, CMD_UNLINK, RET_SUBMIT, RET_UNLINK = 1, 2, 3, 4

# <linux/usb/video.h>, which names what UVC 1.5 appendix A numbers.
CS_INTERFACE = 0x24
VC_HEADER, VC_INPUT_TERMINAL, VC_OUTPUT_TERMINAL = 1, 2, 3
VS_INPUT_HEADER, VS_FORMAT_UNCOMPRESSED, VS_FRAME_UNCOMPRESSED, VS_FORMAT_MJPEG, VS_FRAME_MJPEG, VS_COLORFORMAT = (
    1, 4, 5, 6, 7, 13,
)  # fmt: skip
SET_CUR, GET_LEN, GET_INFO = 0x01, 0x85, 0x86
STREAMING_INTERFACE = 1
YUY2 = bytes.fromhex("5955593200001000800000aa00389b71")
"""The format's GUID, UVC 1.5 Uncompressed Payload, table 2-1."""
FORMATS = ("MJPG", "YUYV")


def boottime_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def cells(number: int) -> list[bool]:
    """The counter's cells, row by row, True for white: 24 bits and their CRC-24 (RFC 9580 section 6.1)."""
    crc = 0xB704CE
    for byte in number.to_bytes(3, "big"):
        crc ^= byte << 16
        for _ in range(8):
            crc = (crc << 1) ^ (0x1864CFB if crc & 0x800000 else 0)
    word = number << 24 | crc
    return [bool(word >> (CELLS - 1 - place) & 1) for place in range(CELLS)]


class Jpeg:
    """A baseline JPEG (ITU-T T.81) that is changed block by block, without decoding anything."""

    def __init__(self, picture: bytes, width: int) -> None:
        scan = picture.index(b"\xff\xda")  # SOS
        start = scan + 2 + int.from_bytes(picture[scan + 2 : scan + 4], "big")
        self._head, body = picture[:start], picture[start : picture.rindex(b"\xff\xd9")]
        self._blocks: list[bytes] = []
        begin = 0
        for place in range(len(body) - 1):
            # A restart marker (B.1.1.3); a byte FF of the data has 00 behind it.
            if body[place] == 0xFF and 0xD0 <= body[place + 1] <= 0xD7:
                self._blocks.append(body[begin:place])
                begin = place + 2
        self._blocks.append(body[begin:])
        self._places = [row * -(-width // CELL) + column for row in range(ROWS) for column in range(COLUMNS)]
        shown = cells(0)
        self._black, self._white = (self._blocks[self._places[shown.index(lit)]] for lit in (False, True))

    def numbered(self, number: int) -> bytes:
        """The picture with this number."""
        blocks = list(self._blocks)
        for place, lit in zip(self._places, cells(number), strict=True):
            blocks[place] = self._white if lit else self._black
        return self._whole(blocks)

    def dark(self) -> bytes:
        """Nothing but black."""
        return self._whole([self._black] * len(self._blocks))

    def _whole(self, blocks: list[bytes]) -> bytes:
        parts = [self._head]
        for place, block in enumerate(blocks):
            parts += [block, bytes((0xFF, 0xD0 + place % 8))]
        parts[-1] = b"\xff\xd9"
        return b"".join(parts)


class Yuyv:
    """The same for raw pictures."""

    def __init__(self, picture: bytes, width: int) -> None:
        self._lines = [picture[start : start + 2 * width] for start in range(0, len(picture), 2 * width)]
        self._black, self._white = (bytes((level, 128)) * CELL for level in (BLACK, WHITE))

    def numbered(self, number: int) -> bytes:
        """The picture with this number."""
        shown, lines = cells(number), list(self._lines)
        for row in range(ROWS):
            lit = shown[row * COLUMNS : (row + 1) * COLUMNS]
            painted = b"".join(self._white if cell else self._black for cell in lit)
            for line in range(row * CELL, (row + 1) * CELL):
                lines[line] = painted + lines[line][len(painted) :]
        return b"".join(lines)

    def dark(self) -> bytes:
        """Nothing but black."""
        return bytes((BLACK, 128)) * (sum(map(len, self._lines)) // 2)


class Descriptors:
    """What the camera says that it is: UVC 1.5 section 3, in the layout of version 1.0."""

    def __init__(self, formats: list[str], width: int, height: int, fps: float) -> None:
        self.formats = formats
        self._size_bytes = 2 * width * height
        self._interval = round(1e7 / fps)  # in 100 ns
        self._shape = (width, height, fps)
        self.device = struct.pack("<BBHBBBBHHHBBBB", 18, 1, 0x0200, 0xEF, 2, 1, 64, 0x1D6B, 0x0104, 0x100, 1, 2, 3, 1)
        self.strings = {1: "rig", 2: "Webcam of the rig", 3: "RIG0001"}
        self.configuration = self._configuration()

    def _frame(self, kind: int) -> bytes:
        """Table 3-2 of the payload's own specification: one size, one rate."""
        width, height, fps = self._shape
        bits = round(8 * self._size_bytes * fps)
        return struct.pack(
            "<BBBBBHHIIIIBI", 30, CS_INTERFACE, kind, 1, 0, width, height, bits, bits, self._size_bytes, self._interval,
            1, self._interval,
        )  # fmt: skip

    def _configuration(self) -> bytes:
        colours = struct.pack("<6B", 6, CS_INTERFACE, VS_COLORFORMAT, 1, 1, 4)  # table 3-19: BT.709, BT.601 matrix
        body = b""
        for number, name in enumerate(self.formats, 1):
            if name == "MJPG":
                body += struct.pack("<11B", 11, CS_INTERFACE, VS_FORMAT_MJPEG, number, 1, 1, 1, 0, 0, 0, 0)
                body += self._frame(VS_FRAME_MJPEG)
            else:
                body += struct.pack("<5B", 27, CS_INTERFACE, VS_FORMAT_UNCOMPRESSED, number, 1) + YUY2
                body += struct.pack("<6B", 16, 1, 0, 0, 0, 0) + self._frame(VS_FRAME_UNCOMPRESSED)
            body += colours
        count = len(self.formats)
        head_bytes = 13 + count
        # Table 3-14: endpoint, output terminal 2, no still pictures, no controls of a format.
        streaming = struct.pack(
            "<BBBBHB", head_bytes, CS_INTERFACE, VS_INPUT_HEADER, count, head_bytes + len(body), ENDPOINT
        )
        streaming += struct.pack("<6B", 0, 2, 0, 0, 0, 1) + bytes(count) + body
        # Tables 3-6 and 3-5: a camera without a single control, and the line to the host.
        terminals = struct.pack(
            "<BBBBHBBHHHB3s", 18, CS_INTERFACE, VC_INPUT_TERMINAL, 1, 0x0201, 0, 0, 0, 0, 0, 3, b"\0\0\0"
        )
        terminals += struct.pack("<BBBBHBBB", 9, CS_INTERFACE, VC_OUTPUT_TERMINAL, 2, 0x0101, 0, 1, 0)
        control = struct.pack("<BBBHHIBB", 13, CS_INTERFACE, VC_HEADER, 0x0100, 13 + len(terminals), 48_000_000, 1, 1)
        whole = struct.pack("<8B", 8, 11, 0, 2, 14, 3, 0, 0)  # the two belong together
        whole += struct.pack("<9B", 9, 4, 0, 0, 0, 14, 1, 0, 0) + control + terminals
        whole += struct.pack("<9B", 9, 4, STREAMING_INTERFACE, 0, 1, 14, 2, 0, 0) + streaming
        whole += struct.pack(
            "<BBBBHB", 7, 5, ENDPOINT, 2, 512, 0
        )  # bulk: vhci_hcd and its kin do no isochronous timing
        return struct.pack("<BBHBBBBB", 9, 2, 9 + len(whole), 2, 1, 0, 0x80, 250) + whole

    def probe(self, asked: bytes = b"") -> bytes:
        """Table 4-75: what will be streamed, whatever is asked for but the format."""
        number = min(max(asked[2] if len(asked) > 2 else 1, 1), len(self.formats))
        return struct.pack(
            "<HBBIHHHHHII", 1, number, 1, self._interval, 0, 0, 0, 0, 0, self._size_bytes, PAYLOAD_BYTES
        )  # fmt: skip


class Webcam:
    """The camera itself, plugged in or not. Its clock runs on in any case."""

    def __init__(self, jpeg: Jpeg, yuyv: Yuyv, width: int, height: int, fps: float) -> None:
        self._pictures = {"MJPG": jpeg, "YUYV": yuyv}
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
        picture: bytes = source.dark() if self.dark else source.numbered(slot)  # type: ignore[attr-defined]
        if self.broken:
            self.broken -= 1
            return b"\0" * 100
        return picture


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
