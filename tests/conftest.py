"""For all tests: hypothesis judges results and not the speed of a shared machine or of its own first start."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("bodycam", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("bodycam")
