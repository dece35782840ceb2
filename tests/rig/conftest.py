"""The rig for pytest: built once, a camera and a card of its own for each test."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.rig.build import build
from tests.rig.power_cut import Bench
from tests.rig.warm import Hot, Warm, hot, waiting, warm

# A test is a minute of emulation, and more on a busy machine; the guest's own limits are what ends it in words.
TEST_TIMEOUT_S = 600


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of this folder may take longer than others."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.timeout(TEST_TIMEOUT_S))


@pytest.fixture(scope="session")
def rig(pytestconfig: pytest.Config) -> Warm:
    """The virtual device, built where it is not."""
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        return warm(build())


@pytest.fixture(scope="session")
def ready(rig: Warm, pytestconfig: pytest.Config) -> Hot:
    """The same, ready to record, built where it is not."""
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        return hot(rig)


@pytest.fixture(scope="session")
def bench(rig: Warm, ready: Hot, pytestconfig: pytest.Config) -> Bench:
    """What power cuts start from."""
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        return Bench(rig, waiting(rig), ready)


@pytest.fixture
def card(rig: Warm, tmp_path: Path) -> Path:
    """The card of an enrolled camera that has recorded nothing."""
    return rig.copy_card(tmp_path / "card.ext4")
