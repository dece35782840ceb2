"""The fault light: what it shows, on which pins, and how it and the agent hand the lights to each other.

There is no GPIO chip here: the kernel's answers are played, and structures compared with <linux/gpio.h> as the compiler
sees it. On a real chip it is tried in the virtual device.
"""

from __future__ import annotations

import fcntl
import os
import runpy
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.clock import NS_PER_S, SimulatedClock, SystemClock
from agent.controller.signals import Cue, Indication
from agent.panel.fault_light import PATIENCE_MS, PanelLock
from agent.panel.patterns import Channel, load_patterns
from agent.settings.schema import GpioSettings, PanelSettings
from tests.unit.systemd.conftest import ROOT

SCRIPT = ROOT / "systemd/fault-light"
LIMIT_S = 20.0


@pytest.fixture
def light() -> dict[str, Any]:
    """What the script defines."""
    return runpy.run_path(str(SCRIPT))


def test_without_a_configuration_its_pins_are_the_agents_defaults(light: dict[str, Any], tmp_path: Path) -> None:
    gpio = light["read_gpio"](tmp_path / "absent.toml")
    assert {key: value if isinstance(value, int) else tuple(value) for key, value in gpio.items()} == {
        key: getattr(GpioSettings(), key) for key in gpio
    }


@pytest.mark.parametrize(
    ("text", "red", "buzzer"),
    [
        ("[gpio]\nled_red_pin = 5\nbuzzer_pin = -1\n", 5, -1),
        ('extends = "base.toml"\n', 7, 8),
        ('extends = "base.toml"\n[gpio]\nled_red_pin = 5\n', 5, 8),
        ('extends = "absent.toml"\n[gpio]\nled_red_pin = 5\n', 5, 25),
        ("[gpio]\nled_red_pin = 500\nbuzzer_pin = true\n", 22, 25),
        ("[gpio\n", 22, 25),
        ("gpio = 3\nextends = 4\n", 22, 25),
        ("\x00\xff", 22, 25),
    ],
)
def test_a_configuration_counts_as_far_as_it_makes_sense(
    light: dict[str, Any], tmp_path: Path, text: str, red: int, buzzer: int
) -> None:
    (tmp_path / "base.toml").write_text("[gpio]\nled_red_pin = 7\nbuzzer_pin = 8\n")
    (tmp_path / "bodycam.toml").write_bytes(text.encode("latin-1"))
    gpio = light["read_gpio"](tmp_path / "bodycam.toml")
    assert (gpio["led_red_pin"], gpio["buzzer_pin"]) == (red, buzzer)


def test_it_shows_what_the_agent_would(light: dict[str, Any]) -> None:
    """The agent's own fault pattern and alarm, sampled; the alarm begins with the fifth second."""
    patterns = load_patterns(PanelSettings())
    fault, alarm = patterns.lights[Indication.FAULT], patterns.cues[Cue.FAULT]
    gpio = light["read_gpio"](Path("/nonexistent"))
    pins = {Channel.RED: 22, Channel.GREEN: 23, Channel.BLUE: 24}
    amber = {pins[channel] for channel in fault.on_channels(frozenset(Channel))}
    for step in range(600):
        since_s = step / 20 + 0.01
        shown = light["lit"](since_s, gpio)
        assert shown & {22, 23, 24} == (amber if fault.lit(int(since_s * NS_PER_S)) else set()), since_s
        sounds = since_s >= 5 and alarm.sound.active(int((since_s - 5) % PanelSettings().fault_repeat_s * NS_PER_S))
        assert shown & {25, 27} == ({25, 27} if sounds else set()), since_s


@pytest.mark.parametrize(
    ("fitted", "shown"),
    [
        ({}, [22, 23]),
        ({"led_green_pin": -1}, [22]),
        ({"led_red_pin": -1, "led_green_pin": -1}, [24]),
        ({"led_red_pin": -1, "led_green_pin": -1, "led_blue_pin": -1}, []),
    ],
)
def test_without_amber_any_light_will_do(light: dict[str, Any], fitted: dict[str, int], shown: list[int]) -> None:
    assert light["lights"](light["DEFAULT"] | fitted) == shown


@pytest.mark.skipif(
    shutil.which("cc") is None or not Path("/usr/include/linux/gpio.h").exists(), reason="no compiler or header here"
)
def test_numbers_and_structures_are_the_kernels(light: dict[str, Any], tmp_path: Path) -> None:
    request = light["request"]([22, 23])
    values = light["levels"]([22, 23, 25], {22, 25})
    (tmp_path / "check.c").write_text(f"""
        #include <linux/gpio.h>
        #include <stdio.h>
        #include <string.h>
        int main(void) {{
            unsigned char bytes[] = {{{",".join(map(str, request))}}};
            unsigned char set[] = {{{",".join(map(str, values))}}};
            struct gpio_v2_line_request r; struct gpio_v2_line_values v;
            if (sizeof r != sizeof bytes || sizeof v != sizeof set) return 1;
            memcpy(&r, bytes, sizeof r); memcpy(&v, set, sizeof v);
            printf("%u %u %u %s %llu %u %u %d %llu %llu %zu %lu %lu %lu\\n", r.offsets[0], r.offsets[1], r.num_lines,
                r.consumer, (unsigned long long)r.config.flags, r.config.num_attrs, r.event_buffer_size, r.fd,
                (unsigned long long)v.bits, (unsigned long long)v.mask, sizeof(struct gpiochip_info),
                (unsigned long)GPIO_V2_GET_LINE_IOCTL, (unsigned long)GPIO_V2_LINE_SET_VALUES_IOCTL,
                (unsigned long)GPIO_GET_CHIPINFO_IOCTL);
            return 0;
        }}""")
    subprocess.run(["cc", "-o", tmp_path / "check", tmp_path / "check.c"], check=True)
    said = subprocess.run([tmp_path / "check"], capture_output=True, text=True, check=True).stdout.split()
    numbers = [light[name] for name in ("INFO_BYTES", "GET_LINE", "SET_VALUES", "GET_CHIPINFO")]
    assert said == ["22", "23", "2", "bodycam-fault", "8", "0", "0", "-1", "5", "7", *map(str, numbers)]


