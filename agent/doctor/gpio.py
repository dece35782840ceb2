"""The pins: is the header's GPIO chip there, and does nobody else hold the lines?

Chips are asked with the kernel's own ioctls (linux/gpio.h, GPIO_GET_CHIPINFO_IOCTL and GPIO_V2_GET_LINEINFO_IOCTL):
they change nothing, and say who holds a line. Untried on a real Pi; the layouts are the kernel's.
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from agent.doctor.check import Check, fail, ok, skipped, warn
from agent.settings.combinations import roles_by_pin
from agent.settings.schema import Settings

_CHIP_INFO = struct.Struct("=32s32sI")  # name, label, lines
_GET_CHIP_INFO = 0x8044B401  # _IOR(0xB4, 0x01, struct gpiochip_info)
_LINE_INFO = struct.Struct("=32s32sIIQ160s16s")  # name, consumer, offset, num_attrs, flags, attrs, padding
_GET_LINE_INFO = 0xC100B405  # _IOWR(0xB4, 0x05, struct gpio_v2_line_info)
_FLAG_USED = 1

Ioctl = Callable[[int, int, bytearray], object]


@dataclass(frozen=True, slots=True)
class Chip:
    """One /dev/gpiochip. holders: pins that something holds, with what the kernel calls it."""

    path: Path
    label: str
    lines: int
    holders: dict[int, str]


@dataclass(frozen=True, slots=True)
class GpioFacts:
    """What there is. unreadable: chips that could not be asked, and why. has_lgpio: the library is installed."""

    chips: tuple[Chip, ...]
    unreadable: tuple[tuple[Path, str], ...]
    has_lgpio: bool


def _text(raw: bytes) -> str:
    return raw.split(b"\0", 1)[0].decode("utf-8", "replace")


def read_chip(path: Path, pins: list[int], ioctl: Ioctl) -> Chip:
    """Ask one chip for its label and who holds these pins. Raises OSError."""
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        buffer = bytearray(_CHIP_INFO.size)
        ioctl(descriptor, _GET_CHIP_INFO, buffer)
        _, label, lines = _CHIP_INFO.unpack(buffer)
        holders = {}
        for pin in (pin for pin in pins if pin < lines):
            buffer = bytearray(_LINE_INFO.pack(b"", b"", pin, 0, 0, b"", b""))
            ioctl(descriptor, _GET_LINE_INFO, buffer)
            _, consumer, _, _, flags, _, _ = _LINE_INFO.unpack(buffer)
            if flags & _FLAG_USED:
                holders[pin] = _text(consumer) or "the kernel"
        return Chip(path, _text(label), lines, holders)
    finally:
        os.close(descriptor)


def probe_gpio(pins: list[int], devices: Path = Path("/dev"), ioctl: Ioctl = fcntl.ioctl) -> GpioFacts:
    """Every chip of the machine."""
    chips, unreadable = [], []
    for path in sorted(devices.glob("gpiochip*")):
        if path.is_symlink():  # on a Pi 5 gpiochip4 is gpiochip0 again, for old programs
            continue
        try:
            chips.append(read_chip(path, pins, ioctl))
        except OSError as error:
            unreadable.append((path, error.strerror or str(error)))
    # Looked for, not imported: importing lgpio leaves a FIFO in the working directory.
    return GpioFacts(tuple(chips), tuple(unreadable), importlib.util.find_spec("lgpio") is not None)


def judge_gpio(facts: GpioFacts, settings: Settings) -> Check:
    """Against the labels and pins of the settings."""
    labels = settings.gpio.chip_labels
    # As agent.panel.pins chooses it.
    chip = next((chip for chip in facts.chips if chip.label in labels), None)
    if chip is None and not facts.chips and not facts.unreadable:
        found = "This machine has no GPIO chip (no /dev/gpiochip*)."
        return fail("gpio", found, 'On a computer that is no Raspberry Pi use profile = "bench".')
    if chip is None:
        there = "; ".join(
            [f"{chip.path.name} is {chip.label}" for chip in facts.chips]
            + [f"{path.name} cannot be opened: {why}" for path, why in facts.unreadable]
        )
        advice = "Add the label of the chip that carries the header to gpio.chip_labels (`gpiodetect` lists them)."
        if facts.unreadable:
            advice = "Let this user open the GPIO chips (group `gpio` on Raspberry Pi OS)."
        return fail("gpio", f"No GPIO chip is labelled {' or '.join(labels)} ({there}).", advice)
    if not facts.has_lgpio:
        return fail("gpio", "The library lgpio is not installed.", "Install Debian's python3-lgpio, or lgpio with pip.")
    said = f"{chip.path} is {chip.label}"
    roles = roles_by_pin(settings)
    if missing := [f"{key} = {pin}" for pin, key in roles if pin >= chip.lines]:
        return fail("gpio", f"{said} with {chip.lines} lines; {', '.join(missing)} is none of them.", "Correct [gpio].")
    if held := [f"{key} = {pin} is held by {chip.holders[pin]}" for pin, key in roles if pin in chip.holders]:
        return fail(
            "gpio",
            f"{said}, but {', '.join(held)}.",
            "Stop what holds the pin (an overlay in config.txt, another program), or move the wire and change [gpio].",
        )
    said = f"{said}, and {', '.join(f'GPIO{pin}' for pin, _ in roles)} are free"
    gpio = settings.gpio
    if max(gpio.led_red_pin, gpio.led_green_pin, gpio.led_blue_pin) < 0:
        return warn("gpio", f"{said}; no light is fitted.", "Fit a light and set its pins, so that the wearer can see.")
    return ok("gpio", f"{said}.")


def check_gpio(settings: Settings, devices: Path = Path("/dev"), ioctl: Ioctl = fcntl.ioctl) -> Check:
    """The pins' check."""
    if settings.gpio.factory == "mock":
        return skipped("gpio", "Pins are mock pins in memory, as the bench profile has them.")
    return judge_gpio(probe_gpio([pin for pin, _ in roles_by_pin(settings)], devices, ioctl), settings)
