"""Parking: the only place where a thread of waitkit, or a thread that waits with it, comes to rest."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from waitkit.engine import forks
from waitkit.engine.clock import Clock, Place, current_clock
from waitkit.ground.durations import Nanoseconds

__all__ = ["Parker"]


class Parker:
    """The parking place of one waiter: :meth:`park` rests, :attr:`unpark` ends the rest, from anywhere.

    A wake-up is kept: ``unpark`` before ``park`` makes the park return at once. Wake-ups do not add up.

    Args:
        purpose: what its thread waits for, where a clock has to explain why time stands still.
        clock: whose time passes here; ``None`` for the current one.
    """

    __slots__ = ("clock", "generation", "place", "rest", "unpark")

    def __init__(self, purpose: object = None, clock: Clock | None = None) -> None:
        clock = clock or current_clock()
        self.clock: Final = clock
        self.place: Final = Place(purpose)
        #: as :meth:`park`, for who has asked :meth:`renew` himself: one Python function less on the way of a wake-up
        self.rest: Final[Callable[[Nanoseconds | None], bool]] = partial(clock.rest, self.place)
        #: wakes the thread parked here, or has its next park return at once
        self.unpark: Final[Callable[[], None]] = partial(clock.notify, self.place)
        self.generation = forks.current

    def park(self, until: Nanoseconds | None) -> bool:
        """Rest until :attr:`unpark`, or until the instant *until* (``None``: only until unpark).

        It may return early, so call it in a loop that looks at what it waits for.

        Returns:
            Whether it is time to look, whatever the clock says: somebody called unpark, or may have.
        """
        if self.generation != forks.current:
            self.renew()
            return True
        return self.rest(until)

    def renew(self) -> None:
        """To be called in a forked child, where :attr:`generation` is an old one. Have the caller look again before it rests.

        Wake-ups meant for us may have gone to the parent's copy.
        """
        self.place.renew()
        self.generation = forks.current

    def linger(self, until: Nanoseconds) -> None:
        """As :meth:`park`, for a thread of waitkit's own that has nothing to do: a virtual clock lets no time pass for it."""
        self.place.idle = True
        self.park(until)
        self.place.idle = False
