"""Parking: the only place where a thread of waitkit, or a thread that waits with it, comes to rest."""

from __future__ import annotations

from waitkit.engine import forks
from waitkit.engine.clock import Place, current_clock
from waitkit.ground.durations import Nanoseconds

__all__ = ["Parker"]


class Parker:
    """The parking place of one waiter: :meth:`park` rests, :meth:`unpark` ends the rest, from anywhere.

    A wake-up is kept: ``unpark`` before ``park`` makes the park return at once. Wake-ups do not add up.

    Args:
        purpose: what its thread waits for, where a clock has to explain why time stands still.
    """

    __slots__ = ("_generation", "_notify", "_place", "_rest")

    def __init__(self, purpose: object = None) -> None:
        clock = current_clock()
        self._rest = clock.rest
        self._notify = clock.notify
        self._place = Place(purpose)
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
            self._place = Place(self._place.purpose)
            self._generation = forks.current
            return True
        return self._rest(self._place, until)

    def linger(self, until: Nanoseconds) -> None:
        """As :meth:`park`, for a thread of waitkit's own that has nothing to do: a virtual clock lets no time pass for it."""
        self._place.idle = True
        self.park(until)
        self._place.idle = False

    def unpark(self) -> None:
        """Wake the thread parked here, or have its next park return at once."""
        if self._generation == forks.current:  # else its thread stayed in the parent
            self._notify(self._place)