# Against a kernel that is played, as a process of its own

PLAYED = """
import fcntl, os, runpy, struct, sys
from pathlib import Path
folder = Path(sys.argv[1])
script = runpy.run_path(sys.argv[2])
real = fcntl.ioctl
def ioctl(descriptor, request, argument=0):
    if request == script["GET_CHIPINFO"]:
        argument[32:64] = b"pinctrl-rp1".ljust(32, b"\\0")
    elif request == script["GET_LINE"]:
        if (folder / "busy").exists():
            raise OSError(16, "Device or resource busy")
        argument[-4:] = struct.pack("=i", os.open(folder / "lines", os.O_RDWR | os.O_CREAT))
        (folder / "claimed").touch()
    elif request == script["SET_VALUES"]:
        bits, mask = struct.unpack("=QQ", argument)
        with (folder / "seen").open("a") as seen:
            seen.write(f"{bits:x} {mask:x}\\n")
fcntl.ioctl = ioctl
main = script["main"]
main.__globals__["LOCK"] = folder / "lock"
main.__globals__["CONFIG"] = folder / "bodycam.toml"
opened = script["open_chip"]
main.__globals__["open_chip"] = lambda labels: opened(labels, folder / "dev")
sys.exit(main())
"""


class Played:
    """Fault lights on a played kernel."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: list[subprocess.Popen[str]] = []
        (folder / "dev").mkdir()
        (folder / "dev/gpiochip0").touch()

    def start(self) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", PLAYED, self.folder, SCRIPT], stderr=subprocess.PIPE, text=True
        )
        self.running.append(process)
        return process

    def wait_claimed(self, process: subprocess.Popen[str]) -> None:
        limit_s = LIMIT_S
        while not (self.folder / "seen").exists():
            assert process.poll() is None, process.communicate()[1]
            limit_s -= 0.01
            assert limit_s > 0
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.01)

    def seen(self) -> list[str]:
        return (self.folder / "seen").read_text().splitlines()


@pytest.fixture
def played(tmp_path: Path) -> Iterator[Played]:
    made = Played(tmp_path)
    yield made
    for process in made.running:
        process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()


def test_it_shines_until_it_is_told_to_end_and_leaves_it_dark(played: Played) -> None:
    process = played.start()
    played.wait_claimed(process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(LIMIT_S) == 0
    # Pins 22, 23, 25 and 27 of one request, of which the first two are amber.
    assert played.seen()[0] == "3 f"
    assert played.seen()[-1] == "0 f"


def test_the_agent_takes_the_lights_from_it(played: Played) -> None:
    process = played.start()
    played.wait_claimed(process)
    lock = PanelLock(SystemClock(), played.folder / "lock")
    assert lock.held
    assert process.wait(LIMIT_S) == 0
    assert played.seen()[-1] == "0 f"
    lock.close()
    lock.close()


def test_one_that_comes_while_the_agent_lives_goes_again(played: Played) -> None:
    lock = PanelLock(SimulatedClock(), played.folder / "lock")
    assert played.start().wait(LIMIT_S) == 0
    assert not (played.folder / "claimed").exists()
    lock.close()
    process = played.start()
    played.wait_claimed(process)


def test_a_taken_pin_and_a_missing_chip_are_said(played: Played) -> None:
    (played.folder / "busy").touch()
    process = played.start()
    assert process.wait(LIMIT_S) == 69
    assert "cannot be had (Device or resource busy)" in process.communicate()[1]
    (played.folder / "dev/gpiochip0").unlink()
    process = played.start()
    assert process.wait(LIMIT_S) == 69
    assert "No GPIO chip has one of the labels" in process.communicate()[1]


# The agent's side


def test_where_there_is_no_fault_light_nothing_is_waited_for(tmp_path: Path) -> None:
    clock = SimulatedClock()
    before_ns = clock.boottime_ns()
    assert not PanelLock(clock, tmp_path / "absent/lock").held
    first = PanelLock(clock, tmp_path / "lock")
    assert first.held
    assert clock.boottime_ns() == before_ns
    first.close()


def test_a_fault_light_that_does_not_answer_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int]] = []

    def kill(pid: int, number: int) -> None:
        asked.append((pid, number))
        raise PermissionError

    monkeypatch.setattr(os, "kill", kill)
    clock = SimulatedClock()
    before_ns = clock.boottime_ns()
    with (tmp_path / "lock").open("w+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        held.write("4711\n")
        held.flush()
        lock = PanelLock(clock, tmp_path / "lock")
        assert not lock.held
    assert clock.boottime_ns() - before_ns == PATIENCE_MS * 1_000_000
    assert set(asked) == {(4711, signal.SIGTERM)}
    lock.close()


@pytest.mark.parametrize("text", ["", "0", "1", "-1", "nobody", "1 2"])
def test_nobody_else_is_ever_signalled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    refuse: Callable[[int, int], None] = lambda pid, number: pytest.fail(f"{pid} {number}")  # noqa: E731
    monkeypatch.setattr(os, "kill", refuse)
    with (tmp_path / "lock").open("w+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        held.write(text)
        held.flush()
        lock = PanelLock(SimulatedClock(), tmp_path / "lock")
        assert not lock.held
        lock.close()
