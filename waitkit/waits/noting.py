"""What a wait notes for its subscribers: who woke it when, and what its looks saw. Nobody subscribed: nothing of this."""

from __future__ import annotations

import sys
from typing import Final

from waitkit.engine.clock import now
from waitkit.engine.signals import Wake
from waitkit.ground.durations import Nanoseconds
from waitkit.ground.records import Outcome, Subscriber, Try
from waitkit.waits.watching import Watch

__all__ = ["Noted", "task_name"]

# A condition that flutters for hours must not fill the memory: how it began and how it ended tell most.
_FIRST: Final = 8
_LAST: Final = 24


class Noted:
    """The notes of one wait. Looks are noted by its own thread; the first wake-up after a look, by whoever wakes."""

    __slots__ = ("_looked", "_wants_tries", "_woken", "tries")

    def __init__(self, subscribers: tuple[Subscriber, ...]) -> None:
        self._wants_tries = any(subscriber.tries for subscriber in subscribers)
        self._looked: Nanoseconds | None = None
        self._woken: Nanoseconds | None = None
        #: what the looks that did not hold saw
        self.tries: list[Try] = []

    def noting(self, wake: Wake) -> Wake:
        """*wake*, with the time of the first call since the last look noted."""

        def noted() -> None:
            if self._woken is None:
                self._woken = now()
            wake()

        return noted

    def look(self, instant: Nanoseconds, watch: Watch) -> None:
        """A look that began at *instant* did not hold."""
        self._looked, self._woken = instant, None
        if not self._wants_tries:
            return
        seen, tries = watch.seen(), self.tries
        if tries and tries[-1].seen == seen:
            tries[-1] = Try(tries[-1].start, instant, tries[-1].looks + 1, seen)
            return
        if len(tries) >= _FIRST + _LAST:
            del tries[_FIRST]
        tries.append(Try(instant, instant, 1, seen))

    def overshoot(
        self, outcome: Outcome, started: Nanoseconds, deadline: Nanoseconds | None, ended: Nanoseconds
    ) -> Nanoseconds:
        """At most how much longer than needed the wait took; see :class:`waitkit.WaitRecord`."""
        if outcome == "timeout" and deadline is not None:
            return max(0, ended - max(deadline, started))
        if outcome == "pending" or self._looked is None:
            return 0  # it goes on; or it held at its first look, and nobody can tell since when
        return max(0, ended - (self._looked if self._woken is None else self._woken))


def task_name() -> str:
    """The name of the asyncio task that runs here; empty outside of tasks. It does not import asyncio."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:
        return ""
    try:
        task = asyncio.current_task()
    except (RuntimeError, AttributeError):  # no loop runs here; asyncio is only half imported
        return ""
    return "" if task is None else str(task.get_name())
