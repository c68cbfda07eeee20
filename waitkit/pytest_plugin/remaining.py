"""The time a test has left under pytest-timeout, and waits that keep within it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest

from waitkit.engine.clock import SystemClock, current_clock
from waitkit.ground.durations import (
    MILLISECOND,
    SECOND,
    Duration,
    Nanoseconds,
    format_duration,
    to_optional_nanoseconds,
)
from waitkit.ground.errors import WaitTimeout
from waitkit.ground.settings import DEFAULT, DefaultTimeout
from waitkit.waiting import wait_for

__all__ = ["bound_to", "remember_deadline"]

# When the test must end, by the system's clock, and how long it may take, in nanoseconds.
_LIMIT: Final = pytest.StashKey[tuple[Nanoseconds, Nanoseconds]]()


def remember_deadline(item: pytest.Item, timeout: float) -> None:
    """The test *item* must end in *timeout* seconds from now."""
    allowed = round(timeout * SECOND)
    item.stash[_LIMIT] = (SystemClock.now() + allowed, allowed)


def _left(item: pytest.Item) -> Nanoseconds | None:
    """What waits of the test may take: a little less than it has left, as their errors must come before the alarm.

    ``None`` where nothing limits them. pytest-timeout counts real time: of what a wait takes on another clock it says nothing.
    """
    limit = item.stash.get(_LIMIT, None)
    if limit is None or not isinstance(current_clock(), SystemClock):
        return None
    deadline, allowed = limit
    return max(0, deadline - min(allowed // 10, 500 * MILLISECOND) - SystemClock.now())


def bound_to(item: pytest.Item) -> Callable[..., Any]:
    """``wait_for`` with the time left to *item* as its limit, whatever longer one it is given.

    Where nothing limits the test, and in virtual time, it is ``wait_for`` as it is.
    """

    def bound(condition: Any, timeout: Duration | DefaultTimeout | None = DEFAULT, **options: Any) -> Any:
        """As :func:`waitkit.wait_for`, but it times out before pytest-timeout ends the test."""
        left = _left(item)
        if left is None:
            return wait_for(condition, timeout, **options)
        given = None if timeout is DEFAULT else to_optional_nanoseconds(timeout, "timeout")
        if given is not None and given <= left:
            return wait_for(condition, timeout, **options)
        try:
            return wait_for(condition, left / SECOND, **options)
        except WaitTimeout as error:
            allowed = item.stash[_LIMIT][1]
            error.add_note(f"that was all the test had left of its {format_duration(allowed)} (pytest-timeout)")
            raise

    return bound
