"""What users write: the decorator ``@polls_every`` and the block form ``with polling(function, "60s")``."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ParamSpec, TypeAlias, TypedDict, TypeVar, Unpack

from waitkit.conditions.condition import as_condition
from waitkit.decorators.wrapping import refuse_generators, wrap
from waitkit.ground.durations import Duration, Nanoseconds, to_nanoseconds
from waitkit.policies.backoff import Backoff
from waitkit.policies.schedule import Missed, Timing, read_schedule
from waitkit.polls.decorated import Definition, PolledFunction, check_call
from waitkit.polls.machine import Plan
from waitkit.polls.poller import Poller
from waitkit.polls.records import PollHook
from waitkit.polls.triggers import as_triggers

__all__ = ["PollOptions", "StopOn", "polling", "polls_every"]

P = ParamSpec("P")
R = TypeVar("R")

#: Exception types, or a function of the exception.
StopOn: TypeAlias = type[Exception] | tuple[type[Exception], ...] | Callable[[Exception], object]

_INSTEAD = "Write a plain function that makes one round of the loop."


class PollOptions(TypedDict, total=False):
    """The options that the decorator and the block form share; see :func:`waitkit.polls_every`."""

    error_interval: Duration | Backoff | None
    first_delay: Duration | None
    timing: Timing
    missed: Missed
    jitter: Duration | None
    stagger: bool
    trigger: object
    until: object
    max_runs: int | None
    stop_on: StopOn | None
    on_error: PollHook | None
    hang_after: Duration | None
    on_hang: PollHook | None
    own_thread: bool
    stop_at_exit: Duration | None


def _plan(
    interval: Duration,
    *,
    error_interval: Duration | Backoff | None = None,
    first_delay: Duration | None = None,
    timing: Timing = "fixed_delay",
    missed: Missed = "skip",
    jitter: Duration | None = None,
    stagger: bool = False,
    trigger: object = None,
    until: object = None,
    max_runs: int | None = None,
    stop_on: StopOn | None = None,
    on_error: PollHook | None = None,
    hang_after: Duration | None = None,
    on_hang: PollHook | None = None,
    own_thread: bool = False,
    stop_at_exit: Duration | None = None,
) -> Plan:
    if max_runs is not None and (isinstance(max_runs, bool) or not isinstance(max_runs, int) or max_runs < 1):
        raise ValueError(f"max_runs={max_runs!r} is not a whole number of 1 or more; None means no limit")
    for name, function in (("on_error", on_error), ("on_hang", on_hang)):
        if function is not None and not callable(function):
            raise TypeError(f"{name}={function!r} cannot be called")
    if on_hang is not None and hang_after is None:
        raise ValueError("on_hang is never called without hang_after: say how long a run may take")
    if not isinstance(own_thread, bool):
        raise TypeError(f"own_thread={own_thread!r} is neither True nor False")
    return Plan(
        schedule=read_schedule(
            interval,
            error_interval=error_interval,
            first_delay=first_delay,
            timing=timing,
            missed=missed,
            jitter=jitter,
            stagger=stagger,
        ),
        triggers=as_triggers(trigger),
        until=None if until is None else as_condition(until),
        max_runs=max_runs,
        stop_on=None if stop_on is None else _read_stop_on(stop_on),
        on_error=on_error,
        hang_after=_above_zero(hang_after, "hang_after"),
        on_hang=on_hang,
        own_thread=own_thread,
        stop_at_exit=None if stop_at_exit is None else to_nanoseconds(stop_at_exit, "stop_at_exit"),
    )


def _above_zero(duration: Duration | None, name: str) -> Nanoseconds | None:
    if duration is None:
        return None
    nanoseconds = to_nanoseconds(duration, name)
    if nanoseconds == 0:
        raise ValueError(f"{name}={duration!r} leaves no time at all: give more than 0")
    return nanoseconds


def _read_stop_on(stop_on: StopOn) -> Callable[[Exception], object]:
    kinds: Any = stop_on if isinstance(stop_on, tuple) else (stop_on,)
    if kinds and all(isinstance(kind, type) and issubclass(kind, Exception) for kind in kinds):
        return partial(_is_one_of, kinds)
    if isinstance(stop_on, tuple | type) or not callable(stop_on):
        raise TypeError(
            f"stop_on={stop_on!r}: give an exception type, a tuple of them, or a function of the exception "
            "(KeyboardInterrupt, SystemExit and cancellations always stop a poller)"
        )
    return stop_on


def _is_one_of(kinds: tuple[type[Exception], ...], error: Exception) -> bool:
    return isinstance(error, kinds)


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
    type stay. A run that fails ends nothing: it is logged, counted,
    and the next one comes after *error_interval*. Runs of one poller never overlap. Pollers rest without a thread; runs
    share a few worker threads.

    Args:
        interval: the time between two runs, above 0.
        options: all that follow.
        error_interval: the time after a failed run; a duration, or a :class:`Backoff` that grows with the number of failures in
            a row. ``None``: *interval*.
        first_delay: the time before the first run; ``None``: it begins at once.
        timing: ``"fixed_delay"`` (the default): the interval is counted from the end of a run. ``"fixed_rate"``: runs are due at
            multiples of the interval from the first, and do not drift.
        missed: what becomes of ticks missed at a fixed rate, by a run that took long or a machine that slept.
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
        on_error: called with a :class:`PollRecord` after each failed run.
        hang_after: a run that takes longer is logged, with the line it is in; ``None``: none is. It is not interrupted.
        on_hang: called with a :class:`PollRecord` then.
        own_thread: runs wait for no free worker (there are 64): for functions that block for minutes.
        stop_at_exit: at the end of the interpreter, wait so long for a run in progress; ``None``: it is cut off.

    Returns:
        The decorator; a decorated function has ``start``, ``polling``, ``trigger``, ``stop`` and ``poller``.

    Raises:
        TypeError, ValueError: an option cannot be what it should be, or (when decorating) a generator function is decorated.
    """
    plan = _plan(interval, **options)

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
        TypeError, ValueError: *function* is no callable, or a generator function, or an option cannot be what it should be.
    """
    refuse_generators(function, "polling", _INSTEAD)
    check_call(function)
    return Poller(function, function, _plan(interval, **options))
