"""Wall time: is it set, disciplined, and kept while the power is off?"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from agent.clock import NS_PER_S, Clock, WallObservation
from agent.doctor.check import Check, ok, warn

# No device with this software is older; an unset clock starts at 1970 or at the system image's date.
EARLIEST_PLAUSIBLE = datetime(2026, 1, 1, tzinfo=UTC)
RTC_OFF_S = 60


@dataclass(frozen=True, slots=True)
class ClockFacts:
    """The observation, and each real-time clock's name with its time in seconds since 1970, or None if unreadable."""

    wall: WallObservation
    rtcs: tuple[tuple[str, int | None], ...]


def probe_clock(clock: Clock, rtc_folder: Path = Path("/sys/class/rtc")) -> ClockFacts:
    """Both clocks; the RTC through sysfs (Documentation/ABI/testing/sysfs-class-rtc of Linux)."""
    rtcs: list[tuple[str, int | None]] = []
    for rtc in sorted(rtc_folder.glob("rtc*")):
        try:
            name = (rtc / "name").read_text(encoding="ascii").strip()
            rtcs.append((name, int((rtc / "since_epoch").read_text(encoding="ascii"))))
        except (OSError, ValueError):
            rtcs.append((rtc.name, None))
    return ClockFacts(clock.observe(), tuple(rtcs))


def judge_clock(facts: ClockFacts) -> list[Check]:
    """A wrong clock stops no recording, the record says what was known: nothing here is worse than a warning."""
    return [_judge_wall(facts.wall), _judge_rtc(facts)]


def _judge_wall(wall: WallObservation) -> Check:
    moment = datetime.fromtimestamp(wall.utc_ns / NS_PER_S, UTC)
    said = f"It is {moment:%Y-%m-%d %H:%M:%S} UTC"
    advice = "Dock the camera or connect it so that its time service can set the clock; `timedatectl` shows its state."
    if moment < EARLIEST_PLAUSIBLE:
        return warn("clock", f"{said}, which cannot be: the clock was never set.", advice)
    if wall.source == "unsynchronised":
        return warn("clock", f"{said}, but nothing disciplines the clock now.", advice)
    bound = "of unknown uncertainty" if wall.uncertainty_ms is None else f"within {wall.uncertainty_ms} ms"
    said = f"{said}, synchronised ({wall.source}), {bound}"
    if wall.uncertainty_ms is None or wall.uncertainty_ms > 1000:
        return warn("clock", f"{said}.", "Give the time service a minute, or a nearer time server.")
    return ok("clock", f"{said}.")


def _judge_rtc(facts: ClockFacts) -> Check:
    if not facts.rtcs:
        return warn(
            "rtc",
            "There is no real-time clock: after power off the time is unknown until it is set again.",
            "Fit one with a battery (a Pi 5 has one and needs only the battery; others take a DS3231 on I2C).",
        )
    name, seconds = facts.rtcs[0]
    if seconds is None:
        return warn("rtc", f"The real-time clock {name} cannot be read.", "Check its battery and `dmesg`.")
    off_s = abs(facts.wall.utc_ns / NS_PER_S - seconds)
    if off_s > RTC_OFF_S:
        return warn(
            "rtc",
            f"The real-time clock {name} is {off_s:.0f} s away from the system's.",
            "Check its battery; once the clock is synchronised, `hwclock --systohc` sets it.",
        )
    return ok("rtc", f"The real-time clock {name} is with the system's to {max(off_s, 1):.0f} s.")
