"""The clock: what time it is, and the one place where time passes.

A clock does three things, and virtual time replaces all three at once: it tells the time, it lets a parked
thread rest until it is notified or a time has come, and it notifies. The third belongs to it because of one rule:
*who wakes a thread counts it as running before releasing it*. A clock that jumps when every thread is parked would
otherwise jump between the wake-up and the moment the woken thread runs (measured: wrong in nearly every round).
"""

from __future__ import annotations

import sys
import threading
import time
from typing import Final, Protocol

from waitkit.ground.durations import SECOND, Nanoseconds

__all__ = ["Clock", "SystemClock", "current_clock", "now", "use_clock"]

# Before 3.14 a lock cannot be interrupted by Ctrl-C on Windows, so the main thread comes up for air there.
_CANNOT_INTERRUPT: Final = sys.platform == "win32" and sys.version_info < (3, 14)


class Clock(Protocol):
    """Where all time in waitkit comes from."""

    def now(self) -> Nanoseconds:
        """The current instant. It never goes back; its origin means nothing."""

    def rest(self, place: threading.Condition, until: Nanoseconds | None) -> None:
        """Let this thread, which holds *place*, rest until it is notified or *until* has come.

        It may return early: the caller looks at its own state and the clock again.
        """

    def notify(self, place: threading.Condition) -> None:
        """End the rest of the thread at *place*, which the caller holds; nothing happens where nobody rests."""


class SystemClock:
    """The monotonic clock of the system."""

    # The functions themselves, not methods that call them: these two are on the way of every wake-up.
    now = staticmethod(time.monotonic_ns)
    notify = staticmethod(threading.Condition.notify)

    def rest(self, place: threading.Condition, until: Nanoseconds | None) -> None:
        timeout = None
        if until is not None:
            # A wait longer than threading.TIMEOUT_MAX (292 years; 49 days on Windows) is taken in slices: it
            # comes back early and its caller rests again.
            timeout = min((until - time.monotonic_ns()) / SECOND, threading.TIMEOUT_MAX)
            if timeout <= 0:
                return
        if _CANNOT_INTERRUPT and threading.current_thread() is threading.main_thread():
            timeout = 0.1 if timeout is None else min(timeout, 0.1)
        place.wait(timeout)


_current: Clock = SystemClock()


def current_clock() -> Clock:
    """The clock all waits use now."""
    return _current


def now() -> Nanoseconds:
    """The current instant of the current clock."""
    return _current.now()


def use_clock(clock: Clock) -> Clock:
    """Make *clock* the clock of all waits of this process from now on.

    Returns:
        The clock used until now, to be put back.
    """
    global _current
    previous, _current = _current, clock
    return previous
