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
from _thread import allocate_lock
from collections.abc import Callable
from typing import Final, Protocol

from waitkit.ground.durations import SECOND, Nanoseconds

__all__ = ["Clock", "Place", "SystemClock", "current", "current_clock", "now", "use_clock", "watch_wakeups"]

# Before 3.14 a lock cannot be interrupted by Ctrl-C on Windows, so the main thread comes up for air there.
_CANNOT_INTERRUPT: Final = sys.platform == "win32" and sys.version_info < (3, 14)


class Place:
    """Where a thread rests: a lock that is held, and whose release is the wake-up.

    Release and acquire are single C calls, so a wake-up is a token that cannot be lost: it is kept until somebody rests,
    there is at most one, and a signal handler may leave it in the very thread that is about to rest. It is what
    ``threading.Condition`` parks each of its waiters with; the lock and the list that a Condition adds serve many waiters, and
    here is only ever one (measured: a rest with a time-out takes six tenths of the processor, see docs/design.rst).
    """

    __slots__ = ("idle", "purpose", "token")

    def __init__(self, purpose: object = None) -> None:
        self.token = allocate_lock()
        self.token.acquire()
        #: what its thread waits for, for a clock that has to explain why time stands still
        self.purpose = purpose
        #: its thread has nothing to do, and would end after a while: no reason for time to pass
        self.idle = False

    def renew(self) -> None:
        """In a forked child: nobody knows in what state the fork has found the lock."""
        self.token._at_fork_reinit()  # type: ignore[attr-defined]
        self.token.acquire()


class Clock(Protocol):
    """Where all time in waitkit comes from."""

    def now(self) -> Nanoseconds:
        """The current instant. It never goes back; its origin means nothing."""

    def rest(self, place: Place, until: Nanoseconds | None) -> bool:
        """Let the calling thread rest at *place* until it is notified or *until* has come.

        It may return early: the caller looks at its own state and the clock again.

        Returns:
            Whether it was notified.
        """

    def notify(self, place: Place) -> None:
        """End the rest of the thread at *place*, or have its next one end at once."""


class SystemClock:
    """The monotonic clock of the system."""

    # The function itself, not a method that calls it: on the way of a wake-up each costs about 3 us (see docs/design.rst). And
    # asked here alone: one that is found in the module "time" may have been put there by a test that freezes it.
    now = staticmethod(time.monotonic_ns)

    @staticmethod
    def rest(place: Place, until: Nanoseconds | None) -> bool:
        if _CANNOT_INTERRUPT and threading.current_thread() is threading.main_thread():
            air = SystemClock.now() + SECOND // 10
            until = air if until is None else min(until, air)
        if until is None:
            return place.token.acquire()
        # A wait longer than threading.TIMEOUT_MAX (292 years; 49 days on Windows) is taken in slices: it comes back early and
        # its caller rests again.
        timeout = (until - SystemClock.now()) / SECOND
        if timeout <= 0:
            return place.token.acquire(False)
        if timeout > threading.TIMEOUT_MAX:  # not min(), as for the gaps of looks
            timeout = threading.TIMEOUT_MAX
        return place.token.acquire(True, timeout)

    @staticmethod
    def notify(place: Place) -> None:
        if _witness is not None:
            _witness(place)
        try:
            place.token.release()
        except RuntimeError:  # a wake-up is there already
            pass


#: While a virtual clock is in use it is told of each wake-up in real time before that happens: who is woken by a thread that
#: takes part counts as running, though he himself does not.
_witness: Callable[[Place], None] | None = None

#: As :func:`current_clock`, for what is on the way of each call: read it as ``clock.current``.
current: Clock = SystemClock()


def current_clock() -> Clock:
    """The clock all waits use now."""
    return current


def now() -> Nanoseconds:
    """The current instant of the current clock."""
    return current.now()


def use_clock(clock: Clock) -> Clock:
    """Make *clock* the clock of all waits of this process from now on.

    Returns:
        The clock used until now, to be put back.
    """
    global current
    previous, current = current, clock
    return previous


def watch_wakeups(witness: Callable[[Place], None] | None) -> None:
    """Have *witness* called before each wake-up of a thread that rests in real time; ``None``: nobody."""
    global _witness
    _witness = witness
