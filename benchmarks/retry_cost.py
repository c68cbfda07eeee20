"""What a retry decorator costs: when nothing fails, and for each attempt that does, without any delay."""

from __future__ import annotations

import argparse
import functools
import logging
import timeit
from collections.abc import Callable
from typing import Any

import wrapt
from measure import Goal, Table, interleaved, median, peer, times

from waitkit import retry_backoff

FAILURES = 10

#: tenacity sleeps for a moment even where the delay is 0; this is what it costs without.
NO_SLEEP = "tenacity, sleep= does nothing"

Decorator = Callable[[Callable[[], object]], Callable[[], object]]


def _wraps(function: Callable[[], object]) -> Callable[[], object]:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> object:
        return function(*args, **kwargs)

    return call


def _wrapt(function: Callable[[], object]) -> Callable[[], object]:
    return wrapt.FunctionWrapper(function, lambda wrapped, _, args, kwargs: wrapped(*args, **kwargs))


def _decorators() -> dict[str, Decorator | None]:
    tenacity, stamina, backoff = peer("tenacity"), peer("stamina"), peer("backoff")
    retries: dict[str, Any] = {}
    if tenacity is not None:
        retries = {
            "retry": tenacity.retry_if_exception_type(OSError),
            "stop": tenacity.stop_after_attempt(FAILURES + 1),
            "reraise": True,
        }
    if stamina is not None:
        stamina.instrumentation.set_on_retry_hooks([])  # its default hooks log arguments, which costs
    logging.getLogger("backoff").setLevel(logging.CRITICAL)
    attempts = FAILURES + 1
    return {
        "waitkit": retry_backoff(on=OSError, attempts=attempts, base=0),
        "tenacity": tenacity and tenacity.retry(**retries),
        NO_SLEEP: tenacity and tenacity.retry(sleep=lambda _: None, **retries),
        "stamina": stamina and stamina.retry(on=OSError, attempts=attempts, wait_initial=0, wait_max=0, wait_jitter=0),
        "backoff": backoff
        and backoff.on_exception(backoff.constant, OSError, max_tries=attempts, interval=0, jitter=None),
    }


def _per_call(function: Callable[[], object], number: int) -> float:
    return timeit.timeit(function, number=number) / number * 1e6


def _plain() -> int:
    return 1


def _fails_ten_times() -> Callable[[], int]:
    calls = 0

    def fails() -> int:
        nonlocal calls
        calls += 1
        if calls <= FAILURES:
            raise OSError
        calls = 0
        return 1

    return fails


def run(options: argparse.Namespace) -> list[Table]:
    decorators = _decorators()
    rounds = range(3 if options.quick else 15)
    plain: dict[str, Callable[[], object]] = {
        "plain call": _plain,
        "functools.wraps": _wraps(_plain),
        "wrapt": _wrapt(_plain),
    }
    plain |= {name: decorate(_plain) for name, decorate in decorators.items() if decorate is not None}
    failing = {name: decorate(_fails_ten_times()) for name, decorate in decorators.items() if decorate is not None}

    first = interleaved({name: lambda _, f=f: _per_call(f, 5_000) for name, f in plain.items()}, rounds)
    table = Table("a call that succeeds at once", "us", ("x plain",))
    for name in [*plain, *(missing for missing in decorators if missing not in plain)]:
        if name not in first:
            table.missing(name)
            continue
        ratio = times(first[name], first["plain call"])
        goal = Goal("<= 60 x a plain call", ratio <= 60) if name == "waitkit" else None
        table.add(name, first[name], f"{ratio:.0f}", goal=goal)

    whole = interleaved({name: lambda _, f=f: _per_call(f, 100) for name, f in failing.items()}, rounds)
    each = Table(
        "one retry, with no delay",
        "us",
        note=f"a call that fails {FAILURES} times, less what one that succeeds costs, divided by {FAILURES}",
    )
    costs: dict[str, list[float]] = {}
    for name in decorators:
        if name not in whole:
            each.missing(name)
            continue
        costs[name] = [(sample - median(first[name])) / FAILURES for sample in whole[name]]
    for name, samples in costs.items():
        goal = None
        if name == "waitkit" and NO_SLEEP in costs:
            # The goal was written as 3 us on a machine where tenacity takes 17 us.
            goal = Goal(f"<= 3/17 of {NO_SLEEP}", times(samples, costs[NO_SLEEP]) <= 3 / 17)
        each.add(name, samples, goal=goal)
    return [table, each]
