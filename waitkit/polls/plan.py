"""What a poller is asked to do, and how that is read from what users write."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias, TypedDict

import attrs

from waitkit.conditions.condition import Condition, as_condition
from waitkit.decorators.wrapping import refuse_unknown_options
from waitkit.ground.checks import check_bool, check_callables, check_count
from waitkit.ground.durations import Duration, Nanoseconds, to_nanoseconds
from waitkit.policies.backoff import Backoff
from waitkit.policies.schedule import Missed, Schedule, Timing, read_schedule
from waitkit.polls.records import PollHook
from waitkit.polls.triggers import as_triggers

__all__ = ["Plan", "PollOptions", "StopOn", "read_plan"]

#: Exception types, or a function of the exception.
StopOn: TypeAlias = type[Exception] | tuple[type[Exception], ...] | Callable[[Exception], object]


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


@attrs.frozen(kw_only=True)
class Plan:
    """What a poller was asked to do; any number of pollers share it."""

    schedule: Schedule
    triggers: tuple[Condition[Any], ...] = ()
    until: Condition[Any] | None = None
    max_runs: int | None = None
    stop_on: Callable[[Exception], object] | None = None
    on_error: PollHook | None = None
    hang_after: Nanoseconds | None = None
    on_hang: PollHook | None = None
    own_thread: bool = False
    stop_at_exit: Nanoseconds | None = None


def read_plan(caller: str, interval: Duration, options: PollOptions) -> Plan:
    """Read what a user has given to the function named *caller*; the meaning is that of :func:`waitkit.polls_every`.

    Raises:
        TypeError, ValueError: there is no such option, or one cannot be what it should be.
    """
    refuse_unknown_options(caller, options, PollOptions.__annotations__)
    return _read(interval, **options)


def _read(
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
    if max_runs is not None:
        check_count(max_runs, "max_runs", "; None means no limit")
    check_callables(on_error=on_error, on_hang=on_hang)
    if on_hang is not None and hang_after is None:
        raise ValueError("on_hang is never called without hang_after: say how long a run may take")
    check_bool(own_thread, "own_thread")
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
        until=None if until is None else as_condition(until, "until"),
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
            "(KeyboardInterrupt, SystemExit and the cancellation of a run always stop a poller)"
        )
    return stop_on


def _is_one_of(kinds: tuple[type[Exception], ...], error: Exception) -> bool:
    return isinstance(error, kinds)
