"""Signs a stream on its way from the encoder to the ring, GOP by GOP, and holds up no picture for it.

ONVIF Media Signing Specification 26.06. A GOP's signature stands in front of a later picture ("How to add a generated
SEI to a video stream in a device"); a GOP whose signature fails gets its SEI without one, which a later GOP's signature
covers ("Signing multiple GOPs"). A recording may begin at any keyframe, so two choices are made for readers that begin
there, ONVIF's own validator (r25.12.3) first of all:
- each SEI has the certificate chain in it, and there is no certificate SEI: behind one, the validator takes the first
  signature it meets for the first GOP it sees, and calls a stream that was cut invalid;
- no SEI stands in front of an IDR picture: as the first thing in a file it would be judged without any picture.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

from agent.clock import Clock
from agent.errors import EncoderError
from agent.media.packets import VideoPacket
from agent.signing.desk import SigningDesk, ThreadDesk, Ticket
from agent.signing.gop import HASH_BYTES, MAX_NAL_UNITS, GopHashes
from agent.signing.nal import IDR_SLICE, NON_IDR_SLICE, NalError, NalUnit, is_first_slice, split_byte_stream
from agent.signing.sei import (
    MAX_CERTIFICATES,
    MAX_LISTED_HASHES,
    GopStatement,
    SeiDraft,
    SeiError,
    VendorInfo,
    identity_tlvs,
    statement_tlvs,
)
from agent.trust.certificates import pem
from agent.trust.signer import Signer

MAX_WAITING_GOPS = 4
"""GOPs whose signature is awaited at once; when a further one ends, the oldest is given up as unsigned."""

# The list names which picture was changed; the GOP hash alone says that one was. Where many slices make it large it is
# left out, so that signing stays within 0.5 % of the bit rate (certificate and GOP hash need 0.2 % at 6 Mbit/s).
_ALWAYS_LISTED_HASHES = 64
_LIST_PER_MILLE = 3


@dataclass(frozen=True, slots=True)
class SigningStatus:
    """How far signing has come. unsigned_gops: those whose SEI went out without a signature of its own.

    unsigned_in_a_row: such GOPs since the last signature; nothing covers them yet. last_refusal: why the last one was.
    """

    gops: int = 0
    signed_gops: int = 0
    unsigned_gops: int = 0
    unsigned_in_a_row: int = 0
    last_refusal: str | None = None


@dataclass(slots=True)
class _Gop:
    hashes: GopHashes
    start_utc_ns: int
    payload_bytes: int = 0
    pictures: int = 0


@dataclass(frozen=True, slots=True)
class _Waiting:
    draft: SeiDraft
    ticket: Ticket


class StreamSigner:
    """For one stream: one session of one camera with one encoder. `push` is used from one thread."""

    def __init__(
        self,
        signer: Signer,
        clock: Clock,
        vendor: VendorInfo,
        *,
        desk: SigningDesk | None = None,
        on_answer: Callable[[str | None], None] | None = None,
    ) -> None:
        """desk: where the signatures are made; by default a worker thread of its own.

        on_answer(None): a GOP has its signature; on_answer(why): it has none. Called by `push`, once a GOP; must not
        block. Raises SeiError when the certificate chain is longer than the specification's readers take.
        """
        chain = signer.chain
        if len(chain) > MAX_CERTIFICATES:
            raise SeiError(f"The device's chain has {len(chain)} certificates; a stream can carry {MAX_CERTIFICATES}.")
        self._clock = clock
        self._desk = desk or ThreadDesk(signer)
        self._on_answer = on_answer
        self._identity = identity_tlvs(pem(chain), vendor)
        self._gop: _Gop | None = None
        self._waiting: deque[_Waiting] = deque()
        self._counter = 0
        self._linked_hash = bytes(HASH_BYTES)
        self._status = SigningStatus()

    @property
    def status(self) -> SigningStatus:
        """As of the last `push`."""
        return self._status

    def push(self, packet: VideoPacket) -> VideoPacket:
        """The packet, with the SEIs in front of its slices that are ready by now. Never waits for a signature.

        Raises EncoderError for a packet that is no Annex B, or when no keyframe comes for 65535 slices.
        """
        try:
            units = split_byte_stream(packet.data)
        except NalError as error:
            raise EncoderError(
                f"The encoder gave a packet that cannot be signed ({error}); choose the other video.encoder."
            ) from error
        slices = [unit for unit in units if unit.type in (NON_IDR_SLICE, IDR_SLICE)]
        if not slices:
            return packet
        opens_gop = slices[0].type == IDR_SLICE and is_first_slice(packet.data, slices[0])
        # Of GOPs with one picture only, every picture is an IDR picture: then there is no better place.
        ready = self._answers() if not opens_gop or self._only_keyframes() else []
        if opens_gop:
            self._open_gop(packet.pts_ns)
        if self._gop is None:
            return packet  # nothing can be decoded before the first keyframe; the ring drops it
        self._hash(self._gop, packet.data, slices)
        return replace(packet, data=put_in_front(packet.data, slices[0], ready)) if ready else packet

    def close(self) -> None:
        """End the desk. What is not signed yet stays pending in the stream; the journal covers it."""
        self._desk.close()

    def _only_keyframes(self) -> bool:
        return self._gop is not None and self._gop.pictures == 1

    def _open_gop(self, pts_ns: int) -> None:
        utc_ns = pts_ns + self._clock.utc_ns() - self._clock.boottime_ns()
        if self._gop is not None:
            self._close_gop(self._gop, utc_ns)
        self._gop = _Gop(GopHashes(), utc_ns)

    def _close_gop(self, gop: _Gop, end_utc_ns: int) -> None:
        hashes = gop.hashes
        statement = GopStatement(
            self._counter, gop.start_utc_ns, end_utc_ns, len(hashes), hashes.gop_hash, self._linked_hash
        )
        listed = hashes.listed if _worth_listing(len(hashes), gop.payload_bytes) else b""
        draft = SeiDraft(self._identity + statement_tlvs(statement, listed))
        self._waiting.append(_Waiting(draft, self._desk.ask(draft.document)))
        self._linked_hash = hashes.first
        self._counter = (self._counter + 1) & 0xFFFFFFFF
        self._status = replace(self._status, gops=self._status.gops + 1)
        for overdue in list(self._waiting)[:-MAX_WAITING_GOPS]:
            overdue.ticket.refuse(
                f"The signer has not answered for {MAX_WAITING_GOPS} GOPs; the stream goes on unsigned."
            )

    def _answers(self) -> list[bytes]:
        """The SEIs that are ready, in the order of their GOPs, which is the order they must have in the stream."""
        ready: list[bytes] = []
        while self._waiting and self._waiting[0].ticket.answered:
            waiting = self._waiting.popleft()
            signature = waiting.ticket.signature
            if signature is not None:
                ready.append(waiting.draft.signed(signature))
            else:
                ready.append(waiting.draft.unsigned())
                if self._gop is not None:
                    self._gop.hashes.add_unsigned_sei(ready[-1])
            self._count(waiting.ticket.refusal)
        return ready

    def _count(self, refusal: str | None) -> None:
        status = self._status
        if refusal is None:
            self._status = replace(status, signed_gops=status.signed_gops + 1, unsigned_in_a_row=0, last_refusal=None)
        else:
            self._status = replace(
                status,
                unsigned_gops=status.unsigned_gops + 1,
                unsigned_in_a_row=status.unsigned_in_a_row + 1,
                last_refusal=refusal,
            )
        if self._on_answer is not None:
            self._on_answer(refusal)

    def _hash(self, gop: _Gop, data: bytes, slices: list[NalUnit]) -> None:
        if len(gop.hashes) + len(slices) + MAX_WAITING_GOPS > MAX_NAL_UNITS:
            raise EncoderError(
                f"The encoder gave {len(gop.hashes)} slices without a keyframe; choose the other video.encoder."
            )
        view = memoryview(data)
        for unit in slices:
            gop.hashes.add_slice(view[unit.start : unit.end])
        gop.payload_bytes += len(data)
        gop.pictures += is_first_slice(data, slices[0])


def put_in_front(data: bytes, unit: NalUnit, added: list[bytes]) -> bytes:
    """The access unit with further NAL units in front of one of its own.

    They take over that one's start code: with a zero more behind a PPS, libavformat makes that zero part of the PPS, so
    that GOPs with and without a SEI would ask for different `moov` boxes.
    """
    start_code = data[unit.prefix : unit.start]
    return data[: unit.prefix] + b"".join(start_code + nal for nal in added) + data[unit.prefix :]


def _worth_listing(hashes: int, gop_bytes: int) -> bool:
    if hashes > MAX_LISTED_HASHES:
        return False
    return hashes <= _ALWAYS_LISTED_HASHES or hashes * HASH_BYTES * 1000 <= gop_bytes * _LIST_PER_MILLE
