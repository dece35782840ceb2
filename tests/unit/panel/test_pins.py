"""Choosing the pin factory. A real GPIO chip is not here: lgpio's answers are played, its import trap is real."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from gpiozero import LED
from gpiozero.pins.mock import MockPin

from agent.errors import ConfigError, PanelError
from agent.panel.pins import BenchFactory, chip_numbers, choose_chip, claim, open_pin_factory, read_chip
from agent.settings.schema import GpioSettings

LABELS = GpioSettings().chip_labels


class PlayedLgpio:
    """What lgpio's module does with chips, as far as it is used."""

    class error(Exception):  # noqa: N801  # lgpio's name
        pass

    def __init__(self, labels: dict[int, str | bytes | None]) -> None:
        self.labels = labels
        self.open: set[int] = set()

    def gpiochip_open(self, number: int) -> int:
        if self.labels[number] is None:
            raise self.error("can not open gpiochip")
        self.open.add(number)
        return number

    def gpio_get_chip_info(self, handle: int) -> list[object]:
        return [0, 54, f"gpiochip{handle}", self.labels[handle]]

    def gpiochip_close(self, handle: int) -> None:
        self.open.remove(handle)


def test_the_chip_is_found_by_label_wherever_it_is() -> None:
    lgpio = PlayedLgpio({0: "gpio-brcmstb@107d508500", 4: b"pinctrl-rp1", 10: "pinctrl-rp1"})
    assert choose_chip([read_chip(lgpio, number) for number in (0, 4, 10)], LABELS) == 4
    assert not lgpio.open


def test_no_chip_with_the_label_says_what_was_found() -> None:
    lgpio = PlayedLgpio({0: "gpio-sim.0-node0", 1: None})
    with pytest.raises(
        PanelError, match=r"pinctrl-rp1.*gpiochip0 is 'gpio-sim.0-node0'.*gpiochip1 could not.*chip_labels"
    ):
        choose_chip([read_chip(lgpio, number) for number in (0, 1)], LABELS)


def test_chips_are_in_the_order_of_their_numbers_and_links_are_left_out(tmp_path: Path) -> None:
    for name in ("gpiochip10", "gpiochip2", "gpiomem", "gpiochipX"):
        (tmp_path / name).touch()
    (tmp_path / "gpiochip4").symlink_to("gpiochip2")
    assert chip_numbers(tmp_path) == [2, 10]


def test_no_gpio_at_all_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(PanelError, match=r"no GPIO chip on this machine.*bench profile"):
        open_pin_factory(GpioSettings(), "production", dev=tmp_path)


def test_mock_pins_are_for_the_bench() -> None:
    with pytest.raises(ConfigError, match="refused in the production profile"):
        open_pin_factory(GpioSettings(factory="mock"), "production")
    factory = open_pin_factory(GpioSettings(factory="mock"), "bench")
    assert isinstance(factory, BenchFactory)
    assert isinstance(factory.pin(17), MockPin)
    factory.close()


def test_mock_pins_do_not_depend_on_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPIOZERO_MOCK_PIN_CLASS", "mockchargingpin")
    monkeypatch.setenv("GPIOZERO_MOCK_REVISION", "2")
    factory = open_pin_factory(GpioSettings(factory="mock"), "bench")
    assert type(factory.pin(27)).__name__ == "BenchPin"
    factory.close()


def test_a_pin_that_blinks_for_days_takes_no_more_memory(factory: BenchFactory) -> None:
    pin = factory.pin(4)
    for _ in range(3000):
        pin.drive_high()
        pin.drive_low()
    assert len(pin.states) <= 1000


def test_unknown_and_doubly_used_pins_are_named(factory: BenchFactory) -> None:
    with pytest.raises(PanelError, match=r"\[gpio\] led_red_pin = 45 is an unknown pin"):
        claim(LED, 45, "led_red_pin", factory)
    led = claim(LED, 22, "led_red_pin", factory)
    with pytest.raises(PanelError, match="buzzer_pin = 22 is already used"):
        claim(LED, 22, "buzzer_pin", factory)
    led.close()


def test_a_busy_line_is_a_sentence(factory: BenchFactory) -> None:
    busy = type("error", (Exception,), {"__module__": "lgpio"})

    def refused(_pin: int, **_options: object) -> None:
        raise busy("GPIO busy")

    with pytest.raises(PanelError, match=r"buzzer_pin = 25 cannot be claimed \(GPIO busy\)"):
        claim(refused, 25, "buzzer_pin", factory)


LOAD = """
import os, sys
os.chdir(sys.argv[1])
from agent.panel.pins import load_lgpio
lgpio = load_lgpio()
assert os.getcwd() == sys.argv[1], os.getcwd()
assert lgpio._notify_thread.is_alive()
assert "LG_WD" not in os.environ
assert os.listdir(os.environ["RUNTIME_DIRECTORY"]) == [], os.listdir(os.environ["RUNTIME_DIRECTORY"])
"""


def load_in(directory: str, runtime: Path) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).parents[3]
    return subprocess.run(
        [sys.executable, "-c", LOAD, directory],
        env={"PYTHONPATH": str(root), "RUNTIME_DIRECTORY": str(runtime), "PATH": "/usr/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_real_lgpio_loads_where_nothing_can_be_written_and_leaves_no_trace(tmp_path: Path) -> None:
    # Not even root can make a FIFO in /proc.
    done = load_in("/proc", tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_runtime_directory_that_is_missing_is_a_sentence(tmp_path: Path) -> None:
    done = load_in("/", tmp_path / "missing")
    assert "PanelError: The GPIO library lgpio cannot be used" in done.stderr
