"""From what an H.264 encoder hands out to whole access units with their capture times.

Pure bookkeeping, so that what hardware encoders do (header packets of their own, keyframes without headers, dropped
pictures) can be tested without one. NAL units and Annex B: ITU-T H.264, 7.3.1, 7.4.1 and annex B.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from agent.errors import EncoderError
from agent.media.packets import VideoPacket

_NAL_IDR = 5
_NAL_SPS = 7
_NAL_PPS = 8
_NAL_DELIMITER = 9
_FIRST_VCL, _LAST_VCL = 1, 5


def _nal_units(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Type, start (with its start code) and end of each NAL unit up to and including the first with picture data.

    Picture data cannot be followed by headers of the same access unit, so slices, nearly all of the bytes, are not
    searched; the first slice's end is the end of the data.
    """
    found = data.find(b"\x00\x00\x01")
    while found >= 0 and found + 3 < len(data):
        # A fourth zero in front belongs to this start code (zero_byte), not to the NAL unit before it.
        start = found - 1 if found > 0 and data[found - 1] == 0 else found
        type_ = data[found + 3] & 0x1F
        if _FIRST_VCL <= type_ <= _LAST_VCL:
            yield type_, start, len(data)
            return
        following = data.find(b"\x00\x00\x01", found + 3)
        end = len(data) if following < 0 else following - (data[following - 1] == 0)
        yield type_, start, end
        found = following


@dataclass(frozen=True, slots=True)
class ParameterSets:
    """SPS and PPS as last seen, Annex B; and header NAL units that wait for their picture."""

    sps: bytes = b""
    pps: bytes = b""
    waiting: bytes = b""


@dataclass(frozen=True, slots=True)
class AccessUnit:
    """One picture with everything in front of it; a keyframe is an IDR picture and has SPS and PPS in it."""

    data: bytes
    is_keyframe: bool


def complete_access_unit(sets: ParameterSets, data: bytes) -> tuple[ParameterSets, AccessUnit | None]:
    """What is known after a packet, and the access unit it ends; None for a packet of headers alone.

    A keyframe without SPS or PPS gets the last ones put in front, headers that waited go in front of any picture; both
    behind an access unit delimiter, which must stay first (7.4.1.2.3). Raises EncoderError for a keyframe when none
    were ever seen, and for a packet that is no Annex B.
    """
    units = list(_nal_units(data))
    if not units:
        raise EncoderError("The encoder gave a packet that is no H.264 byte stream; choose the other video.encoder.")
    sps = b"".join(data[start:end] for type_, start, end in units if type_ == _NAL_SPS) or sets.sps
    pps = b"".join(data[start:end] for type_, start, end in units if type_ == _NAL_PPS) or sets.pps
    last_type = units[-1][0]
    if not _FIRST_VCL <= last_type <= _LAST_VCL:
        return ParameterSets(sps, pps, sets.waiting + data), None
    in_front = sets.waiting
    is_keyframe = last_type == _NAL_IDR
    types = {type_ for type_, _, _ in [*_nal_units(sets.waiting), *units]}
    if is_keyframe and not {_NAL_SPS, _NAL_PPS} <= types:
        if not sps or not pps:
            raise EncoderError(
                "The encoder gave a keyframe but never its SPS and PPS, so nothing could be played; "
                "choose the other video.encoder."
            )
        in_front = sps + pps + in_front
    first_type, _, first_end = units[0]
    at = first_end if first_type == _NAL_DELIMITER else 0
    return ParameterSets(sps, pps), AccessUnit(data[:at] + in_front + data[at:], is_keyframe)


class AccessUnits:
    """Joins an encoder's packets to the capture times of the pictures that went in.

    Pictures go in and come out in one order (no B-frames). A picture that the encoder dropped is forgotten when a later
    one comes out.
    """

    def __init__(self) -> None:
        self._sets = ParameterSets()
        self._captured_ns: dict[int, int] = {}

    @property
    def in_flight(self) -> int:
        """How many pictures went in and have not come out."""
        return len(self._captured_ns)

    def picture_in(self, pts: int, captured_ns: int) -> None:
        """A picture was given to the encoder under this pts; pts increase strictly."""
        self._captured_ns[pts] = captured_ns

    def packet_out(self, data: bytes, pts: int | None) -> VideoPacket | None:
        """The packet to pass on, or None for headers alone. Raises EncoderError for a picture that never went in."""
        self._sets, unit = complete_access_unit(self._sets, data)
        if unit is None:
            return None
        captured_ns = self._captured_ns.get(pts) if pts is not None else None
        if captured_ns is None:
            raise EncoderError(
                f"The encoder gave a picture with pts {pts}, which it was not given, so its capture time is not known; "
                "choose the other video.encoder."
            )
        for earlier in [known for known in self._captured_ns if pts is not None and known <= pts]:
            del self._captured_ns[earlier]
        return VideoPacket(unit.data, captured_ns, unit.is_keyframe)
