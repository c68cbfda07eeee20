"""Which clock a wait was on: real time has one for all, and each virtual clock makes up a time of its own."""

from __future__ import annotations

from waitkit.engine.clock import Clock, SystemClock, current_clock
from waitkit.engine.locks import ForkSafeLock
from waitkit.ground.durations import Nanoseconds

__all__ = ["Clocks"]


class Clocks:
    """Numbers the clocks that the waits of a recording were on: 0 is the system's, virtual ones count from 1."""

    def __init__(self) -> None:
        self._lock = ForkSafeLock()
        self._virtual: Clock | None = None
        self._number = 0

    def number(self, instant: Nanoseconds) -> int:
        """The number of the clock of a wait that has ended at *instant*: call it right then.

        It is the clock that shows this instant now. The current one may be another: a wait keeps to the clock it began with.
        The system's is asked itself, as libraries that freeze time exchange the functions of the module ``time``.
        """
        current = current_clock()
        with self._lock:
            if current is not self._virtual and not isinstance(current, SystemClock):
                self._virtual, self._number = current, self._number + 1
            virtual, number = self._virtual, self._number
        if virtual is None or abs(SystemClock.now() - instant) <= abs(virtual.now() - instant):
            return 0
        return number
