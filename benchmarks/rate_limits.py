"""What a rate limiter costs, which rate it gives, how evenly in time and among its callers, and how late it wakes them."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import threading
import time
import timeit
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from measure import Goal, Table, interleaved, median, now, peer
from rate_peers import TASKS, THREADS, WAITKIT, WAITKIT_ASYNC

from waitkit import RateLimiter, after, rate_limited, wait_for

RATE, CALLERS = 200, 8
PERIOD = 0.05  # the interval whose end a caller is to be woken at

Sample = dict[str, float]


def run(options: argparse.Namespace) -> list[Table]:
    return [_costs(options), _kept("threads", THREADS, options), _kept("tasks", TASKS, options), _wakes(options)]


# What a call costs that need not wait.


def _costs(options: argparse.Namespace) -> Table:
    calls = {name: call for name, call in _calls().items() if call is not None}
    samples = interleaved(
        {
            name: lambda number, call=call: timeit.timeit(call, number=number) / number * 1e6
            for name, call in calls.items()
        },
        [2_000] * (3 if options.quick else 15),
    )
    tasks = {name: call for name, call in _async_calls().items() if call is not None}
    samples |= interleaved(
        {name: lambda number, call=call: asyncio.run(_per_call(call, number)) for name, call in tasks.items()},
        [2_000] * (3 if options.quick else 15),
    )
    table = Table("a call that need not wait", "us", ("calls/s",))
    for name in (*_calls(), *_async_calls()):
        if name in samples:
            table.add(name, samples[name], f"{1e6 / median(samples[name]):,.0f}")
        else:
            table.missing(name)
    return table


def _calls() -> dict[str, Callable[[], object] | None]:
    most = 900_000_000
    limiter = RateLimiter(f"{most}/s", burst=most)
    calls: dict[str, Callable[[], object] | None] = {
        "waitkit try_acquire()": limiter.try_acquire,
        WAITKIT: limiter.acquire,
        "waitkit @rate_limited": rate_limited(limiter)(lambda: None),
        **dict.fromkeys(
            (
                "pyrate-limiter TokenBucket",
                "pyrate-limiter InMemoryBucket",
                "limits MovingWindow.hit",
                "limits FixedWindow.hit",
            )
        ),
        "ratelimit": None,
    }
    if (pyrate := peer("pyrate_limiter")) is not None:
        second = pyrate.Duration.SECOND
        state = pyrate.Limiter(pyrate.StateBucket([pyrate.Rate(1_000_000, second)], algorithm=pyrate.TokenBucket()))
        memory = pyrate.Limiter(pyrate.InMemoryBucket([pyrate.Rate(100_000_000, second)]))
        calls["pyrate-limiter TokenBucket"] = lambda: state.try_acquire("key")
        calls["pyrate-limiter InMemoryBucket"] = lambda: memory.try_acquire("key")
    if (limits := peer("limits")) is not None:
        storage, item = limits.storage.MemoryStorage(), limits.parse("1000000/second")
        moving, fixed = (
            limits.strategies.MovingWindowRateLimiter(storage),
            limits.strategies.FixedWindowRateLimiter(storage),
        )
        calls["limits MovingWindow.hit"] = lambda: moving.hit(item, "moving")
        calls["limits FixedWindow.hit"] = lambda: fixed.hit(item, "fixed")
    if (ratelimit := peer("ratelimit")) is not None:
        calls["ratelimit"] = ratelimit.limits(calls=most, period=1)(lambda: None)
    return calls


def _async_calls() -> dict[str, Callable[[], Callable[[], Any]] | None]:
    aiolimiter = peer("aiolimiter")
    return {
        WAITKIT_ASYNC: lambda: RateLimiter("900000000/s", burst=900_000_000).acquire_async,
        "aiolimiter": aiolimiter and (lambda: aiolimiter.AsyncLimiter(10**9, 1).acquire),
    }


async def _per_call(make: Callable[[], Callable[[], Any]], number: int) -> float:
    acquire = make()
    begun = now()
    for _ in range(number):
        await acquire()
    return (now() - begun) / number * 1e6


# Many callers at one rate. Each run is a process of its own: some peers leave threads behind.


def _kept(what: str, peers: dict[str, Any], options: argparse.Namespace) -> Table:
    seconds = 1.0 if options.quick else 3.0
    able = [name for name, (module, _) in peers.items() if peer(module)]
    samples = interleaved(
        {name: lambda _, name=name: _in_child(name, seconds) for name in able},
        [None] * (1 if options.quick else 5),
        warm=False,
    )
    table = Table(
        f"{CALLERS} {what} that ask again at once, at {RATE}/s, for {seconds:g} s",
        "grants/s",
        ("worst 1 s", "worst 100 ms", "fewest..most of a caller", "Jain", "CPU ms/s"),
        note=f"Allowed are {RATE + 1} in 1 s and {RATE // 10 + 1} in 100 ms; the greatest of all runs is told, as are the least index of Jain and\n"
        "the least even run. CPU is that of the process, whose callers are blocked nearly all the time."
        + ("\n(W) knows whole seconds only: 200 in each." if what == "threads" else ""),
    )
    for name in peers:
        if name not in samples:
            table.missing(name)
            continue
        runs: Sequence[Sample] = samples[name]
        rates = [one["rate"] for one in runs]
        uneven = min(runs, key=lambda one: one["jain"])
        ours = name in (WAITKIT, WAITKIT_ASYNC)
        table.add(
            name,
            rates,
            *(f"{max(one[width] for one in runs):.0f}" for width in ("second", "tenth")),
            f"{uneven['fewest']:.0f}..{uneven['most']:.0f}",
            f"{uneven['jain']:.3f}",
            f"{median([one['cpu'] for one in runs]):.0f}",
            goal=Goal(f"{RATE - 1}..{RATE + 1}/s", RATE - 1 <= median(rates) <= RATE + 1) if ours else None,
        )
        if ours:
            for label, width, most in (("1 s", "second", RATE + 1), ("100 ms", "tenth", RATE // 10 + 1)):
                worst = max(one[width] for one in runs)
                table.add_text(f"  its worst {label}", goal=Goal(f"<= {most}", worst <= most))
            table.add_text("  its fairness", goal=Goal("Jain >= 0.99", uneven["jain"] >= 0.99))
    return table


def _in_child(name: str, seconds: float) -> Sample:
    child = subprocess.run(
        [sys.executable, __file__, name, str(seconds)],
        stdout=subprocess.PIPE,
        check=True,
        timeout=seconds + 60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(part for part in sys.path if part)},
    )
    return json.loads(child.stdout)


def _worst(times: Sequence[int], width: int) -> int:
    """The most grants in any window of *width* nanoseconds."""
    most = first = 0
    for last, instant in enumerate(times):
        while instant - times[first] >= width:
            first += 1
        most = max(most, last - first + 1)
    return most


def _summary(grants: Sequence[Sequence[int]], start: int, end: int, cpu: float) -> Sample:
    times = sorted(instant for mine in grants for instant in mine if instant <= end)
    counts = [sum(instant <= end for instant in mine) for mine in grants]
    seconds = (end - start) / 1e9
    return {
        "rate": len(times) / seconds,
        "second": _worst(times, 1_000_000_000),
        "tenth": _worst(times, 100_000_000),
        "fewest": min(counts),
        "most": max(counts),
        "jain": sum(counts) ** 2 / (len(counts) * max(1, sum(count * count for count in counts))),
        "cpu": cpu / seconds * 1e3,
    }


def _threads(name: str, seconds: float) -> Sample:
    acquire = THREADS[name][1](RATE)
    grants: list[list[int]] = [[] for _ in range(CALLERS)]
    gate = threading.Barrier(CALLERS + 1)
    end = 0

    def ask(mine: list[int]) -> None:
        gate.wait()
        while not mine or mine[-1] < end:
            acquire()
            mine.append(time.monotonic_ns())

    for mine in grants:
        threading.Thread(target=ask, args=(mine,), daemon=True).start()
    used, start = time.process_time(), time.monotonic_ns()
    end = start + round(seconds * 1e9)
    gate.wait()
    wait_for(after(seconds), None)
    return _summary([list(mine) for mine in grants], start, end, time.process_time() - used)


async def _tasks(name: str, seconds: float) -> Sample:
    acquire = TASKS[name][1](RATE)
    grants: list[list[int]] = [[] for _ in range(CALLERS)]
    used, start = time.process_time(), time.monotonic_ns()
    end = start + round(seconds * 1e9)

    async def ask(mine: list[int]) -> None:
        while not mine or mine[-1] < end:
            await acquire()
            mine.append(time.monotonic_ns())

    await asyncio.gather(*(ask(mine) for mine in grants))
    return _summary(grants, start, end, time.process_time() - used)


# How late a caller runs whose turn has come.


def _wakes(options: argparse.Namespace) -> Table:
    rate = round(1 / PERIOD)
    methods: dict[str, Callable[[Any], float]] = {"threading.Event.wait(0.05)": _bare}
    for name, (module, make) in THREADS.items():
        if peer(module) and "(W)" not in name:
            methods[name] = partial(_lateness, make(rate))
    for name, (module, make_async) in TASKS.items():
        if peer(module):
            methods[name] = lambda _, make=make_async: asyncio.run(_lateness_async(make(rate)))
    samples = interleaved(methods, range(5 if options.quick else 40))
    table = Table(
        f"lateness of a caller whose turn comes {PERIOD * 1e3:g} ms after the one before",
        "ms",
        note="Below 0: too early. Those that know whole seconds only are left out.",
    )
    for name in ("threading.Event.wait(0.05)", *THREADS, *TASKS):
        if name in samples:
            table.add(name, samples[name])
        elif "(W)" not in name:
            table.missing(name)
    return table


def _bare(_: object) -> float:
    begun = now()
    threading.Event().wait(PERIOD)
    return (now() - begun - PERIOD) * 1e3


def _lateness(acquire: Callable[[], object], _: object) -> float:
    wait_for(after(PERIOD * 1.5), None)
    begun = now()
    acquire()
    acquire()
    return (now() - begun - PERIOD) * 1e3


async def _lateness_async(acquire: Callable[[], Any]) -> float:
    begun = now()
    await acquire()
    await acquire()
    return (now() - begun - PERIOD) * 1e3


if __name__ == "__main__":
    caller, length = sys.argv[1], float(sys.argv[2])
    result = _threads(caller, length) if caller in THREADS else asyncio.run(_tasks(caller, length))
    print(json.dumps(result), flush=True)
    os._exit(0)  # some of the threads have no end
