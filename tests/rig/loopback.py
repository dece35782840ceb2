"""A sound card without hardware: what is played into one end of the kernel's snd-aloop is heard at the other."""

from __future__ import annotations

import io
import re
import wave

from agent.capture.scene import Tone
from agent.clock import NS_PER_S
from tests.rig.machine import Machine

RATE_HZ = 8_000
DEVICE = "plughw:Loopback,1"
"""For [audio] device: what is played into device 0 is heard here."""
TONE_S = 60
_TONE = "/run/rig/tone.wav"
_DRIVER = "/sys/bus/platform/drivers/snd_aloop"
_PLAY = f"chrt -f 10 aplay -q -D plughw:Loopback,0 --buffer-time=2000000 {_TONE}"
_HEARD = "/proc/asound/Loopback/pcm1c/sub0/status"
_SOUNDED = "/proc/asound/Loopback/pcm0p/sub0/status"


class Loopback:
    """The microphone on a machine, with `agent.capture.scene.Tone` in front of it, over and over."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        samples = Tone(RATE_HZ, 1).samples(0, TONE_S * RATE_HZ)[0]
        with io.BytesIO() as file:
            with wave.open(file, "wb") as tone:
                tone.setnchannels(1)
                tone.setsampwidth(2)
                tone.setframerate(RATE_HZ)
                tone.writeframes((samples * 32767).astype("<i2").tobytes())
            machine.put(file.getvalue(), _TONE)
        machine.run("modprobe snd-aloop")
        # What sounds in the world does not wait for a busy processor; but nobody plays to a card that is away.
        machine.run(
            "systemd-run --quiet --unit=rig-tone"
            f" sh -c 'while sleep 1; do [ ! -e {_DRIVER}/snd_aloop.0 ] || {_PLAY}; done'"
        )

    def began_ns(self) -> int:
        """Since when the tone sounds, by the boot clock, without a break."""
        status = self._machine.run(f"until grep -q RUNNING {_SOUNDED}; do sleep 0.1; done; cat {_SOUNDED}")
        found = re.search(r"trigger_time: (\d+)\.(\d{9})", status)
        assert found, status
        # ALSA's time is CLOCK_MONOTONIC, which in a machine that never sleeps is the boot clock.
        return int(found[1]) * NS_PER_S + int(found[2])

    def backlog_ns(self) -> int:
        """The most sound that has waited for the daemon to read it since this was asked last, by the kernel's count."""
        found = re.search(r"avail_max *: (\d+)", self._machine.run(f"cat {_HEARD}"))
        assert found
        return int(found[1]) * NS_PER_S // RATE_HZ

    def unplug(self) -> int:
        """Take the card away; returns when (boot time, to 10 ms)."""
        # The kernel waits here until everybody has closed the card.
        return uptime_ns(self._machine, f"echo snd_aloop.0 >{_DRIVER}/unbind")

    def plug(self) -> int:
        """Put it back; returns when."""
        return uptime_ns(self._machine, f"echo snd_aloop.0 >{_DRIVER}/bind")


def uptime_ns(machine: Machine, shell: str) -> int:
    """Run a command in the guest; returns when it began, without the time that a shell takes to start."""
    seconds = machine.run(f"read -r now _ </proc/uptime; {shell} && echo $now").split()[-1]
    return round(float(seconds) * NS_PER_S)
