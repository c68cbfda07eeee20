"""Every test begins with the defaults and leaves nothing changed behind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support import JumpingClock

from waitkit.engine import clock
from waitkit.ground import records, settings


@pytest.fixture(autouse=True)
def _as_new(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put back what is set for a whole process: defaults, subscribers, the clock."""
    monkeypatch.delenv("WAITKIT_TIMEOUT_SCALE", raising=False)
    before = clock.current_clock()
    yield
    clock.use_clock(before)
    settings._process_wide = settings.Settings()
    records._subscribers = ()


@pytest.fixture
def jumping() -> Iterator[JumpingClock]:
    """Time that jumps to the next look instead of passing."""
    jumping = JumpingClock()
    before = clock.use_clock(jumping)
    yield jumping
    clock.use_clock(before)
