"""A bench camera's pins: gpiozero's mock factory, driven from the far side."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from agent.clock import SimulatedClock
from agent.panel.pins import BenchFactory, open_pin_factory
from agent.settings.schema import GpioSettings

MOCK = GpioSettings(factory="mock", trigger_input_pins=(5, 6))


@pytest.fixture
def gpio() -> GpioSettings:
    return MOCK


@pytest.fixture
def factory(gpio: GpioSettings) -> Iterator[BenchFactory]:
    factory = open_pin_factory(gpio, "bench")
    assert isinstance(factory, BenchFactory)
    yield factory
    factory.close()


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock()
