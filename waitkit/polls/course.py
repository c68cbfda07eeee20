"""What the runs of a poller lead to: when the next is due, what is counted and told, and whether an error ends the poller."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Final

from waitkit.conditions.sources import describe_callable
from waitkit.engine import clock
from waitkit.engine.clock import now
from waitkit.ground.durations import MILLISECOND, SECOND, Nanoseconds
from waitkit.polls.history import History
from waitkit.polls.plan import Plan
from waitkit.polls.records import PollRecord, log_broken, log_recovery, tell
from waitkit.polls.runners import Run

__all__ = ["Course", "Name"]


#: A tick may be late by so much of the interval, half a percent, where others come then: one wake-up serves them all, and of
#: thousands of pollers the wake-ups are what costs most. (Linux allows ``poll(2)`` a tenth of a percent, macOS advises ten.)
_SLACK: Final = 200
_MOST_SLACK: Final = 5 * MILLISECOND


class Name:
    """What a poller is called: its function, in words. Found when first asked for: the text of a lambda costs milliseconds."""

    __slots__ = ("_function", "_words")

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._words = ""

    def __call__(self) -> str:
        if not self._words:
            self._words = describe_callable(self._function)
        return self._words


class Course:
    """The runs of one poller, from its start on.

    Its methods are called by the poller's own steps, which follow one another; :meth:`tell_hang` beside them. What hooks raise
    comes through, if it is no :class:`Exception`.

    Args:
        plan: what was asked for.
        history: where the runs are counted.
        name: what the poller is called, where something is to be told.
        began: the instant of the start.
        position: how many were started before, for ``stagger``.
    """

    __slots__ = ("_history", "_name", "_plan", "_schedule", "_tick", "due", "slack")

    def __init__(self, plan: Plan, history: History, name: Name, began: Nanoseconds, position: int) -> None:
        self._plan = plan
        self._schedule = plan.schedule
        self._history = history
        self._name = name
        #: by how much a run may come later than that
        self.slack = min(plan.schedule.interval // _SLACK, _MOST_SLACK)
        self._tick = plan.schedule.first(began, random.random, position)
        #: when the next run begins, unless something else than the clock causes it before
        self.due = self._tick.due

    def cut_off(self) -> None:
        """A run has ended because we have cancelled it: that is neither a success nor a failure."""
        self._history.cut_off(now())

    def end(self, run: Run, error: BaseException | None) -> bool:
        """A run has ended by itself. Returns whether its error ends the poller."""
        ended, history = clock.current.now(), self._history
        recovered = history.end(ended, error)
        tick = self._schedule.after_run(
            self._tick, run.begun, ended, history.failures, random.random, triggered=run.triggered
        )
        self._tick, self.due = tick, tick.due
        if error is None:
            if recovered:
                log_recovery(self._name(), recovered)
            return False
        if not run.has_failed_with(error) or self._stops_on(error):
            return True
        self._tell_failure(error, max(0, self._tick.due - ended))
        return False

    def _stops_on(self, error: BaseException) -> bool:
        if self._plan.stop_on is None or not isinstance(error, Exception):
            return False
        try:
            return bool(self._plan.stop_on(error))
        except Exception:  # noqa: BLE001 - it is logged; a judgement that fails ends nothing
            log_broken(self._name(), "stop_on")
            return False

    def _tell_failure(self, error: BaseException, next_in: Nanoseconds) -> None:
        history = self._history
        duration = history.duration_in_seconds
        record = PollRecord(self._name(), history.runs + 1, duration, error, history.failures, next_in / SECOND)
        tell(self._plan.on_error, record)

    def tell_hang(self, run: Run) -> None:
        """Tell that *run* takes too long."""
        history = self._history
        duration = (now() - run.begun) / SECOND
        record = PollRecord(self._name(), history.runs + 1, duration, None, history.failures, None, run.where())
        tell(self._plan.on_hang, record)

    def tell_broken_condition(self, which: str, error: Exception, failures: int, gap: Nanoseconds) -> None:
        """Tell that a condition has raised, instead of saying whether it holds."""
        tell(self._plan.on_error, PollRecord(self._name(), 0, 0.0, error, failures, gap / SECOND, condition=which))
