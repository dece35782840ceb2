"""Conversions between boot-clock nanoseconds and track units."""

from __future__ import annotations

VIDEO_TIMESCALE_90K = 90_000


def ns_to_90k(delta_ns: int) -> int:
    """Nanoseconds to 90 kHz ticks (the usual video timescale, ISO/IEC 13818-1), rounded to nearest."""
    return (delta_ns * 9 + 50_000) // 100_000


def ns_to_samples(delta_ns: int, sample_rate_hz: int) -> int:
    """Nanoseconds to audio samples, rounded to nearest."""
    return (delta_ns * sample_rate_hz + 500_000_000) // 1_000_000_000


def samples_to_ns(samples: int, sample_rate_hz: int) -> int:
    """Audio samples to nanoseconds, rounded to nearest."""
    return (samples * 1_000_000_000 + sample_rate_hz // 2) // sample_rate_hz
