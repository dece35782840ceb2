"""The signer of one stream, with the device key and what the camera says of itself."""

from __future__ import annotations

from collections.abc import Callable

from agent import __version__
from agent.clock import Clock
from agent.settings.schema import Settings
from agent.signing.desk import SigningDesk
from agent.signing.sei import SeiError, VendorInfo
from agent.signing.signer import StreamSigner
from agent.trust.signer import Signer

COMPONENT = "stream-signer"


def open_stream_signer(
    settings: Settings,
    clock: Clock,
    signer: Signer | None,
    note_fault: Callable[[str, str | None], None],
    desk: SigningDesk | None = None,
) -> StreamSigner | None:
    """A signer for a new stream, None without a key or with a chain that does not fit a stream, which is told.

    signer: should have a time limit below `video.gop_ms`, so that a GOP it fails at says so within the next one.
    note_fault(component, message): message None when it is over.
    """
    if signer is None:
        return None
    # The issuer as manufacturer: who to ask for the root, which is what the specification has that name for.
    vendor = VendorInfo(f"bodycam-agent {__version__}", settings.device.id, signer.certificate.issuer.rfc4514_string())
    try:
        return StreamSigner(signer, clock, vendor, desk=desk, on_fault=lambda message: note_fault(COMPONENT, message))
    except SeiError as error:
        note_fault(COMPONENT, f"The video is not signed in itself: {error}")
        return None
