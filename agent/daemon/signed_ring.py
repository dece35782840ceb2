"""What stands between encoder and ring: the stream is signed on its way in, as soon as there is a key to sign with."""

from __future__ import annotations

from collections.abc import Callable

from agent.daemon.signing_watch import SigningWatch
from agent.media.packets import VideoPacket
from agent.ring.ring import PacketRing
from agent.signing.signer import StreamSigner


class SignedRing:
    """The video side of one ring, with a signer of its own. Used from one thread."""

    def __init__(self, ring: PacketRing, open_signer: Callable[[], StreamSigner | None], watch: SigningWatch) -> None:
        """open_signer: None while there is no key, as long as the card is not in; asked again with each keyframe.

        watch: is told how many GOPs still waited at the end; what became of the others it hears from the signer.
        """
        self._ring = ring
        self._watch = watch
        self._open_signer = open_signer
        self._signer: StreamSigner | None = None

    def push_video(self, packet: VideoPacket) -> None:
        """Sign and append. Never waits for a signature. Raises EncoderError for what cannot be signed."""
        if self._signer is None and packet.is_keyframe:
            self._signer = self._open_signer()
        self._ring.push_video(packet if self._signer is None else self._signer.push(packet))

    def close(self) -> None:
        """End the signer without waiting for it; may be called twice."""
        signer, self._signer = self._signer, None
        if signer is not None:
            signer.close()
            status = signer.status
            self._watch.session_ended(status.gops - status.signed_gops - status.unsigned_gops)
