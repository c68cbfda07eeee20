"""What makes a poller run before its time: conditions, each seen through a watch that lasts as long as the poller.

The classic loop (``event.wait(interval); work(); event.clear()``) loses what is set between the work and the clearing.
Here a trigger is taken *before* the run that it causes: what comes afterwards, during the run, causes one more.
"""

from __future__ import annotations

import threading
from typing import Any

from waitkit.conditions.condition import Condition, as_condition
from waitkit.conditions.notifying import EventSet, ItemQueued, SharedEventSet
from waitkit.conditions.own import Event
from waitkit.engine.signals import Wake
from waitkit.ground.durations import Nanoseconds
from waitkit.waits.watching import Context, Watch

__all__ = ["Trigger", "as_triggers"]


def as_triggers(trigger: object) -> tuple[Condition[Any], ...]:
    """Read ``trigger=``: nothing, one condition, or a tuple or list of them.

    Raises:
        TypeError: one of them does not adapt to a condition.
    """
    if trigger is None:
        return ()
    several = trigger if isinstance(trigger, tuple | list) else (trigger,)
    return tuple(as_condition(thing, "trigger") for thing in several)


class Trigger:
    """One poller's view of a condition that makes it run.

    - An event (:class:`waitkit.Event`, :class:`threading.Event`) is cleared when it is taken. Several pollers may share one:
      each hears of ``set()`` by itself, whoever clears it.
    - A queue makes it run for as long as an item is there; after a failed run not before the next due time.
    - Any other condition makes it run when it *begins* to hold, or was interrupted since the last look.
    """

    __slots__ = ("_epoch", "_event", "_held", "_level", "_signalled", "_token", "_watch")

    def __init__(self, condition: Condition[Any], context: Context) -> None:
        self._event = _event_of(condition)
        self._level = isinstance(condition, ItemQueued)
        # An event or a queue is asked what it is; of anything else we must learn when it stops, to know when it begins.
        stays = self._event is not None or self._level
        self._watch: Watch = condition.watch(context if stays else context.for_both_ways())
        self._token: object = None
        self._signalled = False
        self._held = False
        self._epoch = 0

    @property
    def may_block(self) -> bool:
        """Whether a look may take its time."""
        return self._watch.may_block

    def arm(self, now: Nanoseconds, wake: Wake) -> None:
        """Have *wake* called when it is worth while to look. What an event is told from here on is not missed."""

        def signalled() -> None:
            self._signalled = True
            wake()

        if isinstance(self._event, Event):
            # Not its watch, which also hears of clear(): another poller may take the event before we look.
            self._token = self._event.becomes_set.subscribe(signalled)
        else:
            self._watch.arm(signalled)
        if self._event is not None and self._watch.look(now).holds:  # a hook begins to hear with the first look
            self._signalled = True

    def pulled(self, now: Nanoseconds, *, after_failure: bool) -> tuple[bool, Nanoseconds | None]:
        """Whether a run is wanted, which is hereby taken; and when to look again, where no wake-up will tell."""
        signalled = self._signalled
        if signalled:
            # Whatever comes between here and the run is answered by that run.
            self._signalled = False
        verdict = self._watch.look(now)
        if self._event is not None:
            taken = verdict.holds
            while verdict.holds:
                self._event.clear()
                verdict = self._watch.look(now)  # which hears of the next set(): a look that finds it set need not
            return taken or signalled, verdict.again
        if self._level:
            return verdict.holds and not after_failure, verdict.again
        begins = verdict.holds and (not self._held or verdict.epoch != self._epoch)
        self._held, self._epoch = verdict.holds, verdict.epoch
        return begins, verdict.again

    def close(self) -> None:
        """Unsubscribe."""
        if isinstance(self._event, Event):
            self._event.becomes_set.unsubscribe(self._token)
        self._watch.close()


def _event_of(condition: Condition[Any]) -> Any:
    """What can be cleared, where *condition* is that an event is set."""
    if isinstance(condition, Event):
        return condition
    if isinstance(condition, EventSet | SharedEventSet):
        event: threading.Event = condition.event
        return event
    return None
