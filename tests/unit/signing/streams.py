"""Small signed streams out of the real encoder, and ways to spoil them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cache
from itertools import pairwise

from cryptography import x509

from agent.capture.camera import CameraFrame
from agent.clock import SimulatedClock
from agent.encode.video import VideoEncoder
from agent.errors import SignerBusyError
from agent.media.packets import VideoPacket
from agent.signing.desk import InlineDesk, SigningDesk, Ticket, answer
from agent.signing.finding import GopFinding, StreamReport
from agent.signing.nal import NalUnit, split_byte_stream
from agent.signing.reader import StreamReader
from agent.signing.sei import VendorInfo, parse_sei
from agent.signing.signer import StreamSigner, put_in_front
from agent.trust.signer import Signer
from tests.unit.encode.pictures import FRAME_NS, START_NS, camera_format, numbered_picture, video_settings
from tests.unit.trust.identities import identity

VENDOR = VendorInfo("bodycam-agent 0.1.0", "100000001234abcd", "A department")
GOP_FRAMES = 6
DEVICE = "CAM-0001"
GOPS = 12
UTC_NS = 1_790_000_000_123_456_700
BOOTTIME_NS = 100_000_000_000


@cache
def unsigned_stream(threads: int = 1, gops: int = GOPS) -> tuple[VideoPacket, ...]:
    """`gops` GOPs of 6 pictures; with 2 threads each picture has 2 slices."""
    encoder = VideoEncoder(replace(video_settings(gop_ms=200), threads=threads), camera_format())
    packets: list[VideoPacket] = []
    for number in range(gops * GOP_FRAMES):
        packets += encoder.encode(CameraFrame(numbered_picture(number), START_NS + number * FRAME_NS))
    return tuple(packets + encoder.flush())


@cache
def still_stream(first: int, last: int) -> tuple[VideoPacket, ...]:
    """The same, but nothing changes in the picture in GOPs `first` to `last`: every second one is equal to the byte."""
    encoder = VideoEncoder(video_settings(gop_ms=200), camera_format())
    packets: list[VideoPacket] = []
    for number in range(GOPS * GOP_FRAMES):
        picture = numbered_picture(0 if first <= number // GOP_FRAMES <= last else number)
        packets += encoder.encode(CameraFrame(picture, START_NS + number * FRAME_NS))
    return tuple(packets + encoder.flush())


class SlowDesk:
    """Answers `pictures` pushes after the question; the signer fails at `refused` and never answers `hanging`."""

    def __init__(self, signer: Signer, pictures: int, refused: Iterable[int] = (), hanging: Iterable[int] = ()) -> None:
        self._signer = signer
        self._pictures = pictures
        self._refused, self._hanging = set(refused), set(hanging)
        self._jobs: deque[tuple[int, Ticket, int]] = deque()
        self._now = self._asked = 0

    def ask(self, document: bytes) -> Ticket:
        ticket = Ticket(document)
        self._jobs.append((self._now + self._pictures, ticket, self._asked))
        self._asked += 1
        return ticket

    def picture(self) -> None:
        """One more picture went by."""
        self._now += 1
        for job in list(self._jobs):
            due, ticket, number = job
            if due <= self._now and number not in self._hanging:
                self._jobs.remove(job)
                if number in self._refused:
                    ticket.refuse("The secure element did not answer.")
                else:
                    answer(self._signer, ticket)

    def close(self) -> None:
        """Nothing to end."""


class FailingSigner:
    """A signer that fails while it is told to."""

    def __init__(self, inner: Signer, failure: Exception | None = None) -> None:
        self._inner = inner
        self._failure = failure or SignerBusyError("The signer did not answer in time.")
        self.failing = True

    @property
    def certificate(self) -> x509.Certificate:
        return self._inner.certificate

    @property
    def chain(self) -> tuple[x509.Certificate, ...]:
        return self._inner.chain

    @property
    def description(self) -> str:
        return self._inner.description

    def sign(self, data: bytes) -> bytes:
        if self.failing:
            raise self._failure
        return self._inner.sign(data)


def make_signer(
    desk: SigningDesk | None = None,
    name: str = DEVICE,
    on_answer: Callable[[str | None], None] | None = None,
) -> StreamSigner:
    """A stream signer of a device, by default signing while the caller waits."""
    signer = identity(name).signer
    clock = SimulatedClock(BOOTTIME_NS, UTC_NS)
    return StreamSigner(signer, clock, VENDOR, desk=desk or InlineDesk(signer), on_answer=on_answer)


def sign(packets: Sequence[VideoPacket], desk: SigningDesk | None = None, name: str = DEVICE) -> list[VideoPacket]:
    """The packets through a stream signer."""
    signer = make_signer(desk, name)
    signed = []
    for packet in packets:
        signed.append(signer.push(packet))
        if isinstance(desk, SlowDesk):
            desk.picture()
    return signed


def slow(pictures: int, refused: Iterable[int] = (), hanging: Iterable[int] = ()) -> SlowDesk:
    """A slow desk with the usual device's key."""
    return SlowDesk(identity(DEVICE).signer, pictures, refused, hanging)


def read(packets: Iterable[VideoPacket]) -> tuple[StreamReport, list[GopFinding]]:
    """What the reader says of packets as they are."""
    reader = StreamReader()
    findings: list[GopFinding] = []
    for packet in packets:
        findings += reader.picture(packet.data, split_byte_stream(packet.data), (packet.pts_ns - START_NS) / 1e9)
    findings += reader.end()
    return reader.report, findings


def states(packets: Iterable[VideoPacket]) -> str:
    """The states of the GOPs by their first letters: "vvvip"."""
    return "".join(finding.state[0] for finding in read(packets)[1])


def gops_of(packets: Sequence[VideoPacket]) -> list[list[VideoPacket]]:
    """Cut at keyframes."""
    starts = [number for number, packet in enumerate(packets) if packet.is_keyframe] + [len(packets)]
    return [list(packets[start:end]) for start, end in pairwise(starts)]


def joined(gops: Iterable[Sequence[VideoPacket]]) -> list[VideoPacket]:
    """The other way."""
    return [packet for gop in gops for packet in gop]


def units_of(packet: VideoPacket) -> list[tuple[NalUnit, bytes]]:
    """NAL units with their bytes."""
    return [(unit, packet.data[unit.start : unit.end]) for unit in split_byte_stream(packet.data)]


def is_ours(unit: bytes) -> bool:
    """Whether a NAL unit is a SEI of the specification."""
    return unit[:1] == b"\x06" and parse_sei(unit) is not None


def seis_of(packets: Iterable[VideoPacket]) -> list[bytes]:
    """All SEIs of the specification, in order."""
    return [data for packet in packets for _, data in units_of(packet) if is_ours(data)]


def without_seis(packet: VideoPacket) -> VideoPacket:
    """Stripped."""
    data = packet.data
    for unit, unit_data in reversed(units_of(packet)):
        if is_ours(unit_data):
            data = data[: unit.prefix] + data[unit.end :]
    return replace(packet, data=data)


def with_sei(packet: VideoPacket, sei: bytes) -> VideoPacket:
    """One more in front of the slices."""
    unit = next(unit for unit, _ in units_of(packet) if unit.type in (1, 5))
    return replace(packet, data=put_in_front(packet.data, unit, [sei]))


def flipped(packet: VideoPacket, bit: int = 0) -> VideoPacket:
    """One bit of the last slice changed, counted from the end, its last byte left alone."""
    data = bytearray(packet.data)
    data[-2 - bit // 8] ^= 1 << bit % 8
    return replace(packet, data=bytes(data))
