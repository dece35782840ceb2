"""What a recording writes, by the configured bitrates."""

from __future__ import annotations

from agent.settings.schema import Settings


def recording_bytes_per_s(settings: Settings) -> int:
    """Picture and sound together, without container, encryption and records, which add 1 to 5 %."""
    audio_bps = 0 if settings.audio.source == "none" else settings.audio.bitrate_bps
    return (settings.video.bitrate_bps + audio_bps) // 8
