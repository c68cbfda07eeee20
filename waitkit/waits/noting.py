"""What a wait notes for its subscribers and tells them: who woke it, what looks saw. Nobody subscribed: nothing of it."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Final

from waitkit.engine.clock import now
from waitkit.engine.signals import Wake
from waitkit.ground.durations import Nanoseconds
from waitkit.ground.errors import Cancelled, WaitFailed, WaitTimeout
from waitkit.ground.records import Outcome, Subscriber, Try, WaitRecord, publish
from waitkit.waits.watching import Watch, earliest

__all__ = ["Noted", "outcome_of"]

# A condition that flutters for hours must not fill the memory: how it began and how it ended tell most.
_FIRST: Final = 8
_LAST: Final = 24


class Noted:
    """The notes of one wait. Looks are noted by its own thread; the first wake-up after a look, by whoever wakes.

    Args:
        subscribers: those there were when the wait began.
        started: the instant it began.
    """

    __slots__ = (
        "_begins",
        "_looked",
        "_progress",
        "_started",
        "_wants_tries",
        "_woken",
        "task",
        "thread",
        "tries",
        "untold",
    )

    def __init__(self, subscribers: tuple[Subscriber, ...], started: Nanoseconds) -> None:
        self._started = started
        #: who waits; a look, and the end, may come in another thread
        self.thread = threading.current_thread()
        self.task = _task_name()
        #: who is to hear of the end
        self.untold = [subscriber.on_end for subscriber in subscribers if subscriber.on_end is not None]
        self._progress = [
            (started + subscriber.first_progress, subscriber)
            for subscriber in subscribers
            if subscriber.on_progress is not None
        ]
        self._wants_tries = any(subscriber.tries for subscriber in subscribers)
        self._looked: Nanoseconds | None = None
        self._woken: Nanoseconds | None = None
        self._begins: Nanoseconds | None = None
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
        self._looked, self._woken, self._begins = instant, None, watch.begins()
        if not self._wants_tries:
            return
        seen, tries = watch.seen(), self.tries
        if tries and tries[-1].seen == seen:
            tries[-1] = Try(tries[-1].start, instant, tries[-1].looks + 1, seen)
            return
        if len(tries) >= _FIRST + _LAST:
            del tries[_FIRST]
        tries.append(Try(instant, instant, 1, seen))

    @property
    def reports(self) -> bool:
        """Whether somebody listens to the progress."""
        return bool(self._progress)

    def tell_progress(self, instant: Nanoseconds, record: Callable[[], WaitRecord]) -> Nanoseconds | None:
        """Tell the progress to those for whom it is time. Returns when it is time for the next."""
        next_report: Nanoseconds | None = None
        for position, (due, subscriber) in enumerate(self._progress):
            if instant >= due:
                publish(subscriber.on_progress, record())
                due = self._started + round((now() - self._started) * subscriber.growth)
                self._progress[position] = (due, subscriber)
            next_report = earliest(next_report, due)
        return next_report

    def tell_end(self, record: WaitRecord) -> None:
        """Tell the end; again, to those whom an interrupt kept from hearing of it."""
        while self.untold:
            publish(self.untold.pop(0), record)

    def overshoot(
        self, outcome: Outcome, started: Nanoseconds, deadline: Nanoseconds | None, ended: Nanoseconds
    ) -> Nanoseconds:
        """At most how much longer than needed the wait took; see :class:`waitkit.WaitRecord`."""
        if outcome == "timeout" and deadline is not None:
            return max(0, ended - max(deadline, started))
        if outcome == "pending" or self._looked is None:
            return 0  # it goes on; or it held at its first look, and nobody can tell since when
        told = self._woken
        if outcome == "held" and self._begins is not None and self._begins <= ended:
            told = earliest(told, max(self._begins, self._looked))
        return max(0, ended - (self._looked if told is None else told))


def _task_name() -> str:
    """The name of the asyncio task that runs here; empty outside of tasks. It does not import asyncio."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:
        return ""
    try:
        task = asyncio.current_task()
    except (RuntimeError, AttributeError):  # no loop runs here; asyncio is only half imported
        return ""
    return "" if task is None else str(task.get_name())


def outcome_of(error: BaseException | None) -> Outcome:
    """How a wait ended that ended with *error*; ``None``: with success."""
    if error is None:
        return "held"
    if isinstance(error, WaitTimeout):
        return "timeout"
    if isinstance(error, WaitFailed):
        return "failed"
    # A task's own cancellation is told by its name: asyncio is imported only where it is used.
    return "cancelled" if isinstance(error, Cancelled) or type(error).__name__ == "CancelledError" else "error"
