from __future__ import annotations

import pytest

from agent.demo.lights import describe
from agent.panel.pin_client import PinChange


def changes(name: str, *levels: int, start_ns: int = 0) -> list[PinChange]:
    """A change every 10 ns."""
    return [PinChange(start_ns + 10 * number, 22, name, level) for number, level in enumerate(levels)]


@pytest.mark.parametrize(
    ("seen", "since_ns", "expected"),
    [
        ([], 0, "dark and silent"),
        (changes("led_red", 0), 0, "dark and silent"),
        (changes("led_red", 0, 1), 0, "red light on"),
        (changes("led_red", 0, 1, 0), 0, "red light flashes once"),
        (changes("led_red", 0, 1, 0, 1), 0, "red light blinks"),
        (changes("led_red", 1), 5, "red light on"),  # since before, and unchanged
        (changes("led_red", 1, 0), 5, "dark and silent"),  # went out, and that was all
        (changes("led_red", 1, 0, 1), 5, "red light blinks"),
        (changes("led_green", 0, 1, 0, 1) + changes("led_red", 0, 1), 0, "red light on, green light blinks"),
        (changes("buzzer", 0, 1, 0), 0, "1 beep"),
        (changes("buzzer", 0, 1, 0, 1, 0) + changes("vibration", 0, 1, 0, 1, 0), 0, "2 beeps, 2 vibration pulses"),
        (changes("buzzer", 0, 1, 0, 1, 0), 25, "1 beep"),
    ],
)
def test_what_the_pins_did_in_words(seen: list[PinChange], since_ns: int, expected: str) -> None:
    assert describe(seen, since_ns) == expected
