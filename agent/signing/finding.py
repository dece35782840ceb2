"""What reading a signed stream can find of a GOP, and of the stream as a whole."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum

from cryptography import x509

from agent.signing.sei import VendorInfo


class GopState(StrEnum):
    """valid: all of it is signed and in its place. missing: what is there is signed, but parts are gone.

    invalid: it is not what was signed, or not where it was signed to be. unsigned: no signature vouches for it although
    one should be there. uncovered: its SEI came and has no signature, as when a signer fails, and no later signature
    covers it. pending: the stream ends before its signature could come; only at the end of a stream.
    """

    VALID = "valid"
    MISSING = "missing"
    INVALID = "invalid"
    UNSIGNED = "unsigned"
    UNCOVERED = "uncovered"
    PENDING = "pending"


BAD_STATES = frozenset({GopState.MISSING, GopState.INVALID, GopState.UNSIGNED, GopState.UNCOVERED})


@dataclass(frozen=True, slots=True)
class GopFinding:
    """One GOP. number: in the stream, from 1. start_s: media time of its first picture, None when there is none.

    reason: a full sentence; empty when valid.
    """

    number: int
    start_s: float | None
    frames: int
    state: GopState
    reason: str = ""


@dataclass(slots=True)
class StreamReport:
    """A whole stream, in memory that does not grow with it.

    chain: as the stream carries it, device first, without the root; whether it is to be trusted is for the caller to
    say. first_utc_ns, last_utc_ns: what the camera believed when the valid part began and ended. seis: SEIs of the
    specification that were met, good or bad; 0 says that the stream was never signed, or stripped of all of them.
    """

    counts: Counter[GopState] = field(default_factory=Counter)
    frames: Counter[GopState] = field(default_factory=Counter)
    first_bad: GopFinding | None = None
    chain: tuple[x509.Certificate, ...] = ()
    vendor: VendorInfo | None = None
    first_utc_ns: int | None = None
    last_utc_ns: int | None = None
    seis: int = 0

    @property
    def gops(self) -> int:
        """All of them."""
        return self.counts.total()

    @property
    def is_valid(self) -> bool:
        """Something was vouched for and nothing is wrong. The end may be pending: another record has to cover it."""
        return self.first_bad is None and self.counts[GopState.VALID] > 0

    def add(self, finding: GopFinding) -> None:
        """Count one more GOP, in order."""
        self.counts[finding.state] += 1
        self.frames[finding.state] += finding.frames
        if self.first_bad is None and finding.state in BAD_STATES:
            self.first_bad = finding
