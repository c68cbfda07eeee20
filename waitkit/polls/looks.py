"""What the conditions of a poller say in each of its steps: whether it is over, and whether a run is wanted."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any, NamedTuple, TypeAlias

from waitkit.conditions.condition import Condition
from waitkit.engine.clock import now
from waitkit.engine.signals import Wake
from waitkit.ground.durations import Nanoseconds
from waitkit.ground.settings import current_settings
from waitkit.polls.triggers import Trigger
from waitkit.waits.watching import Context, Watch, earliest

__all__ = ["Answer", "Looks", "TellBroken"]

#: Called with a condition that raised, in words; the error; how many of its looks in a row have raised; how long until the
#: next at the latest.
TellBroken: TypeAlias = Callable[[str, Exception, int, Nanoseconds], None]


class Answer(NamedTuple):
    """What one look at all of them found.

    Attributes:
        over: whether the poller is to end.
        wanted: whether a run is wanted before its time.
        again: when to look again, where no wake-up will tell; ``None``: wake-ups tell everything.
    """

    over: bool
    wanted: bool
    again: Nanoseconds | None


class Looks:
    """The views that one poller has of its conditions.

    Each is looked at by itself. One that raises is told, counts as one that does not hold, and is looked at again after the
    longest gap between two looks at the latest; the others are heard all the same, and what one of them has taken is not lost.
    """

    __slots__ = ("_broken", "_gap", "_tell", "_triggers", "_until", "_words")

    def __init__(self, until: Condition[Any] | None, triggers: tuple[Condition[Any], ...], tell: TellBroken) -> None:
        context = Context(now(), None, (), current_settings().probe_cap)
        self._gap = context.probe_cap
        self._until: Watch | None = None if until is None else until.watch(context)
        self._triggers = [Trigger(condition, context) for condition in triggers]
        self._tell = tell
        #: what was asked for, by the names of the options
        self._words = [("trigger", condition) for condition in triggers]
        if until is not None:
            self._words.append(("until", until))
        self._broken = [0] * len(self._words)  # how many looks in a row have raised, for each

    @property
    def may_block(self) -> bool:
        """Whether one of them may take its time."""
        until = self._until is not None and self._until.may_block
        return until or any(trigger.may_block for trigger in self._triggers)

    def arm(self, wake: Wake) -> None:
        """Have *wake* called when it is worth while to look."""
        instant = now()
        for trigger in self._triggers:
            trigger.arm(instant, wake)
        if self._until is not None:
            self._until.arm(wake)

    def look(self, instant: Nanoseconds, *, after_failure: bool) -> Answer:
        """Look at all of them. A run that is wanted is hereby taken."""
        again: Nanoseconds | None = None
        if self._until is not None:
            over, again = self._look_at(-1, partial(_holds, self._until, instant))
            if over:
                return Answer(True, False, None)
        wanted = False
        for position, trigger in enumerate(self._triggers):
            pulled, later = self._look_at(position, partial(trigger.pulled, instant, after_failure=after_failure))
            wanted = wanted or pulled
            again = earliest(again, later)
        return Answer(False, wanted, again)

    def _look_at(
        self, position: int, look: Callable[[], tuple[bool, Nanoseconds | None]]
    ) -> tuple[bool, Nanoseconds | None]:
        try:
            answer = look()
        except Exception as error:  # noqa: BLE001 - it is told
            self._broken[position] += 1
            option, condition = self._words[position]
            self._tell(f"{option} ({condition.what})", error, self._broken[position], self._gap)
            return False, now() + self._gap
        self._broken[position] = 0
        return answer

    def close(self) -> None:
        """Unsubscribe from all of them, though one of them fails to."""
        with ExitStack() as stack:
            for trigger in self._triggers:
                stack.callback(trigger.close)
            if self._until is not None:
                stack.callback(self._until.close)


def _holds(watch: Watch, instant: Nanoseconds) -> tuple[bool, Nanoseconds | None]:
    verdict = watch.look(instant)
    return verdict.holds, verdict.again
