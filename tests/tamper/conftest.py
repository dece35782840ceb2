"""The packages that are tampered with, made once for all tests here."""

from __future__ import annotations

import pytest

from tests.tamper.bases import Bases, build


@pytest.fixture(scope="session")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Bases:
    return build(tmp_path_factory.mktemp("bases"))
