"""Runs that take too long: told while they go on, however many hang."""

from __future__ import annotations

from functools import partial

from waitkit.engine.background import CannotStart, start_thread
from waitkit.engine.timers import Timer, call_at
from waitkit.engine.workers import Task, run_in_worker
from waitkit.ground.durations import Nanoseconds

__all__ = ["call_while_it_hangs"]


def call_while_it_hangs(due: Nanoseconds, tell: Task) -> Timer | None:
    """Have *tell* called at the instant *due*, in a thread of its own.

    Workers are what a run that hangs keeps busy: where all of them hang, a task of theirs would be called when it is over.

    Returns:
        The timer, to be cancelled when the run ends in time; ``None`` where there are no timers any more, as the interpreter
        is going down.
    """
    try:
        return call_at(due, partial(_call, tell))
    except CannotStart:
        return None


def _call(tell: Task) -> None:
    # In the thread of the timers, which others need.
    try:
        start_thread("poller-hang", tell)
    except CannotStart:
        _call_when_a_worker_is_free(tell)


def _call_when_a_worker_is_free(tell: Task) -> None:
    try:
        run_in_worker(tell)
    except CannotStart:
        pass  # there is no thread at all for it
