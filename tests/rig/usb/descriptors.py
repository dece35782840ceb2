"""What the webcam says that it is: USB Video Class 1.5, in the layout of version 1.0, which every driver reads."""

from __future__ import annotations

import struct

ENDPOINT = 0x81
STREAMING_INTERFACE = 1
PAYLOAD_BYTES = 16384
"""Of one bulk transfer, UVC 1.5 section 2.4.3.2; not more than the 32 packets of 512 that uvcvideo allots."""
PROBE_BYTES = 26  # UVC 1.0; 34 came with 1.1

# <linux/usb/video.h>, which names what UVC 1.5 appendix A numbers.
CS_INTERFACE = 0x24
VC_HEADER, VC_INPUT_TERMINAL, VC_OUTPUT_TERMINAL = 1, 2, 3
VS_INPUT_HEADER, VS_FORMAT_UNCOMPRESSED, VS_FRAME_UNCOMPRESSED, VS_FORMAT_MJPEG, VS_FRAME_MJPEG, VS_COLORFORMAT = (
    1, 4, 5, 6, 7, 13,
)  # fmt: skip
YUY2 = bytes.fromhex("5955593200001000800000aa00389b71")
"""The format's GUID, UVC 1.5 Uncompressed Payload, table 2-1."""
FORMATS = ("MJPG", "YUYV")


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
