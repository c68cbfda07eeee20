"""What users write: the decorator ``@polls_every`` and the block form ``with polling(function, "60s")``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, Unpack

from waitkit.conditions.sources import describe_callable, describe_value
from waitkit.decorators.wrapping import wrap
from waitkit.ground.callables import kind_of
from waitkit.ground.durations import Duration
from waitkit.polls.decorated import Definition, PolledFunction, check_call
from waitkit.polls.plan import PollOptions, read_plan
from waitkit.polls.poller import Poller

__all__ = ["polling", "polls_every"]

P = ParamSpec("P")
R = TypeVar("R")

_INSTEAD = "Write a plain function that makes one round of the loop."


def polls_every(interval: Duration, **options: Unpack[PollOptions]) -> Callable[[Callable[P, R]], PolledFunction[P, R]]:
    """Give a function pollers, which run it again and again: at an interval, when triggered, and until stopped.

    ::

        @polls_every("60s", error_interval="10m", trigger=orders_changed)
        def check_orders(): ...

        check_orders()                  # still a plain call
        poller = check_orders.start()   # the first run begins at once
        check_orders.trigger()          # run now
        check_orders.stop()             # returns when no run will follow

    It decorates functions, coroutine functions (polled in the event loop that calls ``start()``), methods (each instance has its
    own poller), class- and staticmethods (above ``@classmethod``: below it, Python 3.13 hides the pollers); name, signature and
    type stay. A run that fails ends nothing: it is logged, counted, and the next one comes after *error_interval*. What is no
    :class:`Exception` (an exit, Ctrl-C, the cancellation of a coroutine's task) ends the poller, be it raised by a run, by a
    hook or by a condition. Runs of one poller never overlap. Pollers rest without a thread; runs share a few threads.

    Args:
        interval: the time between two runs, above 0.
        options: all that follow.
        error_interval: the time after a failed run; a duration, or a :class:`Backoff` that grows with the number of failures in
            a row. ``None``: *interval*.
        first_delay: the time before the first run; ``None``: it begins at once.
        timing: ``"fixed_delay"`` (the default): the interval is counted from the end of a run. ``"fixed_rate"``: runs are due at
            multiples of the interval from the first, and do not drift.
        missed: what becomes of ticks missed at a fixed rate, by a run that took long or a process that was stopped.
            ``"skip"``: one run at once, then back on the grid. ``"delay"``: one at once, and a new grid from it.
            ``"burst"``: all of them, one after another.
        jitter: each run begins later by a chance of at most this, which does not add up; ``None``: none.
        stagger: begin each poller at another phase of the interval, so that many do not run at the same instant.
        trigger: a condition, or a tuple of several, that makes it run now. An event is cleared when it is taken, before
            the run. A queue makes it run while it holds an item. Others count when they begin to hold; where nothing signals
            them, they are looked at every 250 ms (see :func:`set_defaults`).
        until: a condition that ends the poller when it holds.
        max_runs: the poller ends after so many runs, failed ones included; ``None``: no limit.
        stop_on: exceptions that end the poller: a type, a tuple of types, or a function of the exception.
        on_error: called with a :class:`PollRecord` after each failed run, and each time a trigger or *until* raises instead of
            saying whether it holds (``record.condition`` names it; it is looked at again after 250 ms at the latest).
        hang_after: a run that takes longer is logged, with the line it is in; ``None``: none is. It is not interrupted.
        on_hang: called with a :class:`PollRecord` then, in a thread of its own, while the run goes on.
        own_thread: runs wait for no free worker (there are 64): for functions that block for minutes.
        stop_at_exit: at the end of the interpreter, wait so long for a run in progress; ``None``: it is cut off.

    Returns:
        The decorator; a decorated function has ``start``, ``polling``, ``trigger``, ``stop`` and ``poller``.

    Raises:
        TypeError, ValueError: there is no such option, or one cannot be what it should be, or (when decorating) a generator
            function is decorated.
    """
    plan = read_plan("polls_every", interval, options)

    def decorate(function: Callable[P, R]) -> PolledFunction[P, R]:
        kind: Any = PolledFunction
        decorated: PolledFunction[P, R] = wrap(
            function, "polls_every", _call, _call, instead=_INSTEAD, wrapper_class=kind
        )
        decorated._self_definition = Definition(plan)
        return decorated

    return decorate


def _call(function: Callable[..., Any], _instance: object, args: Any, kwargs: Any) -> Any:
    return function(*args, **kwargs)


def polling(function: Callable[[], object], interval: Duration, **options: Unpack[PollOptions]) -> Poller:
    """A poller of *function*, for a ``with`` block or to be started: what :func:`polls_every` does, without decorating.

    ::

        with polling(refresh, "30s") as poller:
            ...

    Args:
        function: called without arguments; a coroutine function is polled in the event loop that starts the poller.
        interval: as for :func:`polls_every`.
        options: as for :func:`polls_every`.

    Returns:
        A poller that is not started yet.

    Raises:
        TypeError, ValueError: *function* is no callable, or a generator function, or there is no such option, or one cannot be
            what it should be.
    """
    _refuse_what_does_not_run(function)
    check_call(function)
    return Poller(function, function, read_plan("polling", interval, options))


def _refuse_what_does_not_run(function: Any) -> None:
    takes = "polling() takes a function and an interval, in this order"
    if not callable(function):
        raise TypeError(f"{takes}: {describe_value(function)} cannot be called")
    if isinstance(function, type):
        raise TypeError(f"{takes}: {function.__qualname__} is a class; give a function, or a method of an instance")
    kind = kind_of(function)
    if "generator" in kind:
        raise TypeError(
            f"{takes}: calling the {kind} function {describe_callable(function)} runs nothing of it yet. {_INSTEAD}"
        )
