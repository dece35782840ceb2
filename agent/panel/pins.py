"""Where the panel's pins come from: gpiozero on lgpio on a Pi, gpiozero's mock pins on the bench.

Traps this file exists for:

- The GPIO chip is found by label. Its number differs between boards and kernels (Pi 5: 0 or 4).
- Importing lgpio makes a FIFO in its work directory and fails where it cannot; with LG_WD set it also changes the
  *process's* working directory to it (lgUtil.c). So it is imported from a private directory that is left and removed
  at once: the FIFO is held open and its name is never used again.
- LGPIOFactory needs a board revision to know the pins, and asks for it late; here it is asked for at once.
"""

from __future__ import annotations

import importlib
import os
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpiozero.exc import GPIOPinInUse, PinInvalidPin, PinUnknownPi
from gpiozero.pins.mock import MockFactory, MockPin

from agent.errors import ConfigError, PanelError
from agent.settings.schema import GpioSettings

_STATES_KEPT = 1000


class BenchPin(MockPin):  # type: ignore[misc]  # gpiozero has no type information
    """gpiozero's mock pin, which also tells the factory's listeners of each change and forgets old ones.

    MockPin keeps every state it ever had: a blinking light would grow without bound in a long bench run.
    """

    def _change_state(self, value: bool) -> bool:
        changed: bool = super()._change_state(value)
        if changed:
            del self.states[:-_STATES_KEPT]
            for listener in tuple(self.factory.listeners):
                listener(self._number, bool(value))
        return changed


class BenchFactory(MockFactory):  # type: ignore[misc]  # gpiozero has no type information
    """gpiozero's mock factory; `listeners` are called with (pin, level) by whichever thread changes a pin."""

    def __init__(self) -> None:
        # Both given, because gpiozero would otherwise take them from the environment.
        super().__init__(revision="a02082", pin_class=BenchPin)
        self.listeners: list[Callable[[int, bool], None]] = []


@dataclass(frozen=True, slots=True)
class Chip:
    """One GPIO chip; `label` is None where it could not be opened, and `problem` then says why."""

    number: int
    label: str | None
    problem: str = ""


def open_pin_factory(settings: GpioSettings, profile: str, dev: Path = Path("/dev")) -> Any:
    """Open the pin factory that [gpio] asks for. To be called before threads run: see `load_lgpio`.

    Raises ConfigError for mock pins outside the bench profile, PanelError if there is no usable GPIO chip.
    """
    if settings.factory == "mock":
        if profile != "bench":
            raise ConfigError(
                f'[gpio] factory = "mock" has no real button and is refused in the {profile} profile. '
                'Set factory = "lgpio", or profile = "bench" on a bench.'
            )
        return BenchFactory()
    # Looked at before lgpio is loaded, so that a machine without GPIO gets the sentence that helps.
    numbers = chip_numbers(dev)
    lgpio = load_lgpio()
    number = choose_chip([read_chip(lgpio, number) for number in numbers], settings.chip_labels)
    from gpiozero.pins.lgpio import LGPIOFactory

    factory = LGPIOFactory(chip=number)
    try:
        factory.board_info  # noqa: B018  # fails now instead of at the first pin
    except PinUnknownPi as problem:
        factory.close()
        raise PanelError(
            "This board does not say which Raspberry Pi it is (no revision in /proc/device-tree/system/linux,revision "
            "or /proc/cpuinfo), so its pins are unknown. Boot it with the Raspberry Pi device tree, or use "
            '[gpio] factory = "mock" with the bench profile.'
        ) from problem
    return factory


def chip_numbers(dev: Path) -> list[int]:
    """The N of each gpiochipN in `dev`, ascending; links to another chip (Pi 5: gpiochip4) are left out."""
    names = (re.fullmatch(r"gpiochip(\d+)", path.name) for path in dev.iterdir() if not path.is_symlink())
    numbers = sorted(int(name[1]) for name in names if name)
    if not numbers:
        raise PanelError(
            f"There is no GPIO chip on this machine (no {dev}/gpiochip*). Without a Raspberry Pi use the bench profile "
            'with [gpio] factory = "mock".'
        )
    return numbers


def read_chip(lgpio: Any, number: int) -> Chip:
    """Read a chip's label with lgpio."""
    try:
        handle = lgpio.gpiochip_open(number)
    except lgpio.error as problem:
        return Chip(number, None, str(problem))
    try:
        _, _, _, label = lgpio.gpio_get_chip_info(handle)
    finally:
        lgpio.gpiochip_close(handle)
    return Chip(number, label.decode() if isinstance(label, bytes) else label)


def choose_chip(chips: list[Chip], labels: tuple[str, ...]) -> int:
    """The number of the first chip whose label is one of `labels`; PanelError saying what was found otherwise."""
    for chip in chips:
        if chip.label in labels:
            return chip.number
    found = ", ".join(
        f"gpiochip{chip.number} is {chip.label!r}"
        if chip.label is not None
        # lgpio does not tell a refused open from a missing device.
        else f"gpiochip{chip.number} could not be opened ({chip.problem}; is this user in the group gpio?)"
        for chip in chips
    )
    raise PanelError(
        f"No GPIO chip has one of the labels {', '.join(map(repr, labels))}: {found}. "
        "Put the label of the chip that the panel is wired to into [gpio] chip_labels."
    )


def load_lgpio() -> Any:
    """Import lgpio with its FIFO out of the way.

    The working directory of the whole process changes and changes back meanwhile, and the environment with it: call
    this before other threads run.
    """
    before = os.environ.get("LG_WD")
    # systemd gives several runtime directories as one colon-separated list.
    runtime = os.environ.get("RUNTIME_DIRECTORY", "").split(":")[0] or None
    here = os.open(".", os.O_PATH | os.O_CLOEXEC)  # a descriptor, because the directory may have no name any more
    try:
        # Private, because two processes in one directory would take each other's FIFO.
        with tempfile.TemporaryDirectory(prefix="lgpio-", dir=runtime) as work:
            os.environ["LG_WD"] = work
            return importlib.import_module("lgpio")
    except (ImportError, OSError) as problem:
        raise PanelError(
            f"The GPIO library lgpio cannot be used ({problem}). Install lgpio 0.2.2 or newer, and make sure that "
            "the runtime directory exists and is writable."
        ) from problem
    finally:
        os.fchdir(here)
        os.close(here)
        os.environ.pop("LG_WD", None)
        if before is not None:
            os.environ["LG_WD"] = before


def claim(device: Callable[..., Any], pin: int, key: str, factory: Any, **options: Any) -> Any:
    """Make a gpiozero device on BCM pin `pin`, which the settings call `key`; PanelError if that cannot be."""
    try:
        return device(pin, pin_factory=factory, **options)
    except PinInvalidPin as problem:
        raise PanelError(
            f"[gpio] {key} = {pin} is an unknown pin: this board has no GPIO {pin}. Give the BCM number of a pin that "
            "is on its header, or -1 if the part is not fitted."
        ) from problem
    except GPIOPinInUse as problem:
        raise PanelError(
            f"[gpio] {key} = {pin} is already used by another part of the panel. Give each part its own pin."
        ) from problem
    except Exception as problem:
        # lgpio's own error type exists only where lgpio could be imported.
        if type(problem).__module__ != "lgpio":
            raise
        raise PanelError(
            f"[gpio] {key} = {pin} cannot be claimed ({problem}). Look with `gpioinfo` for what holds the line, "
            "often an overlay in config.txt."
        ) from problem
