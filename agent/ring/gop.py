"""One group of pictures in the ring."""

from __future__ import annotations

from array import array
from typing import cast

from agent.media.packets import VideoPacket


class Gop:
    """Packets from one keyframe up to the next. Only the newest GOP of a ring grows.

    The bytes of all packets lie in one block. An object and a small allocation for each packet cost more than 2 % of
    the payload, and leave holes behind that the allocator keeps; a block is mapped and unmapped as a whole.
    """

    __slots__ = ("_data", "_ends", "_times_ns", "number", "start_ns")

    def __init__(self, number: int, keyframe: VideoPacket) -> None:
        self.number = number
        self.start_ns = keyframe.pts_ns
        self._data: bytearray | bytes = bytearray()
        self._ends = array("L")
        self._times_ns = array("q")
        self.append(keyframe)

    def append(self, packet: VideoPacket) -> None:
        """Take the next packet. Not after `finish`."""
        assert isinstance(self._data, bytearray)
        self._data += packet.data
        self._ends.append(len(self._data))
        self._times_ns.append(packet.pts_ns)

    def finish(self) -> None:
        """No packet follows: give back what was allocated ahead."""
        self._data = bytes(self._data)

    @property
    def payload_bytes(self) -> int:
        """Sum of the packets' bytes."""
        return len(self._data)

    @property
    def frames(self) -> int:
        """How many packets it has."""
        return len(self._ends)

    @property
    def last_ns(self) -> int:
        """Capture time of its last frame."""
        return self._times_ns[-1]

    def packets(self) -> tuple[VideoPacket, ...]:
        """The packets in order; those of a finished GOP are views into its block."""
        # A bytearray that is looked into cannot grow, so what still grows is copied.
        view = memoryview(self._data if isinstance(self._data, bytes) else bytes(self._data))
        starts = (0, *self._ends[:-1])
        return tuple(
            VideoPacket(cast(bytes, view[start:end]), pts_ns, is_keyframe=number == 0)
            for number, (start, end, pts_ns) in enumerate(zip(starts, self._ends, self._times_ns, strict=True))
        )
