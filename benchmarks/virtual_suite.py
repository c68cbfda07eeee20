"""Sixty tests about time, in virtual time and beside what else there is: how long they take, and whether they vary."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import datetime as dt
import logging
import threading
import time
from collections.abc import Callable, Iterator
from unittest import mock

from measure import Goal, Table, interleaved, median, now, peer
from virtual_scenarios import SCENARIOS, Scenario, Stage, Trace, three_threads

from waitkit import Event, after, virtual_clock, wait_for

NOMINAL = 600  # seconds that the sixty are about
SCALE = 0.01  # of real time, which would take ten minutes otherwise
VIRTUAL, REAL = "waitkit virtual_clock()", "real time, 100 times shorter"
FREEZEGUN, TIME_MACHINE, LOOPTIME = "freezegun, time.sleep patched", "time-machine, time.sleep patched", "looptime"

Player = Callable[[Scenario], Trace]


def run(options: argparse.Namespace) -> list[Table]:
    logging.getLogger("waitkit").setLevel(logging.CRITICAL)  # pollers that fail are part of it
    return [_suite(options), _waits(), _jumps(options), _overhead(options)]


def _suite(options: argparse.Namespace) -> Table:
    expected = {one.name: in_virtual_time(one.play) for one in SCENARIOS}
    nominal = sum(trace[-1][0] for trace in expected.values())
    assert NOMINAL * 0.95 < nominal < NOMINAL * 1.05, nominal
    players = {name: player for name, player in _players().items() if player is not None}
    able = {name: [one for one in SCENARIOS if one.kind in KINDS[name]] for name in players}
    for name, player in players.items():
        if name != REAL:  # real time is late by what the machine does meanwhile
            for one in able[name]:
                assert player(one) == expected[one.name], f"{name} takes another course in {one.name}"
    samples = interleaved(
        {
            name: lambda _, name=name, player=player: _seconds(lambda: [player(one) for one in able[name]])
            for name, player in players.items()
        },
        [None] * (1 if options.quick else 5),
        warm=False,
    )
    runs = 20 if options.quick else 200
    courses = {VIRTUAL: _courses(in_virtual_time, runs), REAL: _courses(in_real_time, runs)}
    table = Table(
        f"60 tests about time, {nominal / 60:.1f} minutes of it",
        "s",
        ("of 60", "s per nominal minute", f"courses in {runs}"),
        note="of 60: what can be expressed; the time is that of those. Courses: how many different ones a test of three threads took,\n"
        "which act at the same instants; in real time its instants are taken as exact and its order alone counts.\n"
        f"One thread that sleeps can express {_count('alone')} (retries, rates, pollers and deadlines, each alone, rewritten as a loop that sleeps);\n"
        f"one event loop the same, rewritten as coroutines, and {_count('loop')} of its own. Not: the {_count('threads')} of several threads, nor the\n"
        f"{_count('both')} of a loop with threads. Every trace of virtual time was found equal, instants included.",
    )
    for name in KINDS:
        if name not in samples:
            table.missing(name)
            continue
        told = sum(expected[one.name][-1][0] for one in able[name])
        factor = SCALE if name == REAL else 1
        figures = (str(len(able[name])), f"{median(samples[name]) * 60 / (told * factor):.3f}", courses.get(name, "-"))
        most = NOMINAL / 100
        goal = Goal(f"<= {most:g} s", median(samples[name]) <= most) if name == VIRTUAL else None
        table.add(name, samples[name], figures[0], figures[1], str(figures[2]), goal=goal)
    table.add_text("  waitkit: courses", goal=Goal("1", courses[VIRTUAL] == 1))
    table.add_text("  waitkit: expressed", goal=Goal("60", len(able[VIRTUAL]) == 60))
    return table


def _count(kind: str) -> int:
    return sum(one.kind == kind for one in SCENARIOS)


def _seconds(act: Callable[[], object]) -> float:
    begun = now()
    act()
    return now() - begun


def _courses(play: Callable[[Callable[[Stage], Trace]], Trace], runs: int) -> int:
    courses = [play(three_threads) for _ in range(runs)]
    if play is in_real_time:
        courses = [[(0.0, what) for _, what in course] for course in courses]
    return len({tuple(course) for course in courses})


# How each of them plays a scenario, and which.

KINDS: dict[str, tuple[str, ...]] = {
    VIRTUAL: ("alone", "threads", "loop", "both"),
    REAL: ("alone", "threads", "loop", "both"),
    FREEZEGUN: ("alone",),
    TIME_MACHINE: ("alone",),
    LOOPTIME: ("alone", "loop"),
}


def _players() -> dict[str, Player | None]:
    return {
        VIRTUAL: lambda one: in_virtual_time(one.play),
        REAL: lambda one: in_real_time(one.play),
        FREEZEGUN: peer("freezegun") and (lambda one: _asleep(one, _frozen())),
        TIME_MACHINE: peer("time_machine") and (lambda one: _asleep(one, _travelling())),
        LOOPTIME: peer("looptime") and _in_looptime,
    }


def in_virtual_time(play: Callable[[Stage], Trace]) -> Trace:
    with virtual_clock() as clock:
        return play(Stage(lambda: clock.elapsed))


def in_real_time(play: Callable[[Stage], Trace]) -> Trace:
    start = time.monotonic()
    return play(Stage(lambda: time.monotonic() - start, SCALE))


@contextlib.contextmanager
def _frozen() -> Iterator[Callable[[], float]]:
    freezegun = peer("freezegun")
    with freezegun.freeze_time() as frozen, mock.patch("time.sleep", lambda s: frozen.tick(dt.timedelta(seconds=s))):
        yield time.monotonic


@contextlib.contextmanager
def _travelling() -> Iterator[Callable[[], float]]:
    time_machine = peer("time_machine")
    with time_machine.travel(1_000_000, tick=False) as traveller, mock.patch("time.sleep", traveller.shift):
        yield time.time  # it leaves time.monotonic alone


def _asleep(scenario: Scenario, moved: contextlib.AbstractContextManager[Callable[[], float]]) -> Trace:
    """One thread, and a ``time.sleep`` that moves the frozen time."""
    assert scenario.by_hand is not None
    with moved as clock:
        start = clock()
        stage = Stage(lambda: clock() - start)
        for pause in scenario.by_hand(stage):
            time.sleep(pause)
    return [(round(instant, 4), what) for instant, what in stage.trace]  # the time of day is a large float


def _in_looptime(scenario: Scenario) -> Trace:
    loop = peer("looptime").new_event_loop(start=0)
    stage = Stage(loop.time)

    async def act() -> None:
        if scenario.by_hand is None:
            await scenario.act(stage)
        else:
            for pause in scenario.by_hand(stage):
                await asyncio.sleep(pause)

    try:
        loop.run_until_complete(act())
    finally:
        loop.close()
    return stage.trace


# The probe: why several threads cannot be expressed.


def _waits() -> Table:
    table = Table(
        "threading.Event().wait(0.2) in one thread, while another waits for its end",
        "ms",
        ("seconds it told",),
        note="Where real time passes in it, a test of several threads is as slow as without, and its clock does not know of it.",
    )
    told: dict[str, float] = {}

    def virtual() -> None:
        with virtual_clock() as clock:
            _wait_in_a_thread()
            told[VIRTUAL] = clock.elapsed

    def inside(name: str, moved: contextlib.AbstractContextManager[Callable[[], float]]) -> None:
        with moved as clock:
            start = clock()
            _wait_in_a_thread()
            told[name] = clock() - start

    def in_looptime() -> None:
        loop = peer("looptime").new_event_loop(start=0)

        async def act() -> None:
            await asyncio.to_thread(threading.Event().wait, 0.2)
            told[LOOPTIME] = loop.time()

        loop.run_until_complete(act())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()

    table.add(VIRTUAL, [_real_seconds(virtual) * 1e3], f"{told[VIRTUAL]:.2f}")
    for name, module, probe in (
        (FREEZEGUN, "freezegun", lambda: inside(FREEZEGUN, _frozen())),
        (TIME_MACHINE, "time_machine", lambda: inside(TIME_MACHINE, _travelling())),
        (f"{LOOPTIME}, asyncio.to_thread", "looptime", in_looptime),
    ):
        if peer(module) is None:
            table.missing(name)
        else:
            table.add(name, [_real_seconds(probe) * 1e3], f"{told[name.partition(', asyncio')[0]]:.2f}")
    return table


def _wait_in_a_thread() -> None:
    thread = threading.Thread(target=threading.Event().wait, args=(0.2,))
    thread.start()
    thread.join()


_real_clock = time.perf_counter  # before anything is frozen


def _real_seconds(act: Callable[[], object]) -> float:
    begun = _real_clock()
    act()
    return _real_clock() - begun


# What a jump, and a wait, cost.


def _jumps(options: argparse.Namespace) -> Table:
    jumps = 2_000 if options.quick else 20_000
    table = Table(
        "one jump of time",
        "us",
        note="A jump: a thread rests, time passes to the next instant, the thread that is due runs. Each thread waits with wait_for(after(1)), and\n"
        "starts at another fraction of the second. A prototype that did nothing else took 4 us with one thread, 40-56 us with more.",
    )
    samples = interleaved(
        {str(count): lambda _, count=count: _jump(count, jumps // count) for count in (1, 10, 100)},
        [None] * (1 if options.quick else 5),
        warm=False,
    )
    for count, figures in samples.items():
        table.add(f"{count} {'thread' if count == '1' else 'threads'}", figures)
    return table


def _jump(count: int, jumps: int) -> float:
    def repeat(number: int) -> None:
        wait_for(after(1 + number / count), None)
        for _ in range(jumps):
            wait_for(after(1), None)

    with virtual_clock():
        threads = [threading.Thread(target=repeat, args=(number,)) for number in range(count)]
        begun = now()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return (now() - begun) / (count * (jumps + 1)) * 1e6


def _overhead(options: argparse.Namespace) -> Table:
    calls = 500 if options.quick else 5_000
    held = Event()
    held.set()
    waits: dict[str, Callable[[], object]] = {
        "that holds already": lambda: wait_for(held, 10),
        "that time ends (1 ns)": lambda: wait_for(after("1ns"), None),
    }

    def per_call(wait: Callable[[], object], count: int) -> float:
        return _seconds(lambda: [wait() for _ in range(count)]) / count * 1e6

    def virtually(wait: Callable[[], object], count: int) -> float:
        with virtual_clock():
            return per_call(wait, count)

    methods = {}
    for name, wait in waits.items():
        methods[f"a wait {name}, in real time"] = lambda count, wait=wait: per_call(wait, count)
        methods[f"a wait {name}, in virtual time"] = lambda count, wait=wait: virtually(wait, count)

    def block(count: int) -> float:
        def enter() -> None:
            with virtual_clock():
                pass

        return per_call(enter, max(1, count // 20))

    methods["an empty block"] = block
    samples = interleaved(methods, [calls] * (3 if options.quick else 10))
    table = Table("what a wait costs in virtual time", "us")
    for name in methods:
        table.add(name, samples[name])
    return table
