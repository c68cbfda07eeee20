"""Parking: the only place where a thread of waitkit, or a thread that waits with it, comes to rest."""

from __future__ import annotations

import threading

from waitkit.engine import forks
from waitkit.engine.clock import current_clock
from waitkit.ground.durations import Nanoseconds

__all__ = ["Parker"]


class _Place(threading.Condition):
    """A ``Condition`` whose wake-up survives a signal handler that runs between "am I woken?" and the rest.

    A handler runs in the main thread between any two bytecodes. If it wakes the very thread it interrupts after
    that thread has found itself not woken, and before it stands among the waiters, ``notify`` reaches nobody.
    ``Condition.wait`` calls ``_release_save`` *after* it has put itself among the waiters, so we look once more there.
    """

    def __init__(self) -> None:
        super().__init__()
        # The RLock's own method was put on the instance; without it, lookup finds the one below.
        self.__dict__.pop("_release_save", None)
        self.woken = False

    def _release_save(self) -> object:
        if self.woken:
            self.notify()
        return self._lock._release_save()  # type: ignore[attr-defined]


class Parker:
    """The parking place of one waiter: :meth:`park` rests, :meth:`unpark` ends the rest, from anywhere.

    A wake-up is kept: ``unpark`` before ``park`` makes the park return at once. Wake-ups do not add up.

    The place's lock guards ``woken`` and nothing else. It is held for a few bytecodes, except by the resting thread,
    for which ``Condition.wait`` gives it up. It is entered as ``place._lock``, not as ``place``: ``Condition.__enter__`` is
    Python code, in which Ctrl-C can fall between taking the lock and handing it to the ``with`` statement.
    """

    __slots__ = ("_clock", "_generation", "_place")

    def __init__(self) -> None:
        self._place = _Place()
        self._generation = forks.current
        self._clock = current_clock()

    def park(self, until: Nanoseconds | None) -> bool:
        """Rest until :meth:`unpark`, or until the instant *until* (``None``: only until unpark).

        It may return early, so call it in a loop that looks at what it waits for.

        Returns:
            Whether it is time to look, whatever the clock says: somebody called unpark, or may have.
        """
        if self._generation != forks.current:
            # The process forked since the last look. Wake-ups meant for us may have gone to the parent's copy:
            # have the caller look again before it rests.
            self._place = _Place()
            self._generation = forks.current
            return True
        place = self._place
        with place._lock:  # type: ignore[attr-defined]
            if not place.woken:
                self._clock.rest(place, until)
            woken, place.woken = place.woken, False
        return woken

    def unpark(self) -> None:
        """Wake the thread parked here, or have its next park return at once."""
        if self._generation != forks.current:
            return  # its thread stayed in the parent, perhaps while it held the lock
        place = self._place
        with place._lock:  # type: ignore[attr-defined]
            if not place.woken:
                place.woken = True
                self._clock.notify(place)
