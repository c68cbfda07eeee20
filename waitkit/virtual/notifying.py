"""``threading.Condition`` while the clock is virtual: waits on that clock, and wake-ups of those who wait in real time."""

from __future__ import annotations

from _thread import LockType
from collections.abc import Callable
from typing import Any

from waitkit.engine.clock import now
from waitkit.engine.parking import Parker
from waitkit.ground.durations import SECOND

__all__ = ["notify_really", "wait_virtually"]


class _Waiter:
    """Stands among the waiters of a ``threading.Condition`` in the place of a lock: ``notify`` releases it."""

    def __init__(self) -> None:
        self.parker = Parker("a notify (threading.Condition.wait)")
        self.released = False

    def release(self) -> None:
        self.released = True
        self.parker.unpark()


def wait_virtually(condition: Any, timeout: float | None) -> bool:
    """``Condition.wait`` on the virtual clock."""
    if not condition._is_owned():
        raise RuntimeError("cannot wait on un-acquired lock")
    waiter = _Waiter()
    condition._waiters.append(waiter)
    held = condition._release_save()
    due = None
    if timeout is not None:
        # Callers compute what is left of a time-out as a float, and ask again while anything is: that must let time pass.
        due = now() + (max(1, round(timeout * SECOND)) if timeout > 0 else 0)
    try:
        while not waiter.released and (due is None or now() < due):
            waiter.parker.park(due)
        return waiter.released
    finally:
        condition._acquire_restore(held)
        if not waiter.released:
            try:
                condition._waiters.remove(waiter)
            except ValueError:  # notified at the last moment
                pass


def notify_really(notify: Callable[..., None], condition: Any, n: int) -> list[object]:
    """``Condition.notify``. Returns the locks it released: those of who waits in real time."""
    waiting = [waiter for waiter in condition._waiters if type(waiter) is LockType]
    notify(condition, n)
    return [lock for lock in waiting if lock not in condition._waiters]
