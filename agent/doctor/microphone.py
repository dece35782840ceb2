"""The microphone: does it give samples, at the rate that was asked for, and are they more than zeros?"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from agent.capture.microphone import Microphone
from agent.clock import Clock
from agent.doctor.check import Check, fail, failed_with, ok, skipped, warn, within
from agent.errors import BodycamError
from agent.media.packets import AudioFormat
from agent.settings.schema import AudioSettings, Settings

LISTEN_S = 0.5
TIMEOUT_S = 10
CLIPPED = 0.999


@dataclass(frozen=True, slots=True)
class MicrophoneFacts:
    """Half a second of sound. peak: the largest magnitude, 1 being full scale."""

    name: str
    format: AudioFormat
    peak: float


# None: these settings have no microphone, or the file that plays the camera has no sound.
MicrophoneOpener = Callable[[Settings, Clock], Microphone | None]


def open_microphone(settings: Settings, clock: Clock) -> Microphone | None:
    """The microphone as the daemon opens it; a camera's sound needs the camera, though not its pictures."""
    from agent.capture.factory import open_camera
    from agent.capture.factory import open_microphone as opener

    return opener(settings, clock, open_camera(settings.camera, clock))


def probe_microphone(
    settings: Settings, clock: Clock, opener: MicrophoneOpener = open_microphone
) -> MicrophoneFacts | None:
    """Listen for half a second; nothing is kept. None when there is no microphone to listen to.

    Raises MicrophoneError, ConfigError for a camera that cannot give sound, TimeoutError when none comes.
    """

    def session() -> MicrophoneFacts | None:
        microphone = opener(settings, clock)
        if microphone is None:
            return None
        try:
            audio_format = microphone.open()
            samples, peak = 0, 0.0
            while samples < LISTEN_S * audio_format.sample_rate_hz:
                chunk = microphone.read().samples
                samples += chunk.shape[1]
                peak = max(peak, float(abs(chunk).max(initial=0.0)))
            return MicrophoneFacts(microphone.name, audio_format, peak)
        finally:
            microphone.close()

    return within(TIMEOUT_S, session)


def judge_microphone(facts: MicrophoneFacts, settings: AudioSettings) -> Check:
    """Against what was asked for. Exact zeros are no quiet room but a muted or missing microphone."""
    given = facts.format
    said = f"{facts.name} gives {given.sample_rate_hz} Hz, {given.channels} channel(s)"
    if facts.peak == 0:
        return warn("microphone", f"{said}, all of it zeros.", "Unmute it (`alsamixer`), or plug the microphone in.")
    said = f"{said}, peak {20 * math.log10(facts.peak):.0f} dB of full scale"
    if (given.sample_rate_hz, given.channels) != (settings.sample_rate_hz, settings.channels):
        return warn(
            "microphone",
            f"{said}; {settings.sample_rate_hz} Hz and {settings.channels} channel(s) were asked for.",
            'Set [audio] to what it gives, or put "plughw:" for "hw:" in audio.device to have it converted.',
        )
    if facts.peak >= CLIPPED:
        return warn("microphone", f"{said}: it clips.", "Lower its gain (`alsamixer`, Capture).")
    return ok("microphone", f"{said}.")


def check_microphone(settings: Settings, clock: Clock, opener: MicrophoneOpener = open_microphone) -> Check:
    """The microphone's check."""
    if settings.audio.source == "none":
        return skipped("microphone", 'audio.source is "none": recordings will have no sound.')
    try:
        facts = probe_microphone(settings, clock, opener)
    except BodycamError as error:
        return failed_with("microphone", error, "Set audio.device to one that `arecord -L` lists.")
    except TimeoutError as error:
        return fail("microphone", f"The microphone hangs: {error}.", "Unplug it and plug it in again, or reboot.")
    if facts is None:
        found = f"The {settings.camera.backend} camera carries no sound: recordings will have none."
        to_do = 'Set audio.source = "none" and buffer.audio = false if that is meant, else audio.source = "alsa".'
        return warn("microphone", found, to_do)
    return judge_microphone(facts, settings.audio)
