"""For all tests: hypothesis judges results and not the speed of a machine; fixtures that several folders need."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.support.softhsm import SoftHsm

settings.register_profile("bodycam", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("bodycam")


@pytest.fixture(scope="session")
def softhsm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SoftHsm]:
    """One SoftHSM2 for all tests: the module stays loaded for as long as the process lives."""
    hsm = SoftHsm(tmp_path_factory.mktemp("softhsm"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTHSM2_CONF", str(hsm.configuration))
        yield hsm
