"""What trusted time says of one recording: an interval that is proved, and an estimate inside it that is not.

Not before: the records of the recording were written after a token's record, whose content nobody could know earlier.
Existed by: a later token is over the hash of a record behind the recording's end. What lies between is ordered by the
chain. Frames of the pre-event buffer were captured before the first record, by the camera's own account.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from agent.clock import NS_PER_MS, NS_PER_S

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Crystals drift by 20 to 50 parts in a million, and the kernel may slew CLOCK_BOOTTIME by 500 while it sets the clock.
UNSTEADY_PPM = 600


def utc_ns(moment: datetime) -> int:
    """Nanoseconds since 1970; exact, as datetime knows microseconds."""
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1000


def utc_json(ns: int | None) -> str | None:
    """RFC 3339 with milliseconds, or None."""
    if ns is None:
        return None
    return (_EPOCH + timedelta(microseconds=ns // 1000)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def utc_text(ns: int | None) -> str:
    """For sentences; to the millisecond, so that a bound is not said to be tighter than it is."""
    return (
        "unknown"
        if ns is None
        else f"{_EPOCH + timedelta(microseconds=ns // 1000):%Y-%m-%d %H:%M:%S}.{ns // 1_000_000 % 1000:03d} UTC"
    )


_CALENDAR = tuple(utc_ns(moment.replace(tzinfo=UTC)) for moment in (datetime.min, datetime.max))


@dataclass(frozen=True, slots=True)
class Anchor:
    """A token that counts. seq: its record; head_seq: the record it is over. earliest_ns, latest_ns: UTC between which
    it was made; the camera asked at requested_boottime_ns and had it at boottime_ns, so it was made between those.
    """

    seq: int
    head_seq: int
    gen_time: datetime
    authority: str
    earliest_ns: int
    latest_ns: int
    boot_id: str
    requested_boottime_ns: int
    boottime_ns: int

    @property
    def offset_ns(self) -> tuple[int, int]:
        """UTC minus boot clock at that time: middle, and how far off it can be."""
        low, high = self.earliest_ns - self.boottime_ns, self.latest_ns - self.requested_boottime_ns
        return (low + high) // 2, (high - low) // 2

    @property
    def middle_boottime_ns(self) -> int:
        """Between asking and having."""
        return (self.requested_boottime_ns + self.boottime_ns) // 2

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "record": self.seq,
            "covers_up_to_record": self.head_seq,
            "gen_time": utc_json(utc_ns(self.gen_time)),
            "authority": self.authority,
        }


@dataclass(frozen=True, slots=True)
class Estimate:
    """When media time 0 was captured, from tokens and the boot clock; an estimate, and no proof.

    basis: "fitted" between two tokens of its boot, or "extrapolated" from one.
    """

    start_utc_ns: int
    uncertainty_ms: int
    basis: str

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "start_utc_estimated": utc_json(self.start_utc_ns),
            "uncertainty_ms": self.uncertainty_ms,
            "basis": self.basis,
        }


@dataclass(frozen=True, slots=True)
class Interval:
    """before, after: the tokens around the recording, None where there is none. checked: under roots that the examiner
    gave. clock_source, clock_uncertainty_ms: what the camera said of its own clock when the recording began.
    """

    before: Anchor | None
    after: Anchor | None
    checked: bool
    estimate: Estimate | None
    clock_source: str
    clock_uncertainty_ms: int | None

    @property
    def not_before_ns(self) -> int | None:
        """Its records were not written before this moment, UTC."""
        return self.before.earliest_ns if self.before else None

    @property
    def existed_by_ns(self) -> int | None:
        """All of it existed at this moment, UTC."""
        return self.after.latest_ns if self.after else None

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "not_before": utc_json(self.not_before_ns),
            "existed_by": utc_json(self.existed_by_ns),
            "authority_checked": self.checked,
            "token_before": self.before.to_json() if self.before else None,
            "token_after": self.after.to_json() if self.after else None,
            "estimate": self.estimate.to_json() if self.estimate else None,
            "clock_source": self.clock_source,
            "clock_uncertainty_ms": self.clock_uncertainty_ms,
        }


def estimate(before: Anchor | None, after: Anchor | None, boot_id: str, boottime_ns: int) -> Estimate | None:
    """UTC at a moment of a boot's clock, as far as tokens of that boot say; None when there is none."""
    left, right = (anchor if anchor and anchor.boot_id == boot_id else None for anchor in (before, after))
    if left and right and right.middle_boottime_ns > left.middle_boottime_ns:
        begin, span = left.middle_boottime_ns, right.middle_boottime_ns - left.middle_boottime_ns
        (offset_left, half_left), (offset_right, half_right) = left.offset_ns, right.offset_ns
        # A pre-event may begin before the token: the line is not drawn beyond its ends, where it would lever errors.
        share_ns = min(max(boottime_ns - begin, 0), span)
        offset = offset_left + (offset_right - offset_left) * share_ns // span
        half = max(half_left, half_right) + _unsteady_ns(boottime_ns - begin - share_ns)
        return _estimate(boottime_ns + offset, half, "fitted")
    one = left or right
    if one is None:
        return None
    offset, half = one.offset_ns
    half += _unsteady_ns(boottime_ns - one.middle_boottime_ns)
    return _estimate(boottime_ns + offset, half, "extrapolated")


def _estimate(start_ns: int, half_ns: int, basis: str) -> Estimate | None:
    if not _CALENDAR[0] <= start_ns <= _CALENDAR[1]:
        return None  # boot clocks are claims, and may be off by centuries
    return Estimate(start_ns, -(-half_ns // NS_PER_MS), basis)


def _unsteady_ns(distance_ns: int) -> int:
    return abs(distance_ns) * UNSTEADY_PPM // 1_000_000


def rate_error_ns(earlier: Anchor, later: Anchor) -> int:
    """By how much the boot clock ran off against the authority between two tokens of one boot, beyond what clocks do.

    Positive: the authority's time went on further. 0 when both agree within their uncertainties.
    """
    (offset, half), (later_offset, later_half) = earlier.offset_ns, later.offset_ns
    allowed = half + later_half + _unsteady_ns(later.middle_boottime_ns - earlier.middle_boottime_ns)
    moved = later_offset - offset
    return 0 if abs(moved) <= allowed else moved


def outside_ns(
    claimed_ns: int, uncertainty_ms: int | None, not_before_ns: int | None, existed_by_ns: int | None
) -> int:
    """How far a claimed time lies outside an interval, beyond its own uncertainty: negative before it, 0 inside."""
    slack_ns = (uncertainty_ms or 0) * NS_PER_MS
    if not_before_ns is not None and claimed_ns < not_before_ns - slack_ns:
        return claimed_ns - not_before_ns
    if existed_by_ns is not None and claimed_ns > existed_by_ns + slack_ns:
        return claimed_ns - existed_by_ns
    return 0


def seconds(ns: int) -> str:
    """For sentences: "+3.2 s"."""
    return f"{ns / NS_PER_S:+.1f} s"
