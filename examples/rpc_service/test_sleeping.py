"""The sleeping edition, under pytest, on request only: ``RPC_SERVICE_WITH_SLEEPS=1 pytest examples/rpc_service``."""

from __future__ import annotations

import pytest

from .lifecycle import LIFECYCLE, LifecycleTest
from .run import run

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("test", LIFECYCLE, ids=lambda test: test.__name__)
def test_lifecycle_by_sleeping(test: LifecycleTest) -> None:
    """Each test holds when its steps sleep; it sleeps what the waiting edition says it would, to the millisecond."""
    (slept,) = run("sleeping", [test])
    (waited,) = run("waiting", [test])
    assert slept.error is None
    assert slept.slept == pytest.approx(slept.would_sleep)
    assert waited.would_sleep == slept.would_sleep
