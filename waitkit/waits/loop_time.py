"""An event loop as the place of one wait: its time, and how other threads reach it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from waitkit.engine.clock import Clock, SystemClock, current_clock
from waitkit.engine.timers import Timer, current_timers
from waitkit.ground.durations import MICROSECOND, SECOND, Nanoseconds

if TYPE_CHECKING:
    import asyncio

__all__ = ["LoopTime"]


class LoopTime:
    """The running loop, for a wait that waits by *clock*."""

    __slots__ = ("_timers", "clock", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Clock) -> None:
        self.loop = loop
        self.clock = clock
        self._timers = current_timers()

    def call_at(self, until: Nanoseconds, function: Callable[[], None]) -> Timer | asyncio.TimerHandle:
        """Call *function* in the loop then: by a timer of the loop, which needs no thread, where its time is that of the wait."""
        clock = self.clock
        if isinstance(clock, SystemClock) and clock is current_clock():
            # A loop rounds its time, and must not come a moment too early: the look that follows would be in vain.
            return self.loop.call_later((until - clock.now() + MICROSECOND) / SECOND, function)
        # Virtual time is exact to the nanosecond, and a loop's is not; and who began to wait in real time goes on in that,
        # though his loop has gone over to virtual time.
        return self._timers.call_at(until, lambda: self.call(function))

    def call(self, function: Callable[[], None]) -> None:
        """Call *function* in the loop, from any thread. Where the loop is closed, nobody waits there any more."""
        try:
            self.loop.call_soon_threadsafe(function)
        except RuntimeError:
            pass
