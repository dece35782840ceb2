"""The two machines for pytest, and what each of them makes: once, for all tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.arm64.build import build
from tests.arm64.machine import TIMEOUT_S, Machine, emulated, this_machine


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A fixture starts several emulated programs; their own limits are what ends them in words."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.timeout(5 * TIMEOUT_S))


@pytest.fixture(scope="session")
def host() -> Machine:
    """This machine."""
    return this_machine()


@pytest.fixture(scope="session")
def arm64(pytestconfig: pytest.Config) -> Machine:
    """The emulated one, built where it is not."""
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        return emulated(build())


@pytest.fixture(scope="session")
def machines(host: Machine, arm64: Machine) -> tuple[Machine, Machine]:
    """Both."""
    return host, arm64
