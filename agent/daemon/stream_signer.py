"""The signer of one stream, with the device key and what the camera says of itself."""

from __future__ import annotations

from agent import __version__
from agent.clock import Clock
from agent.daemon.signing_watch import SigningWatch
from agent.settings.schema import Settings
from agent.signing.desk import SigningDesk
from agent.signing.sei import SeiError, VendorInfo
from agent.signing.signer import StreamSigner
from agent.trust.signer import Signer


def open_stream_signer(
    settings: Settings,
    clock: Clock,
    signer: Signer | None,
    watch: SigningWatch,
    desk: SigningDesk | None = None,
) -> StreamSigner | None:
    """A signer for a new stream, None without a key or with a chain that does not fit a stream, which is told.

    signer: has a time limit of at most `video.gop_ms`, as the configuration sees to, so that a GOP it fails at says so
    within the next one. watch: is told of every GOP that is signed or not.
    """
    if signer is None:
        return None
    # The issuer as manufacturer: who to ask for the root, which is what the specification has that name for.
    vendor = VendorInfo(f"bodycam-agent {__version__}", settings.device.id, signer.certificate.issuer.rfc4514_string())
    try:
        return StreamSigner(signer, clock, vendor, desk=desk, on_answer=watch.answered)
    except SeiError as error:
        watch.answered(str(error))  # asked again with each keyframe, so once a GOP
        return None
