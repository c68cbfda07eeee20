"""Parking: the only place where a thread of waitkit, or a thread that waits with it, comes to rest."""

from __future__ import annotations

import threading

from waitkit.engine import forks
from waitkit.engine.clock import current_clock
from waitkit.ground.durations import Nanoseconds

__all__ = ["Parker", "Place"]


class Place(threading.Condition):
    """A ``Condition`` whose wake-up survives a signal handler that runs between "am I woken?" and the rest.

    A handler runs in the main thread between any two bytecodes. If it wakes the very thread it interrupts after
    that thread has found itself not woken, and before it stands among the waiters, ``notify`` reaches nobody.
    ``Condition.wait`` calls ``_release_save`` *after* it has put itself among the waiters, so we look once more there.
    """

    __slots__ = ("idle", "purpose", "woken")

    def __init__(self) -> None:
        super().__init__()
        # The RLock's own method was put on the instance; without it, lookup finds the one below.
        del self._release_save
        self.woken = False
        #: what its thread waits for, for a clock that has to explain why time stands still
        self.purpose: object = None
        #: its thread has nothing to do, and would end after a while: no reason for time to pass
        self.idle = False

    def _release_save(self) -> object:
        if self.woken:
            self.notify()
        return self._lock._release_save()  # type: ignore[attr-defined]


class Parker:
    """The parking place of one waiter: :meth:`park` rests, :meth:`unpark` ends the rest, from anywhere.

    A wake-up is kept: ``unpark`` before ``park`` makes the park return at once. Wake-ups do not add up.

    The place's lock guards ``woken`` and nothing else. It is held for a few bytecodes, except by the resting thread,
    for which ``Condition.wait`` gives it up. It is entered itself, not as ``place``: ``Condition.__enter__`` is
    Python code, in which Ctrl-C can fall between taking the lock and handing it to the ``with`` statement.
    """

    __slots__ = ("_clock", "_generation", "_lock", "_notify", "_place", "_purpose")

    def __init__(self, purpose: object = None) -> None:
        self._purpose = purpose
        self._clock = current_clock()
        self._notify = self._clock.notify
        self._begin()

    def _begin(self) -> None:
        self._place = Place()
        self._place.purpose = self._purpose
        self._lock = self._place._lock  # type: ignore[attr-defined]
        self._generation = forks.current

    def park(self, until: Nanoseconds | None) -> bool:
        """Rest until :meth:`unpark`, or until the instant *until* (``None``: only until unpark).

        It may return early, so call it in a loop that looks at what it waits for.

        Returns:
            Whether it is time to look, whatever the clock says: somebody called unpark, or may have.
        """
        if self._generation != forks.current:
            # The process forked since the last look. Wake-ups meant for us may have gone to the parent's copy:
            # have the caller look again before it rests.
            self._begin()
            return True
        place = self._place
        with self._lock:
            if not place.woken:
                self._clock.rest(place, until)
            woken, place.woken = place.woken, False
        return woken

    def linger(self, until: Nanoseconds) -> None:
        """As :meth:`park`, for a thread of waitkit's own that has nothing to do: a virtual clock lets no time pass for it."""
        self._place.idle = True
        self.park(until)
        self._place.idle = False

    def unpark(self) -> None:
        """Wake the thread parked here, or have its next park return at once."""
        if self._generation != forks.current:
            return  # its thread stayed in the parent, perhaps while it held the lock
        place = self._place
        with self._lock:
            if not place.woken:
                place.woken = True
                self._notify(place)
