"""What the sleep guard costs a sleep and a wait, and what recording costs a wait."""

from __future__ import annotations

import argparse
import contextlib
import threading
import time
import timeit
from collections.abc import Callable, Iterator
from typing import Any

from measure import Goal, Table, interleaved, median, times

from waitkit import wait_for
from waitkit.ground.records import note_tries
from waitkit.guard.guard import SleepGuard
from waitkit.report.recording import Recorder

_FORGET = 2_000


def _per_call(function: Callable[[], object], number: int, timer: Callable[[], float] = time.perf_counter) -> float:
    return timeit.timeit(function, number=number, timer=timer) / number * 1e6


def _held() -> object:
    return wait_for(_true)


def _true() -> int:
    return 1


def _in_vain() -> None:
    """A wait of four looks, by a look that fails three times."""
    answers = iter((0, 0, 0, 1))
    wait_for(lambda: next(answers))


@contextlib.contextmanager
def _guarded() -> Any:
    with SleepGuard() as guard:
        yield guard.take


@contextlib.contextmanager
def _recorded() -> Any:
    recorder = Recorder()
    with recorder.subscribe():
        yield recorder.take


@contextlib.contextmanager
def _noted() -> Any:
    notes = note_tries()
    try:
        yield lambda: None
    finally:
        notes.close()


@contextlib.contextmanager
def _plain() -> Any:
    yield lambda: None


def _within(
    manager: Callable[[], Any],
    function: Callable[[], object],
    number: int,
    timer: Callable[[], float] = time.perf_counter,
) -> Callable[[object], float]:
    def sample(_: object) -> float:
        with manager() as forget:
            cost = _per_call(function, number, timer)
            forget()
        return cost

    return sample


def _sleep() -> None:
    time.sleep(1e-9)


def _unnotified() -> None:
    with _CONDITION:
        _CONDITION.wait(1e-9)


_CONDITION = threading.Condition()


def _work() -> int:
    return sum(position * position for position in range(2_000))


def run(options: argparse.Namespace) -> list[Table]:
    rounds = range(5 if options.quick else 25)
    number = 200 if options.quick else _FORGET
    return [_of_sleeps(rounds, number), _of_work(rounds), *_of_waits(rounds, number)]


def _of_sleeps(rounds: range, number: int) -> Table:
    table = Table("the sleep guard: a call that sleeps as short as can be", "us", ("more",))
    for name, function in (("time.sleep", _sleep), ("Condition.wait that times out", _unnotified)):
        samples = interleaved(
            {"plain": _within(_plain, function, number), "guarded": _within(_guarded, function, number)}, rounds
        )
        more = median(samples["guarded"]) - median(samples["plain"])
        table.add(name, samples["plain"])
        table.add(f"{name}, guarded", samples["guarded"], f"{more:.2f}", goal=Goal("<= 5 us more", more <= 5))
    return table


def _of_work(rounds: range) -> Table:
    table = Table(
        "the sleep guard: code that does not sleep",
        "us",
        ("x plain",),
        note="the guard samples the stack each 10 ms of processor time, for busy loops",
    )
    samples = interleaved({"plain": _within(_plain, _work, 400), "guarded": _within(_guarded, _work, 400)}, rounds)
    ratio = times(samples["guarded"], samples["plain"])
    table.add("a loop of 2,000 steps", samples["plain"], "1")
    table.add("guarded", samples["guarded"], f"{ratio:.3f}", goal=Goal("<= 1.02 x plain", ratio <= 1.02))
    return table


def _of_waits(rounds: range, number: int) -> Iterator[Table]:
    managers = {"nobody hears": _plain, "tries": _noted, "recording": _recorded, "sleep guard": _guarded}
    note = "tries: as the pytest plugin has waits note them for their errors; recording: all waits are kept, with tries"
    yield _waits("recording: a wait that holds at once", "us", managers, _held, number, rounds, 40, note)
    # Between its looks it rests: what the machine does meanwhile must not count. (While a guard's timer of processor time
    # runs, Linux counts that time in another way: no figure for it here.)
    del managers["sleep guard"]
    note = "a lambda is named by its source text, which costs most of it"
    title = "recording: a wait of four looks, by a lambda"
    yield _waits(title, "us of processor time", managers, _in_vain, 50, rounds, 150, note, time.process_time)


def _waits(
    title: str,
    unit: str,
    managers: dict[str, Callable[[], Any]],
    function: Callable[[], object],
    number: int,
    rounds: range,
    limit: float,
    note: str,
    timer: Callable[[], float] = time.perf_counter,
) -> Table:
    table = Table(title, unit, ("more",), note=note)
    samples = interleaved(
        {label: _within(manager, function, number, timer) for label, manager in managers.items()}, rounds
    )
    for label in managers:
        more = median(samples[label]) - median(samples["nobody hears"])
        goal = Goal(f"<= {limit} us more", more <= limit) if label == "recording" else None
        table.add(label, samples[label], f"{more:.1f}" if label != "nobody hears" else "", goal=goal)
    return table
